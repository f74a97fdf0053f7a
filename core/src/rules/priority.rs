//! Priority of a change in its queue.

use super::reads;
use crate::lease::{Lease, Phase};
use crate::operation::Priority;
use crate::plan::PodState;

/// Priority of a change that this lease queues. The removal of what still leads to another pod's IP
/// becomes urgent later, when that pod's lease meets it.
pub fn change_priority(lease: &Lease, pod: &PodState) -> Priority {
    let PodState::Present(_) = pod else { return Priority::Normal };
    match (lease.phase, reads::pod_ip(pod)) {
        // A published address does not work: its pod has lost traffic.
        (Phase::Bound, _) => Priority::Urgent,
        (_, None) => Priority::Early,
        (_, Some(_)) => Priority::Normal,
    }
}
