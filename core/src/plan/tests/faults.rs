//! Decisions that other controllers were seen to get wrong; `docs/faults.md` lists all faults.

use super::dnat::{self, entry, forwarding};
use super::{LEASE, NOW, OWNER, POD_IP, Scene, action, auto, bound, eip, in_use};
use crate::change::Change;
use crate::cloud_facts::{EipStatus, ForwardEntryStatus};
use crate::ids::PodUid;
use crate::lease::Phase;
use crate::ownership::{TAG_CLUSTER, TAG_LEASE, TAG_STORE, read_entry_name};
use crate::plan::{CustomResourceState, Desired, Lookup, PodState, Step, Successor};
use crate::request::{EipRequest, EipSource, EipSpec, ReleaseStrategy, Request};
use jiff::SignedDuration;

/// Every way in which the custom resource is missing or out of date.
fn without_resource(scene: &Scene) -> Vec<Scene> {
    let another = CustomResourceState::OtherLease { message: "theirs".to_owned() };
    vec![
        scene.with(|s| s.lease.owns_custom_resource = false),
        scene.with(|s| s.resource = CustomResourceState::Absent),
        scene.with(|s| s.resource = CustomResourceState::Orphaned),
        scene.with(|s| s.resource = another),
    ]
}

#[test]
fn no_eip_is_bound_before_its_finalizer_stands() {
    let scene = bound(auto(), eip(EipStatus::Available, None));
    assert_eq!(action(&scene.next()), Some("AssociateEipAddress"));
    for scene in without_resource(&scene) {
        assert_eq!(action(&scene.next()), None, "{:?}", scene.resource);
    }
}

#[test]
fn no_entry_is_made_or_pointed_elsewhere_before_its_finalizer_stands() {
    let scene = forwarding(&[80]);
    let missing = scene.with(|s| s.cloud.entries.clear());
    let elsewhere = scene.with(|s| s.cloud.entries = vec![entry(LEASE, 0, 80, POD_IP)]);
    for (scene, would) in [(missing, "CreateForwardEntry"), (elsewhere, "ModifyForwardEntry")] {
        assert_eq!(action(&scene.next()), Some(would));
        for scene in without_resource(&scene) {
            assert_eq!(action(&scene.next()), None, "{:?}", scene.resource);
        }
    }
}

#[test]
fn no_timeout_marks_a_pod_ready_too_early() {
    let pending = |status| forwarding(&[80, 443]).with(|s| s.cloud.entries[1].status = status);
    let waiting = [
        Scene::new(auto()).with(|s| s.pod().ip = None),
        bound(auto(), eip(EipStatus::Available, None)),
        bound(auto(), eip(EipStatus::Associating, Some(POD_IP))),
        bound(auto(), eip(EipStatus::Available, None)).with(|s| s.cloud.eip = Lookup::Absent),
        pending(ForwardEntryStatus::Pending),
        pending(ForwardEntryStatus::Other),
        forwarding(&[80, 443]).with(|s| s.cloud.entries.truncate(1)),
    ];
    for scene in waiting {
        for hours in [0, 1, 24 * 365] {
            match scene.next_at(NOW + SignedDuration::from_hours(hours)) {
                Step::Publish(publication) => {
                    panic!("published after {hours} h of waiting: {publication:?}")
                }
                Step::Withdraw(withdrawal) => {
                    assert!(!withdrawal.status, "True after {hours} h of waiting: {withdrawal:?}");
                }
                _ => {}
            }
        }
    }
}

/// A pod with another UID has the name: the next pod of the same StatefulSet.
fn replaced(scene: &Scene, request: &Request) -> Scene {
    let controller = Some("StatefulSet/db".to_owned());
    scene.with(|s| {
        s.lease.controller.clone_from(&controller);
        s.pod = PodState::Absent;
        s.successor =
            Some(Successor { uid: PodUid::new("next"), controller, request: request.clone() });
    })
}

/// An unbound EIP is retained and passes to the successor.
fn check_retained_and_transferred(unbound: &Scene, seconds: Option<u64>) {
    assert_eq!(unbound.next(), Step::ClearTarget);
    let cleared = unbound.with(|s| s.lease.target = None);
    assert_eq!(cleared.next(), Step::Retain(seconds));
    let next = cleared.with(|s| s.lease.phase = Phase::Retained).next();
    assert!(
        matches!(&next, Step::TransferToSuccessor(successor) if successor.uid == PodUid::new("next")),
        "{next:?}"
    );
}

#[test]
fn a_uid_that_differs_frees_no_stateful_sets_eip() {
    let five_minutes = ReleaseStrategy::Ttl { seconds: 300, text: "5m".to_owned() };
    for (release, seconds) in [(ReleaseStrategy::Never, None), (five_minutes, Some(300))] {
        let request =
            Request::Eip(EipRequest { source: EipSource::Allocate(EipSpec::default()), release });
        let scene = in_use(request.clone());
        assert!(matches!(replaced(&scene.published(), &request).next(), Step::Withdraw(_)));
        let withdrawn = replaced(&scene, &request);
        assert_eq!(action(&withdrawn.next()), Some("UnassociateEipAddress"));
        check_retained_and_transferred(
            &withdrawn.with(|s| s.cloud.eip = Lookup::Present(eip(EipStatus::Available, None))),
            seconds,
        );
    }
}

#[test]
fn a_uid_that_differs_frees_no_stateful_sets_fixed_ports() {
    let Request::Dnat(mut request) = dnat::dnat_request(&[80]) else { panic!("another kind") };
    request.fixed = true;
    let request = Request::Dnat(request);
    let scene = forwarding(&[80]).with(|s| {
        s.lease.request = request.clone();
        s.pod().desired = Desired::Request(Box::new(request.clone()));
    });
    assert!(matches!(replaced(&scene.published(), &request).next(), Step::Withdraw(_)));
    let withdrawn = replaced(&scene, &request);
    assert_eq!(withdrawn.next(), Step::BeginHandover);
    let handed_over = withdrawn.with(|s| s.lease.handover_since = Some(NOW));
    assert!(
        matches!(handed_over.next(), Step::TransferToSuccessor(_)),
        "its entries are pointed at the next pod as they are: {:?}",
        handed_over.next()
    );
    // Without the right to modify entries the ports are retained all the same.
    let withdrawn = withdrawn.with(|s| s.cloud.gateway.modify_denied = true);
    assert_eq!(action(&withdrawn.next()), Some("DeleteForwardEntry"));
    let deleted = withdrawn.with(|s| {
        s.cloud.entries.clear();
        s.lease.ports[0].deleted = true;
    });
    check_retained_and_transferred(&deleted, None);
}

#[test]
fn what_a_deleted_cluster_leaves_in_the_cloud_says_whose_it_was() {
    let Step::QueueEipChange { change: Change::AllocateEipAddress { tags, .. }, .. } =
        Scene::new(auto()).next()
    else {
        panic!("no allocation")
    };
    let owners = [(TAG_STORE, OWNER.store), (TAG_CLUSTER, OWNER.cluster), (TAG_LEASE, LEASE.0)];
    assert_eq!(tags, owners.map(|(key, id)| (key.to_owned(), id.to_string())).into());
    let name = dnat::forward(&forwarding(&[80])).name;
    let named = read_entry_name(&name).map(|name| (name.owner, name.lease));
    assert_eq!(named, Some((OWNER, LEASE)), "{name}");
}
