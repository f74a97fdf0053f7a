//! The whole server as a process: files, sockets, TLS, readiness, and shutdown.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use clap::Parser;
use jiff::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use secrecy::ExposeSecret;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use waygate_certs::Authority;
use waygate_webhook::{args::Args, run};

const DEADLINE: Duration = Duration::from_secs(20);
const REVIEW: &str = include_str!("reviews/warn-a-deployment-learns-what-becomes-of-its-pods.json");
const CONFIG: &str =
    "{clusterID: c1, regionID: cn-hangzhou, vpcID: vpc-1, enableControllers: [eip]}";

struct Process {
    files: tempfile::TempDir,
    listen: SocketAddr,
    admin: SocketAddr,
    token: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

/// An address without a listener.
fn free() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn args(files: &Path, listen: SocketAddr, admin: SocketAddr) -> Args {
    let file = |name: &str| files.join(name).to_string_lossy().into_owned();
    let [listen, admin] = [listen, admin].map(|address| address.to_string());
    let (config, cert, key) = (file("config.yaml"), file("tls.crt"), file("tls.key"));
    let words = [
        "waygate-webhook",
        "--config",
        &config,
        "--listen",
        &listen,
        "--admin-listen",
        &admin,
        "--tls-cert",
        &cert,
        "--tls-key",
        &key,
    ];
    Args::try_parse_from(
        words.into_iter().chain(["--database-url", "postgres://waygate@127.0.0.1:1/nothing"]),
    )
    .unwrap()
}

impl Process {
    fn start() -> Self {
        let (files, listen, admin, token) =
            (tempfile::tempdir().unwrap(), free(), free(), CancellationToken::new());
        std::fs::write(files.path().join("config.yaml"), CONFIG).unwrap();
        let running = tokio::spawn(run(args(files.path(), listen, admin), token.clone()));
        Self { files, listen, admin, token, running }
    }

    fn issue(&self) -> Authority {
        let authority = Authority::new(Timestamp::now()).unwrap();
        let pair =
            authority.issue_certificate(&["127.0.0.1".to_owned()], Timestamp::now()).unwrap();
        std::fs::write(self.files.path().join("tls.key"), pair.key_pem.expose_secret()).unwrap();
        std::fs::write(self.files.path().join("tls.crt"), pair.cert_pem).unwrap();
        authority
    }

    async fn until_readyz_says(&self, words: &str) {
        let asked = async {
            loop {
                if let Ok(mut stream) = TcpStream::connect(self.admin).await {
                    send(&mut stream, "GET", "/readyz", "", "").await;
                    if rest(&mut stream).await.contains(words) {
                        return;
                    }
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(tokio::time::timeout(DEADLINE, asked).await.is_ok(), "/readyz never said {words}");
    }

    async fn connect(&self, authority: &Authority) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.ca_pem().as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(name, TcpStream::connect(self.listen).await.unwrap())
            .await
            .unwrap()
    }
}

async fn send(
    stream: &mut (impl AsyncWrite + Unpin),
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) {
    let head = format!("{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
}

async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await.unwrap();
    String::from_utf8(text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_review_is_answered_over_tls_once_there_is_a_certificate_and_finished_while_draining() {
    let process = Process::start();
    process.until_readyz_says("waiting for: certificate").await;
    let authority = process.issue();
    process.until_readyz_says("ok").await;

    let case: serde_json::Value = serde_json::from_str(REVIEW).unwrap();
    let review = case["review"].to_string();
    let mut stream = process.connect(&authority).await;
    let headers = format!("content-length: {}\r\nexpect: 100-continue\r\n", review.len());
    send(&mut stream, "POST", "/warn", &headers, "").await;
    let mut goes_on = [0; 25];
    stream.read_exact(&mut goes_on).await.unwrap();
    assert_eq!(&goes_on, b"HTTP/1.1 100 Continue\r\n\r\n");

    // The review is in progress now: the server must answer it although draining has begun.
    process.token.cancel();
    stream.write_all(review.as_bytes()).await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(
        answer.starts_with("HTTP/1.1 200")
            && answer.contains("pods of this template will be refused"),
        "{answer}"
    );
    tokio::time::timeout(DEADLINE, process.running).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_wrong_configuration_stops_the_start_and_is_named() {
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("config.yaml"), "{clusterId: c1, regionID: cn-hangzhou}")
        .unwrap();
    let error = run(args(files.path(), free(), free()), CancellationToken::new())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("did you mean clusterID?") && error.contains("vpcID is required"),
        "{error}"
    );
}

#[tokio::test]
async fn an_address_in_use_stops_the_start() {
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("config.yaml"), CONFIG).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let error =
        run(args(files.path(), taken.local_addr().unwrap(), free()), CancellationToken::new())
            .await
            .unwrap_err();
    assert!(error.to_string().contains("cannot listen on 127.0.0.1"), "{error}");
}
