//! Claims leases that are due and works on them, as many at a time as there is room.

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

/// Looks at the store this often when leases are at work or news came in: a lease that polls the
/// cloud is due within fractions of a second.
const BUSY: Duration = Duration::from_millis(100);
/// And this often when nothing happens. Pod events do not wait for it: they wake the loop.
const IDLE: Duration = Duration::from_secs(1);
/// Claims are renewed three times in their life, so that one lost renewal does no harm.
const RENEWAL: Duration = Duration::from_secs(4);

/// The leases at work in this process. Only they are renewed: one that was left because of an error
/// must lapse.
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

/// One lease at work, until dropped.
struct Working {
    lease: LeaseId,
    at_work: AtWork,
}

impl Drop for Working {
    fn drop(&mut self) {
        self.at_work.leases().remove(&self.lease);
    }
}

/// Renews the claims of the leases at work until nobody works any more.
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
                "claims were not renewed; if they lapse, somebody else takes over"
            );
        }
    }
    Ok(())
}

/// Runs until `token` is cancelled, then waits for the leases at work. `reached` says whether the
/// store answers.
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
        // Not under `select!`: a cancelled query can leave a connection inside an open transaction.
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
                        // Boxed: a lease's future is large, and there are many.
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
                    "the lease store does not answer; addresses stay as they are"
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
