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
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use waygate_cloud::SendBy;
use waygate_core::request::Kind;
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
    in_flight: usize,
    /// When to ask the store next; none while nothing is known to wait.
    ask_at: Option<Instant>,
    /// The store had no free slot before this moment.
    blocked_until: Option<Instant>,
}

struct AccountSender {
    worker: Arc<Worker>,
    lanes: Vec<Lane>,
    deliveries: JoinSet<&'static str>,
    look_at: Instant,
}

/// Sends queued changes of EIPs until `token` is cancelled, then finishes those in flight.
pub(crate) async fn send_eip_changes(
    worker: Arc<Worker>,
    queues: Vec<AccountQueue>,
    token: CancellationToken,
) -> Result<(), Infallible> {
    let lane = |queue| Lane { queue, in_flight: 0, ask_at: None, blocked_until: None };
    let mut sender = AccountSender {
        worker,
        lanes: queues.into_iter().map(lane).collect(),
        deliveries: JoinSet::new(),
        look_at: Instant::now(),
    };
    while !token.is_cancelled() {
        // Changes queued before EIPs were switched off in the configuration stay queued.
        if sender.worker.serves_kind(Kind::Eip) {
            sender.run_round().await;
        }
        let next = sender.next_moment();
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = sender.worker.account_wakeups.wait_for_queued() => sender.note_queued(),
            Some(outcome) = sender.deliveries.join_next() => sender.note_delivered(outcome),
            () = token.cancelled() => {}
        }
    }
    while sender.deliveries.join_next().await.is_some() {}
    Ok(())
}

impl AccountSender {
    async fn run_round(&mut self) {
        while let Some(outcome) = self.deliveries.try_join_next() {
            self.note_delivered(outcome);
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
            let later = Instant::now() + IDLE_LOOK;
            self.look_at = later;
            for lane in &mut self.lanes {
                lane.ask_at = lane.ask_at.map(|at| at.max(later));
            }
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
        let limit = MAX_IN_FLIGHT.saturating_sub(lane.in_flight);
        if limit == 0 || lane.ask_at.is_none_or(|at| at > Instant::now()) {
            return Ok(());
        }
        // Taken before the changes are marked: a process frozen in between writes none of them.
        let send_by = SendBy::within(SEND_WITHIN);
        let (store, cluster) = (&self.worker.store, self.worker.cluster);
        let batch = store.dequeue_account_changes(cluster, lane.queue, limit).await?;
        lane.note_asked(batch.retry_in);
        lane.in_flight += batch.changes.len();
        for dequeued in batch.changes {
            self.worker.metrics.observe_account_wait(lane.queue.action, dequeued.waited);
            let worker = Arc::clone(&self.worker);
            self.deliveries.spawn(deliver_change(worker, lane.queue, dequeued, send_by));
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

    fn note_delivered(&mut self, outcome: Result<&'static str, JoinError>) {
        match outcome {
            Ok(action) => {
                if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.queue.action == action) {
                    lane.in_flight = lane.in_flight.saturating_sub(1);
                }
            }
            Err(error) => tracing::error!(
                error = error_chain(&error),
                "delivery of a queued change panicked; the lease reads its EIP again"
            ),
        }
    }

    /// When the next look at all queues or the next question for one of them is due.
    fn next_moment(&self) -> Instant {
        let free = self.lanes.iter().filter(|lane| lane.in_flight < MAX_IN_FLIGHT);
        free.filter_map(|lane| lane.ask_at).fold(self.look_at, Instant::min)
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
