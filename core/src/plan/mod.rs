//! The plan: from what is known of a lease, its pod, its custom resource and the cloud, the one
//! next step.
//!
//! ```text
//! Situation ─▶ next() ─▶ Step      not served? left alone
//!                                  lifecycle: pod gone or asks no more? retention, or ending … Forget
//!                                             else eip::live / dnat::live … Publish
//!                                  operations: unresolved ones? what becomes of them comes first
//! ```
//!
//! Pure: the same situation gives the same step. It never publishes what a read after the last
//! answer does not prove, never frees what may still exist, and asks for at most one change at a
//! time of any one thing in the cloud. Nothing but waiting, asking again and taking back is decided
//! while an operation is unresolved.

mod dnat;
mod eip;
mod lifecycle;
mod operations;
mod publication;
mod retention;
mod situation;
mod step;
mod target;
#[cfg(test)]
mod tests;

pub use situation::{
    Asks, CloudFacts, Object, PodFact, PodHere, Removal, ResourceFact, Seen, Situation, Successor,
};
pub use step::{Content, EndReason, Publication, Step, Wait, Withdrawal};

use crate::condition::Reason;
use crate::retry::Patience;

/// The one next step.
pub fn next(s: &Situation<'_>) -> Step {
    if !s.served {
        return leave_alone();
    }
    if let Some(rejection) = s.rejection {
        return Step::Report(rejection.clone());
    }
    let fresh = lifecycle::next(s);
    operations::resolve(s, &fresh).unwrap_or(fresh)
}

/// What is switched off is paused: nothing is made, repaired, taken back or told.
fn leave_alone() -> Step {
    let message = "the configuration's enableControllers switches addresses of this kind off; what the lease has stays as it is";
    Step::wait(Reason::NotServed, Patience::Idle, message.to_owned())
}

/// Whether what was read serves for the next step, too: this one only writes to the store, and no
/// answer was awaited that could have come since. Lists of forward entries are none of it: they
/// have an age of their own.
pub fn still_stands(s: &Situation<'_>, step: &Step) -> bool {
    let only_store = match step {
        Step::ReservePorts { .. } | Step::SetTarget(_) | Step::Queue { .. } => true,
        // Another lease's may have gone while this one waited for its name.
        Step::ClaimResource => matches!(s.resource, ResourceFact::Absent | ResourceFact::Mine(..)),
        _ => false,
    };
    only_store && s.operations.is_empty()
}
