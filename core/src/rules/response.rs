//! What a failed change means for its operation, and for the lease that asked.
//!
//! ```text
//! claimant:  settle? ─▶ learn? ─▶ nothing more, or await the fence? ─▶ reject
//! sender:    requeue, or learn? ─▶ reject? ─▶ settle, or await the fence? ─▶ mark unanswered
//! ```

use super::timing::FENCE;
use crate::change::Change;
use crate::failure::{CallFailure, FailureClass, FailureScope};
use crate::operation::{Operation, Outcome, Refused};
use crate::retry::Patience;
use jiff::Timestamp;
use std::time::Duration;

/// A change that is refused this often because its gateway is busy has something of its own, and
/// one that finds no permit this often waits long: from then on its lease hears of it.
pub const MOST_BUSY_RETRIES: i32 = 3;

/// What is to be recorded of a failure. A list of these is carried out in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Back into its gateway's queue, in its place; its lease is not told. Only the sender that
    /// holds the gateway's lock may do so: where it has lost the lock, [`after_busy_retries`] says
    /// what is recorded instead.
    Requeue,
    /// The operation has ended.
    Settle(Outcome, LeaseEffect),
    /// The plan can go by what the refusal told.
    Learn(Lesson),
    /// The operation stays open until no earlier send of it can arrive any more.
    AwaitFence,
    /// The operation stays open, and its lease finds out what became of it.
    MarkUnanswered,
    /// The lease tells its pod, and tries again later.
    Reject(Refused),
}

/// What the end of an operation means for what its lease holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseEffect {
    /// What the answer says.
    Plain,
    /// The lease's EIP, or its binding, is proven gone.
    EipGone,
}

/// What a refusal tells beyond the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lesson {
    /// The address that a former pod had is not to be had again.
    AddressNotReclaimable,
    /// The gateway takes no more entries.
    GatewayFull,
    /// Entries of the gateway may not be modified, only created and deleted.
    ModifyDenied,
}

/// What the claim holder records of a failed change of its own. A list without [`Record::Reject`]
/// means: plan the next step.
pub fn of_claimant(change: &Change, failure: &CallFailure, may_still_arrive: bool) -> Vec<Record> {
    let ended = end_of(change, failure, may_still_arrive);
    let lesson = lesson(change, failure).filter(|lesson| *lesson == Lesson::AddressNotReclaimable);
    let mut records: Vec<_> =
        ended.map(|(outcome, effect)| Record::Settle(outcome, effect)).into_iter().collect();
    records.extend(lesson.map(Record::Learn));
    if (lesson.is_some() && ended.is_some()) || matches!(ended, Some((Outcome::Done, _))) {
        return records;
    }
    let fenced = ended.is_none() && must_await_fence(failure);
    if fenced {
        records.push(Record::AwaitFence);
    }
    records.push(Record::Reject(rejection(failure, fenced)));
    records
}

/// What a gateway's sender records of a failed change that was refused `busy_retries` times before
/// because the gateway was busy.
pub fn of_sender(
    change: &Change,
    failure: &CallFailure,
    may_still_arrive: bool,
    busy_retries: i32,
) -> Vec<Record> {
    if (failure.is_gateway_busy() || failure.lacks_permit()) && busy_retries < MOST_BUSY_RETRIES {
        return vec![Record::Requeue];
    }
    after_busy_retries(change, failure, may_still_arrive)
}

/// The same for a change that does not go back into the queue.
pub fn after_busy_retries(
    change: &Change,
    failure: &CallFailure,
    may_still_arrive: bool,
) -> Vec<Record> {
    let ended = end_of(change, failure, may_still_arrive);
    let fenced = ended.is_none() && must_await_fence(failure);
    let lesson = lesson(change, failure).filter(|lesson| *lesson != Lesson::AddressNotReclaimable);
    let mut records: Vec<_> = lesson.map(Record::Learn).into_iter().collect();
    if lesson.is_none() && ended.is_none_or(|(outcome, _)| outcome == Outcome::Refused) {
        records.push(Record::Reject(rejection(failure, fenced)));
    }
    if let Some((outcome, effect)) = ended {
        records.push(Record::Settle(outcome, effect));
        return records;
    }
    records.extend(fenced.then_some(Record::AwaitFence));
    records.push(Record::MarkUnanswered);
    records
}

