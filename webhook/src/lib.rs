//! The admission server: checks a pod's annotations, adds gate and label, and announces the pod.
//!
//! ```text
//! /mutate    review ─▶ mutate ──────────────────────▶ patch
//! /validate  review ─▶ validate ─▶ announce (≤ 300 ms) ─▶ allowed or refused, warnings
//! /warn      review ─▶ warn ─────────────────────────▶ allowed, warnings
//! ```
//!
//! The server holds no cloud credentials and no client of the cluster. Announcements only inform
//! the worker, which checks every pod again.
//!
//! Invariant: a well-formed review is answered within a second, in any state of Postgres.

mod announce;
pub mod args;
mod metrics;
mod mutate;
mod objects;
mod policy;
mod review;
mod server;
mod validate;
mod warn;

pub use announce::Announcer;
pub use metrics::Metrics;
pub use policy::AdmissionPolicy;
pub use server::admission_router;

use anyhow::Context;
use args::Args;
use prometheus_client::registry::Registry;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use waygate_serving::{Certificates, Readiness, Supervisor, admin, certificates, config, tls};
use waygate_store::Store;

/// Connections to the store: two suffice, as an announcement is one statement of a millisecond.
const CONNECTIONS: u32 = 2;
/// Time for reviews in progress when draining starts; the API server's own deadline is 3 s.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for all tasks to end, draining included.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs the server until `token` is cancelled or one of its tasks dies.
pub async fn run(args: Args, token: CancellationToken) -> anyhow::Result<()> {
    tls::install_provider();
    let config = config::load(&args.config)?;
    let mut registry = Registry::with_prefix("waygate_webhook");
    let metrics = Metrics::new(&mut registry);
    let readiness = Readiness::default();
    let certificates = Certificates::new(
        &args.tls_cert,
        &args.tls_key,
        &mut registry,
        readiness.register_check("certificate"),
    );
    // Lazy: the server starts and admits pods while Postgres is unavailable.
    let store = Store::connect_lazy(&args.database_url, CONNECTIONS, "waygate-webhook")
        .context("--database-url")?;
    let announcer = Announcer::new(store, config.cluster_id.clone(), metrics.clone());
    let router =
        admission_router(AdmissionPolicy::new(config, args.worker_user), announcer, metrics);

    let listener = TcpListener::bind(args.listen)
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    let admin = tokio::net::TcpListener::bind(args.admin_listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.admin_listen))?;
    tracing::info!(listen = %args.listen, admin.listen = %args.admin_listen, "serving admission reviews");
    let mut supervisor = Supervisor::new(token.clone());
    supervisor
        .spawn("admin", admin::serve_admin(admin, Arc::new(registry), readiness, token.clone()));
    supervisor.spawn("admission", serve_reviews(listener, certificates, router, token));
    Ok(supervisor.run(STOP_TIMEOUT).await?)
}

/// Serves as soon as there is a certificate, and reloads the certificate when it is renewed.
async fn serve_reviews(
    listener: TcpListener,
    mut files: Certificates,
    router: axum::Router,
    token: CancellationToken,
) -> anyhow::Result<()> {
    let Some(config) = files.wait_until_loaded(certificates::REREAD_INTERVAL, &token).await else {
        return Ok(());
    };
    let serving = tls::serve_tls(listener, config.clone(), router, token.clone(), DRAIN_TIMEOUT);
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => return Ok(ended?),
        () = files.reload_on_change(config, certificates::REREAD_INTERVAL, token) => {}
    }
    Ok(serving.await?)
}
