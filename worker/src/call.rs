//! One change asked of the cloud by a lease's claimant: intent committed, sent once, answer recorded. Forward entries go another way: see
//! `lane.rs`.
//!
//! ```text
//! intend ─▶ (commit) ─▶ send ─▶ settle: done │ refused        no answer, or not a definite one: unresolved, for the next look
//! ```

use crate::errors::{Error, chain};
use crate::metrics::CallOutcome;
use crate::worker::Worker;
use std::time::Duration;
use waygate_cloud::Class;
use waygate_core::change::Change;
use waygate_core::operation::{Operation, Outcome};
use waygate_core::retry::Patience;
use waygate_store::{Bringer, Claim, Effect, Loaded};

/// What one call may take, its permit included; less than a claim or a lane holds.
pub(crate) const CALL: Duration = Duration::from_secs(10);
/// After this nothing that was sent is expected to take effect any more. A request that hung in the network longer than this is what remains
/// of the window: the cloud accepts a signature for 15 minutes.
pub(crate) const FENCE: Duration = Duration::from_mins(1);

/// How a call ended.
pub(crate) enum Called {
    /// It was done.
    Done,
    /// It was not, or nobody knows.
    Not {
        /// For programs.
        reason: &'static str,
        /// For people.
        message: String,
        /// When to look again.
        patience: Patience,
        /// The cloud asks for at least this.
        at_least: Option<Duration>,
    },
}

/// Asks for a change as a new operation.
pub(crate) async fn change(worker: &Worker, claim: &Claim, loaded: &Loaded, resource: &str, change: &Change) -> Result<Called, Error> {
    let operation = worker.store.intend(claim, resource, change, CALL, FENCE).await?;
    send(worker, claim, loaded, &operation).await
}

/// Sends an unresolved operation again.
pub(crate) async fn again(worker: &Worker, claim: &Claim, loaded: &Loaded, operation: &Operation) -> Result<Called, Error> {
    worker.store.intend_again(claim, operation.id, CALL, FENCE).await?;
    send(worker, claim, loaded, operation).await
}

async fn send(worker: &Worker, claim: &Claim, loaded: &Loaded, operation: &Operation) -> Result<Called, Error> {
    let token = operation.id.to_string();
    let action = operation.change.action();
    let answered = worker.cloud.change(&operation.change, operation.change.takes_token().then_some(token.as_str()), CALL).await;
    worker.metrics.calls(action, CallOutcome::of(&answered));
    let by = Bringer::Claimant(claim);
    match answered {
        Ok(answer) => {
            tracing::info!(lease.id = %claim.lease_id, cloud.action = action, cloud.request_id = answer.request_id, "the cloud did it");
            worker.store.settle(by, operation, Outcome::Done, Some(&answer), None, Effect::Plain).await?;
            Ok(Called::Done)
        }
        Err(error) => {
            let message = chain(&error);
            tracing::info!(lease.id = %claim.lease_id, cloud.action = action, error = message, "the cloud did not do it");
            let ended = judged(&operation.change, &error, may_still_arrive(loaded, operation));
            if let Some((outcome, effect)) = ended {
                worker.store.settle(by, operation, outcome, None, Some(&message), effect).await?;
            }
            let learned = learn(worker, claim, &operation.change, &error).await?;
            if (learned && ended.is_some()) || matches!(ended, Some((Outcome::Done, _))) {
                return Ok(Called::Done);
            }
            let waits = ended.is_none() && waits_out(&error);
            if waits {
                worker.store.wait_out(operation.id).await?;
            }
            let at_least = if waits { Some(FENCE) } else { error.retry_after() };
            Ok(Called::Not { reason: error.reason(), message: told(&error), patience: patience(&error), at_least })
        }
    }
}

/// How an operation ended that was answered with an error; none where that is not known. An earlier send of it that `may_still_arrive` is not
/// ended by a refusal.
pub(crate) fn judged(change: &Change, error: &waygate_cloud::Error, may_still_arrive: bool) -> Option<(Outcome, Effect)> {
    match (error.class(), gone(change)) {
        (Class::NotFound, Some(effect)) => Some((Outcome::Done, effect)),
        (Class::Done, _) => Some((Outcome::Done, Effect::Plain)),
        _ if error.is_definite() && !may_still_arrive => Some((Outcome::Refused, Effect::Plain)),
        _ => None,
    }
}

/// Whether a refusal that does not end the operation is one for sure: then it ends once no earlier send of it can arrive.
pub(crate) fn waits_out(error: &waygate_cloud::Error) -> bool {
    error.is_definite() && !matches!(error, waygate_cloud::Error::NotSent { .. })
}

/// Whether an earlier send of this operation is unanswered and may still take effect: then the refusal of a later one does not end it.
fn may_still_arrive(loaded: &Loaded, operation: &Operation) -> bool {
    loaded.now <= operation.fence_until && loaded.operations.iter().any(|known| known.id == operation.id)
}

/// Whether the refusal told what the plan can go by: that an address is not to be had again.
async fn learn(worker: &Worker, claim: &Claim, change: &Change, error: &waygate_cloud::Error) -> Result<bool, Error> {
    match (change, error.class()) {
        (Change::AllocateEipAddressPro { ip_address, .. }, Class::Permanent | Class::Denied) if error.is_definite() => {
            tracing::info!(lease.id = %claim.lease_id, eip.address = %ip_address, reason = error.reason(), "the former address is not to be had");
            worker.store.forget_former(claim).await?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// What it means when the cloud says that the thing to be taken away is not there: it is gone, and this is the proof.
fn gone(change: &Change) -> Option<Effect> {
    match change {
        Change::ReleaseEipAddress { .. } | Change::UnassociateEipAddress { .. } => Some(Effect::EipGone),
        Change::DeleteForwardEntry { .. } | Change::RemoveCommonBandwidthPackageIp { .. } => Some(Effect::Plain),
        Change::AllocateEipAddress { .. }
        | Change::AllocateEipAddressPro { .. }
        | Change::AssociateEipAddress { .. }
        | Change::AddCommonBandwidthPackageIp { .. }
        | Change::ModifyEipAddressAttribute { .. }
        | Change::CreateForwardEntry(_)
        | Change::ModifyForwardEntry { .. } => None,
    }
}

/// What the pod is told: without the request's ID, which is another each time. A condition that changes with every try is an event of the
/// pod, and that would wake the lease for the next try at once.
pub(crate) fn told(error: &waygate_cloud::Error) -> String {
    match error {
        waygate_cloud::Error::Refused(refusal) => format!("{}: the cloud refused: {}: {}", refusal.action, refusal.code, refusal.message),
        error => chain(error),
    }
}

pub(crate) fn patience(error: &waygate_cloud::Error) -> Patience {
    match error.class() {
        // Being bound, which takes seconds; or not bound at all, which the next look at the gateway tells.
        Class::Conflict if error.reason() == "AddressNotOnGateway" => Patience::Event,
        Class::Transient | Class::Processing | Class::Conflict | Class::Done | Class::NotFound => Patience::Poll,
        Class::Throttled => Patience::Event,
        Class::Quota | Class::Denied | Class::Permanent => Patience::Person,
    }
}
