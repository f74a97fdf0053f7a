//! Succession: the pod that must get a lease beside one in phase releasing. As long as that one
//! lived, an observation of the pod only woke it.

use crate::lease::{Lease, Phase};
use crate::plan::{Desired, PodState, Successor};
use crate::retry::RetryPolicy;

/// The lease's own pod while it runs and asks for an address; the successor once it is absent.
pub fn pod_to_observe(
    lease: &Lease,
    pod: &PodState,
    successor: Option<&Successor>,
) -> Option<Successor> {
    let PodState::Present(here) = pod else { return successor.cloned() };
    match &here.desired {
        Desired::Request(request) if !here.exited && !here.terminating => Some(Successor {
            uid: lease.pod_uid.clone(),
            controller: lease.controller.clone(),
            request: (**request).clone(),
        }),
        Desired::Request(_) | Desired::Nothing | Desired::Invalid(_) => None,
    }
}

/// True if the worker looks for that pod when the lease pauses: the lease's end may take a month.
pub fn observes_at_pause(served: bool, phase: Phase, retry_policy: RetryPolicy) -> bool {
    served && phase == Phase::Releasing && !retry_policy.is_short()
}
