//! Order of a release: withdrawn before unbound, unbound before released, released before the
//! custom resource is removed.

use super::{NOW, POD_IP, Scene, action, auto, bound, eip, given, in_use, waits};
use crate::cloud_facts::{Eip, EipStatus, ForwardEntryStatus};
use crate::condition::Reason;
use crate::ids::BandwidthPackageId;
use crate::lease::Phase;
use crate::plan::tests::dnat::{dnat_request, forwarding};
use crate::plan::{CustomResourceState, Desired, EndReason, Lookup, PodState, Step};
use crate::request::{EipRequest, EipSource, EipSpec, ReleaseStrategy, Request};
use jiff::SignedDuration;

fn in_release(scene: &Scene) -> Scene {
    scene.with(|s| {
        s.lease.phase = Phase::Releasing;
        s.pod = PodState::Absent;
    })
}

/// The same scene after the withdrawal of the published address.
fn withdrawn(published: &Scene, unpublished: &Scene) -> Scene {
    assert!(
        matches!(in_release(published).next(), Step::Withdraw(_)),
        "withdrawal comes first: {:?}",
        in_release(published).next()
    );
    in_release(unpublished)
}

#[test]
fn a_lease_ends_when_its_pod_is_gone_has_exited_or_asks_no_more() {
    let live = in_use(auto()).published();
    assert_eq!(
        live.with(|s| s.pod = PodState::Absent).next(),
        Step::BeginRelease(EndReason::PodGone)
    );
    assert_eq!(
        live.with(|s| s.pod().exited = true).next(),
        Step::BeginRelease(EndReason::PodExited)
    );
    assert_eq!(
        live.with(|s| s.pod().desired = Desired::Nothing).next(),
        Step::BeginRelease(EndReason::NotRequested)
    );
    assert_eq!(
        live.with(|s| s.pod().desired = Desired::Request(Box::new(given()))).next(),
        Step::BeginRelease(EndReason::RequestChanged)
    );
    let ports = forwarding(&[80]);
    assert_eq!(
        ports.with(|s| s.pod().desired = Desired::Request(Box::new(dnat_request(&[81])))).next(),
        Step::BeginRelease(EndReason::RequestChanged)
    );
}

#[test]
fn a_managed_eip_is_withdrawn_unbound_released_and_then_its_resource_goes() {
    let scene = withdrawn(&in_use(auto()).published(), &in_use(auto()));
    assert_eq!(action(&scene.next()), Some("UnassociateEipAddress"));
    let unbound = scene.with(|s| s.cloud.eip = Lookup::Present(eip(EipStatus::Available, None)));
    assert_eq!(unbound.next(), Step::ClearTarget);
    let cleared = unbound.with(|s| s.lease.target = None);
    assert_eq!(action(&cleared.next()), Some("ReleaseEipAddress"));
    let releasing =
        cleared.with(|s| s.cloud.eip = Lookup::Present(eip(EipStatus::Releasing, None)));
    assert_eq!(waits(&releasing.next()), Some(Reason::EipChanging));
    assert_eq!(
        action(&cleared.with(|s| s.cloud.eip = Lookup::Absent).next()),
        Some("ReleaseEipAddress"),
        "only its 404 is proof"
    );
    let released = cleared.with(|s| (s.lease.eip, s.cloud.eip) = (None, Lookup::NotRead));
    assert_eq!(released.next(), Step::RemoveCustomResource);
    // The cloud accepted the release: a read after that is proof enough, and one that still shows
    // the EIP is given time, but not for ever.
    let accepted = cleared.with(|s| {
        s.lease.eip.as_mut().expect("an EIP").release_accepted_at = Some(NOW);
    });
    assert_eq!(accepted.with(|s| s.cloud.eip = Lookup::Absent).next(), Step::ForgetEip);
    assert_eq!(
        action(&accepted.with(|s| s.cloud.eip = Lookup::NotRead).next()),
        Some("ReleaseEipAddress")
    );
    assert_eq!(waits(&accepted.next()), Some(Reason::EipChanging));
    assert_eq!(
        action(&accepted.next_at(NOW + SignedDuration::from_secs(31))),
        Some("ReleaseEipAddress")
    );
    assert_eq!(
        released.with(|s| s.resource = CustomResourceState::Absent).next(),
        Step::DeleteLease
    );
    let theirs = CustomResourceState::OtherLease { message: "theirs".to_owned() };
    assert_eq!(released.with(|s| s.resource = theirs).next(), Step::DeleteLease);
}

#[test]
fn a_given_eip_is_unbound_and_neither_released_nor_modified() {
    let scene = withdrawn(&in_use(given()).published(), &in_use(given()));
    assert_eq!(action(&scene.next()), Some("UnassociateEipAddress"));
    let member = Eip {
        bandwidth_package: Some(BandwidthPackageId::new("cbwp-1")),
        ..eip(EipStatus::Available, None)
    };
    let unbound = scene.with(|s| s.cloud.eip = Lookup::Present(member));
    assert_eq!(unbound.next(), Step::ClearTarget);
    assert_eq!(unbound.with(|s| s.lease.target = None).next(), Step::ForgetEip);
    let vanished = scene.with(|s| (s.cloud.eip, s.lease.target) = (Lookup::Absent, None));
    assert_eq!(vanished.next(), Step::ForgetEip);
}

