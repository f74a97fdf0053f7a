//! The admin endpoints, plain HTTP on an address of their own: `/livez`, `/readyz` and `/metrics`.
//!
//! Invariant: the process is ready only if all named checks pass. Each check is set by the part of
//! the process that it describes, and a negative answer names the failing checks. A draining
//! process is not ready.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The media type of the text that `prometheus-client` encodes.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The named checks of a process. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, Check>>>);

/// A named check; fails until it is set.
#[derive(Clone, Debug, Default)]
pub struct Check(Arc<AtomicBool>);

impl Check {
    /// Records the current result of the check.
    pub fn set_passing(&self, passes: bool) {
        self.0.store(passes, Ordering::Release);
    }
}

impl Readiness {
    /// The check of this name, registered on first use; fails until set.
    pub fn register_check(&self, name: &'static str) -> Check {
        self.0.lock().entry(name).or_default().clone()
    }

    /// Names of the checks that fail; empty means ready.
    pub fn failing_checks(&self) -> Vec<&'static str> {
        let checks = self.0.lock();
        checks
            .iter()
            .filter(|(_, check)| !check.0.load(Ordering::Acquire))
            .map(|(name, _)| *name)
            .collect()
    }
}

#[derive(Clone)]
struct Shared {
    registry: Arc<Registry>,
    readiness: Readiness,
    token: CancellationToken,
}

/// Serves the admin endpoints until `token` is cancelled.
pub async fn serve_admin(
    listener: TcpListener,
    registry: Arc<Registry>,
    readiness: Readiness,
    token: CancellationToken,
) -> io::Result<()> {
    let router = admin_routes(registry, readiness, token.clone());
    axum::serve(listener, router).with_graceful_shutdown(token.cancelled_owned()).await
}

/// The admin endpoints as a router, for servers that add endpoints to them.
pub fn admin_routes(
    registry: Arc<Registry>,
    readiness: Readiness,
    token: CancellationToken,
) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(serve_metrics))
        .with_state(Shared { registry, readiness, token })
}

async fn readyz(State(shared): State<Shared>) -> (StatusCode, String) {
    if shared.token.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned());
    }
    let missing = shared.readiness.failing_checks();
    if missing.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for: {}\n", missing.join(", ")))
    }
}

async fn serve_metrics(State(shared): State<Shared>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &shared.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("cannot encode metrics: {error}\n"))
                .into_response()
        }
    }
}
