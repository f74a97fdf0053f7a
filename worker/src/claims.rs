//! Claims leases that are due and works on them, as many at a time as there is room.

use crate::reconcile::{self, CLAIM};
use crate::worker::Worker;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use waygate_serving::Check;

/// Looks at the store this often when leases are at work or news came in: a lease that polls the cloud is due within fractions of a second.
const BUSY: Duration = Duration::from_millis(100);
/// And this often when nothing happens. Pod events do not wait for it: they wake the loop.
const IDLE: Duration = Duration::from_secs(1);

/// Runs until `token` is cancelled, then waits for the leases at work. `reached` says whether the store answers.
pub(crate) async fn run(
    worker: Arc<Worker>,
    concurrency: usize,
    reached: Check,
    token: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    let room = Arc::new(Semaphore::new(concurrency));
    let tasks = TaskTracker::new();
    let mut pause = BUSY;
    while !token.is_cancelled() {
        let limit = i64::try_from(room.available_permits()).unwrap_or(i64::MAX);
        // Not under `select!`: a cancelled query can leave a connection inside an open transaction.
        let claims = if limit == 0 { Ok(Vec::new()) } else { worker.store.claim(worker.cluster, worker.owner, limit, CLAIM).await };
        match claims {
            Ok(claims) => {
                reached.set(true);
                let at_work = !claims.is_empty() || !tasks.is_empty();
                for claim in claims {
                    let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return Ok(()) };
                    let worker = Arc::clone(&worker);
                    tasks.spawn(async move {
                        reconcile::work(&worker, &claim).await;
                        drop(permit);
                    });
                }
                pause = if at_work { BUSY } else { (pause * 2).min(IDLE) };
            }
            Err(error) => {
                reached.set(false);
                tracing::warn!(error = crate::errors::chain(&error), "the lease store does not answer; addresses stay as they are");
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
