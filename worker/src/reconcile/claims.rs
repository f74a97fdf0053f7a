//! Claims due leases and reconciles them, up to `--concurrency` at the same time.

use super::reconcile;
use crate::context::Worker;
use crate::errors::chain;
use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use waygate_core::ids::LeaseId;
use waygate_core::rules::timing::CLAIM;
use waygate_serving::Check;

/// Interval between two looks at the store while leases are reconciled or were just woken: a lease
/// that polls the cloud is due within fractions of a second.
const BUSY: Duration = Duration::from_millis(100);
/// Longest interval when no lease is due. Pod events do not wait for it: each wakes the loop.
const IDLE: Duration = Duration::from_secs(1);
/// Interval between renewals: a third of a claim's validity, so that one failed renewal does no
/// harm.
const RENEWAL: Duration = Duration::from_secs(4);

/// Leases that this process is reconciling. Only their claims are renewed: the claim of a lease
/// left after an error must expire.
#[derive(Clone, Default)]
pub(crate) struct AtWork(Arc<Mutex<BTreeSet<LeaseId>>>);

impl AtWork {
    fn leases(&self) -> MutexGuard<'_, BTreeSet<LeaseId>> {
        self.0.lock()
    }

    fn begin(&self, lease: LeaseId) -> Working {
        self.leases().insert(lease);
        Working { lease, at_work: self.clone() }
    }
}

/// Guard of one reconciled lease; removes the lease from the set when dropped.
struct Working {
    lease: LeaseId,
    at_work: AtWork,
}

impl Drop for Working {
    fn drop(&mut self) {
        self.at_work.leases().remove(&self.lease);
    }
}

/// Renews claims until `token` is cancelled and the last reconcile has ended.
pub(crate) async fn renew(
    worker: Arc<Worker>,
    at_work: AtWork,
    token: CancellationToken,
) -> Result<(), Infallible> {
    while !token.is_cancelled() || !at_work.leases().is_empty() {
        if token.run_until_cancelled(tokio::time::sleep(RENEWAL)).await.is_none() {
            tokio::time::sleep(BUSY).await;
        }
        let leases: Vec<_> = at_work.leases().iter().copied().collect();
        if !leases.is_empty()
            && let Err(error) = worker.store.renew(worker.owner, &leases, CLAIM).await
        {
            tracing::warn!(
                error = chain(&error),
                "renewing claims failed; once they expire, another worker takes over"
            );
        }
    }
    Ok(())
}

/// Claims and reconciles due leases until `token` is cancelled, then waits for those in progress.
/// Sets the readiness check `reached` by whether the store answers.
pub(crate) async fn run(
    worker: Arc<Worker>,
    at_work: AtWork,
    concurrency: usize,
    reached: Check,
    token: CancellationToken,
) -> Result<(), Infallible> {
    let room = Arc::new(Semaphore::new(concurrency));
    let tasks = TaskTracker::new();
    let mut pause = BUSY;
    while !token.is_cancelled() {
        let limit = i64::try_from(room.available_permits()).unwrap_or(i64::MAX);
        // Not under `select!`: a cancelled query could leave its connection inside an open
        // transaction.
        let claims = if limit == 0 {
            Ok(Vec::new())
        } else {
            worker.store.claim(worker.cluster, worker.owner, limit, CLAIM).await
        };
        match claims {
            Ok(claims) => {
                reached.set(true);
                for claim in claims {
                    let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return Ok(()) };
                    let working = at_work.begin(claim.lease_id);
                    let worker = Arc::clone(&worker);
                    tasks.spawn(async move {
                        // Boxed because the future is large and many run at once.
                        Box::pin(reconcile(&worker, &claim)).await;
                        drop((working, permit));
                    });
                }
                pause = if tasks.is_empty() { (pause * 2).min(IDLE) } else { BUSY };
            }
            Err(error) => {
                reached.set(false);
                tracing::warn!(
                    error = chain(&error),
                    "claiming leases failed; addresses stay unchanged until the store answers"
                );
                pause = IDLE;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = worker.due.notified() => pause = BUSY,
            () = token.cancelled() => {}
        }
    }
    tasks.close();
    tasks.wait().await;
    Ok(())
}
