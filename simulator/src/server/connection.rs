//! Connections that can break on demand. `axum::serve` always answers; a cloud does not.

use std::{convert::Infallible, fmt};

use axum::{Router, body::Body, extract::Request, response::Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tower::ServiceExt;

/// Put into a response's extensions: the response is not sent, the connection ends instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hangup {
    /// Closed in good order.
    Close,
    /// Connection reset (RST).
    Reset,
}

impl fmt::Display for Hangup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hung up on purpose")
    }
}

impl std::error::Error for Hangup {}

/// A response that will never be sent.
pub(super) fn hang_up(how: Hangup) -> Response {
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(how);
    response
}

/// Accepts connections until the task is dropped, which ends them.
pub(super) async fn accept_connections(listener: TcpListener, router: Router) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve_connection(stream, router.clone()));
                }
                // Out of descriptors, most likely: accepting goes on when a connection has ended.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    connections.join_next().await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve_connection(stream: TcpStream, router: Router) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot switch Nagle off");
    }
    let service = service_fn(|request: hyper::Request<Incoming>| {
        answer_request(router.clone(), request.map(Body::new))
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    let Err(error) = (&mut connection).await else { return };
    if std::error::Error::source(&error).and_then(|source| source.downcast_ref::<Hangup>())
        == Some(&Hangup::Reset)
    {
        reset_connection(connection.into_parts().io.inner());
    }
}

/// Without lingering, closing sends RST instead of FIN.
fn reset_connection(stream: &TcpStream) {
    if let Err(error) = stream.set_zero_linger() {
        tracing::debug!(%error, "cannot reset a connection; it is closed instead");
    }
}

async fn answer_request(router: Router, request: Request) -> Result<Response, Hangup> {
    let response = router.oneshot(request).await.unwrap_or_else(|never: Infallible| match never {});
    match response.extensions().get::<Hangup>() {
        Some(how) => Err(*how),
        None => Ok(response),
    }
}
