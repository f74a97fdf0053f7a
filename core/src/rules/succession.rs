//! Succession: the pod that must get a lease beside one in phase releasing. As long as that one
//! lived, an observation of the pod only woke it.

use crate::lease::{Lease, Phase};
use crate::plan::{Asks, PodFact, Successor};
use crate::retry::Patience;

/// The lease's own pod if its request stands, or is made anew; otherwise the successor.
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

/// True if the worker looks for that pod when the lease pauses: the lease's end may take a month.
pub fn observes_at_pause(served: bool, phase: Phase, patience: Patience) -> bool {
    served && phase == Phase::Ending && !patience.is_short()
}
