//! Leases of a kind that is switched off are left alone, in every state of lease and pod.

use super::{NOW, Scene, auto, bound, dnat, eip, given, in_use, waits};
use crate::change::Change;
use crate::cloud_facts::EipStatus;
use crate::condition::Reason;
use crate::ids::AllocationId;
use crate::lease::Phase;
use crate::plan::{CustomResourceState, Desired, Lookup, PodState, Step, Wait};
use crate::retry::RetryPolicy;
use jiff::SignedDuration;

pub(super) const PHASES: [Phase; 5] =
    [Phase::Announced, Phase::Provisioning, Phase::Bound, Phase::Retained, Phase::Releasing];

/// Leases of either kind, new and with all that they can have.
pub(super) fn leases() -> Vec<Scene> {
    let ports = dnat::forwarding(&[80, 443]);
    let eips = [in_use(auto()), in_use(given()), bound(auto(), eip(EipStatus::Available, None))];
    let published = [in_use(auto()).published(), in_use(given()).published(), ports.published()];
    let new = [Scene::new(auto()), Scene::new(given()), Scene::new(dnat::dnat_request(&[80]))];
    eips.into_iter().chain(published).chain(new).chain([ports]).collect()
}

/// Changes around a lease: of the pod, the custom resource, the cloud and its operations.
pub(super) fn fates(scene: &Scene) -> Vec<Scene> {
    let release = Change::ReleaseEipAddress { allocation_id: AllocationId::new("eip-1") };
    vec![
        scene.clone(),
        scene.with(|s| s.pod = PodState::Absent),
        scene.with(|s| s.pod().exited = true),
        scene.with(|s| s.pod().terminating = true),
        scene.with(|s| s.pod().desired = Desired::Nothing),
        scene.with(|s| s.pod().desired = Desired::Invalid("wrong".to_owned())),
        scene.with(|s| s.resource = CustomResourceState::Absent),
        scene.with(|s| (s.cloud.eip, s.cloud.eni) = (Lookup::Absent, Lookup::Absent)),
        scene.with(|s| s.cloud.entries.clear()),
        scene.with(|s| s.lease.retained_until = Some(NOW - SignedDuration::from_mins(1))),
        scene.with(|s| s.lease.preempted_by = Some("ns/younger".to_owned())),
        scene.unresolved(release),
    ]
}

#[test]
fn a_lease_of_a_kind_that_is_switched_off_is_left_alone_in_every_phase() {
    for scene in leases().iter().flat_map(fates) {
        for phase in PHASES {
            let off = scene.with(|s| (s.served, s.lease.phase) = (false, phase));
            // Idle waits are not reported to the pod; a restart, which switches the kind on, wakes it.
            let left = matches!(
                off.next(),
                Step::Wait(Wait { reason: Reason::NotServed, retry_policy: RetryPolicy::Idle, .. })
            );
            assert!(left, "{:?} lease in phase {phase:?}: {:?}", off.lease.kind, off.next());
        }
    }
}

#[test]
fn a_lease_whose_kind_is_switched_on_again_goes_on_where_it_was() {
    let working = in_use(auto()).published();
    let off = working.with(|s| s.served = false);
    assert_eq!(waits(&off.with(|s| s.served = true).next()), Some(Reason::EipAssociated));
    let gone = off.with(|s| (s.served, s.pod) = (true, PodState::Absent));
    assert_eq!(gone.next(), working.with(|s| s.pod = PodState::Absent).next());
}
