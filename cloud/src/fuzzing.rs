//! The parsers of answers, opened to the fuzz targets and to this crate's property tests. Other
//! builds lack this module.

#[cfg(test)]
mod hostile;

use crate::credentials::keys::Keys;
use crate::error::Error;
use crate::http::client::refusal;
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
    page::<Eips>(body);
    page::<ForwardEntries>(body);
    page::<NatGateways>(body);
    page::<SnatEntries>(body);
    page::<Vpcs>(body);
    page::<VSwitches>(body);
    page::<RouteTables>(body);
    chain::<Interfaces>(body);
    chain::<RouteEntries>(body);
    chain::<SecurityGroup>(body);
    chain::<TagResources>(body);
    _ = parse::<Plain>(body);
    _ = parse::<Allocated>(body).map(|it| it.answer().is_ok());
    _ = parse::<Created>(body).map(|it| it.answer().is_ok());
    _ = parse::<CallerIdentity>(body).map(CallerIdentity::fact);
    _ = parse::<Assumption>(body).map(|it| Keys::from_wire(it.credentials).is_ok());
    _ = parse::<RoleKeys>(body).map(|it| it.granted().and_then(Keys::from_wire).is_ok());
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
    Some(refusal(action, StatusCode::from_u16(status).ok()?, &headers, body))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    serde_json::from_slice(body).ok()
}

fn page<P: Page>(body: &[u8]) {
    _ = parse::<P>(body).map(|page| (page.total(), page.items().is_ok()));
}

fn chain<C: Chain>(body: &[u8]) {
    _ = parse::<C>(body).map(|mut chain| (chain.next(), chain.items().is_ok()));
}