/// Whether an earlier send of this operation is unanswered and may still take effect: then the
/// refusal of a later one does not end it. `known` are the lease's operations before this send.
pub fn may_still_arrive(operation: &Operation, known: &[Operation], now: Timestamp) -> bool {
    now <= operation.fence_until && known.iter().any(|earlier| earlier.id == operation.id)
}

/// How an operation ended that was answered with a failure; none where that is not known.
fn end_of(
    change: &Change,
    failure: &CallFailure,
    may_still_arrive: bool,
) -> Option<(Outcome, LeaseEffect)> {
    match (failure.class, effect_of_absence(change)) {
        (FailureClass::NotFound, Some(effect)) => Some((Outcome::Done, effect)),
        (FailureClass::Done, _) => Some((Outcome::Done, LeaseEffect::Plain)),
        _ if failure.definite && !may_still_arrive => Some((Outcome::Refused, LeaseEffect::Plain)),
        _ => None,
    }
}

/// What it means when the cloud says that the thing to be taken away is not there: it is gone, and
/// this is the proof.
fn effect_of_absence(change: &Change) -> Option<LeaseEffect> {
    match change {
        Change::ReleaseEipAddress { .. } | Change::UnassociateEipAddress { .. } => {
            Some(LeaseEffect::EipGone)
        }
        Change::DeleteForwardEntry { .. } | Change::RemoveCommonBandwidthPackageIp { .. } => {
            Some(LeaseEffect::Plain)
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

/// Whether a refusal that does not end the operation is one for sure: then it ends once no earlier
/// send of it can arrive.
fn must_await_fence(failure: &CallFailure) -> bool {
    failure.definite && failure.sent
}

fn lesson(change: &Change, failure: &CallFailure) -> Option<Lesson> {
    match (change, failure.class) {
        (Change::AllocateEipAddressPro { .. }, FailureClass::Permanent | FailureClass::Denied)
            if failure.definite =>
        {
            Some(Lesson::AddressNotReclaimable)
        }
        (Change::CreateForwardEntry(_), FailureClass::Quota)
            if failure.scope == Some(FailureScope::Gateway) =>
        {
            Some(Lesson::GatewayFull)
        }
        (Change::ModifyForwardEntry { .. }, FailureClass::Denied)
            if failure.reason == "PermissionDenied" =>
        {
            Some(Lesson::ModifyDenied)
        }
        _ => None,
    }
}

/// What the lease tells its pod, and when it tries again: where the fence is awaited, once no
/// earlier send of it can arrive.
fn rejection(failure: &CallFailure, fenced: bool) -> Refused {
    let at_least = if fenced { Some(FENCE) } else { failure.retry_after };
    Refused {
        reason: failure.reason.to_owned(),
        message: failure.message.clone(),
        patience: policy_for(failure),
        at_least_seconds: at_least.map_or(0, whole_seconds),
    }
}

/// Not less than that.
fn whole_seconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
}

/// When a failed call is tried again.
pub fn policy_for(failure: &CallFailure) -> Patience {
    match failure.class {
        // Being bound, which takes seconds; or not bound at all, which the next look at the gateway
        // tells.
        FailureClass::Conflict if failure.reason == "AddressNotOnGateway" => Patience::Event,
        FailureClass::Transient
        | FailureClass::Processing
        | FailureClass::Conflict
        | FailureClass::Done
        | FailureClass::NotFound => Patience::Poll,
        FailureClass::Throttled => Patience::Event,
        FailureClass::Quota | FailureClass::Denied | FailureClass::Permanent => Patience::Person,
    }
}

#[cfg(test)]
mod tests;
