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

use super::delivery::{DeliveryOutcome, GatewayFullSince, deliver_change};
use crate::context::Worker;
use crate::errors::error_chain;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use waygate_cloud::WriteSlot;
use waygate_core::ids::LeaseId;
use waygate_core::rules::timing::{CALL_TIMEOUT, FENCE};
use waygate_store::{Error as StoreError, GatewayLock, QueueFilter};

/// Time without creations after the cloud refused one for the gateway's quota; the leases that
/// wait to create an entry vacate the gateway meanwhile.
const NO_CREATION_AFTER_FULL: Duration = Duration::from_secs(5);
/// First interval of the queue poll, for changes that other processes queued; doubles up to
/// `MAX_POLL`.
const MIN_POLL: Duration = Duration::from_millis(100);
/// Longest interval of the queue poll. Changes queued by this process wake the sender at once.
const MAX_POLL: Duration = Duration::from_secs(1);

/// State of one gateway's sender while it holds the gateway lock.
struct GatewaySender {
    worker: Arc<Worker>,
    lock: GatewayLock,
    full_since: GatewayFullSince,
    deliveries: JoinSet<DeliveryOutcome>,
    /// Leases whose changes succeeded, to be woken once the gateway's entries have settled.
    awaiting_settling: Vec<LeaseId>,
    /// No change is sent before this moment: the account's rate left no permit.
    not_before: Option<Instant>,
}

/// Sends the gateway's changes until the lock is lost or `token` is cancelled, then finishes those
/// in flight.
pub(crate) async fn run_sender(
    worker: Arc<Worker>,
    lock: GatewayLock,
    queued: Arc<Notify>,
    token: CancellationToken,
) {
    // Another worker may have sent until now, so cached entries prove nothing.
    worker.cloud.forget_entries(&lock.gateway_id);
    let mut sender = GatewaySender {
        worker,
        lock,
        full_since: GatewayFullSince::default(),
        deliveries: JoinSet::new(),
        awaiting_settling: Vec::new(),
        not_before: None,
    };
    let mut pause = MIN_POLL;
    while !token.is_cancelled() {
        match sender.run_round(&token).await {
            Ok(RoundOutcome::Sent) => {
                pause = MIN_POLL;
                continue;
            }
            Ok(RoundOutcome::Idle) => {}
            Err(StoreError::GatewayLockLost) => {
                tracing::warn!(
                    gateway.id = %sender.lock.gateway_id,
                    "gateway lock lost; another worker sends its changes"
                );
                break;
            }
            Err(error) => {
                tracing::warn!(
                    gateway.id = %sender.lock.gateway_id, error = error_chain(&error),
                    "reading the gateway's queue failed; its changes wait"
                );
                pause = MAX_POLL;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(MAX_POLL),
            () = queued.notified() => pause = MIN_POLL,
            Some(outcome) = sender.deliveries.join_next() => sender.handle_delivery(outcome),
            () = token.cancelled() => {}
        }
    }
    while let Some(outcome) = sender.deliveries.join_next().await {
        sender.handle_delivery(outcome);
    }
    // The wake-up is itself spawned among the deliveries, hence the second wait.
    sender.wake_settled_leases();
    while sender.deliveries.join_next().await.is_some() {}
    sender.worker.metrics.remove_queue_length(&sender.lock.gateway_id);
}

enum RoundOutcome {
    Sent,
    Idle,
}

impl GatewaySender {
    /// Waits for the gateway's write slot and sends the next queued change.
    async fn run_round(&mut self, token: &CancellationToken) -> Result<RoundOutcome, StoreError> {
        while let Some(outcome) = self.deliveries.try_join_next() {
            self.handle_delivery(outcome);
        }
        if self.not_before.is_some_and(|moment| Instant::now() < moment) {
            return Ok(RoundOutcome::Idle);
        }
        let gateway = &self.lock.gateway_id;
        let waiting = self.worker.store.count_queued_changes(gateway).await?;
        self.worker.metrics.set_queue_length(gateway, waiting);
        if waiting == 0 {
            if !self.awaiting_settling.is_empty()
                && token
                    .run_until_cancelled(self.worker.cloud.wait_until_settled(gateway))
                    .await
                    .is_some()
            {
                self.wake_settled_leases();
            }
            return Ok(RoundOutcome::Idle);
        }
        let Some(slot) =
            token.run_until_cancelled(self.worker.cloud.acquire_write_slot(gateway)).await
        else {
            return Ok(RoundOutcome::Idle);
        };
        if slot.is_confirmed_settled() || !self.worker.cloud.requires_quiescence(gateway) {
            self.wake_settled_leases();
        }
        self.send_next_change(slot).await
    }

    async fn send_next_change(&mut self, slot: WriteSlot) -> Result<RoundOutcome, StoreError> {
        let full =
            self.full_since.lock().is_some_and(|since| since.elapsed() < NO_CREATION_AFTER_FULL);
        let filter = if full { QueueFilter::ExceptCreations } else { QueueFilter::All };
        // A write slot that is not used is given back when it is dropped.
        let Some(dequeued) =
            self.worker.store.dequeue_change(&self.lock, filter, CALL_TIMEOUT, FENCE).await?
        else {
            return Ok(RoundOutcome::Idle);
        };
        self.worker.metrics.observe_queue_wait(dequeued.waited);
        self.deliveries.spawn(deliver_change(
            Arc::clone(&self.worker),
            self.lock.clone(),
            slot,
            dequeued,
            Arc::clone(&self.full_since),
        ));
        Ok(RoundOutcome::Sent)
    }

    fn handle_delivery(&mut self, outcome: Result<DeliveryOutcome, JoinError>) {
        match outcome {
            Ok(DeliveryOutcome::AwaitsSettling(lease)) => {
                // The gateway accepted this change, so its earlier changes have settled.
                self.wake_settled_leases();
                self.awaiting_settling.push(lease);
            }
            Ok(DeliveryOutcome::Recorded) => {}
            // Without a pause every queued change would fail for lack of a permit, as fast as
            // Postgres answers.
            Ok(DeliveryOutcome::NoPermit) => self.not_before = Some(Instant::now() + MAX_POLL),
            Err(error) => tracing::error!(
                gateway.id = %self.lock.gateway_id, error = error_chain(&error),
                "delivery of a queued change panicked; the lease reads the entry again"
            ),
        }
    }

    /// Wakes the leases whose entries have settled, in a task beside the next change, which need
    /// not wait for this.
    fn wake_settled_leases(&mut self) {
        let (worker, leases) =
            (Arc::clone(&self.worker), std::mem::take(&mut self.awaiting_settling));
        if leases.is_empty() {
            return;
        }
        let gateway = self.lock.gateway_id.clone();
        self.deliveries.spawn(async move {
            if let Err(error) = worker.cloud.refresh_settled(&gateway).await {
                tracing::debug!(
                    error = error_chain(&error),
                    "refreshing settled entries failed; their leases read them"
                );
            }
            if let Err(error) = worker.store.wake_settled(&leases).await {
                tracing::debug!(
                    error = error_chain(&error),
                    "waking leases of settled entries failed; they look when due"
                );
            }
            worker.due.notify_one();
            DeliveryOutcome::Recorded
        });
    }
}
