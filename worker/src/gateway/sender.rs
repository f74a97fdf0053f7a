//! The gateway sender: sends one gateway's queued changes, one after the other, or as many at a
//! time as the gateway takes.
//!
//! ```text
//! queued? ─▶ write slot of the gateway ─▶ next of the queue ─▶ send ─▶ settle, wake the lease
//!    ▲       (entries have settled)          (fair order)        │  (beside the next change, where
//!    └───────────────────────────────────────────────────────────┘   the gateway takes several)
//! ```
//!
//! The next change is chosen once the gateway is free, as late as possible: an urgent deletion
//! queued a moment before goes ahead of all others.

use super::delivery::{Delivered, FullSince, deliver};
use crate::context::Worker;
use crate::errors::chain;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use waygate_cloud::Turn;
use waygate_core::ids::LeaseId;
use waygate_core::rules::timing::{CALL, FENCE};
use waygate_store::{Error as StoreError, Lane, Wanted};

/// Time without creations after the cloud refused one for the gateway's quota; the leases that
/// wait to create an entry vacate the gateway meanwhile.
const FULL: Duration = Duration::from_secs(5);
/// First interval of the queue poll, for changes that other processes queued; doubles up to `IDLE`.
const BUSY: Duration = Duration::from_millis(100);
/// Longest interval of the queue poll. Changes queued by this process wake the sender at once.
const IDLE: Duration = Duration::from_secs(1);

/// State of one gateway's sender while it holds the gateway lock.
struct Serving {
    worker: Arc<Worker>,
    lane: Lane,
    full: FullSince,
    deliveries: JoinSet<Delivered>,
    /// Leases whose changes succeeded, to be woken once the gateway's entries have settled.
    resting: Vec<LeaseId>,
    /// No change is sent before this moment: the account's rate left no permit.
    not_before: Option<Instant>,
}

/// Sends the gateway's changes until the lock is lost or `token` is cancelled, then finishes those
/// in flight.
pub(crate) async fn serve(
    worker: Arc<Worker>,
    lane: Lane,
    queued: Arc<Notify>,
    token: CancellationToken,
) {
    // Another worker may have sent until now, so cached entries prove nothing.
    worker.cloud.forget_entries(&lane.gateway_id);
    let mut serving = Serving {
        worker,
        lane,
        full: FullSince::default(),
        deliveries: JoinSet::new(),
        resting: Vec::new(),
        not_before: None,
    };
    let mut pause = BUSY;
    while !token.is_cancelled() {
        match serving.round(&token).await {
            Ok(Round::Worked) => {
                pause = BUSY;
                continue;
            }
            Ok(Round::Idle) => {}
            Err(StoreError::LaneLost) => {
                tracing::warn!(
                    gateway.id = %serving.lane.gateway_id,
                    "gateway lock lost; another worker sends its changes"
                );
                break;
            }
            Err(error) => {
                tracing::warn!(
                    gateway.id = %serving.lane.gateway_id, error = chain(&error),
                    "reading the gateway's queue failed"
                );
                pause = IDLE;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(IDLE),
            () = queued.notified() => pause = BUSY,
            Some(delivered) = serving.deliveries.join_next() => serving.heard(delivered),
            () = token.cancelled() => {}
        }
    }
    while let Some(delivered) = serving.deliveries.join_next().await {
        serving.heard(delivered);
    }
    // The wake-up is itself spawned among the deliveries, hence the second wait.
    serving.wake_rested();
    while serving.deliveries.join_next().await.is_some() {}
    serving.worker.metrics.left(&serving.lane.gateway_id);
}

enum Round {
    Worked,
    Idle,
}

impl Serving {
    /// Waits for the gateway's write slot and sends the next queued change.
    async fn round(&mut self, token: &CancellationToken) -> Result<Round, StoreError> {
        while let Some(delivered) = self.deliveries.try_join_next() {
            self.heard(delivered);
        }
        if self.not_before.is_some_and(|moment| Instant::now() < moment) {
            return Ok(Round::Idle);
        }
        let gateway = &self.lane.gateway_id;
        let waiting = self.worker.store.waiting_in_lane(gateway).await?;
        self.worker.metrics.queue(gateway, waiting);
        if waiting == 0 {
            if !self.resting.is_empty()
                && token.run_until_cancelled(self.worker.cloud.rest(gateway)).await.is_some()
            {
                self.wake_rested();
            }
            return Ok(Round::Idle);
        }
        let Some(turn) = token.run_until_cancelled(self.worker.cloud.turn(gateway)).await else {
            return Ok(Round::Idle);
        };
        if turn.is_rested() || !self.worker.cloud.waits_for_rest(gateway) {
            self.wake_rested();
        }
        self.send(turn).await
    }

    async fn send(&mut self, turn: Turn) -> Result<Round, StoreError> {
        let full = self.full.lock().is_some_and(|since| since.elapsed() < FULL);
        let wanted = if full { Wanted::NoCreation } else { Wanted::Anything };
        // A write slot that is not used is given back when it is dropped.
        let Some(taken) = self.worker.store.next_in_lane(&self.lane, wanted, CALL, FENCE).await?
        else {
            return Ok(Round::Idle);
        };
        self.worker.metrics.waited(taken.waited);
        self.deliveries.spawn(deliver(
            Arc::clone(&self.worker),
            self.lane.clone(),
            turn,
            taken,
            Arc::clone(&self.full),
        ));
        Ok(Round::Worked)
    }

    fn heard(&mut self, delivered: Result<Delivered, JoinError>) {
        match delivered {
            Ok(Delivered::Rests(lease)) => {
                // The gateway accepted this change, so its earlier changes have settled.
                self.wake_rested();
                self.resting.push(lease);
            }
            Ok(Delivered::Told) => {}
            // Without a pause every queued change would be refused for lack of a permit, as fast
            // as Postgres answers.
            Ok(Delivered::NoPermit) => self.not_before = Some(Instant::now() + IDLE),
            Err(error) => tracing::error!(
                error = chain(&error),
                "gateway sender task panicked; the lease reads the entry again"
            ),
        }
    }

    /// Wakes the leases whose entries have settled, in a task beside the next change, which need
    /// not wait for this.
    fn wake_rested(&mut self) {
        let (worker, leases) = (Arc::clone(&self.worker), std::mem::take(&mut self.resting));
        if leases.is_empty() {
            return;
        }
        let gateway = self.lane.gateway_id.clone();
        self.deliveries.spawn(async move {
            if let Err(error) = worker.cloud.catch_up(&gateway).await {
                tracing::debug!(
                    error = chain(&error),
                    "refreshing settled entries failed; their leases read them"
                );
            }
            if let Err(error) = worker.store.wake_rested(&leases).await {
                tracing::debug!(
                    error = chain(&error),
                    "waking leases of settled entries failed; they look when due"
                );
            }
            worker.due.notify_one();
            Delivered::Told
        });
    }
}
