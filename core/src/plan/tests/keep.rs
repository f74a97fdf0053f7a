//! Retention: unbound, retained, transferred to a successor, and ended by time or by a person.

use super::{NOW, Scene, action, eip, in_use, resource, waits};
use crate::condition::Reason;
use crate::facts::EipStatus;
use crate::ids::{AllocationId, PodUid};
use crate::lease::Phase;
use crate::plan::{
    Asks, Content, EndReason, Object, PodFact, Removal, ResourceFact, Seen, Step, Successor,
};
use crate::request::{DnatRequest, EipRequest, EipSource, EipSpec, ReleaseStrategy, Request};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

fn kept_for(release: ReleaseStrategy) -> Request {
    Request::Eip(EipRequest { source: EipSource::Allocate(EipSpec::default()), release })
}

fn five_minutes() -> Request {
    kept_for(ReleaseStrategy::Ttl { seconds: 300, text: "5m".to_owned() })
}

/// A retained EIP: unbound, with its custom resource as before.
fn kept() -> Scene {
    in_use(five_minutes()).with(|s| {
        (s.lease.phase, s.lease.target, s.pod) = (Phase::Kept, None, PodFact::Gone);
        s.lease.ends_at = Some(NOW + SignedDuration::from_mins(5));
        s.cloud.eip = Seen::There(eip(EipStatus::Available, None));
    })
}

fn successor(controller: Option<&str>, request: Request) -> Successor {
    Successor { uid: PodUid::new("next"), controller: controller.map(str::to_owned), request }
}

#[test]
fn a_kept_eip_is_withdrawn_unbound_and_kept_for_its_time_then_ends() {
    let published = in_use(five_minutes()).published();
    for parted in
        [published.with(|s| s.pod = PodFact::Gone), published.with(|s| s.pod().exited = true)]
    {
        assert!(matches!(parted.next(), Step::Withdraw(_)), "{:?}", parted.next());
    }
    let withdrawn = in_use(five_minutes()).with(|s| s.pod = PodFact::Gone);
    assert_eq!(action(&withdrawn.next()), Some("UnassociateEipAddress"));
    let unbound = withdrawn.with(|s| s.cloud.eip = Seen::There(eip(EipStatus::Available, None)));
    assert_eq!(unbound.next(), Step::ClearTarget);
    assert_eq!(unbound.with(|s| s.lease.target = None).next(), Step::Keep(Some(300)));
    let for_ever = unbound.with(|s| {
        s.lease.target = None;
        s.lease.request = kept_for(ReleaseStrategy::Never);
    });
    assert_eq!(for_ever.next(), Step::Keep(None));

    assert_eq!(waits(&kept().next()), Some(Reason::Kept));
    assert_eq!(kept().next_at(NOW + SignedDuration::from_mins(5)), Step::End(EndReason::Expired));
    assert_eq!(
        waits(
            &kept().with(|s| s.lease.ends_at = None).next_at(NOW + SignedDuration::from_hours(1))
        ),
        Some(Reason::Kept)
    );
}

#[test]
fn a_kept_eip_that_one_read_does_not_show_is_unbound_and_not_released() {
    let unseen =
        in_use(five_minutes()).with(|s| (s.pod, s.cloud.eip) = (PodFact::Gone, Seen::Absent));
    assert_eq!(action(&unseen.next()), Some("UnassociateEipAddress"));
    let gone = unseen.with(|s| s.lease.eip = None).next();
    assert_eq!(
        gone,
        Step::End(EndReason::PodGone),
        "the cloud's answer said that it is gone: nothing is left to keep"
    );
}

#[test]
fn nothing_that_was_obtained_nothing_is_kept() {
    let scene = Scene::new(five_minutes()).with(|s| s.pod = PodFact::Gone);
    assert_eq!(scene.next(), Step::End(EndReason::PodGone));
}

#[test]
fn a_pod_that_asks_no_more_leaves_nothing_to_be_kept() {
    let scene = in_use(five_minutes()).published().with(|s| s.pod().asks = Asks::Nothing);
    assert_eq!(scene.next(), Step::End(EndReason::NotRequested));
}

