//! Retention: unbound, retained, transferred to a successor, and ended by time or by a person.

use super::{NOW, Scene, action, eip, in_use, resource, waits};
use crate::cloud_facts::EipStatus;
use crate::condition::Reason;
use crate::ids::{AllocationId, PodUid};
use crate::lease::Phase;
use crate::plan::{
    CustomResourceContent, CustomResourceObject, CustomResourceState, Deletion, Desired, EndReason,
    Lookup, PodState, Step, Successor,
};
use crate::request::{DnatRequest, EipRequest, EipSource, EipSpec, ReleaseStrategy, Request};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

fn retained_for(release: ReleaseStrategy) -> Request {
    Request::Eip(EipRequest { source: EipSource::Allocate(EipSpec::default()), release })
}

fn five_minutes() -> Request {
    retained_for(ReleaseStrategy::Ttl { seconds: 300, text: "5m".to_owned() })
}

/// A retained EIP: unbound, with its custom resource as before.
fn retained() -> Scene {
    in_use(five_minutes()).with(|s| {
        (s.lease.phase, s.lease.target, s.pod) = (Phase::Retained, None, PodState::Absent);
        s.lease.retained_until = Some(NOW + SignedDuration::from_mins(5));
        s.cloud.eip = Lookup::Present(eip(EipStatus::Available, None));
    })
}

fn successor(controller: Option<&str>, request: Request) -> Successor {
    Successor { uid: PodUid::new("next"), controller: controller.map(str::to_owned), request }
}

#[test]
fn a_retained_eip_is_withdrawn_unbound_and_retained_for_its_time_then_ends() {
    let published = in_use(five_minutes()).published();
    for ended in
        [published.with(|s| s.pod = PodState::Absent), published.with(|s| s.pod().exited = true)]
    {
        assert!(matches!(ended.next(), Step::Withdraw(_)), "{:?}", ended.next());
    }
    let withdrawn = in_use(five_minutes()).with(|s| s.pod = PodState::Absent);
    assert_eq!(action(&withdrawn.next()), Some("UnassociateEipAddress"));
    let unbound =
        withdrawn.with(|s| s.cloud.eip = Lookup::Present(eip(EipStatus::Available, None)));
    assert_eq!(unbound.next(), Step::ClearTarget);
    assert_eq!(unbound.with(|s| s.lease.target = None).next(), Step::Retain(Some(300)));
    let for_ever = unbound.with(|s| {
        s.lease.target = None;
        s.lease.request = retained_for(ReleaseStrategy::Never);
    });
    assert_eq!(for_ever.next(), Step::Retain(None));

    assert_eq!(waits(&retained().next()), Some(Reason::RetainedForSuccessor));
    assert_eq!(
        retained().next_at(NOW + SignedDuration::from_mins(5)),
        Step::BeginRelease(EndReason::Expired)
    );
    assert_eq!(
        waits(
            &retained()
                .with(|s| s.lease.retained_until = None)
                .next_at(NOW + SignedDuration::from_hours(1))
        ),
        Some(Reason::RetainedForSuccessor)
    );
}

#[test]
fn a_retained_eip_that_one_read_does_not_show_is_unbound_and_not_released() {
    let unseen =
        in_use(five_minutes()).with(|s| (s.pod, s.cloud.eip) = (PodState::Absent, Lookup::Absent));
    assert_eq!(action(&unseen.next()), Some("UnassociateEipAddress"));
    let gone = unseen.with(|s| s.lease.eip = None).next();
    assert_eq!(
        gone,
        Step::BeginRelease(EndReason::PodGone),
        "the cloud's answer said that it is gone: nothing is left to retain"
    );
}

#[test]
fn where_nothing_was_obtained_nothing_is_retained() {
    let scene = Scene::new(five_minutes()).with(|s| s.pod = PodState::Absent);
    assert_eq!(scene.next(), Step::BeginRelease(EndReason::PodGone));
}

#[test]
fn a_pod_that_asks_no_more_leaves_nothing_to_be_retained() {
    let scene = in_use(five_minutes()).published().with(|s| s.pod().desired = Desired::Nothing);
    assert_eq!(scene.next(), Step::BeginRelease(EndReason::NotRequested));
}

#[test]
fn a_successor_of_the_same_controller_gets_a_retained_eip_and_no_other_does() {
    let scene = retained().with(|s| s.lease.controller = Some("StatefulSet/web".to_owned()));
    let next = successor(Some("StatefulSet/web"), five_minutes());
    assert_eq!(
        scene.with(|s| s.successor = Some(next.clone())).next(),
        Step::TransferToSuccessor(Box::new(next))
    );
    for other in
        [successor(Some("StatefulSet/other"), five_minutes()), successor(None, five_minutes())]
    {
        assert_eq!(
            waits(&scene.with(|s| s.successor = Some(other)).next()),
            Some(Reason::RetainedForSuccessor)
        );
    }
    let given = EipRequest {
        source: EipSource::Given(AllocationId::new("eip-2")),
        release: ReleaseStrategy::Follow,
    };
    let other_request = successor(Some("StatefulSet/web"), Request::Eip(given));
    assert_eq!(
        scene.with(|s| s.successor = Some(other_request)).next(),
        Step::BeginRelease(EndReason::RequestChanged)
    );
}

