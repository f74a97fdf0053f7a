//! A client of a few lines, with a connection for each call, that signs by the verifier's own
//! reading of the request.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use clap::Parser;
use jiff::Timestamp;
use serde_json::Value;
use simulator::{
    args::Args,
    server::RunningSimulator,
    signature::{Received, v3},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// HTTP answer of the simulator.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Value,
}

impl Answer {
    pub(super) fn code(&self) -> &str {
        self.body["Code"].as_str().unwrap_or_default()
    }

    pub(super) fn text(&self, field: &str) -> String {
        self.body[field].as_str().unwrap_or_default().to_owned()
    }
}

/// A key to sign with.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) id: String,
    pub(super) secret: String,
    pub(super) token: Option<String>,
}

pub(super) struct Stand {
    pub(super) serving: RunningSimulator,
    pub(super) key: Key,
    pub(super) ready: Value,
}

const LIMIT: Duration = Duration::from_secs(15);
static NONCE: AtomicU64 = AtomicU64::new(0);

impl Stand {
    pub(super) async fn start(arguments: &str) -> Self {
        let args = Args::parse_from(["simulator"].into_iter().chain(arguments.split_whitespace()));
        let serving = RunningSimulator::start(&args).await.unwrap();
        let ready: Value = serde_json::from_str(&serving.ready_line()).unwrap();
        let text = |name: &str| ready[name].as_str().unwrap().to_owned();
        let key = Key { id: text("accessKeyId"), secret: text("accessKeySecret"), token: None };
        Self { serving, key, ready }
    }

    /// A signed call of the VPC, or of the product whose version the action needs.
    pub(super) async fn call(&self, action: &str, query: &str) -> Answer {
        self.try_call(&self.key, action, query).await.unwrap()
    }

    /// The same with another key; no answer at all is an error.
    pub(super) async fn try_call(
        &self,
        key: &Key,
        action: &str,
        query: &str,
    ) -> std::io::Result<Answer> {
        let nonce = format!("nonce-{}", NONCE.fetch_add(1, Ordering::Relaxed));
        self.send(&sign(
            key,
            action,
            &format!("RegionId=cn-hangzhou&{query}"),
            &nonce,
            Timestamp::now(),
        ))
        .await
    }

    pub(super) async fn send(&self, request: &str) -> std::io::Result<Answer> {
        exchange_text(self.serving.endpoint.to_string(), request).await
    }

    pub(super) async fn admin(&self, method: &str, path: &str, body: &str) -> Answer {
        request(&self.serving.admin.to_string(), method, path, &[], body).await
    }

    /// Sets a fault and gives its id.
    pub(super) async fn set_fault(&self, wanted: &str) -> u64 {
        let answer = self.admin("POST", "/faults", wanted).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body["id"].as_u64().unwrap()
    }

    pub(super) async fn state(&self) -> Value {
        self.admin("GET", "/state", "").await.body
    }

    /// Waits until `/faults` says that this number of calls is held.
    pub(super) async fn wait_for_held_calls(&self, wanted: u64) {
        let reached = async {
            while self.admin("GET", "/faults", "").await.body["held"] != wanted {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, reached).await.unwrap();
    }

    pub(super) async fn eip_count(&self) -> usize {
        self.state().await["eips"].as_array().unwrap().len()
    }
}

/// An unsigned request, as metadata service and admin want it.
pub(super) async fn request(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let mut text = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    if body.starts_with('{') {
        text.push_str("content-type: application/json\r\n");
    }
    for (name, value) in headers {
        write!(text, "{name}: {value}\r\n").unwrap();
    }
    exchange_text(address.to_owned(), &format!("{text}\r\n{body}")).await.unwrap()
}

/// The text of a signed request.
pub(super) fn sign(key: &Key, action: &str, query: &str, nonce: &str, at: Timestamp) -> String {
    let version = match action {
        "DescribeNetworkInterfaces" | "DescribeSecurityGroupAttribute" => "2014-05-26",
        "AssumeRole" | "GetCallerIdentity" => "2015-04-01",
        _ => "2016-04-28",
    };
    let date = at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let mut pairs = vec![
        ("host", "vpc.test"),
        ("x-acs-action", action),
        (
            "x-acs-content-sha256",
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ),
        ("x-acs-date", &date),
    ];
    pairs.extend(key.token.as_deref().map(|token| ("x-acs-security-token", token)));
    pairs.extend([("x-acs-signature-nonce", nonce), ("x-acs-version", version)]);
    let signed = pairs.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let headers: HeaderMap = pairs
        .iter()
        .map(|(name, value)| {
            (HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap())
        })
        .collect();
    let received = Received { method: "POST", path: "/", query, headers: &headers, body: b"" };
    let authorization = |signature: &str| {
        format!(
            "{} Credential={},SignedHeaders={signed},Signature={signature}",
            v3::ALGORITHM,
            key.id
        )
    };
    let claim = v3::extract_claim(&received, &authorization("unknown")).unwrap();
    let mut text = format!("POST /?{query} HTTP/1.1\r\nconnection: close\r\ncontent-length: 0\r\n");
    for (name, value) in pairs {
        write!(text, "{name}: {value}\r\n").unwrap();
    }
    format!(
        "{text}authorization: {}\r\n\r\n",
        authorization(&v3::sign_text(&key.secret, &claim.string_to_sign))
    )
}

async fn exchange_text(address: String, request: &str) -> std::io::Result<Answer> {
    let talk = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        };
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = serde_json::from_str(body).unwrap_or_else(|_| Value::from(body));
        Ok(Answer { status, head: head.to_ascii_lowercase(), body })
    };
    tokio::time::timeout(LIMIT, talk).await.unwrap()
}
