//! Sends one queued change of an EIP: once, the cloud's answer recorded, and the rejection recorded on
//! the lease where the cloud refused the change.

use crate::context::Worker;
use crate::errors::{Error, error_chain};
use crate::metrics::CallOutcome;
use crate::records::apply_shared_record;
use std::sync::Arc;
use std::time::Duration;
use waygate_cloud::{Error as CloudError, SendBy};
use waygate_core::failure::CallFailure;
use waygate_core::rules::response::{self, LearnedFact, Record};
use waygate_core::rules::timing::CALL_TIMEOUT;
use waygate_store::{AccountQueue, DequeuedChange, SettledBy, Settlement};

/// Sends a change that is marked as sent and records the answer. If recording fails, the operation
/// stays unresolved and its lease finds the outcome by a read.
pub(crate) async fn deliver_change(
    worker: Arc<Worker>,
    queue: AccountQueue,
    dequeued: DequeuedChange,
    send_by: SendBy,
) {
    let (change, id) = (&dequeued.operation.change, dequeued.operation.id.to_string());
    let answered = worker.cloud.send_change(change, Some(&id), send_by, CALL_TIMEOUT).await;
    worker.metrics.count_cloud_change(change.action(), CallOutcome::from_result(&answered));
    let recorded = match &answered {
        Ok(answer) => {
            tracing::info!(
                lease.id = %dequeued.lease_id, cloud.action = change.action(),
                cloud.request_id = answer.request_id, waited = dequeued.waited.as_secs_f32(),
                "cloud change succeeded"
            );
            let settlement = Settlement::from_success(answer);
            let by = SettledBy::Sender(Duration::ZERO);
            let settled = worker.store.settle_operation(by, &dequeued.operation, settlement).await;
            settled.map_err(Error::from)
        }
        Err(error) => record_failure(&worker, queue, &dequeued, error).await,
    };
    if let Err(error) = recorded {
        tracing::warn!(
            lease.id = %dequeued.lease_id, cloud.action = change.action(),
            error = error_chain(&error),
            "recording the cloud's answer failed; the lease finds the outcome by a read"
        );
    }
    worker.due.notify_one();
}

async fn record_failure(
    worker: &Worker,
    queue: AccountQueue,
    dequeued: &DequeuedChange,
    error: &CloudError,
) -> Result<(), Error> {
    let (cause, change) = (error_chain(error), &dequeued.operation.change);
    let failure = error.call_failure();
    if failure.sent {
        tracing::info!(
            lease.id = %dequeued.lease_id, cloud.action = change.action(), error = cause,
            "cloud change failed"
        );
    } else {
        tracing::warn!(
            lease.id = %dequeued.lease_id, cloud.action = change.action(), error = cause,
            "cloud change not sent"
        );
    }
    for record in response::account_sender_records(change, &failure, dequeued.may_still_arrive) {
        apply_record(worker, queue, dequeued, &failure, record, &cause).await?;
    }
    Ok(())
}

async fn apply_record(
    worker: &Worker,
    queue: AccountQueue,
    dequeued: &DequeuedChange,
    failure: &CallFailure,
    record: Record,
    cause: &str,
) -> Result<(), Error> {
    let (store, operation) = (&worker.store, &dequeued.operation);
    match record {
        Record::Requeue if !failure.sent => store.requeue_unsent(operation).await?,
        Record::Requeue => {
            let pause = failure.retry_after.unwrap_or_default();
            store.requeue_throttled(operation, queue.rate, pause).await?;
        }
        Record::Learn(LearnedFact::AddressNotReclaimable) => {
            tracing::info!(
                lease.id = %dequeued.lease_id, error = cause,
                "former address cannot be reclaimed; allocating a new one"
            );
            store.delete_former_address(dequeued.lease_id).await?;
        }
        record @ (Record::Reject(_)
        | Record::Settle(..)
        | Record::AwaitFence
        | Record::MarkUnanswered) => {
            apply_shared_record(worker, dequeued, record, cause).await?;
        }
        // Learned from changes of forward entries alone.
        Record::Learn(LearnedFact::GatewayFull | LearnedFact::ModifyDenied) => {}
    }
    Ok(())
}