#[test]
fn a_retained_eip_goes_when_a_person_deletes_its_resource_and_not_when_an_uninstallation_does() {
    let removed = |removal| {
        retained().with(|s| {
            let CustomResourceState::Owned(object, _) = s.resource.clone() else {
                panic!("{:?}", s.resource)
            };
            s.resource = CustomResourceState::Owned(object, removal);
        })
    };
    assert_eq!(removed(Deletion::Requested).next(), Step::ReleaseRetained);
    assert_eq!(waits(&removed(Deletion::Cascaded).next()), Some(Reason::ReleasesLimited));
    // A deleted custom resource ends nothing while the pod lives.
    let live = in_use(five_minutes()).published().with(|s| {
        let CustomResourceState::Owned(object, _) = s.resource.clone() else {
            panic!("{:?}", s.resource)
        };
        s.resource = CustomResourceState::Owned(object, Deletion::Requested);
    });
    assert_eq!(waits(&live.next()), Some(Reason::EipAssociated));
}

#[test]
fn a_successors_custom_resource_names_the_successor() {
    let scene = in_use(five_minutes()).with(|s| s.lease.pod_uid = PodUid::new("next"));
    let Step::WriteCustomResource(content) = scene.next() else { panic!("{:?}", scene.next()) };
    assert!(matches!(resource(&content), CustomResourceState::Owned(..)));
}

#[test]
fn a_running_pods_new_bandwidth_updates_the_request_and_then_the_eip() {
    let wider = || {
        let spec = EipSpec { bandwidth: 50, ..EipSpec::default() };
        Request::Eip(EipRequest {
            source: EipSource::Allocate(spec),
            release: ReleaseStrategy::Follow,
        })
    };
    let widened = in_use(super::auto())
        .published()
        .with(|s| s.pod().desired = Desired::Request(Box::new(wider())));
    assert_eq!(widened.next(), Step::UpdateRequest(Box::new(wider())));
    assert_eq!(
        action(&widened.with(|s| s.lease.request = wider()).next()),
        Some("ModifyEipAddressAttribute")
    );
}

/// A stateful pod's fixed ports, forwarding; the pod is gone and the address withdrawn.
fn fixed_and_gone() -> Scene {
    super::dnat::forwarding(&[80]).with(|s| {
        let Request::Dnat(asked) = super::dnat::dnat_request(&[80]) else {
            panic!("ports are asked for")
        };
        s.lease.request = Request::Dnat(DnatRequest { fixed: true, ..asked });
        s.pod = PodState::Absent;
    })
}

#[test]
fn fixed_entries_stay_for_a_successor_that_comes_soon_and_are_deleted_for_one_that_does_not() {
    assert_eq!(fixed_and_gone().next(), Step::BeginHandover);
    let handed_over = fixed_and_gone().with(|s| s.lease.handover_since = Some(NOW));
    assert_eq!(waits(&handed_over.next()), Some(Reason::RetainedForSuccessor));
    let next = successor(None, handed_over.lease.request.clone());
    assert_eq!(
        handed_over.with(|s| s.successor = Some(next.clone())).next(),
        Step::TransferToSuccessor(Box::new(next))
    );
    assert_eq!(
        action(&handed_over.next_at(NOW + SignedDuration::from_secs(15))),
        Some("DeleteForwardEntry")
    );
    // A pod of another controller inherits no entries, nor does a pod that asks for other ports.
    let of_another_controller =
        successor(Some("StatefulSet/other"), handed_over.lease.request.clone());
    assert_eq!(
        waits(&handed_over.with(|s| s.successor = Some(of_another_controller)).next()),
        Some(Reason::RetainedForSuccessor)
    );
    let other_ports = successor(None, super::dnat::dnat_request(&[81]));
    assert_eq!(
        action(&handed_over.with(|s| s.successor = Some(other_ports)).next()),
        Some("DeleteForwardEntry")
    );
    let denied = fixed_and_gone().with(|s| s.cloud.gateway.modify_denied = true);
    assert_eq!(action(&denied.next()), Some("DeleteForwardEntry"));
    // A pod that has exited may never have a successor.
    let exited = super::dnat::forwarding(&[80]).with(|s| {
        s.lease.request = fixed_and_gone().lease.request;
        s.pod().exited = true;
    });
    assert_eq!(action(&exited.next()), Some("DeleteForwardEntry"));
}

