//! Fuzzes the simulator with sequences of requests, signed or not, through its public routers.
//!
//! Input: requests as HTTP writes them (`METHOD TARGET`, headers, an empty line, a body), separated
//! by lines of `---`. Targets that begin with `/admin` go to the admin router without that prefix,
//! so that clocks move and faults are set. Every other request is sent twice: unchanged, then with
//! a valid signature, so that both the verifier and the actions behind it are reached.
#![no_main]

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use simulator::cloud::{Quotas, Settings};
use simulator::params::Params;
use simulator::profile::Profile;
use simulator::server::{Simulator, admin_router, api};
use simulator::signature::{Received, v3};
use simulator::topology::Topology;
use std::collections::BTreeSet;
use std::time::Duration;
use tower::ServiceExt as _;

/// Requests of one input that are sent, at most; a longer sequence is found as two inputs.
const MOST_REQUESTS: usize = 12;

/// In the runtime's paused time, which jumps: a delayed answer costs nothing.
const PATIENCE: Duration = Duration::from_hours(1);

const EMPTY_BODY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fuzz_target!(|input: &str| {
    let Ok(runtime) =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()
    else {
        return;
    };
    let settings = Settings {
        topology: Topology::built_in(),
        pace: Profile::Instant.pace(),
        quotas: Quotas::default(),
        seed: 1,
        start: Timestamp::now(),
    };
    let simulator = Simulator::new(settings);
    let key = simulator
        .lock_cloud()
        .first_access_key()
        .map(|key| (key.id.clone(), key.secret.clone()))
        .unwrap_or_default();
    let (api, admin) = (api::api_routes(simulator.clone()), admin_router(simulator.clone()));
    runtime.block_on(async {
        for (number, text) in input.split("\n---\n").take(MOST_REQUESTS).enumerate() {
            let Some(mut sent) = Sent::read(text) else { continue };
            if let Some(target) = sent.target.strip_prefix("/admin") {
                sent.target = target.to_owned();
                sent.header("content-type", "application/json");
                send(&admin, &sent).await;
                continue;
            }
            check_answer(send(&api, &sent).await.as_ref(), false);
            if sent.sign(&key, number) {
                check_answer(send(&api, &sent).await.as_ref(), true);
            }
        }
    });
    check_state(&simulator.lock_cloud().state());
});

/// A request before it is sent.
struct Sent {
    method: Method,
    target: String,
    headers: HeaderMap,
    body: String,
}

impl Sent {
    fn read(text: &str) -> Option<Self> {
        let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
        let mut lines = head.lines();
        let (method, target) = lines.next()?.split_once(' ')?;
        let mut sent = Self {
            method: method.parse().ok()?,
            target: target.to_owned(),
            headers: HeaderMap::new(),
            body: body.to_owned(),
        };
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            sent.header(name, value.trim());
        }
        Some(sent)
    }

    fn header(&mut self, name: &str, value: &str) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            self.headers.insert(name, value);
        }
    }

    /// Signs the request with the key, a new nonce and the current date; false if it cannot be
    /// signed.
    fn sign(&mut self, (id, secret): &(String, String), number: usize) -> bool {
        let Ok(uri) = self.target.parse::<Uri>() else { return false };
        let params = Params::new(simulator::params::decode_query(
            uri.query().unwrap_or_default().as_bytes(),
        ));
        for (header, param, usual) in [
            ("x-acs-action", "Action", "DescribeEipAddresses"),
            ("x-acs-version", "Version", "2016-04-28"),
        ] {
            if !self.headers.contains_key(header) {
                self.header(header, params.get(param).unwrap_or(usual));
            }
        }
        self.body.clear();
        self.header("host", "simulator");
        self.header("x-acs-content-sha256", EMPTY_BODY);
        self.header("x-acs-date", &Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        self.header("x-acs-signature-nonce", &number.to_string());
        for name in ["authorization", "x-acs-security-token"] {
            self.headers.remove(name);
        }
        let names: BTreeSet<&str> = self.headers.keys().map(HeaderName::as_str).collect();
        let signed = names.into_iter().collect::<Vec<_>>().join(";");
        let authorization = |signature: &str| {
            format!(
                "{} Credential={id},SignedHeaders={signed},Signature={signature}",
                v3::ALGORITHM
            )
        };
        let received = Received {
            method: self.method.as_str(),
            path: uri.path(),
            query: uri.query().unwrap_or_default(),
            headers: &self.headers,
            body: b"",
        };
        let Ok(claim) = v3::extract_claim(&received, &authorization("none yet")) else {
            return false;
        };
        let authorization = authorization(&v3::sign_text(secret, &claim.string_to_sign));
        self.header("authorization", &authorization);
        true
    }
}

/// The answer's status and body; none if the connection was closed, no answer came in time, or the
/// request could not be built.
async fn send(router: &Router, sent: &Sent) -> Option<(u16, Value)> {
    let mut request = Request::new(Body::from(sent.body.clone()));
    *request.uri_mut() = sent.target.parse().ok()?;
    request.method_mut().clone_from(&sent.method);
    request.headers_mut().clone_from(&sent.headers);
    let response =
        tokio::time::timeout(PATIENCE, router.clone().oneshot(request)).await.ok()?.ok()?;
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), usize::MAX).await.ok()?;
    (!body.is_empty()).then(|| (status, serde_json::from_slice(&body).unwrap_or_default()))
}

fn check_answer(answer: Option<&(u16, Value)>, is_signed: bool) {
    let Some((status, body)) = answer else { return };
    assert!(body["RequestId"].is_string(), "{status}: {body}");
    assert_eq!(*status == 200, body["Code"].is_null(), "{status}: {body}");
    let forged =
        ["SignatureDoesNotMatch", "IncompleteSignature"].iter().any(|code| body["Code"] == *code);
    let injected = body["Message"]
        .as_str()
        .is_some_and(|message| message.starts_with("The request was refused with"));
    assert!(!is_signed || !forged || injected, "a good signature was refused: {body}");
}

/// Checks that no address is shared and no port is forwarded twice, after any sequence of requests.
fn check_state(state: &Value) {
    let rows = |name: &str| state[name].as_array().into_iter().flatten();
    let mut addresses = BTreeSet::new();
    let mut private = BTreeSet::new();
    for eip in rows("eips") {
        assert!(addresses.insert(eip["IpAddress"].to_string()), "two EIPs have one address: {eip}");
        if eip["PrivateIpAddress"].as_str().is_some_and(|address| !address.is_empty()) {
            assert!(
                private.insert(eip["PrivateIpAddress"].to_string()),
                "a private address has two EIPs: {eip}"
            );
        }
    }
    let mut ports = BTreeSet::new();
    for entry in rows("forwardEntries") {
        assert!(
            !private.contains(&entry["InternalIp"].to_string()),
            "an address has both an EIP and an entry: {entry}"
        );
        let text = entry["ExternalPort"].as_str().unwrap_or_default();
        let (from, to) = text.split_once('/').unwrap_or((text, text));
        for port in from.parse::<u16>().unwrap_or(0)..=to.parse().unwrap_or(0) {
            let tuple = (
                entry["ForwardTableId"].to_string(),
                entry["ExternalIp"].to_string(),
                entry["IpProtocol"].to_string(),
                port,
            );
            assert!(ports.insert(tuple), "a port is forwarded twice: {entry}");
        }
    }
}
