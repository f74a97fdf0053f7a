//! Sends one call: permit, keys, signature, one HTTP exchange. The transport never resends.

use crate::credentials::Credentials;
use crate::credentials::keys::Keys;
use crate::error::{Class, Error, NotSentCause};
use crate::http::client::{api_time, exchange_json, new_nonce};
use crate::http::endpoints::{Endpoints, Product};
use crate::http::params::Params;
use crate::http::sign::{Key, Stamp, Unsigned, sign_request};
use crate::rate_limit::{NoPermit, Permits};
use crate::send_by::SendBy;
use crate::silence::Silence;
use jiff::Timestamp;
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use url::Url;
use waygate_core::error::error_chain;
use waygate_core::ids::RegionId;

/// Time kept free for the answer before a call's deadline, or half the time left where that is
/// less. A permit that comes later would be spent on a call that times out.
const ANSWER_RESERVE: Duration = Duration::from_secs(3);

/// The result of a read with the time the read was sent. The value includes every change that the
/// cloud answered before `began`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read<T> {
    /// The facts that the read returned.
    pub value: T,
    /// The time the call was sent, or the first of several pages.
    pub began: Instant,
}

impl<T> Read<T> {
    /// Converts the value; `began` stays.
    pub fn map<U>(self, convert: impl FnOnce(T) -> U) -> Read<U> {
        Read { value: convert(self.value), began: self.began }
    }
}

/// An action of the API with the product that offers it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Action {
    pub(crate) product: Product,
    pub(crate) name: &'static str,
}

pub(crate) const fn vpc_action(name: &'static str) -> Action {
    Action { product: Product::Vpc, name }
}

pub(crate) const fn ecs_action(name: &'static str) -> Action {
    Action { product: Product::Ecs, name }
}

pub(crate) const fn sts_action(name: &'static str) -> Action {
    Action { product: Product::Sts, name }
}

/// Permission to call an action once within the account's rate.
#[must_use]
#[derive(Debug)]
pub(crate) struct Permit {
    action: Action,
    send_by: Option<SendBy>,
}

impl Permit {
    /// A call that the caller has booked with the account, to be written in time.
    pub(crate) fn booked(action: Action, send_by: SendBy) -> Self {
        Self { action, send_by: Some(send_by) }
    }
}

/// Sends signed calls to all products, within the account's rates.
#[derive(Debug)]
pub(crate) struct Transport {
    pub(crate) http: reqwest::Client,
    pub(crate) endpoints: Endpoints,
    pub(crate) region: RegionId,
    pub(crate) credentials: Credentials,
    pub(crate) permits: Arc<dyn Permits>,
    pub(crate) silence: Silence,
}

impl Transport {
    /// Waits for a permit, then calls once; both within `deadline`.
    pub(crate) async fn call_once<T: DeserializeOwned>(
        &self,
        action: Action,
        params: Params,
        deadline: Instant,
    ) -> Result<Read<T>, Error> {
        let permit = self.acquire_permit(action, deadline).await?;
        self.send_signed(permit, params, deadline).await
    }

    /// Waits for a permit to call `action` once. Fails at once where a permit would come too late
    /// for an answer before the deadline.
    pub(crate) async fn acquire_permit(
        &self,
        action: Action,
        deadline: Instant,
    ) -> Result<Permit, Error> {
        let late = |retry_after| Error::NotSent {
            action: action.name,
            cause: NotSentCause::Permit { retry_after },
        };
        match timeout_at(
            deadline,
            self.permits.draw_permit(action.name, latest_permit(Instant::now(), deadline)),
        )
        .await
        {
            Ok(Ok(())) => Ok(Permit { action, send_by: None }),
            Ok(Err(NoPermit { retry_after })) => Err(late(Some(retry_after))),
            Err(_) => Err(late(None)),
        }
    }

