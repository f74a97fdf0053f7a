//! Consequences of a failed change for its operation, and for the lease that asked.
//!
//! ```text
//! requeue, or learn? ─▶ reject? ─▶ settle, or await the fence? ─▶ mark unanswered
//! ```

use super::timing::FENCE;
use crate::change::Change;
use crate::failure::{CallFailure, FailureClass, FailureScope};
use crate::operation::{Outcome, Rejection};
use crate::retry::RetryPolicy;
use std::time::Duration;

/// Limit of busy retries. A change that its gateway refuses as busy this often has a problem of its
/// own, and a change that finds no permit this often waits long: from then on the lease reports it.
pub const MAX_BUSY_RETRIES: i32 = 3;

/// A record of a failed change, in the store. A list of records is carried out in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Puts the operation back into its queue, in its place, without a report. At a gateway only the
    /// sender that holds the gateway lock may do so; without the lock, [`failure_records`] gives the
    /// records instead.
    Requeue,
    /// Settles the operation with this outcome.
    Settle(Outcome, LeaseEffect),
    /// Records a fact from the refusal that the plan can use.
    Learn(LearnedFact),
    /// Leaves the operation unresolved until its fence, when no earlier send can arrive any more.
    AwaitFence,
    /// Marks the operation unanswered and leaves it unresolved; the lease's plan finds the outcome
    /// by a read.
    MarkUnanswered,
    /// Records a rejection, which the lease reports to its pod before it tries again.
    Reject(Box<Rejection>),
}

/// Effect of a settled operation on what its lease holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseEffect {
    /// No effect beyond the content of the answer.
    None,
    /// The lease's EIP is proven gone.
    EipGone,
}

/// A fact that a refusal proves beyond its operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LearnedFact {
    /// The cloud does not give the former address back.
    AddressNotReclaimable,
    /// The gateway takes no more entries.
    GatewayFull,
    /// The account may not modify entries of the gateway, only create and delete them.
    ModifyDenied,
}

/// Records of a gateway's sender for a failed change that was refused `busy_retries` times before
/// because the gateway was busy.
pub fn gateway_sender_records(
    change: &Change,
    failure: &CallFailure,
    may_still_arrive: bool,
    busy_retries: i32,
) -> Vec<Record> {
    if (failure.is_gateway_busy() || failure.lacks_permit()) && busy_retries < MAX_BUSY_RETRIES {
        return vec![Record::Requeue];
    }
    failure_records(change, failure, may_still_arrive)
}

/// Records of the account's sender for a failed change. A throttled or unwritten call says nothing
/// about the change: it goes back into its place, and the pod does not hear of it.
pub fn account_sender_records(
    change: &Change,
    failure: &CallFailure,
    may_still_arrive: bool,
) -> Vec<Record> {
    if failure.class == FailureClass::Throttled {
        return vec![Record::Requeue];
    }
    failure_records(change, failure, may_still_arrive)
}

/// Records of a sender for a failed change that does not go back into its queue.
pub fn failure_records(
    change: &Change,
    failure: &CallFailure,
    may_still_arrive: bool,
) -> Vec<Record> {
    let outcome = outcome_of_failure(change, failure, may_still_arrive);
    let awaits_fence = outcome.is_none() && must_await_fence(failure);
    let learned = learned_fact(change, failure);
    let mut records: Vec<_> = learned.map(Record::Learn).into_iter().collect();
    // Before the settlement, which wakes the lease to find the rejection.
    if learned.is_none() && outcome.is_none_or(|(outcome, _)| outcome == Outcome::Refused) {
        records.push(Record::Reject(Box::new(rejection_of_failure(change, failure, awaits_fence))));
    }
    if let Some((outcome, effect)) = outcome {
        records.push(Record::Settle(outcome, effect));
        return records;
    }
    records.extend(awaits_fence.then_some(Record::AwaitFence));
    records.push(Record::MarkUnanswered);
    records
}

