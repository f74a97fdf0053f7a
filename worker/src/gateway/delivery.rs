//! Sends one queued change to a gateway: sent once, the cloud's answer recorded, and the rejection
//! recorded on the lease where the cloud refused the change.

use crate::context::Worker;
use crate::errors::{Error, error_chain};
use crate::metrics::CallOutcome;
use crate::records::apply_shared_record;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use waygate_cloud::{Error as CloudError, WriteSlot};
use waygate_core::change::Answer;
use waygate_core::ids::{LeaseId, NatGatewayId};
use waygate_core::rules::response::{self, LearnedFact, Record};
use waygate_core::rules::timing::{CALL_TIMEOUT, ENTRIES_SETTLED, GATEWAY_FULL, MODIFY_DENIED};
use waygate_store::{DequeuedChange, Error as StoreError, GatewayLock, SettledBy, Settlement};

/// The moment when the cloud last refused an entry because the gateway is full. Shared with the
/// gateway sender, which sends no creation for some seconds after it.
pub(crate) type GatewayFullSince = Arc<Mutex<Option<Instant>>>;

/// Outcome of a delivery, as the gateway sender has to act on it.
pub(crate) enum DeliveryOutcome {
    /// No further action of the sender: the answer is recorded, or its lease reads the entry.
    Recorded,
    /// The change succeeded; the sender wakes this lease once the gateway's entries have settled.
    AwaitsSettling(LeaseId),
    /// The account's rate left no permit in time: nothing was sent, and the next change would fare
    /// no better.
    NoPermit,
}

/// Sends a change taken from a gateway's queue and records the answer. If recording fails, the
/// operation stays unresolved and its lease finds the outcome by reading the entry.
pub(crate) async fn deliver_change(
    worker: Arc<Worker>,
    lock: GatewayLock,
    slot: WriteSlot,
    dequeued: DequeuedChange,
    full_since: GatewayFullSince,
) -> DeliveryOutcome {
    let (change, id) = (&dequeued.operation.change, dequeued.operation.id.to_string());
    let answered = slot.send_change(change, Some(&id), CALL_TIMEOUT).await;
    worker.metrics.count_cloud_change(change.action(), CallOutcome::from_result(&answered));
    let recorded = match &answered {
        Ok(answer) => record_success(&worker, &lock, &dequeued, answer).await,
        Err(error) => record_failure(&worker, &lock, &dequeued, error, &full_since).await,
    };
    worker.due.notify_one();
    recorded.unwrap_or_else(|error| {
        tracing::warn!(
            gateway.id = %lock.gateway_id, lease.id = %dequeued.lease_id,
            cloud.action = change.action(), error = error_chain(&error),
            "recording the cloud's answer failed; the lease finds the outcome by a read"
        );
        DeliveryOutcome::Recorded
    })
}

async fn record_success(
    worker: &Worker,
    lock: &GatewayLock,
    dequeued: &DequeuedChange,
    answer: &Answer,
) -> Result<DeliveryOutcome, Error> {
    let action = dequeued.operation.change.action();
    let waited = dequeued.waited.as_secs_f32();
    tracing::info!(
        gateway.id = %lock.gateway_id, lease.id = %dequeued.lease_id, cloud.action = action,
        cloud.request_id = answer.request_id, waited,
        "cloud change succeeded"
    );
    let needs_settling = worker.cloud.requires_quiescence(&lock.gateway_id);
    // At such a gateway the lease must not read before its entries have settled: the sender wakes
    // it then, and the delay given here is only the fallback should that wake-up be lost.
    let by = SettledBy::Sender(if needs_settling { ENTRIES_SETTLED } else { Duration::ZERO });
    worker
        .store
        .settle_operation(by, &dequeued.operation, Settlement::from_success(answer))
        .await?;
    Ok(if needs_settling {
        DeliveryOutcome::AwaitsSettling(dequeued.lease_id)
    } else {
        DeliveryOutcome::Recorded
    })
}

async fn record_failure(
    worker: &Worker,
    lock: &GatewayLock,
    dequeued: &DequeuedChange,
    error: &CloudError,
    full_since: &GatewayFullSince,
) -> Result<DeliveryOutcome, Error> {
    let (cause, change) = (error_chain(error), &dequeued.operation.change);
    let failure = error.call_failure();
    if failure.lacks_permit() {
        tracing::debug!(
            gateway.id = %lock.gateway_id, lease.id = %dequeued.lease_id,
            cloud.action = change.action(), error = cause, "cloud change not sent"
        );
    } else {
        tracing::info!(
            gateway.id = %lock.gateway_id, lease.id = %dequeued.lease_id,
            cloud.action = change.action(), error = cause, "cloud change failed"
        );
    }
    let outcome =
        if failure.lacks_permit() { DeliveryOutcome::NoPermit } else { DeliveryOutcome::Recorded };
    let records = response::gateway_sender_records(
        change,
        &failure,
        dequeued.may_still_arrive,
        dequeued.busy_retries,
    );
    let delivery = Delivery { worker, lock, dequeued, cause: &cause, full_since };
    match delivery.apply_records(records).await {
        // Only the holder of the gateway lock may requeue a change; without the lock the failure
        // is recorded for the lease to decide.
        Err(Error::Store(StoreError::GatewayLockLost)) => {
            delivery
                .apply_records(response::failure_records(
                    change,
                    &failure,
                    dequeued.may_still_arrive,
                ))
                .await?;
        }
        recorded => recorded?,
    }
    Ok(outcome)
}

/// One failed change with everything that its records need.
struct Delivery<'a> {
    worker: &'a Worker,
    lock: &'a GatewayLock,
    dequeued: &'a DequeuedChange,
    cause: &'a str,
    full_since: &'a GatewayFullSince,
}

impl Delivery<'_> {
    async fn apply_records(&self, records: Vec<Record>) -> Result<(), Error> {
        for record in records {
            self.apply_record(record).await?;
        }
        Ok(())
    }

    async fn apply_record(&self, record: Record) -> Result<(), Error> {
        let store = &self.worker.store;
        match record {
            Record::Requeue => {
                store.requeue_busy_change(self.lock, self.dequeued, self.cause).await?;
            }
            Record::Learn(LearnedFact::GatewayFull) => {
                self.record_gateway_full(&self.lock.gateway_id).await?;
            }
            Record::Learn(LearnedFact::ModifyDenied) => {
                store.record_modify_denied(&self.lock.gateway_id, MODIFY_DENIED).await?;
                tracing::warn!(
                    gateway.id = %self.lock.gateway_id,
                    "the account may not call vpc:ModifyForwardEntry; for an hour entries are \
                     deleted and created instead; grant the action to the worker"
                );
            }
            record @ (Record::Reject(_)
            | Record::Settle(..)
            | Record::AwaitFence
            | Record::MarkUnanswered) => {
                apply_shared_record(self.worker, self.dequeued, record, self.cause).await?;
            }
            // Learned from changes of EIPs alone.
            Record::Learn(LearnedFact::AddressNotReclaimable) => {}
        }
        Ok(())
    }

    async fn record_gateway_full(&self, gateway: &NatGatewayId) -> Result<(), Error> {
        *self.full_since.lock() = Some(Instant::now());
        let entry_count = self.worker.cloud.forward_entries(gateway).await?.value.len();
        self.worker.store.record_gateway_full(gateway, entry_count, GATEWAY_FULL).await?;
        self.worker.store.wake_queued_creations(gateway).await?;
        tracing::warn!(
            gateway.id = %gateway, entries = entry_count,
            "NAT gateway is full; new ports are reserved on other gateways"
        );
        Ok(())
    }
}
