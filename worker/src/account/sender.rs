//! The account sender: marks queued changes of EIPs as sent when a call slot of their action is free,
//! and sends them at once.
//!
//! ```text
//! woken, a slot is free, or a second has passed ─▶ dequeue ─▶ send ─▶ settle, wake the lease
//!      ▲                                             │  (each change in a task of its own)
//!      └──────────── when to ask again ──────────────┘
//! ```

use super::delivery::deliver_change;
use crate::context::Worker;
use crate::errors::error_chain;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use waygate_cloud::SendBy;
use waygate_core::rules::timing::SEND_WITHIN;
use waygate_store::{AccountQueue, Error as StoreError};

/// Most calls of one action in flight in this process: more than any rate needs, fewer than would
/// keep a stopped process from writing them in time.
const MAX_IN_FLIGHT: usize = 10;
/// Interval between two looks at all queues, for changes that other processes queued.
const IDLE_LOOK: Duration = Duration::from_secs(1);

/// One action's queue, as this process serves it.
struct Lane {
    queue: AccountQueue,
    /// Calls that this process may still have in flight; each delivery holds one to its end, however
    /// it ends.
    free: Arc<Semaphore>,
    /// When to ask the store next; none while nothing is known to wait.
    ask_at: Option<Instant>,
    /// The store had no free slot before this moment.
    blocked_until: Option<Instant>,
}

struct AccountSender {
    worker: Arc<Worker>,
    lanes: Vec<Lane>,
    deliveries: JoinSet<()>,
    look_at: Instant,
}

/// Sends queued changes of EIPs until `token` is cancelled, then finishes those in flight.
pub(crate) async fn send_eip_changes(
    worker: Arc<Worker>,
    queues: Vec<AccountQueue>,
    token: CancellationToken,
) -> Result<(), Infallible> {
    let lane = |queue| Lane {
        queue,
        free: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
        ask_at: None,
        blocked_until: None,
    };
    let mut sender = AccountSender {
        worker,
        lanes: queues.into_iter().map(lane).collect(),
        deliveries: JoinSet::new(),
        look_at: Instant::now(),
    };
    while !token.is_cancelled() {
        sender.run_round().await;
        let next = sender.next_moment();
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = sender.worker.account_wakeups.wait_for_queued() => sender.note_queued(),
            Some(outcome) = sender.deliveries.join_next() => report_panic(outcome),
            () = token.cancelled() => {}
        }
    }
    while sender.deliveries.join_next().await.is_some() {}
    Ok(())
}

impl AccountSender {
    async fn run_round(&mut self) {
        while let Some(outcome) = self.deliveries.try_join_next() {
            report_panic(outcome);
        }
        // Another worker may reach the cloud, and a change marked here would wait for its answer.
        if self.worker.is_cloud_silent() {
            return self.ask_later();
        }
        let sent = match self.look_at_queues().await {
            Ok(()) => self.serve_lanes().await,
            Err(error) => Err(error),
        };
        if let Err(error) = sent {
            tracing::warn!(
                error = error_chain(&error),
                "reading the account's queues failed; changes of EIPs wait"
            );
            self.ask_later();
        }
    }

    fn ask_later(&mut self) {
        let later = Instant::now() + IDLE_LOOK;
        self.look_at = later;
        for lane in &mut self.lanes {
            lane.ask_at = lane.ask_at.map(|at| at.max(later));
        }
    }

    /// Looks once a second which queues have changes of this cluster.
    async fn look_at_queues(&mut self) -> Result<(), StoreError> {
        let now = Instant::now();
        if now < self.look_at {
            return Ok(());
        }
        let lengths = self.worker.store.count_account_queues(self.worker.cluster).await?;
        for lane in &mut self.lanes {
            let length = lengths.iter().find(|(action, _)| action == lane.queue.action);
            let length = length.map_or(0, |(_, length)| *length);
            self.worker.metrics.set_account_queue_length(lane.queue.action, length);
            if length > 0 {
                lane.wake(now);
            }
        }
        self.look_at = now + IDLE_LOOK;
        Ok(())
    }

    async fn serve_lanes(&mut self) -> Result<(), StoreError> {
        for index in 0..self.lanes.len() {
            self.serve_lane(index).await?;
        }
        Ok(())
    }

    async fn serve_lane(&mut self, index: usize) -> Result<(), StoreError> {
        let Some(lane) = self.lanes.get_mut(index) else { return Ok(()) };
        let limit = lane.free.available_permits();
        if limit == 0 || lane.ask_at.is_none_or(|at| at > Instant::now()) {
            return Ok(());
        }
        // Taken before the changes are marked: a process frozen in between writes none of them.
        let send_by = SendBy::within(SEND_WITHIN);
        let (store, cluster) = (&self.worker.store, self.worker.cluster);
        let batch = store.dequeue_account_changes(cluster, lane.queue, limit).await?;
        lane.note_asked(batch.retry_in);
        for dequeued in batch.changes {
            self.worker.metrics.observe_account_wait(lane.queue.action, dequeued.waited);
            let (worker, queue) = (Arc::clone(&self.worker), lane.queue);
            let call = Arc::clone(&lane.free).try_acquire_owned();
            self.deliveries.spawn(async move {
                deliver_change(worker, queue, dequeued, send_by).await;
                drop(call);
            });
        }
        if batch.woken > 0 {
            self.worker.due.notify_one();
        }
        Ok(())
    }

    fn note_queued(&mut self) {
        let (actions, now) = (self.worker.account_wakeups.take_actions(), Instant::now());
        for lane in self.lanes.iter_mut().filter(|lane| actions.contains(lane.queue.action)) {
            lane.wake(now);
        }
    }

    /// When the next look at all queues or the next question for one of them is due.
    fn next_moment(&self) -> Instant {
        let free = self.lanes.iter().filter(|lane| lane.free.available_permits() > 0);
        free.filter_map(|lane| lane.ask_at).fold(self.look_at, Instant::min)
    }
}

fn report_panic(outcome: Result<(), JoinError>) {
    if let Err(error) = outcome {
        tracing::error!(
            error = error_chain(&error),
            "delivery of a queued change panicked; the lease reads its EIP again"
        );
    }
}

impl Lane {
    /// Asks for this lane now, or as soon as it may have a free slot.
    fn wake(&mut self, now: Instant) {
        let at = self.blocked_until.map_or(now, |until| until.max(now));
        self.ask_at = Some(self.ask_at.map_or(at, |asked| asked.min(at)));
    }

    /// Records when the store wants to be asked again.
    fn note_asked(&mut self, retry_in: Option<Duration>) {
        self.ask_at = retry_in.map(|wait| Instant::now() + wait);
        self.blocked_until = self.ask_at;
    }
}
