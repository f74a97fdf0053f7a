//! A link that passes HTTP requests, and can answer some of them itself.
//!
//! ```text
//! client ──▶ TcpLink (stalls, resets, delays) ──▶ server of the link (answers) ──▶ the real server
//! ```
//!
//! Where clients expect TLS, the link ends it with a certificate of the testbed's own, and speaks TLS
//! to the real server. Tokens and signatures pass unchanged, the `Host` header included.

use std::{net::TcpListener, ops::Deref, sync::Arc};

use anyhow::{Context as _, Result};
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode, Uri, Version, header},
    response::{IntoResponse as _, Response},
};
use axum_server::tls_rustls::RustlsConfig;
use parking_lot::Mutex;
use secrecy::ExposeSecret as _;
use tokio::task::JoinHandle;
use waygate_certs::Pair;

use super::{
    requests::{Answer, AnswerFault, Requests},
    tcp::TcpLink,
};

/// Headers that are for one connection only, or that follow from the body.
const CONNECTION_HEADERS: [header::HeaderName; 5] =
    [header::CONNECTION, header::TRANSFER_ENCODING, header::TE, header::TRAILER, header::UPGRADE];

/// A link to one HTTP server. Its faults of connections are those of the link before it, which it
/// dereferences to.
#[derive(Debug)]
pub struct HttpLink {
    front: TcpLink,
    faults: Arc<Mutex<Vec<AnswerFault>>>,
    task: JoinHandle<std::io::Result<()>>,
}

impl HttpLink {
    /// Opens a link to a server, such as `http://127.0.0.1:1`.
    pub async fn to_plain_server(server: &str) -> Result<Self> {
        // No authority is needed, and reading the machine's takes a debug build long.
        let client = reqwest::Client::builder().tls_certs_only([]);
        Self::open(server, client, None).await
    }

    /// Opens a link to a server with a certificate of this authority, such as `https://127.0.0.1:1`.
    /// Clients see `certificate`.
    pub async fn to_tls_server(server: &str, ca_pem: &[u8], certificate: &Pair) -> Result<Self> {
        let authority = reqwest::Certificate::from_pem(ca_pem)?;
        let client = reqwest::Client::builder().tls_certs_only([authority]);
        let key = certificate.key_pem.expose_secret().as_bytes().to_vec();
        let tls = RustlsConfig::from_pem(certificate.cert_pem.clone().into_bytes(), key).await?;
        Self::open(server, client, Some(tls)).await
    }

    async fn open(
        server: &str,
        client: reqwest::ClientBuilder,
        tls: Option<RustlsConfig>,
    ) -> Result<Self> {
        let faults = Arc::new(Mutex::new(Vec::new()));
        let forwarder = Forwarder {
            client: client.http1_only().no_proxy().build()?,
            server: server.trim_end_matches('/').to_owned(),
            faults: Arc::clone(&faults),
        };
        let router = Router::new().fallback(forward_request).with_state(Arc::new(forwarder));
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let front = TcpLink::to_server(listener.local_addr()?.to_string()).await?;
        let service = router.into_make_service();
        let task = match tls {
            Some(tls) => tokio::spawn(axum_server::from_tcp_rustls(listener, tls)?.serve(service)),
            None => tokio::spawn(axum_server::from_tcp(listener)?.serve(service)),
        };
        Ok(Self { front, faults, task })
    }

    /// Answers these requests instead of the server, or after it.
    pub fn answer_requests(&self, requests: Requests, answer: Answer) -> AnswerFault {
        let fault = AnswerFault::new(requests, answer);
        self.faults.lock().push(fault.clone());
        fault
    }
}

impl Deref for HttpLink {
    type Target = TcpLink;

    fn deref(&self) -> &TcpLink {
        &self.front
    }
}

impl Drop for HttpLink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Passes requests on.
#[derive(Debug)]
struct Forwarder {
    client: reqwest::Client,
    server: String,
    faults: Arc<Mutex<Vec<AnswerFault>>>,
}

async fn forward_request(State(forwarder): State<Arc<Forwarder>>, request: Request) -> Response {
    forwarder.forward_or_answer(request).await.unwrap_or_else(|error| {
        (StatusCode::BAD_GATEWAY, format!("the link's server: {error:#}")).into_response()
    })
}

impl Forwarder {
    async fn forward_or_answer(&self, request: Request) -> Result<Response> {
        let (parts, body) = request.into_parts();
        let chosen = self.faults.lock().iter().find_map(|fault| fault.take_answer(&parts).cloned());
        if let Some(answer) = &chosen
            && !answer.served
        {
            return build_answer(answer);
        }
        let answered = self.forward(Request::from_parts(parts, body)).await?;
        chosen.map_or(Ok(answered), |answer| build_answer(&answer))
    }

