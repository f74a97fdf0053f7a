//! The parsers of answers, opened to the fuzz targets and to this crate's property tests. Other
//! builds lack this module.

#[cfg(test)]
mod hostile;

use crate::credentials::keys::Keys;
use crate::error::Error;
use crate::http::client::parse_refusal;
use crate::wire::eip::{Allocated, Eips};
use crate::wire::eni::Interfaces;
use crate::wire::nat::{Created, ForwardEntries, NatGateways, SnatEntries};
use crate::wire::network::{RouteEntries, RouteTables, VSwitches, Vpcs};
use crate::wire::security::SecurityGroup;
use crate::wire::sts::{Assumption, CallerIdentity, RoleKeys};
use crate::wire::tags::TagResources;
use crate::wire::{Chain, Page, Plain};
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::de::DeserializeOwned;

/// Parses a body as the successful answer of every action. Each parser must accept or reject any
/// body without a panic.
pub fn read_as_everything(body: &[u8]) {
    exercise_page::<Eips>(body);
    exercise_page::<ForwardEntries>(body);
    exercise_page::<NatGateways>(body);
    exercise_page::<SnatEntries>(body);
    exercise_page::<Vpcs>(body);
    exercise_page::<VSwitches>(body);
    exercise_page::<RouteTables>(body);
    exercise_chain::<Interfaces>(body);
    exercise_chain::<RouteEntries>(body);
    exercise_chain::<SecurityGroup>(body);
    exercise_chain::<TagResources>(body);
    _ = decode_body::<Plain>(body);
    _ = decode_body::<Allocated>(body).map(|it| it.into_answer().is_ok());
    _ = decode_body::<Created>(body).map(|it| it.into_answer().is_ok());
    _ = decode_body::<CallerIdentity>(body).map(CallerIdentity::into_identity);
    _ = decode_body::<Assumption>(body).map(|it| Keys::from_wire(it.credentials).is_ok());
    _ = decode_body::<RoleKeys>(body).map(|it| it.granted_keys().and_then(Keys::from_wire).is_ok());
}

/// Parses an answer other than 200 to `action`; `None` for a status that HTTP does not know.
/// `wait` is the value of each header that may carry a delay.
pub fn read_as_refusal(
    action: &'static str,
    status: u16,
    wait: &[u8],
    body: &[u8],
) -> Option<Error> {
    let value = HeaderValue::from_bytes(wait).ok()?;
    let names = ["x-acs-retry-after", "x-ratelimit-user-api", "x-ratelimit-user"];
    let headers: HeaderMap =
        names.into_iter().map(|name| (HeaderName::from_static(name), value.clone())).collect();
    Some(parse_refusal(action, StatusCode::from_u16(status).ok()?, &headers, body))
}

fn decode_body<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    serde_json::from_slice(body).ok()
}

fn exercise_page<P: Page>(body: &[u8]) {
    _ = decode_body::<P>(body).map(|page| (page.total_count(), page.into_page_items().is_ok()));
}

fn exercise_chain<C: Chain>(body: &[u8]) {
    _ = decode_body::<C>(body)
        .map(|mut chain| (chain.take_next_token(), chain.into_chain_items().is_ok()));
}
