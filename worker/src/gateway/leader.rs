//! The gateway locks that this process holds: acquired where they are free, renewed while their
//! sender runs, released at shutdown.

use super::sender;
use crate::context::Worker;
use crate::errors::error_chain;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use waygate_core::request::Kind;
use waygate_store::GatewayLock;

/// Gateway locks are renewed three times within their validity, as claims are.
const RENEWAL: Duration = Duration::from_secs(4);
/// Interval between two searches for free locks: the time a gateway waits after its worker has shut
/// down in order.
const FREE_LOCK_POLL: Duration = Duration::from_secs(1);

/// A gateway whose lock this process holds, with the task that sends its changes.
struct RunningSender {
    lock: GatewayLock,
    token: CancellationToken,
    task: JoinHandle<()>,
}

/// Acquires gateway locks and runs their senders until `token` is cancelled; then waits for the
/// changes in flight and releases the locks.
pub(crate) async fn lead_gateways(
    worker: Arc<Worker>,
    token: CancellationToken,
) -> Result<(), Infallible> {
    let mut senders: Vec<RunningSender> = Vec::new();
    let mut renewed = Instant::now();
    while !token.is_cancelled() {
        // A lock whose sender has ended is not renewed: it expires, and is acquired again.
        senders.retain(|running| !running.task.is_finished());
        if renewed.elapsed() >= RENEWAL && renew_gateway_locks(&worker, &senders).await {
            renewed = Instant::now();
        }
        acquire_gateway_locks(&worker, &mut senders).await;
        tokio::select! {
            () = tokio::time::sleep(FREE_LOCK_POLL) => {}
            () = worker.queue_wakeups.wait_for_unserved() => {}
            () = token.cancelled() => {}
        }
    }
    for running in &senders {
        running.token.cancel();
    }
    for running in senders {
        if let Err(error) = running.task.await {
            tracing::error!(
                gateway.id = %running.lock.gateway_id, error = error_chain(&error),
                "gateway sender panicked; its gateway lock is released"
            );
        }
    }
    if let Err(error) = worker.store.release_gateway_locks(worker.owner).await {
        tracing::warn!(
            error = error_chain(&error),
            "releasing gateway locks failed; they expire by themselves"
        );
    }
    Ok(())
}

/// Renews the locks and stops the senders of those that were lost. True if the store answered.
async fn renew_gateway_locks(worker: &Worker, senders: &[RunningSender]) -> bool {
    let gateways: Vec<_> = senders.iter().map(|running| running.lock.gateway_id.clone()).collect();
    match worker.store.renew_gateway_locks(worker.owner, &gateways).await {
        Ok(held) => {
            senders
                .iter()
                .filter(|running| !held.contains(&running.lock))
                .for_each(|running| running.token.cancel());
            true
        }
        Err(error) => {
            tracing::warn!(
                error = error_chain(&error),
                "renewing gateway locks failed; once they expire, another worker takes over"
            );
            false
        }
    }
}

async fn acquire_gateway_locks(worker: &Arc<Worker>, senders: &mut Vec<RunningSender>) {
    // Changes queued before forward entries were switched off in the configuration stay queued.
    if !worker.serves_kind(Kind::Dnat) {
        return;
    }
    let gateways: Vec<_> =
        worker.config.gateways.iter().map(|gateway| gateway.nat_gateway_id.clone()).collect();
    let locks = match worker.store.acquire_gateway_locks(worker.owner, &gateways).await {
        Ok(locks) => locks,
        Err(error) => {
            return tracing::warn!(
                error = error_chain(&error),
                "search for free gateway locks failed; trying again in 1 s"
            );
        }
    };
    for lock in locks {
        tracing::info!(gateway.id = %lock.gateway_id, "gateway lock acquired");
        // Registered before the sender's first look at the queue, so that no wake-up is missed.
        let queued = worker.queue_wakeups.register_sender(&lock.gateway_id);
        let token = CancellationToken::new();
        let task = tokio::spawn(sender::run_sender(
            Arc::clone(worker),
            lock.clone(),
            queued,
            token.clone(),
        ));
        senders.push(RunningSender { lock, token, task });
    }
}
