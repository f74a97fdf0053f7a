//! What it means for a lease that a unique constraint of the store said no: another lease holds the
//! thing.

use crate::condition::Reason;
use crate::lease::Constraint;
use crate::plan::Wait;
use crate::retry::Patience;

/// What the lease waits for; none where the conflict is not one that another lease's end resolves.
pub fn wait_for(constraint: Constraint) -> Option<Wait> {
    let (reason, message) = match constraint {
        Constraint::BoundIp | Constraint::ForwardedPort => (
            Reason::PrivateIpTaken,
            "the pod's IP is still bound to a former pod's address, which is being taken from it",
        ),
        Constraint::LeaseOfPod => {
            (Reason::Kept, "the successor has a lease of its own that is ending")
        }
        Constraint::CustomResource => (
            Reason::ResourceTaken,
            "the custom resource of this name is still held by a former pod's address",
        ),
        Constraint::HeldEip | Constraint::KeptLease | Constraint::OpenOperation => return None,
    };
    Some(Wait { reason, message: message.to_owned(), patience: Patience::Poll })
}

/// Whether a former pod's forward entries stand in the way: what takes them away then goes before
/// everything else that waits.
pub fn expedites_removal(constraint: Constraint) -> bool {
    constraint == Constraint::ForwardedPort
}