/// Outcome of an operation whose send failed; none if it is still unknown.
fn outcome_of_failure(
    change: &Change,
    failure: &CallFailure,
    may_still_arrive: bool,
) -> Option<(Outcome, LeaseEffect)> {
    match (failure.class, effect_of_absence(change)) {
        (FailureClass::NotFound, Some(effect)) => Some((Outcome::Done, effect)),
        (FailureClass::AlreadyDone, _) => Some((Outcome::Done, LeaseEffect::None)),
        _ if failure.definite && !may_still_arrive => Some((Outcome::Refused, LeaseEffect::None)),
        _ => None,
    }
}

/// Effect of a `NotFound` answer to a change that takes something away: the answer proves that the
/// resource is gone. None for other changes.
fn effect_of_absence(change: &Change) -> Option<LeaseEffect> {
    match change {
        Change::ReleaseEipAddress { .. } | Change::UnassociateEipAddress { .. } => {
            Some(LeaseEffect::EipGone)
        }
        Change::DeleteForwardEntry { .. } | Change::RemoveCommonBandwidthPackageIp { .. } => {
            Some(LeaseEffect::None)
        }
        Change::AllocateEipAddress { .. }
        | Change::AllocateEipAddressPro { .. }
        | Change::AssociateEipAddress { .. }
        | Change::AddCommonBandwidthPackageIp { .. }
        | Change::ModifyEipAddressAttribute { .. }
        | Change::CreateForwardEntry(_)
        | Change::ModifyForwardEntry { .. } => None,
    }
}

/// True for a definite refusal that leaves the operation unresolved: the operation then ends at its
/// fence, when no earlier send can arrive any more.
fn must_await_fence(failure: &CallFailure) -> bool {
    failure.definite && failure.sent
}

fn learned_fact(change: &Change, failure: &CallFailure) -> Option<LearnedFact> {
    match (change, failure.class) {
        (Change::AllocateEipAddressPro { .. }, FailureClass::Permanent | FailureClass::Denied)
            if failure.definite =>
        {
            Some(LearnedFact::AddressNotReclaimable)
        }
        (Change::CreateForwardEntry(_), FailureClass::Quota)
            if failure.scope == Some(FailureScope::Gateway) =>
        {
            Some(LearnedFact::GatewayFull)
        }
        (Change::ModifyForwardEntry { .. }, FailureClass::Denied)
            if failure.reason == "PermissionDenied" =>
        {
            Some(LearnedFact::ModifyDenied)
        }
        _ => None,
    }
}

/// Rejection for the lease to report, with the time of its next try: the fence if it is awaited,
/// when no earlier send can arrive any more.
fn rejection_of_failure(change: &Change, failure: &CallFailure, awaits_fence: bool) -> Rejection {
    let min_wait = if awaits_fence { Some(FENCE) } else { failure.retry_after };
    Rejection {
        change: change.clone(),
        reason: failure.reason.to_owned(),
        message: failure.message.clone(),
        retry_policy: retry_policy_for(failure),
        min_wait_seconds: min_wait.map_or(0, whole_seconds),
    }
}

/// Whole seconds, rounded up.
fn whole_seconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
}

/// Back-off curve after a failed call.
pub fn retry_policy_for(failure: &CallFailure) -> RetryPolicy {
    match failure.class {
        // The EIP is being bound, which takes seconds; or is not bound at all, which the next read
        // of the gateway shows.
        FailureClass::Conflict if failure.reason == "AddressNotOnGateway" => RetryPolicy::Event,
        FailureClass::Transient | FailureClass::Processing | FailureClass::AlreadyDone => {
            RetryPolicy::Poll
        }
        FailureClass::Conflict | FailureClass::NotFound => RetryPolicy::Refusal,
        FailureClass::Throttled => RetryPolicy::Event,
        FailureClass::Quota | FailureClass::Denied | FailureClass::Permanent => RetryPolicy::Remedy,
    }
}

#[cfg(test)]
mod tests;
