//! One gateway's lane: changes go out one after the other, or as many at a time as the gateway
//! takes.
//!
//! ```text
//! something queued? ─▶ the gateway's turn ─▶ next_in_lane ─▶ send ─▶ settle, and the lease looks
//!        ▲                (entries at rest)      (order)         (beside the next, where the gateway takes several)
//!        └───────────────────────────────────────────────────────┘
//! ```
//!
//! What goes next is chosen when the gateway is free, as late as can be: an urgent deletion that
//! comes now goes before all that waits.

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

/// After a refusal for the quota no entry is made for so long: those that wait to make one go
/// elsewhere meanwhile.
const FULL: Duration = Duration::from_secs(5);
/// Looks for what other processes have queued this often at first …
const BUSY: Duration = Duration::from_millis(100);
/// … and this often when nothing comes. What this process queues does not wait for it.
const IDLE: Duration = Duration::from_secs(1);

/// A lane at work.
struct Serving {
    worker: Arc<Worker>,
    lane: Lane,
    full: FullSince,
    deliveries: JoinSet<Delivered>,
    /// Their changes were taken; they look once the gateway is at rest.
    resting: Vec<LeaseId>,
    /// Nothing is sent before this: the account's rate left no call.
    not_before: Option<Instant>,
}

/// Serves a lane until it is lost or `token` is cancelled, and finishes what is in flight.
pub(crate) async fn serve(
    worker: Arc<Worker>,
    lane: Lane,
    queued: Arc<Notify>,
    token: CancellationToken,
) {
    // Until now somebody else may have sent.
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
                tracing::warn!(gateway.id = %serving.lane.gateway_id, "the gateway's lane was lost; it is served elsewhere");
                break;
            }
            Err(error) => {
                tracing::warn!(gateway.id = %serving.lane.gateway_id, error = chain(&error), "the gateway's queue cannot be read");
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
    serving.wake_rested();
    while serving.deliveries.join_next().await.is_some() {}
    serving.worker.metrics.left(&serving.lane.gateway_id);
}

enum Round {
    Worked,
    Idle,
}

impl Serving {
    /// Sends what comes next, once the gateway takes it.
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
        // A turn that is not used is given back when it is dropped.
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
                // The gateway took this change, so what it took before is at rest.
                self.wake_rested();
                self.resting.push(lease);
            }
            Ok(Delivered::Told) => {}
            // Else all that waits would be refused in turn, as fast as Postgres can say so.
            Ok(Delivered::NoPermit) => self.not_before = Some(Instant::now() + IDLE),
            Err(error) => tracing::error!(
                error = chain(&error),
                "gateway sender task panicked; the lease reads the entry again"
            ),
        }
    }

    /// Beside the next change, which need not wait for it.
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
                    "leases whose entries are at rest look for themselves"
                );
            }
            if let Err(error) = worker.store.wake_rested(&leases).await {
                tracing::debug!(
                    error = chain(&error),
                    "leases whose entries are at rest look a little later"
                );
            }
            worker.due.notify_one();
            Delivered::Told
        });
    }
}