#[test]
fn an_eip_leaves_its_package_before_it_is_released_and_a_prepaid_one_stays() {
    let package = Some(BandwidthPackageId::new("cbwp-1"));
    let spec = EipSpec { bandwidth_package: package.clone(), ..EipSpec::default() };
    let request = Request::Eip(EipRequest {
        source: EipSource::Allocate(spec),
        release: ReleaseStrategy::Follow,
    });
    let free = |shown| {
        in_release(&in_use(auto())).with(|s| {
            s.lease.request = request.clone();
            s.lease.target = None;
            s.cloud.eip = Lookup::Present(shown);
        })
    };
    let member = Eip { bandwidth_package: package, ..eip(EipStatus::Available, None) };
    assert_eq!(action(&free(member).next()), Some("RemoveCommonBandwidthPackageIp"));
    assert_eq!(action(&free(eip(EipStatus::Available, None)).next()), Some("ReleaseEipAddress"));
    let prepaid = Eip { charge_type: "PrePaid".to_owned(), ..eip(EipStatus::Available, None) };
    let without_resource = free(prepaid).with(|s| {
        (s.resource, s.lease.owns_custom_resource) = (CustomResourceState::Absent, false);
    });
    assert_eq!(waits(&without_resource.next()), Some(Reason::PrePaidNotReleased));
}

#[test]
fn an_eip_that_is_still_changing_is_waited_for() {
    for status in [EipStatus::Associating, EipStatus::Unassociating, EipStatus::Other] {
        let scene = in_release(&bound(auto(), eip(status, Some(POD_IP))));
        assert_eq!(waits(&scene.next()), Some(Reason::EipChanging), "{status:?}");
        assert_eq!(
            waits(&scene.with(|s| s.lease.target = None).next()),
            Some(Reason::EipChanging),
            "{status:?}"
        );
    }
}

#[test]
fn ports_are_withdrawn_deleted_proven_gone_cooled_down_and_then_their_resource_goes() {
    let scene = withdrawn(&forwarding(&[80, 443]).published(), &forwarding(&[80, 443]));
    assert_eq!(action(&scene.next()), Some("DeleteForwardEntry"));
    let first_going = scene.with(|s| s.cloud.entries[0].status = ForwardEntryStatus::Deleting);
    let Step::QueueChanges { requests, .. } = first_going.next() else {
        panic!("{:?}", first_going.next())
    };
    assert_eq!(
        requests.iter().map(|request| request.resource.as_str()).collect::<Vec<_>>(),
        ["fwd-443"],
        "one that changes holds up no other"
    );
    let all_going = first_going.with(|s| s.cloud.entries[1].status = ForwardEntryStatus::Deleting);
    assert_eq!(waits(&all_going.next()), Some(Reason::EntriesPending));

    let unlisted = scene.with(|s| s.cloud.entries.clear());
    assert_eq!(
        action(&unlisted.next()),
        Some("DeleteForwardEntry"),
        "not to be listed is no proof"
    );
    let deleted = unlisted.with(|s| s.lease.ports.iter_mut().for_each(|port| port.deleted = true));
    assert_eq!(deleted.next(), Step::ClearTarget);
    let cleared = deleted.with(|s| s.lease.target = None);
    assert!(matches!(cleared.next(), Step::CoolDownPorts(_)));
    assert_eq!(cleared.with(|s| s.lease.ports.clear()).next(), Step::RemoveCustomResource);
}

#[test]
fn a_pod_that_asks_for_nothing_gets_its_condition_and_one_that_asks_again_keeps_its_new_address() {
    let asks_nothing = in_use(auto()).published().with(|s| {
        s.lease.phase = Phase::Releasing;
        s.pod().desired = Desired::Nothing;
    });
    let Step::Withdraw(withdrawal) = asks_nothing.next() else {
        panic!("{:?}", asks_nothing.next())
    };
    assert_eq!((withdrawal.status, withdrawal.reason), (true, Reason::NotRequested));

    // The pod's next lease has published; the old one, which never did, must not withdraw that.
    let replaced = Scene::new(auto()).with(|s| {
        s.lease.phase = Phase::Releasing;
        s.pod().desired = Desired::Request(Box::new(given()));
        s.pod().annotation = Some("203.0.113.9".to_owned());
        s.resource = CustomResourceState::OtherLease { message: "the next lease's".to_owned() };
    });
    assert_eq!(replaced.next(), Step::DeleteLease);
}

#[test]
fn a_lease_that_holds_something_ends_after_two_looks_without_its_pod() {
    for held in [in_use(auto()).published(), forwarding(&[80])] {
        let missing = held.with(|s| s.pod = PodState::NotFound);
        assert_eq!(waits(&missing.next()), Some(Reason::PodMissing), "one look proves nothing");
        let since = |seconds| {
            let since = NOW - SignedDuration::from_secs(seconds);
            missing.with(|s| s.lease.pod_missing_since = Some(since)).next()
        };
        assert_eq!(waits(&since(2)), Some(Reason::PodMissing), "too close to the first");
        assert_eq!(since(3), Step::BeginRelease(EndReason::PodGone));
        let replaced = held.with(|s| s.pod = PodState::Absent);
        assert_eq!(replaced.next(), Step::BeginRelease(EndReason::PodGone), "another has its name");
    }
    let empty = Scene::new(auto()).with(|s| s.pod = PodState::NotFound);
    assert_eq!(empty.next(), Step::BeginRelease(EndReason::PodGone), "nothing is lost with it");
}
