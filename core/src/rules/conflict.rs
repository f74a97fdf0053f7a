//! Conflicts: another lease holds what a unique constraint of the store gives to one lease only.

use crate::condition::Reason;
use crate::lease::Constraint;
use crate::plan::Wait;
use crate::retry::RetryPolicy;

/// Wait of a lease after a conflict; none if the end of another lease does not resolve it.
pub fn wait_after_conflict(constraint: Constraint) -> Option<Wait> {
    let (reason, message) = match constraint {
        Constraint::BoundIp | Constraint::ForwardedPort => (
            Reason::PrivateIpInUse,
            "a former pod's EIP or forward entry still leads to this pod's IP; Waygate is \
             removing it",
        ),
        Constraint::LeaseOfPod => (
            Reason::RetainedForSuccessor,
            "the successor has a lease of its own, which is being released",
        ),
        Constraint::CustomResource => (
            Reason::CustomResourceTaken,
            "the custom resource of this name still describes a former pod's address; it is free \
             once that address is released",
        ),
        Constraint::LeasedEip | Constraint::RetainedLease | Constraint::UnresolvedOperation => {
            return None;
        }
    };
    Some(Wait { reason, message: message.to_owned(), retry_policy: RetryPolicy::Poll })
}

/// True if a former pod's EIP or forward entries are in the way; their removal then goes before all
/// other queued changes.
pub fn expedites_removal(constraint: Constraint) -> bool {
    matches!(constraint, Constraint::BoundIp | Constraint::ForwardedPort)
}
