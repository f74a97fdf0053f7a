//! One call: permit, keys, signature, one write, one bounded answer. Nothing is ever resent here.

use crate::credentials::{Credentials, Keys};
use crate::endpoints::{Endpoints, Product};
use crate::error::{Class, Error, Refusal, Waiting};
use crate::params::Params;
use crate::permits::{NoPermit, Permits};
use crate::sign::{Key, Stamp, Unsigned, sign};
use crate::wire::error::ErrorBody;
use jiff::Timestamp;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Response, StatusCode};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use url::Url;
use waygate_core::ids::RegionId;

/// A page of 500 interfaces with 10 addresses each is about 2 MB; more than this is not an answer of the API.
const LONGEST_ANSWER: usize = 8 << 20;

/// A TCP and TLS handshake to the next region takes 0.2 s; what takes longer than this will not come.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Shorter than load balancers keep an idle connection, so that a call is not written into one that is being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// What is left of a call's time for its answer, or half of it where that is less: a permit that comes later is spent on a call that is given up.
const ANSWER: Duration = Duration::from_secs(3);

/// What a read showed, and when it was sent: whatever was answered before `began` is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read<T> {
    /// What it showed.
    pub value: T,
    /// When it was sent; of several pages, the first.
    pub began: Instant,
}

impl<T> Read<T> {
    /// The same read, seen as something else.
    pub fn map<U>(self, see: impl FnOnce(T) -> U) -> Read<U> {
        Read { value: see(self.value), began: self.began }
    }
}

/// An action of the API.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Action {
    pub(crate) product: Product,
    pub(crate) name: &'static str,
}

pub(crate) const fn vpc(name: &'static str) -> Action {
    Action { product: Product::Vpc, name }
}

pub(crate) const fn ecs(name: &'static str) -> Action {
    Action { product: Product::Ecs, name }
}

pub(crate) const fn sts(name: &'static str) -> Action {
    Action { product: Product::Sts, name }
}

/// The right to call an action once.
#[must_use]
#[derive(Debug)]
pub(crate) struct Permit(Action);

/// Sends signed calls.
#[derive(Debug)]
pub(crate) struct Transport {
    pub(crate) http: reqwest::Client,
    pub(crate) endpoints: Endpoints,
    pub(crate) region: RegionId,
    pub(crate) credentials: Credentials,
    pub(crate) permits: Arc<dyn Permits>,
}

impl Transport {
    /// Waits for a permit, then calls once.
    pub(crate) async fn call<T: DeserializeOwned>(&self, action: Action, params: Params, deadline: Instant) -> Result<Read<T>, Error> {
        let permit = self.permit(action, deadline).await?;
        self.send(permit, params, deadline).await
    }

    /// Waits for a permit to call `action` once, where one comes early enough for an answer before the deadline.
    pub(crate) async fn permit(&self, action: Action, deadline: Instant) -> Result<Permit, Error> {
        let late = |retry_after| Error::NotSent { action: action.name, waiting: Waiting::Permit { retry_after } };
        match timeout_at(deadline, self.permits.draw(action.name, latest_permit(Instant::now(), deadline))).await {
            Ok(Ok(())) => Ok(Permit(action)),
            Ok(Err(NoPermit { retry_after })) => Err(late(Some(retry_after))),
            Err(_) => Err(late(None)),
        }
    }

    /// Calls once. Keys are fetched first and the signature made last.
    pub(crate) async fn send<T: DeserializeOwned>(&self, permit: Permit, params: Params, deadline: Instant) -> Result<Read<T>, Error> {
        let Permit(action) = permit;
        let keys = match timeout_at(deadline, self.credentials.keys(Timestamp::now())).await {
            Ok(keys) => keys.map_err(|error| {
                // Whatever is wrong with our keys is not wrong with what was asked for.
                let class = if error.is_transient() { Class::Transient } else { Class::Denied };
                no_keys(action, error.to_string(), class)
            })?,
            Err(_) => return Err(no_keys(action, "none in time".to_owned(), Class::Transient)),
        };
        let request = self.request(action, params, &keys)?;
        let began = Instant::now();
        let result = match timeout_at(deadline, exchange(&self.http, action.name, request)).await {
            Ok(result) => result,
            Err(_) => Err(Error::Deadline { action: action.name }),
        };
        self.note(action, began, &keys, result.as_ref().err());
        result.map(|value| Read { value, began })
    }

