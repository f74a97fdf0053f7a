//! The TLS listener, and the choice of the TLS provider.

use axum::Router;
use axum_server::Handle;
use axum_server::accept::NoDelayAcceptor;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::TokioTimer;
use std::io;
use std::net::TcpListener;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Time for a client to send the head of a request; slower connections are closed.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// Interval between two pings on an idle HTTP/2 connection.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// Installs ring as the provider of every TLS client and server of this process that does not name
/// another.
pub fn install_provider() {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::debug!("TLS provider already installed");
    }
}

/// Serves `router` until `token` is cancelled. From then on no connection is accepted, and open
/// ones have `drain` to finish.
pub async fn serve_tls(
    listener: TcpListener,
    config: RustlsConfig,
    router: Router,
    token: CancellationToken,
    drain: Duration,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let handle = Handle::new();
    // Nagle's algorithm would hold answers back: 45 ms at the 99.9th percentile.
    let acceptor = RustlsAcceptor::new(config).acceptor(NoDelayAcceptor::new());
    let mut server = axum_server::from_tcp(listener)?.acceptor(acceptor).handle(handle.clone());
    let builder = server.http_builder();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(HEAD_DEADLINE);
    let serving = server.serve(router.into_make_service());
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => return ended,
        () = token.cancelled() => handle.graceful_shutdown(Some(drain)),
    }
    serving.await
}