#[test]
fn a_successor_of_the_same_controller_gets_a_kept_eip_and_no_other_does() {
    let scene = kept().with(|s| s.lease.controller = Some("StatefulSet/web".to_owned()));
    let next = successor(Some("StatefulSet/web"), five_minutes());
    assert_eq!(
        scene.with(|s| s.successor = Some(next.clone())).next(),
        Step::Succeed(Box::new(next))
    );
    for stranger in
        [successor(Some("StatefulSet/other"), five_minutes()), successor(None, five_minutes())]
    {
        assert_eq!(waits(&scene.with(|s| s.successor = Some(stranger)).next()), Some(Reason::Kept));
    }
    let given = EipRequest {
        source: EipSource::Given(AllocationId::new("eip-2")),
        release: ReleaseStrategy::Follow,
    };
    let other_wish = successor(Some("StatefulSet/web"), Request::Eip(given));
    assert_eq!(
        scene.with(|s| s.successor = Some(other_wish)).next(),
        Step::End(EndReason::RequestChanged)
    );
}

#[test]
fn a_kept_eip_goes_when_a_person_deletes_its_resource_and_not_when_an_uninstallation_does() {
    let removed = |removal| {
        kept().with(|s| {
            let ResourceFact::Mine(object, _) = s.resource.clone() else {
                panic!("{:?}", s.resource)
            };
            s.resource = ResourceFact::Mine(object, removal);
        })
    };
    assert_eq!(removed(Removal::Asked).next(), Step::ReleaseKept);
    assert_eq!(waits(&removed(Removal::Swept).next()), Some(Reason::ReleaseHeld));
    // A deleted custom resource ends nothing while the pod lives.
    let live = in_use(five_minutes()).published().with(|s| {
        let ResourceFact::Mine(object, _) = s.resource.clone() else { panic!("{:?}", s.resource) };
        s.resource = ResourceFact::Mine(object, Removal::Asked);
    });
    assert_eq!(waits(&live.next()), Some(Reason::EipAssociated));
}

#[test]
fn a_successors_custom_resource_names_the_successor() {
    let scene = in_use(five_minutes()).with(|s| s.lease.pod_uid = PodUid::new("next"));
    let Step::WriteResource(content) = scene.next() else { panic!("{:?}", scene.next()) };
    assert!(matches!(resource(&content), ResourceFact::Mine(..)));
}

#[test]
fn a_running_pods_new_bandwidth_is_taken_over_and_asked_for() {
    let wider = || {
        let spec = EipSpec { bandwidth: 50, ..EipSpec::default() };
        Request::Eip(EipRequest {
            source: EipSource::Allocate(spec),
            release: ReleaseStrategy::Follow,
        })
    };
    let asks =
        in_use(super::auto()).published().with(|s| s.pod().asks = Asks::For(Box::new(wider())));
    assert_eq!(asks.next(), Step::Adjust(Box::new(wider())));
    assert_eq!(
        action(&asks.with(|s| s.lease.request = wider()).next()),
        Some("ModifyEipAddressAttribute")
    );
}

/// A stateful pod's fixed ports, forwarding; the pod is gone and the address withdrawn.
fn fixed_and_gone() -> Scene {
    super::dnat::forwarding(&[80]).with(|s| {
        let Request::Dnat(asked) = super::dnat::asks(&[80]) else { panic!("ports are asked for") };
        s.lease.request = Request::Dnat(DnatRequest { fixed: true, ..asked });
        s.pod = PodFact::Gone;
    })
}