    /// Calls once. Keys are fetched first; the signature is made last, because its date ages.
    pub(crate) async fn send_signed<T: DeserializeOwned>(
        &self,
        permit: Permit,
        params: Params,
        deadline: Instant,
    ) -> Result<Read<T>, Error> {
        let Permit { action, send_by } = permit;
        let keys = match timeout_at(deadline, self.credentials.valid_keys(Timestamp::now())).await {
            Ok(keys) => keys.map_err(|error| {
                // A failure of the keys' source says nothing about the requested change.
                let class = if error.is_transient() { Class::Transient } else { Class::Denied };
                credentials_error(action, error.to_string(), class)
            })?,
            Err(_) => {
                return Err(credentials_error(
                    action,
                    "their source did not answer in time".to_owned(),
                    Class::Transient,
                ));
            }
        };
        let request = self.build_request(action, params, &keys)?;
        if send_by.is_some_and(SendBy::has_passed) {
            return Err(Error::NotSent { action: action.name, cause: NotSentCause::Late });
        }
        let began = Instant::now();
        // STS may be out of reach where VPC and ECS answer: its silence is its own.
        let call = (action.product != Product::Sts).then(|| self.silence.begin_call());
        let result =
            match timeout_at(deadline, exchange_json(&self.http, action.name, request)).await {
                Ok(result) => result,
                Err(_) => Err(Error::Deadline { action: action.name }),
            };
        let unanswered = matches!(result, Err(Error::Transport { .. } | Error::Deadline { .. }));
        if let Some(call) = call {
            if unanswered { call.note_failure() } else { call.note_answer() }
        }
        self.report_outcome(action, began, &keys, result.as_ref().err());
        result.map(|value| Read { value, began })
    }

    fn build_request(
        &self,
        action: Action,
        params: Params,
        keys: &Keys,
    ) -> Result<reqwest::Request, Error> {
        let mut url = self.endpoints.url_of(action.product).clone();
        let query = params.with("RegionId", &self.region).canonical_query();
        let host = host_header(&url);
        let (date, nonce) = (api_time(Timestamp::now()), new_nonce());
        let unsigned = Unsigned {
            method: "POST",
            host: &host,
            action: action.name,
            version: action.product.version(),
            query: &query,
        };
        let key = Key { id: &keys.id, secret: &keys.secret, token: keys.token.as_ref() };
        // The HTTP client omits the length of an empty body, and some front ends refuse a POST
        // without one.
        let fixed = [
            (ACCEPT, HeaderValue::from_static("application/json")),
            (CONTENT_LENGTH, HeaderValue::from(0)),
        ];
        let mut headers = HeaderMap::from_iter(fixed);
        for (name, value) in sign_request(&unsigned, &key, &Stamp { date: &date, nonce: &nonce }) {
            let mut value = HeaderValue::try_from(value).map_err(|_| {
                credentials_error(
                    action,
                    "the keys contain unprintable characters".to_owned(),
                    Class::Denied,
                )
            })?;
            value.set_sensitive(matches!(name, "authorization" | "x-acs-security-token"));
            // The HTTP client writes the Host header from the URL.
            if name != HOST.as_str() {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        url.set_query(Some(&query));
        let mut request = reqwest::Request::new(Method::POST, url);
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// Logs the outcome of a call and reports throttling to the permits, expired keys to the
    /// credentials.
    fn report_outcome(
        &self,
        action: Action,
        began: Instant,
        keys: &Arc<Keys>,
        error: Option<&Error>,
    ) {
        let millis = began.elapsed().as_millis();
        match error {
            None => tracing::debug!(
                cloud.action = action.name,
                cloud.millis = millis,
                "cloud call succeeded"
            ),
            Some(error) => {
                tracing::debug!(
                    cloud.action = action.name,
                    cloud.millis = millis,
                    cloud.reason = error.reason(),
                    error = error_chain(error),
                    "cloud call failed"
                );
            }
        }
        match error {
            Some(error) if error.class() == Class::Throttled => {
                self.permits.note_throttled(action.name, error.retry_after());
            }
            Some(error) if error.code() == Some("InvalidSecurityToken.Expired") => {
                self.credentials.drop_refused(keys);
            }
            _ => {}
        }
    }
}

fn latest_permit(now: Instant, deadline: Instant) -> Instant {
    let left = deadline.saturating_duration_since(now);
    now + left - ANSWER_RESERVE.min(left / 2)
}

fn credentials_error(action: Action, problem: String, class: Class) -> Error {
    Error::NotSent { action: action.name, cause: NotSentCause::Credentials { problem, class } }
}

/// `host` or `host:port`, exactly as the HTTP client writes the `Host` header.
fn host_header(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signed_host_is_the_one_that_is_sent() {
        let host = |url: &str| host_header(&Url::parse(url).unwrap());
        assert_eq!(host("https://vpc.aliyuncs.com:443/"), "vpc.aliyuncs.com");
        assert_eq!(host("http://127.0.0.1:8080/"), "127.0.0.1:8080");
    }

    #[test]
    fn a_permit_leaves_time_for_the_answer() {
        let now = Instant::now();
        for (left, until) in [(10_000, 7_000), (6_000, 3_000), (1_000, 500), (0, 0)] {
            assert_eq!(
                latest_permit(now, now + Duration::from_millis(left)),
                now + Duration::from_millis(until),
                "{left} ms are left"
            );
        }
    }
}