    fn request(&self, action: Action, params: Params, keys: &Keys) -> Result<reqwest::Request, Error> {
        let mut url = self.endpoints.of(action.product).clone();
        let query = params.with("RegionId", &self.region).canonical();
        let host = authority(&url);
        let (date, nonce) = (api_time(Timestamp::now()), nonce());
        let unsigned = Unsigned { method: "POST", host: &host, action: action.name, version: action.product.version(), query: &query };
        let key = Key { id: &keys.id, secret: &keys.secret, token: keys.token.as_ref() };
        // Without a body the HTTP client leaves the length out, and some front ends take no POST without one.
        let fixed = [(ACCEPT, HeaderValue::from_static("application/json")), (CONTENT_LENGTH, HeaderValue::from(0))];
        let mut headers = HeaderMap::from_iter(fixed);
        for (name, value) in sign(&unsigned, &key, &Stamp { date: &date, nonce: &nonce }) {
            let mut value =
                HeaderValue::try_from(value).map_err(|_| no_keys(action, "unprintable characters in them".to_owned(), Class::Denied))?;
            value.set_sensitive(matches!(name, "authorization" | "x-acs-security-token"));
            // The client writes the host itself, from the URL.
            if name != HOST.as_str() {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        url.set_query(Some(&query));
        let mut request = reqwest::Request::new(Method::POST, url);
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// Lets permits and logs know how a call ended.
    fn note(&self, action: Action, began: Instant, keys: &Arc<Keys>, error: Option<&Error>) {
        let millis = began.elapsed().as_millis();
        match error {
            None => tracing::debug!(cloud.action = action.name, cloud.millis = millis, "the cloud answered"),
            Some(error) => {
                tracing::debug!(cloud.action = action.name, cloud.millis = millis, cloud.reason = error.reason(), "a call failed: {error}");
            }
        }
        match error {
            Some(error) if error.class() == Class::Throttled => self.permits.throttled(action.name, error.retry_after()),
            Some(error) if error.code() == Some("InvalidSecurityToken.Expired") => self.credentials.refused(keys),
            _ => {}
        }
    }
}

fn latest_permit(now: Instant, deadline: Instant) -> Instant {
    let left = deadline.saturating_duration_since(now);
    now + left - ANSWER.min(left / 2)
}

/// `YYYY-MM-DDThh:mm:ssZ`
pub(crate) fn api_time(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Never the same twice.
pub(crate) fn nonce() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// Sends what it is given, once, to where it is told, and nowhere else: no proxy, no redirect, no resend.
pub(crate) fn http_client(user_agent_suffix: &str) -> Result<reqwest::Client, Error> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        return Err(Error::Setup("no rustls crypto provider is installed in this process".to_owned()));
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

/// Writes a request and reads its answer.
pub(crate) async fn exchange<T: DeserializeOwned>(
    http: &reqwest::Client,
    action: &'static str,
    request: reqwest::Request,
) -> Result<T, Error> {
    let lost = |error: reqwest::Error| Error::Transport { action, source: Arc::new(error.without_url()) };
    let mut response = http.execute(request).await.map_err(lost)?;
    let status = response.status();
    let body = read_bounded(action, &mut response).await?;
    if status != StatusCode::OK {
        return Err(refusal(action, status, response.headers(), &body));
    }
    serde_json::from_slice(&body).map_err(|error| unreadable(action, status, error.to_string()))
}

fn no_keys(action: Action, problem: String, class: Class) -> Error {
    Error::NotSent { action: action.name, waiting: Waiting::Credentials { problem, class } }
}

pub(crate) fn unreadable(action: &'static str, status: StatusCode, detail: impl Into<String>) -> Error {
    Error::Unreadable { action, status: status.as_u16(), detail: detail.into() }
}

/// `host` or `host:port`, as the HTTP client will write the `Host` header.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// The body, or an error when it is longer than any answer of the API.
pub(crate) async fn read_bounded(action: &'static str, response: &mut Response) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= LONGEST_ANSWER => body.extend_from_slice(&chunk),
            Ok(Some(_)) => return Err(unreadable(action, response.status(), format!("longer than {LONGEST_ANSWER} bytes"))),
            Ok(None) => return Ok(body),
            Err(error) => return Err(Error::Transport { action, source: Arc::new(error.without_url()) }),
        }
    }
}

/// An answer other than 200. Only one with a code is the cloud's own; the rest may come from anything on the way.
pub(crate) fn refusal(action: &'static str, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
    match serde_json::from_slice::<ErrorBody>(body) {
        Ok(body) if !body.code.is_empty() => {
            Error::Refused(Arc::new(Refusal { retry_after: retry_after(headers), ..body.refusal(action, status) }))
        }
        _ => unreadable(action, status, "no error code in it"),
    }
}

/// How long to wait, as the newer and the older header say it, in milliseconds.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let left = |name| text(name).and_then(|value| value.split(',').find_map(|part| part.trim().strip_prefix("TimeLeft:")));
    let millis = text("x-acs-retry-after").or_else(|| left("x-ratelimit-user-api")).or_else(|| left("x-ratelimit-user"))?;
    millis.trim().parse().ok().filter(|millis| *millis > 0).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Error {
        let headers = headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect();
        refusal("CreateForwardEntry", StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes())
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
        assert!(["CreateForwardEntry", "Forbidden.RAM", "R-1", "noway"].iter().all(|word| text.contains(word)), "{text}");
    }

    #[test]
    fn how_long_to_wait_is_read_from_either_header() {
        let body = r#"{"Code":"Throttling.User"}"#;
        assert_eq!(refused(400, &[("x-acs-retry-after", "1500")], body).retry_after(), Some(Duration::from_millis(1500)));
        let older = refused(400, &[("x-ratelimit-user-api", "Limit:100,Remain:0,TimeLeft:250")], body);
        assert_eq!(older.retry_after(), Some(Duration::from_millis(250)));
        for nonsense in ["-1", "0", "soon", ""] {
            assert_eq!(refused(400, &[("x-acs-retry-after", nonsense)], body).retry_after(), None, "{nonsense}");
        }
    }

    #[test]
    fn a_permit_leaves_time_for_the_answer() {
        let now = Instant::now();
        for (left, until) in [(10_000, 7_000), (6_000, 3_000), (1_000, 500), (0, 0)] {
            assert_eq!(latest_permit(now, now + Duration::from_millis(left)), now + Duration::from_millis(until), "{left} ms are left");
        }
    }

    #[test]
    fn what_is_not_the_clouds_own_answer_proves_nothing() {
        for (status, body) in
            [(502, "<html>"), (404, "<html>"), (400, "{}"), (403, r#"{"Code":null}"#), (413, ""), (400, r#"{"Code":["x"]}"#)]
        {
            let error = refused(status, &[], body);
            assert_eq!((error.class(), error.is_definite()), (Class::Transient, false), "{status} {body}");
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
            assert_eq!(refused(status, &[], &format!(r#"{{"Code":"{code}"}}"#)).is_definite(), definite, "{status} {code}");
        }
    }

    #[test]
    fn the_signed_host_is_the_one_that_is_sent() {
        let host = |url: &str| authority(&Url::parse(url).unwrap());
        assert_eq!(host("https://vpc.aliyuncs.com:443/"), "vpc.aliyuncs.com");
        assert_eq!(host("http://127.0.0.1:8080/"), "127.0.0.1:8080");
    }
}