#[test]
fn inherited_entries_are_pointed_at_the_successor_and_do_not_wait_for_its_ip_for_ever() {
    let request = fixed_and_gone().lease.request;
    let inherited = super::dnat::forwarding(&[80]).with(|s| {
        s.lease.target = Some(super::target(super::FORMER_IP));
        s.cloud.entries = vec![super::dnat::entry(super::LEASE, 1, 80, super::FORMER_IP)];
        (s.lease.request, s.lease.handover_since) = (request.clone(), Some(NOW));
        s.pod().desired = Desired::Request(Box::new(request));
        s.cloud.eni = Lookup::Present(super::eni());
    });
    assert!(matches!(inherited.next(), Step::SetTarget(_)), "{:?}", inherited.next());
    let targeted = inherited
        .with(|s| (s.lease.target, s.lease.generation) = (Some(super::target(super::POD_IP)), 2));
    assert_eq!(action(&targeted.next()), Some("ModifyForwardEntry"));

    let slow = inherited.with(|s| s.pod().ip = None);
    assert_eq!(waits(&slow.next()), Some(Reason::WaitingForPodIp));
    assert_eq!(
        action(&slow.next_at(NOW + SignedDuration::from_secs(15))),
        Some("DeleteForwardEntry")
    );
}

#[test]
fn what_never_had_a_custom_resource_is_not_retained() {
    let scene = in_use(five_minutes()).with(|s| {
        (s.pod, s.lease.target, s.lease.owns_custom_resource) = (PodState::Absent, None, false);
        s.cloud.eip = Lookup::Present(eip(EipStatus::Available, None));
    });
    assert_eq!(
        scene.next(),
        Step::BeginRelease(EndReason::PodGone),
        "never published, and without a resource no person could release it"
    );
    let another = scene.with(|s| {
        (s.lease.owns_custom_resource, s.resource) =
            (true, CustomResourceState::OtherLease { message: "another lease's".to_owned() });
    });
    assert_eq!(another.next(), Step::BeginRelease(EndReason::PodGone), "its own was never written");
}

#[test]
fn what_is_being_given_back_for_want_of_room_is_not_retained() {
    assert_eq!(
        fixed_and_gone().with(|s| s.lease.vacating = true).next(),
        Step::BeginRelease(EndReason::PodGone)
    );
}

#[test]
fn what_is_retained_has_a_custom_resource_by_which_people_release_it() {
    let away = retained().with(|s| s.resource = CustomResourceState::Absent);
    let Step::WriteCustomResource(content) = away.next() else { panic!("{:?}", away.next()) };
    assert!(matches!(&content, CustomResourceContent::Eip { status: None, .. }));
    assert_eq!(
        away.next_at(NOW + SignedDuration::from_mins(5)),
        Step::BeginRelease(EndReason::Expired)
    );
    let nothing = away.with(|s| s.lease.eip = None);
    assert_eq!(
        nothing.next(),
        Step::BeginRelease(EndReason::PodGone),
        "there is nothing left to retain"
    );
    let ports = super::dnat::forwarding(&[80]).with(|s| {
        s.lease.request =
            Request::Dnat(DnatRequest { ports: vec![], fixed: true, same_port: false });
        (s.lease.phase, s.lease.target, s.pod, s.resource) =
            (Phase::Retained, None, PodState::Absent, CustomResourceState::Absent);
    });
    let Step::WriteCustomResource(CustomResourceContent::Dnat { spec, .. }) = ports.next() else {
        panic!("{:?}", ports.next())
    };
    assert_eq!((spec.internal_ip, spec.port_mapping.map_or(0, |ports| ports.len())), (None, 1));
}

#[test]
fn a_custom_resource_that_went_with_its_pod_releases_nothing() {
    let collected = |owner: Option<&str>| {
        retained().with(|s| {
            let CustomResourceState::Owned(mut object, _) = s.resource.clone() else {
                panic!("{:?}", s.resource)
            };
            let CustomResourceObject::Eip(eip) = &mut object else { panic!("{object:?}") };
            let owner = owner
                .map(|kind| OwnerReference { kind: kind.to_owned(), ..OwnerReference::default() });
            eip.metadata.owner_references = owner.map(|owner| vec![owner]);
            s.resource = CustomResourceState::Owned(object, Deletion::Requested);
        })
    };
    assert_eq!(
        collected(Some("Pod")).next(),
        Step::RemoveCustomResource,
        "and the next one, without an owner, follows"
    );
    for owner in [None, Some("Tenant")] {
        assert_eq!(collected(owner).next(), Step::ReleaseRetained);
    }
}
