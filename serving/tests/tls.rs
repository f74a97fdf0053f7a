//! The TLS listener with certificates as the kubelet mounts them: files that are links into
//! `..data`, itself a link that is swapped.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use axum::Router;
use axum::routing::get;
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use secrecy::ExposeSecret;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use waygate_certs::{Authority, Pair};
use waygate_serving::{Certificates, Readiness, tls};

const EVERY: Duration = Duration::from_millis(10);
const DEADLINE: Duration = Duration::from_secs(10);
const NAME: &str = "waygate-webhook.waygate-system.svc";

fn authority() -> Authority {
    Authority::new(Timestamp::now()).unwrap()
}

fn pair(authority: &Authority) -> Pair {
    authority
        .issue_certificate(&[NAME.to_owned(), "127.0.0.1".to_owned()], Timestamp::now())
        .unwrap()
}

/// Replaces the mounted Secret the way the kubelet does: a new directory, then one atomic rename of
/// the link to it.
fn mount(at: &Path, version: &str, cert: &str, key: &str) {
    let data = at.join(format!("..{version}"));
    fs::create_dir(&data).unwrap();
    fs::write(data.join("tls.crt"), cert).unwrap();
    fs::write(data.join("tls.key"), key).unwrap();
    symlink(format!("..{version}"), at.join("..data_tmp")).unwrap();
    fs::rename(at.join("..data_tmp"), at.join("..data")).unwrap();
    for file in ["tls.crt", "tls.key"] {
        if !at.join(file).exists() {
            symlink(format!("..data/{file}"), at.join(file)).unwrap();
        }
    }
}

fn mount_pair(at: &Path, version: &str, pair: &Pair) {
    mount(at, version, &pair.cert_pem, pair.key_pem.expose_secret());
}

struct Server {
    address: SocketAddr,
    token: CancellationToken,
    readiness: Readiness,
    registry: Registry,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Server {
    async fn start(files: &Path) -> Self {
        let (token, readiness, mut registry) =
            (CancellationToken::new(), Readiness::default(), Registry::default());
        let ready = readiness.register_check("certificate");
        let mut certificates =
            Certificates::new(files.join("tls.crt"), files.join("tls.key"), &mut registry, ready);
        let config = certificates.wait_until_loaded(EVERY, &token).await.unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(|| async { "hello" }));
        tokio::spawn(certificates.reload_on_change(config.clone(), EVERY, token.clone()));
        let serving =
            tokio::spawn(tls::serve_tls(listener, config, router, token.clone(), DEADLINE));
        Self { address, token, readiness, registry, serving }
    }

    /// Sends a request as a client that trusts only `authority`, under `name`.
    async fn ask(&self, authority: &Authority, name: &str) -> std::io::Result<String> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.ca_pem().as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let stream = TcpStream::connect(self.address).await?;
        let mut stream = TlsConnector::from(Arc::new(config))
            .connect(ServerName::try_from(name.to_owned()).unwrap(), stream)
            .await?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    async fn until(&self, what: &str, condition: impl AsyncFn() -> bool) {
        let waited = tokio::time::timeout(DEADLINE, async {
            while !condition().await {
                tokio::time::sleep(EVERY).await;
            }
        });
        assert!(waited.await.is_ok(), "timed out waiting: {what}");
    }

    fn refused_reads(&self) -> bool {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text.contains(r#"certificate_reads_total{outcome="refused"} 1"#)
    }
}

#[tokio::test]
async fn a_leaf_is_trusted_for_its_names_and_no_others() {
    tls::install_provider();
    let (files, authority) = (tempfile::tempdir().unwrap(), authority());
    mount_pair(files.path(), "1", &pair(&authority));
    let server = Server::start(files.path()).await;
    assert!(server.readiness.failing_checks().is_empty());
    assert!(server.ask(&authority, NAME).await.unwrap().contains("hello"));
    assert!(server.ask(&authority, "127.0.0.1").await.unwrap().contains("hello"));
    assert!(server.ask(&authority, "kubernetes.default.svc").await.is_err());
    assert!(server.ask(&self::authority(), NAME).await.is_err());
    server.token.cancel();
    server.serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_certificates_rotation_blocks_no_pod() {
    tls::install_provider();
    let (files, old, new) = (tempfile::tempdir().unwrap(), authority(), authority());
    let (old_pair, new_pair) = (pair(&old), pair(&new));
    mount_pair(files.path(), "1", &old_pair);
    let server = Server::start(files.path()).await;

    // Simulates a read of certificate and key on either side of a swap.
    mount(files.path(), "2", &new_pair.cert_pem, old_pair.key_pem.expose_secret());
    server.until("the misfit is noticed", async || server.refused_reads()).await;
    assert!(server.ask(&old, NAME).await.unwrap().contains("hello"));

    mount_pair(files.path(), "3", &new_pair);
    server
        .until("the new certificate is served", async || server.ask(&new, NAME).await.is_ok())
        .await;
    assert!(server.ask(&old, NAME).await.is_err());
    server.token.cancel();
    server.serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_server_waits_for_its_certificate() {
    tls::install_provider();
    let (files, authority) = (tempfile::tempdir().unwrap(), authority());
    let (readiness, token, mut registry) =
        (Readiness::default(), CancellationToken::new(), Registry::default());
    let mut waiting = Certificates::new(
        files.path().join("tls.crt"),
        files.path().join("tls.key"),
        &mut registry,
        readiness.register_check("certificate"),
    );
    let cancelled = CancellationToken::new();
    cancelled.cancel();
    assert!(waiting.wait_until_loaded(EVERY, &cancelled).await.is_none());
    assert_eq!(readiness.failing_checks(), ["certificate"]);
    mount_pair(files.path(), "1", &pair(&authority));
    assert!(waiting.wait_until_loaded(EVERY, &token).await.is_some());
    assert!(readiness.failing_checks().is_empty());
}