    /// Sends a request on. The answer's body follows as it comes: watches last for minutes.
    async fn forward(&self, request: Request) -> Result<Response> {
        let (mut parts, body) = request.into_parts();
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        parts.uri = format!("{}{target}", self.server).parse::<Uri>().context("the target")?;
        parts.version = Version::HTTP_11;
        remove_connection_headers(&mut parts.headers);
        let body = to_bytes(body, usize::MAX).await?;
        let request = reqwest::Request::try_from(axum::http::Request::from_parts(parts, body))?;
        let answer = axum::http::Response::from(self.client.execute(request).await?);
        let (mut parts, body) = answer.into_parts();
        parts.version = Version::default();
        remove_connection_headers(&mut parts.headers);
        Ok(Response::from_parts(parts, Body::new(body)))
    }
}

fn remove_connection_headers(headers: &mut HeaderMap) {
    for name in CONNECTION_HEADERS {
        headers.remove(name);
    }
}

fn build_answer(answer: &Answer) -> Result<Response> {
    Ok(Response::builder()
        .status(answer.status)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(serde_json::to_vec(&answer.body)?))?)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::routing::any;
    use jiff::Timestamp;
    use waygate_certs::Authority;

    use crate::cluster::install_tls;

    use super::*;

    /// A server that says how often it was asked, and by which host and token.
    fn counting_router(asked: Arc<AtomicUsize>) -> Router {
        Router::new().fallback(any(move |headers: HeaderMap, body: String| {
            let asked = Arc::clone(&asked);
            async move {
                let header = |name: header::HeaderName| {
                    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned()
                };
                let number = asked.fetch_add(1, Ordering::SeqCst) + 1;
                format!(
                    "{number} {} {} {body}",
                    header(header::HOST),
                    header(header::AUTHORIZATION)
                )
            }
        }))
    }

    async fn start_counting_server() -> (String, Arc<AtomicUsize>) {
        install_tls();
        let asked = Arc::new(AtomicUsize::new(0));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let router = counting_router(Arc::clone(&asked));
        tokio::spawn(async move { axum::serve(listener, router).await });
        (server, asked)
    }

    #[tokio::test]
    async fn requests_pass_with_host_token_and_body() {
        let (server, _) = start_counting_server().await;
        let link = HttpLink::to_plain_server(&server).await.unwrap();
        let url = format!("http://{}/a?b=%2Fc", link.address());
        let answer =
            reqwest::Client::new().post(url).bearer_auth("t").body("text").send().await.unwrap();
        let expected = format!("1 {} Bearer t text", link.address());
        assert_eq!(answer.text().await.unwrap(), expected);
    }

    #[tokio::test]
    async fn chosen_requests_are_answered_by_the_link_before_or_after_the_server() {
        let (server, asked) = start_counting_server().await;
        let link = HttpLink::to_plain_server(&server).await.unwrap();
        let url = format!("http://{}/pods/a", link.address());
        let answer = Answer::api_error(503, "ServiceUnavailable", "wait");
        let instead = link.answer_requests(Requests::to("GET", "/pods/*"), answer.clone().times(2));
        for _ in 0..2 {
            assert_eq!(reqwest::get(&url).await.unwrap().status(), 503);
        }
        assert_eq!((instead.count_answered(), asked.load(Ordering::SeqCst)), (2, 0));
        assert_eq!(reqwest::get(&url).await.unwrap().status(), 200);

        let after = link.answer_requests(Requests::to("GET", "/pods/a"), answer.after_the_server());
        assert_eq!(reqwest::get(&url).await.unwrap().status(), 503);
        assert_eq!((after.count_answered(), asked.load(Ordering::SeqCst)), (1, 2));
        after.lift();
        assert_eq!(reqwest::get(&url).await.unwrap().status(), 200);
    }

    #[tokio::test]
    async fn tls_ends_at_the_link_and_begins_again() {
        install_tls();
        let authority = Authority::new(Timestamp::now()).unwrap();
        let pair =
            || authority.issue_certificate(&["127.0.0.1".to_owned()], Timestamp::now()).unwrap();
        let upstream = pair();
        let key = upstream.key_pem.expose_secret().as_bytes().to_vec();
        let tls = RustlsConfig::from_pem(upstream.cert_pem.into_bytes(), key).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let server = format!("https://{}", listener.local_addr().unwrap());
        let router = counting_router(Arc::default()).into_make_service();
        tokio::spawn(axum_server::from_tcp_rustls(listener, tls).unwrap().serve(router));

        let own = Authority::new(Timestamp::now()).unwrap();
        let certificate =
            own.issue_certificate(&["127.0.0.1".to_owned()], Timestamp::now()).unwrap();
        let link = HttpLink::to_tls_server(&server, authority.ca_pem().as_bytes(), &certificate)
            .await
            .unwrap();
        let trusted = reqwest::Certificate::from_pem(own.ca_pem().as_bytes()).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([trusted]).build().unwrap();
        let answer = client.get(format!("https://{}/", link.address())).send().await.unwrap();
        assert!(answer.text().await.unwrap().starts_with("1 "));
    }
}
