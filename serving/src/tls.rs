//! The TLS listener, and the one place where the TLS provider is chosen.

use axum::Router;
use axum_server::Handle;
use axum_server::accept::NoDelayAcceptor;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::TokioTimer;
use std::io;
use std::net::TcpListener;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A client that has not sent its request's head by then is cut off.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// An idle HTTP/2 connection is asked so often whether anybody is there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Makes ring the provider of every TLS client and server of this process that does not name one.
pub fn install_provider() {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::debug!("a TLS provider was installed before");
    }
}

/// Serves `router` until `token` is cancelled; then no connection is taken any more, and those at
/// work have `drain` to finish.
pub async fn serve(
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
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(HEAD_DEADLINE);
    let serving = server.serve(router.into_make_service());
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => return ended,
        () = token.cancelled() => handle.graceful_shutdown(Some(drain)),
    }
    serving.await
}
