//! The admin endpoints over a real socket.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use waygate_serving::{Readiness, admin};

async fn get(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(
            format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").as_bytes(),
        )
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn readiness_names_what_is_missing_until_nothing_is() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut registry = Registry::with_prefix("waygate");
    let seen = Counter::<u64>::default();
    registry.register("seen", "Things seen", seen.clone());
    seen.inc();
    let (readiness, token) = (Readiness::default(), CancellationToken::new());
    let (certificate, watch) =
        (readiness.register_check("certificate"), readiness.register_check("watch"));
    let server =
        tokio::spawn(admin::serve_admin(listener, Arc::new(registry), readiness, token.clone()));

    assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200"));
    let waiting = get(address, "/readyz").await;
    assert!(
        waiting.starts_with("HTTP/1.1 503") && waiting.contains("waiting for: certificate, watch"),
        "{waiting}"
    );
    certificate.set_passing(true);
    assert!(get(address, "/readyz").await.contains("waiting for: watch"));
    watch.set_passing(true);
    assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
    certificate.set_passing(false);
    assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 503"));
    let metrics = get(address, "/metrics").await;
    assert!(
        metrics.contains("waygate_seen_total 1") && metrics.contains("openmetrics"),
        "{metrics}"
    );

    token.cancel();
    server.await.unwrap().unwrap();
}
