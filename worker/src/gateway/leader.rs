//! The gateway locks that this process holds: acquired where they are free, renewed while their
//! sender runs, released at shutdown.

use super::sender;
use crate::context::Worker;
use crate::errors::chain;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use waygate_core::request::Kind;
use waygate_store::Lane;

/// Gateway locks are renewed three times within their validity, as claims are.
const RENEWAL: Duration = Duration::from_secs(4);
/// Interval between two searches for free locks: the time a gateway waits after its worker has shut
/// down in order.
const LOOK: Duration = Duration::from_secs(1);

/// A gateway whose lock this process holds, with the task that sends its changes.
struct Served {
    lane: Lane,
    token: CancellationToken,
    task: JoinHandle<()>,
}

/// Acquires gateway locks and runs their senders until `token` is cancelled; then waits for the
/// changes in flight and releases the locks.
pub(crate) async fn run(worker: Arc<Worker>, token: CancellationToken) -> Result<(), Infallible> {
    let mut served: Vec<Served> = Vec::new();
    let mut renewed = Instant::now();
    while !token.is_cancelled() {
        // A lock whose sender has ended is not renewed: it expires, and is acquired again.
        served.retain(|one| !one.task.is_finished());
        if renewed.elapsed() >= RENEWAL && renew(&worker, &served).await {
            renewed = Instant::now();
        }
        take(&worker, &mut served).await;
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = worker.lanes.freed() => {}
            () = token.cancelled() => {}
        }
    }
    for one in &served {
        one.token.cancel();
    }
    for one in served {
        if let Err(error) = one.task.await {
            tracing::error!(
                gateway.id = %one.lane.gateway_id, error = chain(&error),
                "gateway sender task panicked"
            );
        }
    }
    if let Err(error) = worker.store.leave_lanes(worker.owner).await {
        tracing::warn!(
            error = chain(&error),
            "releasing gateway locks failed; they expire by themselves"
        );
    }
    Ok(())
}

/// Renews the locks and stops the senders of those that were lost. True if the store answered.
async fn renew(worker: &Worker, served: &[Served]) -> bool {
    let gateways: Vec<_> = served.iter().map(|one| one.lane.gateway_id.clone()).collect();
    match worker.store.renew_lanes(worker.owner, &gateways).await {
        Ok(held) => {
            served
                .iter()
                .filter(|one| !held.contains(&one.lane))
                .for_each(|one| one.token.cancel());
            true
        }
        Err(error) => {
            tracing::warn!(
                error = chain(&error),
                "renewing gateway locks failed; once they expire, another worker takes over"
            );
            false
        }
    }
}

async fn take(worker: &Arc<Worker>, served: &mut Vec<Served>) {
    // Changes queued before forward entries were switched off in the configuration stay queued.
    if !worker.serves(Kind::Dnat) {
        return;
    }
    let gateways: Vec<_> =
        worker.config.gateways.iter().map(|gateway| gateway.nat_gateway_id.clone()).collect();
    let lanes = match worker.store.take_lanes(worker.owner, &gateways).await {
        Ok(lanes) => lanes,
        Err(error) => {
            return tracing::warn!(error = chain(&error), "search for free gateway locks failed");
        }
    };
    for lane in lanes {
        tracing::info!(gateway.id = %lane.gateway_id, "gateway lock acquired");
        // Registered before the sender's first look at the queue, so that no wake-up is missed.
        let queued = worker.lanes.wakeups_of(&lane.gateway_id);
        let token = CancellationToken::new();
        let task =
            tokio::spawn(sender::serve(Arc::clone(worker), lane.clone(), queued, token.clone()));
        served.push(Served { lane, token, task });
    }
}
