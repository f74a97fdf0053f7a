//! Asks the cloud whether it answers again, while it is silent for this process: changes and leases are
//! left to other workers then, so nothing else might ask.

use crate::context::Worker;
use crate::errors::error_chain;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Interval between two looks, and between two probes.
const PERIOD: Duration = Duration::from_secs(1);
/// Deadline of a probe. Its connection is closed then, so that the next one finds or makes another.
const PROBE_DEADLINE: Duration = Duration::from_secs(2);

/// Probes the cloud while it is silent, until `token` is cancelled.
pub(crate) async fn probe_silent_cloud(
    worker: Arc<Worker>,
    token: CancellationToken,
) -> Result<(), Infallible> {
    let mut silent_since: Option<Instant> = None;
    while token.run_until_cancelled(tokio::time::sleep(PERIOD)).await.is_some() {
        match (worker.is_cloud_silent(), silent_since) {
            (true, None) => {
                silent_since = Some(Instant::now());
                worker.metrics.show_cloud_silent(true);
                tracing::warn!(
                    "the cloud answers no call of this worker; leases, changes and gateways are left to others"
                );
            }
            (false, Some(since)) => {
                silent_since = None;
                worker.metrics.show_cloud_silent(false);
                tracing::info!(
                    silent_for = since.elapsed().as_secs_f32(),
                    "the cloud answers this worker again"
                );
            }
            _ => {}
        }
        if silent_since.is_some()
            && let Err(error) = worker.cloud.probe(PROBE_DEADLINE).await
        {
            tracing::debug!(error = error_chain(&error), "probe of the cloud failed");
        }
    }
    Ok(())
}
