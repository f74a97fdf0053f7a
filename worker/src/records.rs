//! Records of a failed change that do not depend on the queue that it came from.

use crate::context::Worker;
use crate::errors::Error;
use crate::refusals;
use std::time::Duration;
use waygate_core::rules::response::{LeaseEffect, Record};
use waygate_store::{DequeuedChange, SettledBy, Settlement};

/// Carries out a record of a change that failed for this cause. What a requeued change or a learned
/// fact means is the sender's to know.
pub(crate) async fn apply_shared_record(
    worker: &Worker,
    dequeued: &DequeuedChange,
    record: Record,
    cause: &str,
) -> Result<(), Error> {
    let (store, operation) = (&worker.store, &dequeued.operation);
    match record {
        Record::Reject(rejection) => store.record_rejection(dequeued.lease_id, &rejection).await?,
        Record::Settle(outcome, effect) => {
            let settlement = Settlement::from_failure(outcome, effect, cause);
            store
                .settle_operation(SettledBy::Sender(Duration::ZERO), operation, settlement)
                .await?;
            if effect == LeaseEffect::EipGone {
                refusals::wake_after_release(worker).await?;
            }
        }
        Record::AwaitFence => store.await_fence(operation.id).await?,
        Record::MarkUnanswered => store.mark_unanswered(operation.id).await?,
        Record::Requeue | Record::Learn(_) => {}
    }
    Ok(())
}
