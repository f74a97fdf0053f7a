//! Sends one queued change to a gateway: sent once, the cloud's answer recorded, and the rejection
//! recorded on the lease where the cloud refused the change.

use crate::context::Worker;
use crate::errors::{Error, chain};
use crate::metrics::CallOutcome;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use waygate_cloud::{Error as CloudError, Turn};
use waygate_core::change::Answer;
use waygate_core::ids::{LeaseId, NatGatewayId};
use waygate_core::rules::response::{self, Lesson, Record};
use waygate_core::rules::timing::{CALL, ENTRIES_AT_REST, GATEWAY_FULL, MODIFY_DENIED};
use waygate_store::{Bringer, Error as StoreError, Lane, Settlement, Taken};

/// The moment when the cloud last refused an entry because the gateway is full. Shared with the
/// gateway sender, which sends no creation for some seconds after it.
pub(crate) type FullSince = Arc<Mutex<Option<Instant>>>;

/// Outcome of a delivery, as the gateway sender has to act on it.
pub(crate) enum Delivered {
    /// No further action of the sender: the answer is recorded, or its lease reads the entry.
    Told,
    /// The change succeeded; the sender wakes this lease once the gateway's entries have settled.
    Rests(LeaseId),
    /// The account's rate left no permit in time: nothing was sent, and the next change would fare
    /// no better.
    NoPermit,
}

/// Sends a change taken from a gateway's queue and records the answer. If recording fails, the
/// operation stays unresolved and its lease finds the outcome by reading the entry.
pub(crate) async fn deliver(
    worker: Arc<Worker>,
    lane: Lane,
    turn: Turn,
    taken: Taken,
    full: FullSince,
) -> Delivered {
    let (change, id) = (&taken.operation.change, taken.operation.id.to_string());
    let answered = turn.change(change, Some(&id), CALL).await;
    worker.metrics.calls(change.action(), CallOutcome::of(&answered));
    let recorded = match &answered {
        Ok(answer) => done(&worker, &lane, &taken, answer).await,
        Err(error) => not_done(&worker, &lane, &taken, error, &full).await,
    };
    worker.due.notify_one();
    recorded.unwrap_or_else(|error| {
        tracing::warn!(
            lease.id = %taken.lease_id, error = chain(&error),
            "cloud answer not recorded; the lease will read the entry"
        );
        Delivered::Told
    })
}

async fn done(
    worker: &Worker,
    lane: &Lane,
    taken: &Taken,
    answer: &Answer,
) -> Result<Delivered, Error> {
    let action = taken.operation.change.action();
    let waited = taken.waited.as_secs_f32();
    tracing::info!(
        gateway.id = %lane.gateway_id, lease.id = %taken.lease_id, cloud.action = action,
        cloud.request_id = answer.request_id, waited,
        "cloud change succeeded"
    );
    let rests = worker.cloud.waits_for_rest(&lane.gateway_id);
    // At such a gateway the lease must not read before its entries have settled: the sender wakes
    // it then, and the delay given here is only the fallback should that wake-up be lost.
    let by = Bringer::Lane(if rests { ENTRIES_AT_REST } else { Duration::ZERO });
    worker.store.settle(by, &taken.operation, Settlement::succeeded(answer)).await?;
    Ok(if rests { Delivered::Rests(taken.lease_id) } else { Delivered::Told })
}

async fn not_done(
    worker: &Worker,
    lane: &Lane,
    taken: &Taken,
    error: &CloudError,
    full: &FullSince,
) -> Result<Delivered, Error> {
    let (cause, change) = (chain(error), &taken.operation.change);
    tracing::info!(
        gateway.id = %lane.gateway_id, lease.id = %taken.lease_id, cloud.action = change.action(),
        error = cause, "cloud change failed"
    );
    let failure = error.failure();
    let delivered = if failure.lacks_permit() { Delivered::NoPermit } else { Delivered::Told };
    let records = response::of_sender(change, &failure, taken.may_still_arrive, taken.agains);
    let sender = Sender { worker, lane, taken, cause: &cause, full };
    match sender.record_all(records).await {
        // Only the holder of the gateway lock may requeue a change; without the lock the failure
        // is recorded for the lease to decide.
        Err(Error::Store(StoreError::LaneLost)) => {
            sender
                .record_all(response::after_busy_retries(change, &failure, taken.may_still_arrive))
                .await?;
        }
        recorded => recorded?,
    }
    Ok(delivered)
}

/// One failed change with everything that its records need.
struct Sender<'a> {
    worker: &'a Worker,
    lane: &'a Lane,
    taken: &'a Taken,
    cause: &'a str,
    full: &'a FullSince,
}

impl Sender<'_> {
    async fn record_all(&self, records: Vec<Record>) -> Result<(), Error> {
        for record in records {
            self.record(record).await?;
        }
        Ok(())
    }

    async fn record(&self, record: Record) -> Result<(), Error> {
        let (store, operation) = (&self.worker.store, &self.taken.operation);
        match record {
            Record::Requeue => store.again(self.lane, self.taken, self.cause).await?,
            Record::Learn(Lesson::GatewayFull) => self.learn_full(&self.lane.gateway_id).await?,
            Record::Learn(Lesson::ModifyDenied) => {
                store.modify_denied(&self.lane.gateway_id, MODIFY_DENIED).await?;
                tracing::warn!(
                    "vpc:ModifyForwardEntry denied; entries of moved pods are deleted and created, \
                     which takes longer"
                );
            }
            Record::Reject(refused) => store.leave_word(self.taken.lease_id, &refused).await?,
            Record::Settle(outcome, effect) => {
                store
                    .settle(
                        Bringer::Lane(Duration::ZERO),
                        operation,
                        Settlement::failed(outcome, effect, self.cause),
                    )
                    .await?;
            }
            Record::AwaitFence => store.wait_out(operation.id).await?,
            Record::MarkUnanswered => store.lost(operation.id).await?,
            // Only a claim holder allocates EIPs, so no queued change brings this lesson.
            Record::Learn(Lesson::AddressNotReclaimable) => {}
        }
        Ok(())
    }

    async fn learn_full(&self, gateway: &NatGatewayId) -> Result<(), Error> {
        *self.full.lock() = Some(Instant::now());
        let standing = self.worker.cloud.forward_entries(gateway).await?.value.len();
        self.worker.store.gateway_full(gateway, standing, GATEWAY_FULL).await?;
        self.worker.store.wake_queue(gateway).await?;
        tracing::warn!(
            gateway.id = %gateway, entries = standing,
            "NAT gateway is full; new ports are reserved on other gateways"
        );
        Ok(())
    }
}
