//! Which pod must have a lease beside one that is on its way out: while that lived, seeing the pod
//! only woke it.

use crate::lease::{Lease, Phase};
use crate::plan::{Asks, PodFact, Successor};
use crate::retry::Patience;

/// The lease's own pod if it still asks, or asks again; else the next of its name.
pub fn pod_to_observe(
    lease: &Lease,
    pod: &PodFact,
    successor: Option<&Successor>,
) -> Option<Successor> {
    let PodFact::Here(here) = pod else { return successor.cloned() };
    match &here.asks {
        Asks::For(request) if !here.exited && !here.terminating => Some(Successor {
            uid: lease.pod_uid.clone(),
            controller: lease.controller.clone(),
            request: (**request).clone(),
        }),
        Asks::For(_) | Asks::Nothing | Asks::Wrong(_) => None,
    }
}

/// Whether that pod is looked for when the lease pauses: its end may take a month.
pub fn observes_at_pause(served: bool, phase: Phase, patience: Patience) -> bool {
    served && phase == Phase::Ending && !patience.is_short()
}