#[test]
fn fixed_entries_stand_for_a_successor_that_comes_soon_and_are_deleted_for_one_that_does_not() {
    assert_eq!(fixed_and_gone().next(), Step::Part);
    let parted = fixed_and_gone().with(|s| s.lease.parted_at = Some(NOW));
    assert_eq!(waits(&parted.next()), Some(Reason::Kept));
    let next = successor(None, parted.lease.request.clone());
    assert_eq!(
        parted.with(|s| s.successor = Some(next.clone())).next(),
        Step::Succeed(Box::new(next))
    );
    assert_eq!(
        action(&parted.next_at(NOW + SignedDuration::from_secs(15))),
        Some("DeleteForwardEntry")
    );
    // A pod of another controller inherits no entries, nor does a pod that asks for other ports.
    let stranger = successor(Some("StatefulSet/other"), parted.lease.request.clone());
    assert_eq!(waits(&parted.with(|s| s.successor = Some(stranger)).next()), Some(Reason::Kept));
    let other = successor(None, super::dnat::asks(&[81]));
    assert_eq!(
        action(&parted.with(|s| s.successor = Some(other)).next()),
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
        (s.lease.request, s.lease.parted_at) = (request.clone(), Some(NOW));
        s.pod().asks = Asks::For(Box::new(request));
        s.cloud.eni = Seen::There(super::eni());
    });
    assert!(matches!(inherited.next(), Step::SetTarget(_)), "{:?}", inherited.next());
    let aimed = inherited
        .with(|s| (s.lease.target, s.lease.generation) = (Some(super::target(super::POD_IP)), 2));
    assert_eq!(action(&aimed.next()), Some("ModifyForwardEntry"));

    let slow = inherited.with(|s| s.pod().ip = None);
    assert_eq!(waits(&slow.next()), Some(Reason::WaitingForPodIp));
    assert_eq!(
        action(&slow.next_at(NOW + SignedDuration::from_secs(15))),
        Some("DeleteForwardEntry")
    );
}

#[test]
fn what_never_had_a_custom_resource_is_not_kept() {
    let scene = in_use(five_minutes()).with(|s| {
        (s.pod, s.lease.target, s.lease.resource) = (PodFact::Gone, None, false);
        s.cloud.eip = Seen::There(eip(EipStatus::Available, None));
    });
    assert_eq!(
        scene.next(),
        Step::End(EndReason::PodGone),
        "never published, and without a resource no person could release it"
    );
    let another = scene.with(|s| {
        (s.lease.resource, s.resource) =
            (true, ResourceFact::Another { what: "another lease's".to_owned() });
    });
    assert_eq!(another.next(), Step::End(EndReason::PodGone), "its own was never written");
}

#[test]
fn what_is_being_given_back_for_want_of_room_is_not_kept() {
    assert_eq!(
        fixed_and_gone().with(|s| s.lease.spilling = true).next(),
        Step::End(EndReason::PodGone)
    );
}

#[test]
fn what_is_kept_has_a_custom_resource_by_which_people_release_it() {
    let away = kept().with(|s| s.resource = ResourceFact::Absent);
    let Step::WriteResource(content) = away.next() else { panic!("{:?}", away.next()) };
    assert!(matches!(&content, Content::Eip { status: None, .. }));
    assert_eq!(away.next_at(NOW + SignedDuration::from_mins(5)), Step::End(EndReason::Expired));
    let nothing = away.with(|s| s.lease.eip = None);
    assert_eq!(nothing.next(), Step::End(EndReason::PodGone), "there is nothing left to keep");
    let ports = super::dnat::forwarding(&[80]).with(|s| {
        s.lease.request =
            Request::Dnat(DnatRequest { ports: vec![], fixed: true, same_port: false });
        (s.lease.phase, s.lease.target, s.pod, s.resource) =
            (Phase::Kept, None, PodFact::Gone, ResourceFact::Absent);
    });
    let Step::WriteResource(Content::Dnat { spec, .. }) = ports.next() else {
        panic!("{:?}", ports.next())
    };
    assert_eq!((spec.internal_ip, spec.port_mapping.map_or(0, |ports| ports.len())), (None, 1));
}

#[test]
fn a_custom_resource_that_went_with_its_pod_releases_nothing() {
    let collected = |owner: Option<&str>| {
        kept().with(|s| {
            let ResourceFact::Mine(mut object, _) = s.resource.clone() else {
                panic!("{:?}", s.resource)
            };
            let Object::Eip(eip) = &mut object else { panic!("{object:?}") };
            let owner = owner
                .map(|kind| OwnerReference { kind: kind.to_owned(), ..OwnerReference::default() });
            eip.metadata.owner_references = owner.map(|owner| vec![owner]);
            s.resource = ResourceFact::Mine(object, Removal::Asked);
        })
    };
    assert_eq!(
        collected(Some("Pod")).next(),
        Step::RemoveResource,
        "and the next one, without an owner, follows"
    );
    for meant in [None, Some("Tenant")] {
        assert_eq!(collected(meant).next(), Step::ReleaseKept);
    }
}
