//! The worker locks that this process holds: acquired where they are free, renewed while their work
//! goes on, released at shutdown.
//!
//! ```text
//! a gateway's lock      ─▶ its sender, and the comparison of its entries
//! lock on the EIPs      ─▶ the comparison of the account's EIPs
//! lock on a cluster's pods ─▶ the record of their events
//! ```

use super::sender;
use crate::context::Worker;
use crate::errors::error_chain;
use crate::lister;
use crate::watch::pod_listener;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use waygate_core::request::Kind;
use waygate_store::{GatewayLock, UnconfiguredQueues, Work, WorkerLock};

/// Locks are renewed three times within their validity, as claims are.
const RENEWAL: Duration = Duration::from_secs(4);
/// Interval between two searches for free locks: the time a gateway waits after its worker has shut
/// down in order.
const FREE_LOCK_POLL: Duration = Duration::from_secs(1);

/// Silence of the cloud after which its works are handed over, which costs them a pause: longer than
/// a slow answer of a gateway takes.
const HANDOVER_SILENCE: Duration = Duration::from_secs(3);

/// Interval between two looks for works that have ended, at shutdown.
const END_POLL: Duration = Duration::from_millis(50);

/// A lock that this process holds, with the task that does the lock's work.
struct RunningWork {
    lock: WorkerLock,
    token: CancellationToken,
    task: JoinHandle<()>,
}

/// Acquires worker locks and does their work until `token` is cancelled; then waits for the changes
/// in flight and releases the locks.
pub(crate) async fn hold_worker_locks(
    worker: Arc<Worker>,
    token: CancellationToken,
) -> Result<(), Infallible> {
    let mut works: Vec<RunningWork> = Vec::new();
    let mut renewed = Instant::now();
    while !token.is_cancelled() {
        end_impossible_work(&worker, &works);
        release_ended_work(&worker, &mut works).await;
        if renewed.elapsed() >= RENEWAL && renew_worker_locks(&worker, &works).await {
            renewed = Instant::now();
        }
        acquire_worker_locks(&worker, &mut works).await;
        tokio::select! {
            () = tokio::time::sleep(FREE_LOCK_POLL) => {}
            () = worker.queue_wakeups.wait_for_unserved() => {}
            () = worker.watched_pods.wait_for_order() => {}
            () = token.cancelled() => {}
        }
    }
    for running in &works {
        running.token.cancel();
    }
    while !works.is_empty() {
        release_ended_work(&worker, &mut works).await;
        tokio::time::sleep(END_POLL).await;
    }
    Ok(())
}

/// True while this process can do the work; otherwise another worker may.
fn can_do(worker: &Worker, work: &Work) -> bool {
    match work {
        Work::Gateway(_) | Work::EipList => reaches_cloud(worker),
        Work::PodEvents(_) => worker.watched_pods.is_in_order(),
    }
}

fn reaches_cloud(worker: &Worker) -> bool {
    !worker.cloud.is_silent_for(HANDOVER_SILENCE)
}

/// Begins to end the works that this process cannot do at present.
fn end_impossible_work(worker: &Worker, works: &[RunningWork]) {
    let impossible = works.iter().filter(|running| !can_do(worker, &running.lock.work));
    impossible.for_each(|running| running.token.cancel());
}

/// Removes the works that have ended, and releases the locks of those that were told to end. The lock
/// of work that ended by itself expires, and is acquired again.
async fn release_ended_work(worker: &Worker, works: &mut Vec<RunningWork>) {
    let mut released = Vec::new();
    let ended: Vec<_> = works.extract_if(.., |running| running.task.is_finished()).collect();
    for running in ended {
        if let Err(error) = running.task.await {
            tracing::error!(
                lock = running.lock.work.name(),
                error = error_chain(&error),
                "the work under a worker lock panicked"
            );
        }
        if running.token.is_cancelled() {
            released.push(running.lock);
        }
    }
    if !released.is_empty()
        && let Err(error) = worker.store.release_worker_locks(&released).await
    {
        tracing::warn!(
            error = error_chain(&error),
            "releasing worker locks failed; they expire by themselves"
        );
    }
}

/// Renews the locks and stops the work of those that were lost. True if the store answered.
async fn renew_worker_locks(worker: &Worker, works: &[RunningWork]) -> bool {
    let held: Vec<_> = works.iter().map(|running| running.lock.work.clone()).collect();
    match worker.store.renew_worker_locks(worker.owner, &held).await {
        Ok(held) => {
            works
                .iter()
                .filter(|running| !held.contains(&running.lock))
                .for_each(|running| running.token.cancel());
            true
        }
        Err(error) => {
            tracing::warn!(
                error = error_chain(&error),
                "renewing worker locks failed; once they expire, another worker takes over"
            );
            false
        }
    }
}

/// The work that this process can do, of the kinds that the configuration switches on. Changes queued
/// before forward entries were switched off stay queued.
fn list_wanted_work(worker: &Worker) -> Vec<Work> {
    let gateways = worker.config.gateways.iter().filter(|_| worker.serves_kind(Kind::Dnat));
    let eips = worker.serves_kind(Kind::Eip).then_some(Work::EipList);
    gateways
        .map(|gateway| Work::Gateway(gateway.nat_gateway_id.clone()))
        .chain(eips)
        .chain([Work::PodEvents(worker.cluster.owner.cluster)])
        .filter(|work| can_do(worker, work))
        .collect()
}

async fn acquire_worker_locks(worker: &Arc<Worker>, works: &mut Vec<RunningWork>) {
    let wanted = list_wanted_work(worker);
    if wanted.is_empty() {
        return;
    }
    let unconfigured = if worker.serves_kind(Kind::Dnat) && reaches_cloud(worker) {
        UnconfiguredQueues::Serve
    } else {
        UnconfiguredQueues::Leave
    };
    let acquired = worker.store.acquire_worker_locks(worker.owner, &wanted, unconfigured).await;
    let locks = match acquired {
        Ok(locks) => locks,
        Err(error) => {
            return tracing::warn!(
                error = error_chain(&error),
                "search for free worker locks failed; trying again in 1 s"
            );
        }
    };
    for lock in locks {
        tracing::info!(lock = lock.work.name(), "worker lock acquired");
        let token = CancellationToken::new();
        let task = spawn_work(worker, &lock, token.clone());
        works.push(RunningWork { lock, token, task });
    }
}

fn spawn_work(worker: &Arc<Worker>, lock: &WorkerLock, token: CancellationToken) -> JoinHandle<()> {
    let (worker, held) = (Arc::clone(worker), lock.clone());
    let Some(gateway) = lock.gateway_lock() else {
        return if matches!(lock.work, Work::EipList) {
            tokio::spawn(lister::compare_eips(worker, held, token))
        } else {
            tokio::spawn(pod_listener::listen_to_pods(worker, held, token))
        };
    };
    // Registered before the sender's first look at the queue, so that no wake-up is missed.
    let queued = worker.queue_wakeups.register_sender(&gateway.gateway_id);
    tokio::spawn(serve_gateway(worker, held, gateway, queued, token))
}

/// Sends the gateway's changes and compares its entries, until the sender ends.
async fn serve_gateway(
    worker: Arc<Worker>,
    lock: WorkerLock,
    gateway: GatewayLock,
    queued: Arc<Notify>,
    token: CancellationToken,
) {
    let lists = token.child_token();
    let id = gateway.gateway_id.clone();
    let send = async {
        sender::run_sender(Arc::clone(&worker), gateway, queued, token).await;
        lists.cancel();
    };
    tokio::join!(send, lister::compare_entries(Arc::clone(&worker), lock, id, lists.clone()));
}
