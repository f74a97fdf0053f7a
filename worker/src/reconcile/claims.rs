//! Claims due leases and reconciles them, up to `--concurrency` at the same time.

use super::reconcile_lease;
use crate::context::Worker;
use crate::errors::error_chain;
use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use waygate_core::ids::LeaseId;
use waygate_core::rules::timing::CLAIM;
use waygate_serving::Check;

/// Interval between two looks at the store after leases were claimed or woken; it doubles with each
/// look that finds none.
const MIN_POLL: Duration = Duration::from_millis(100);
/// Longest interval when no lease is due. Neither pod events wait for it nor leases that this process
/// reconciled last and that are due within seconds: each wakes the loop.
const MAX_POLL: Duration = Duration::from_secs(1);
/// Longest wait whose end wakes the loop: polls of the cloud end before.
const LONGEST_TIMED_WAIT: Duration = Duration::from_secs(4);
/// Shortest time between two looks: what wakes the loop in a crowd is claimed together.
const GATHERING: Duration = Duration::from_millis(50);
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
    // Notified when a task ends: while all permits are taken, the loop waits for that alone.
    let room = Arc::new(Notify::new());
    let mut pause = MIN_POLL;
    while !token.is_cancelled() {
        let gathered = Instant::now() + GATHERING;
        let mut claimed = 0;
        let limit = i64::try_from(permits.available_permits()).unwrap_or(i64::MAX);
        let due_for = if worker.is_cloud_silent() { YIELD_WHILE_SILENT } else { Duration::ZERO };
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
                claimed = i64::try_from(claims.len()).unwrap_or(i64::MAX);
                pause = next_pause(pause, claimed);
                for claim in claims {
                    let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                        return Ok(());
                    };
                    let active_lease = active.track_lease(claim.lease_id);
                    let (worker, token) = (Arc::clone(&worker), token.clone());
                    let room = Arc::clone(&room);
                    tasks.spawn(async move {
                        // Boxed because the future is large and many run at once.
                        let due_in = Box::pin(reconcile_lease(&worker, &claim)).await;
                        drop((active_lease, permit));
                        room.notify_one();
                        token.run_until_cancelled(wake_loop_when_due(&worker, due_in)).await;
                    });
                }
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
            () = room.notified(), if limit <= claimed => {}
            () = token.cancelled() => {}
        }
        tokio::time::sleep_until(gathered).await;
    }
    tasks.close();
    tasks.wait().await;
    Ok(())
}

/// The interval until the next look, after one that claimed this many leases.
fn next_pause(pause: Duration, claimed: i64) -> Duration {
    if claimed > 0 { MIN_POLL } else { (pause * 2).min(MAX_POLL) }
}

/// Wakes the claim loop when a lease is due that waits for a short time.
async fn wake_loop_when_due(worker: &Worker, due_in: Option<Duration>) {
    if let Some(wait) = due_in.filter(|wait| *wait <= LONGEST_TIMED_WAIT) {
        tokio::time::sleep(wait).await;
        worker.due.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::set_aside::JITTER;
    use jiff::Timestamp;
    use waygate_core::retry::{RetryPolicy, retry_delay};

    #[test]
    fn looks_that_find_no_lease_become_rare_however_many_are_reconciled() {
        let mut pause = next_pause(MAX_POLL, 7);
        assert_eq!(pause, MIN_POLL);
        for _ in 0..4 {
            pause = next_pause(pause, 0);
        }
        assert_eq!((pause, next_pause(pause, 0)), (MAX_POLL, MAX_POLL));
    }

    #[test]
    fn a_lease_that_polls_the_cloud_does_not_wait_for_the_next_look() {
        for tries in 0..20 {
            let longest = retry_delay(RetryPolicy::Poll, tries, Timestamp::UNIX_EPOCH, JITTER.end);
            assert!(longest <= LONGEST_TIMED_WAIT);
        }
    }
}
