//! The plan: from the facts about a lease, its pod, its custom resource and the cloud to the single
//! next step.
//!
//! ```text
//! Situation ─▶ plan ─▶ Step      not served: left alone
//!                                lifecycle: pod gone, or asks no more: retention or release
//!                                           otherwise: the plan of its kind, eip or dnat
//!                                operations: if any is unresolved, its step goes first
//!                                refusal: a change that was refused is not asked for at once again
//! ```
//!
//! Pure: the same situation gives the same step. The plan never publishes an address that a read
//! after the last answer does not prove, never frees what may still exist in the cloud, and asks
//! for at most one change at a time of any resource in the cloud. While an operation is unresolved,
//! the plan only waits, sends the change again or takes it back.

mod dnat;
mod eip;
mod lifecycle;
mod operations;
mod publication;
mod refusal;
mod retention;
mod situation;
mod step;
mod target;
#[cfg(test)]
mod tests;

pub use eip::eip_settings_differ;
pub use situation::{
    CloudFacts, CustomResourceObject, CustomResourceState, Deletion, Desired, Lookup, PodState,
    PodView, Situation, Successor,
};
pub use step::{CustomResourceContent, EndReason, Publication, Step, Wait, Withdrawal};

use crate::condition::Reason;
use crate::retry::RetryPolicy;

/// Plans the single next step of a lease.
pub fn next_step(s: &Situation<'_>) -> Step {
    if !s.served {
        return wait_while_switched_off();
    }
    if let Some(rejection) = s.rejection {
        return Step::ReportRejection(rejection.clone());
    }
    let fresh = lifecycle::next_without_operations(s);
    operations::resolve_operations(s, &fresh).unwrap_or_else(|| refusal::hold_back(s, fresh))
}

/// Pauses a lease of a kind that is switched off: no change, no repair, no release, no report.
fn wait_while_switched_off() -> Step {
    let message = "enableControllers in the configuration switches addresses of this kind off; \
                   the pod's address stays as it is until the kind is switched on again";
    Step::wait_for(Reason::NotServed, RetryPolicy::Idle, message.to_owned())
}

/// True if the facts that gave `step` are still good for the step after it: `step` only writes to
/// the store, and no answer was awaited that could have arrived since. Lists of forward entries are
/// exempt: an age limit of their own decides when they are read again.
pub fn facts_stay_valid(s: &Situation<'_>, step: &Step) -> bool {
    let only_store = match step {
        Step::ReservePorts { .. } | Step::SetTarget(_) | Step::QueueChanges { .. } => true,
        // The custom resource of another lease may be gone by the time this lease owns the name.
        Step::OwnCustomResource => matches!(
            s.custom_resource,
            CustomResourceState::Absent | CustomResourceState::Owned(..)
        ),
        _ => false,
    };
    only_store && s.operations.is_empty()
}
