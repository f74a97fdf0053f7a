//! Claims due leases and reconciles them, up to `--concurrency` at the same time.

use super::reconcile_lease;
use crate::context::Worker;
use crate::errors::error_chain;
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
const MIN_POLL: Duration = Duration::from_millis(100);
/// Longest interval when no lease is due. Pod events do not wait for it: each wakes the loop.
const MAX_POLL: Duration = Duration::from_secs(1);
/// Interval between renewals: a quarter of a claim's validity, so that one failed renewal does no
/// harm.
const RENEWAL: Duration = Duration::from_secs(4);

/// Time for which a due lease is left to other workers while this one gets no answers from the cloud.
/// They look once a second; what they have no time for is claimed all the same, and its pod told.
const YIELD_WHILE_SILENT: Duration = Duration::from_secs(5);

/// Leases that this process is reconciling. Only their claims are renewed: the claim of a lease
/// left after an error must expire.
#[derive(Clone, Default)]
pub(crate) struct ActiveLeases(Arc<Mutex<BTreeSet<LeaseId>>>);

impl ActiveLeases {
    fn lock_leases(&self) -> MutexGuard<'_, BTreeSet<LeaseId>> {
        self.0.lock()
    }

    fn track_lease(&self, lease: LeaseId) -> ActiveLease {
        self.lock_leases().insert(lease);
        ActiveLease { lease, active: self.clone() }
    }
}

/// Guard of one reconciled lease; removes the lease from the set when dropped.
struct ActiveLease {
    lease: LeaseId,
    active: ActiveLeases,
}

impl Drop for ActiveLease {
    fn drop(&mut self) {
        self.active.lock_leases().remove(&self.lease);
    }
}

/// Renews claims until `token` is cancelled and the last reconcile has ended.
pub(crate) async fn renew_claims(
    worker: Arc<Worker>,
    active: ActiveLeases,
    token: CancellationToken,
) -> Result<(), Infallible> {
    while !token.is_cancelled() || !active.lock_leases().is_empty() {
        if token.run_until_cancelled(tokio::time::sleep(RENEWAL)).await.is_none() {
            tokio::time::sleep(MIN_POLL).await;
        }
        let leases: Vec<_> = active.lock_leases().iter().copied().collect();
        if !leases.is_empty()
            && let Err(error) = worker.store.renew_claims(worker.owner, &leases, CLAIM).await
        {
            tracing::warn!(
                error = error_chain(&error),
                "renewing claims failed; once they expire, another worker takes over"
            );
        }
    }
    Ok(())
}

/// Claims and reconciles due leases until `token` is cancelled, then waits for those in progress.
/// Sets the readiness check `reached` by whether the store answers.
pub(crate) async fn claim_due_leases(
    worker: Arc<Worker>,
    active: ActiveLeases,
    concurrency: usize,
    reached: Check,
    token: CancellationToken,
) -> Result<(), Infallible> {
    let permits = Arc::new(Semaphore::new(concurrency));
    let tasks = TaskTracker::new();
    let mut pause = MIN_POLL;
    while !token.is_cancelled() {
        let limit = i64::try_from(permits.available_permits()).unwrap_or(i64::MAX);
        let due_for = if worker.cloud.is_silent() { YIELD_WHILE_SILENT } else { Duration::ZERO };
        // Not under `select!`: a cancelled query could leave its connection inside an open
        // transaction.
        let claims = if limit == 0 {
            Ok(Vec::new())
        } else {
            worker.store.claim_due_leases(worker.cluster, worker.owner, limit, due_for, CLAIM).await
        };
        match claims {
            Ok(claims) => {
                reached.set_passing(true);
                for claim in claims {
                    let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                        return Ok(());
                    };
                    let active_lease = active.track_lease(claim.lease_id);
                    let worker = Arc::clone(&worker);
                    tasks.spawn(async move {
                        // Boxed because the future is large and many run at once.
                        Box::pin(reconcile_lease(&worker, &claim)).await;
                        drop((active_lease, permit));
                    });
                }
                pause = if tasks.is_empty() { (pause * 2).min(MAX_POLL) } else { MIN_POLL };
            }
            Err(error) => {
                reached.set_passing(false);
                tracing::warn!(
                    error = error_chain(&error),
                    "claiming leases failed; addresses stay unchanged until the store answers"
                );
                pause = MAX_POLL;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = worker.due.notified() => pause = MIN_POLL,
            () = token.cancelled() => {}
        }
    }
    tasks.close();
    tasks.wait().await;
    Ok(())
}
