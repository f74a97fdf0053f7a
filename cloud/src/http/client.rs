//! The HTTP exchange: one request, one bounded answer, read as the result, as the cloud's refusal,
//! or as an unreadable answer.

use crate::error::{Error, Refusal};
use crate::wire::error::ErrorBody;
use jiff::Timestamp;
use reqwest::header::HeaderMap;
use reqwest::{Response, StatusCode};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;

/// Longest accepted body in bytes. A page of 500 interfaces with 10 addresses each is about 2 MB;
/// the API answers nothing longer than this.
const LONGEST_ANSWER: usize = 8 << 20;

/// A TCP and TLS handshake to the next region takes 0.2 s; one that takes longer than this is
/// stuck.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Shorter than load balancers keep an idle connection, so that no call is written into a
/// connection that the other side is closing.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// UTC as `YYYY-MM-DDThh:mm:ssZ`, the format of the API's date parameters.
pub(crate) fn api_time(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A random UUID: the cloud refuses a signature nonce that repeats.
pub(crate) fn new_nonce() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// An HTTP client that sends each request once, to its URL only: no proxy, no redirect, no resend.
pub(crate) fn http_client(user_agent_suffix: &str) -> Result<reqwest::Client, Error> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        return Err(Error::Setup(
            "no rustls crypto provider is installed in this process".to_owned(),
        ));
    }
    let user_agent = format!("waygate/{} {user_agent_suffix}", env!("CARGO_PKG_VERSION"));
    reqwest::Client::builder()
        .user_agent(user_agent.trim())
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .build()
        .map_err(|error| Error::Setup(format!("the HTTP client: {error}")))
}

/// Sends a request and parses its answer; an answer other than 200 is an error.
pub(crate) async fn exchange_json<T: DeserializeOwned>(
    http: &reqwest::Client,
    action: &'static str,
    request: reqwest::Request,
) -> Result<T, Error> {
    let lost =
        |error: reqwest::Error| Error::Transport { action, source: Arc::new(error.without_url()) };
    let mut response = http.execute(request).await.map_err(lost)?;
    let status = response.status();
    let body = read_bounded(action, &mut response).await?;
    if status != StatusCode::OK {
        return Err(parse_refusal(action, status, response.headers(), &body));
    }
    serde_json::from_slice(&body)
        .map_err(|error| unreadable_answer(action, status, error.to_string()))
}

pub(crate) fn unreadable_answer(
    action: &'static str,
    status: StatusCode,
    detail: impl Into<String>,
) -> Error {
    Error::Unreadable { action, status: status.as_u16(), detail: detail.into() }
}

/// Reads the body; fails where it is longer than any answer of the API.
pub(crate) async fn read_bounded(
    action: &'static str,
    response: &mut Response,
) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= LONGEST_ANSWER => {
                body.extend_from_slice(&chunk);
            }
            Ok(Some(_)) => {
                return Err(unreadable_answer(
                    action,
                    response.status(),
                    format!("the body is longer than {LONGEST_ANSWER} bytes"),
                ));
            }
            Ok(None) => return Ok(body),
            Err(error) => {
                return Err(Error::Transport { action, source: Arc::new(error.without_url()) });
            }
        }
    }
}

/// The error of an answer other than 200. Only a body with an error code is the cloud's own; the
/// rest may come from a proxy or load balancer on the way.
pub(crate) fn parse_refusal(
    action: &'static str,
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
) -> Error {
    match serde_json::from_slice::<ErrorBody>(body) {
        Ok(body) if !body.code.is_empty() => Error::Refused(Arc::new(Refusal {
            retry_after: retry_after(headers),
            ..body.into_refusal(action, status)
        })),
        _ => unreadable_answer(action, status, "no error code in the body"),
    }
}

/// The delay that the cloud asks for, in milliseconds in either the newer or the older headers.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let left = |name| {
        text(name).and_then(|value| {
            value.split(',').find_map(|part| part.trim().strip_prefix("TimeLeft:"))
        })
    };
    let millis = text("x-acs-retry-after")
        .or_else(|| left("x-ratelimit-user-api"))
        .or_else(|| left("x-ratelimit-user"))?;
    millis.trim().parse().ok().filter(|millis| *millis > 0).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Class;
    use reqwest::header::{HeaderName, HeaderValue};

    fn refused(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Error {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        parse_refusal(
            "CreateForwardEntry",
            StatusCode::from_u16(status).unwrap(),
            &headers,
            body.as_bytes(),
        )
    }

    #[test]
    fn a_refusal_keeps_what_a_person_needs() {
        let body = r#"{"RequestId":"R-1","Code":"Forbidden.RAM","Message":"no\n\u0007way","HostId":"h",
            "AccessDeniedDetail":{"AuthAction":"vpc:CreateForwardEntry","PolicyType":"AccountLevelIdentityBasedPolicy"}}"#;
        let error = refused(403, &[], body);
        assert_eq!((error.class(), error.reason()), (Class::Denied, "PermissionDenied"));
        assert_eq!((error.code(), error.request_id()), (Some("Forbidden.RAM"), Some("R-1")));
        assert_eq!(error.denied_action(), Some("vpc:CreateForwardEntry"));
        let text = error.to_string();
        assert!(
            ["CreateForwardEntry", "Forbidden.RAM", "R-1", r"no\n\u{7}way"]
                .iter()
                .all(|word| text.contains(word)),
            "{text}"
        );
    }

    #[test]
    fn how_long_to_wait_is_read_from_either_header() {
        let body = r#"{"Code":"Throttling.User"}"#;
        assert_eq!(
            refused(400, &[("x-acs-retry-after", "1500")], body).retry_after(),
            Some(Duration::from_millis(1500))
        );
        let older =
            refused(400, &[("x-ratelimit-user-api", "Limit:100,Remain:0,TimeLeft:250")], body);
        assert_eq!(older.retry_after(), Some(Duration::from_millis(250)));
        for nonsense in ["-1", "0", "soon", ""] {
            assert_eq!(
                refused(400, &[("x-acs-retry-after", nonsense)], body).retry_after(),
                None,
                "{nonsense}"
            );
        }
    }

    #[test]
    fn what_is_not_the_clouds_own_answer_proves_nothing() {
        for (status, body) in [
            (502, "<html>"),
            (404, "<html>"),
            (400, "{}"),
            (403, r#"{"Code":null}"#),
            (413, ""),
            (400, r#"{"Code":["x"]}"#),
        ] {
            let error = refused(status, &[], body);
            assert_eq!(
                (error.class(), error.is_definite()),
                (Class::Transient, false),
                "{status} {body}"
            );
        }
    }

    #[test]
    fn only_a_definite_refusal_is_definite() {
        for (status, code, definite) in [
            (400, "IncorrectEipStatus", true),
            (409, "OperationConflict", true),
            (404, "InvalidAllocationId.NotFound", true),
            (400, "QuotaExceeded.Eip", true),
            (403, "Forbidden.RAM", true),
            (400, "Throttling.User", false),
            (400, "LastTokenProcessing", false),
            (400, "SignatureNonceUsed", false),
            (500, "InternalError", false),
            (503, "OperationConflict", false),
        ] {
            assert_eq!(
                refused(status, &[], &format!(r#"{{"Code":"{code}"}}"#)).is_definite(),
                definite,
                "{status} {code}"
            );
        }
    }
}
