//! Dedicated EIPs on the way to their pod, and the obstacles to their publication.

use super::{
    FORMER_IP, POD_IP, PUBLIC_IP, Scene, action, auto, bound, eip, eni, given, in_use, target,
    waits,
};
use crate::change::Change;
use crate::cloud_facts::{Eip, EipBinding, EipStatus};
use crate::condition::Reason;
use crate::ids::{AllocationId, BandwidthPackageId};
use crate::lease::{LeasedEip, Phase};
use crate::plan::{CustomResourceState, Desired, Lookup, Step};
use crate::request::{EipRequest, EipSource, EipSpec, ReleaseStrategy, Request};

fn leased(managed: bool) -> LeasedEip {
    LeasedEip {
        allocation_id: AllocationId::new("eip-1"),
        ip_address: PUBLIC_IP,
        managed,
        release_accepted_at: None,
    }
}

#[test]
fn an_eip_is_allocated_with_the_tags_that_find_it_again() {
    let Step::QueueEipChange { change: Change::AllocateEipAddress { tags, .. }, .. } =
        Scene::new(auto()).next()
    else {
        panic!()
    };
    assert_eq!(tags.get("waygate.dev/lease"), Some(&super::LEASE.to_string()));
}

#[test]
fn a_given_eip_is_taken_once_it_is_seen() {
    let scene = Scene::new(given());
    assert_eq!(
        waits(&scene.with(|s| s.cloud.eip = Lookup::Absent).next()),
        Some(Reason::EipNotFound)
    );
    let seen = scene.with(|s| s.cloud.eip = Lookup::Present(eip(EipStatus::Available, None)));
    let Step::AdoptEip(candidates, _) = seen.next() else { panic!("{:?}", seen.next()) };
    assert_eq!(candidates, [(AllocationId::new("eip-1"), PUBLIC_IP)]);
}

#[test]
fn the_steps_of_an_eip_are_target_resource_bind_publish_idle() {
    let scene = Scene::new(auto()).with(|s| {
        s.lease.eip = Some(leased(true));
        s.cloud.eip = Lookup::Present(eip(EipStatus::Available, None));
    });
    assert_eq!(waits(&scene.with(|s| s.pod().ip = None).next()), Some(Reason::WaitingForPodIp));
    assert_eq!(
        waits(&scene.with(|s| s.cloud.eni = Lookup::Absent).next()),
        Some(Reason::WaitingForInterface)
    );
    assert_eq!(
        scene.with(|s| s.cloud.eni = Lookup::Present(eni())).next(),
        Step::SetTarget(target(POD_IP))
    );

    let targeted = scene.with(|s| s.lease.target = Some(target(POD_IP)));
    assert_eq!(targeted.next(), Step::OwnCustomResource);
    let owning = targeted.with(|s| s.lease.owns_custom_resource = true);
    assert!(
        matches!(owning.next(), Step::WriteCustomResource(_)),
        "nothing is bound before the custom resource is written"
    );
    let taken = owning
        .with(|s| s.resource = CustomResourceState::OtherLease { message: "theirs".to_owned() });
    assert_eq!(waits(&taken.next()), Some(Reason::CustomResourceTaken));
    assert_eq!(
        owning.with(|s| s.resource = CustomResourceState::Orphaned).next(),
        Step::RemoveCustomResource
    );

    assert_eq!(
        action(&bound(auto(), eip(EipStatus::Available, None)).next()),
        Some("AssociateEipAddress")
    );
    let published = in_use(auto()).published();
    assert_eq!(waits(&published.next()), Some(Reason::EipAssociated));
}

#[test]
fn ready_is_not_written_though_a_bind_failed() {
    let elsewhere = |kind: &str, id: &str| Eip {
        binding: Some(EipBinding {
            instance_type: kind.to_owned(),
            instance_id: id.to_owned(),
            private_ip: Some(POD_IP),
        }),
        ..eip(EipStatus::InUse, None)
    };
    let shown = [
        eip(EipStatus::Available, None),
        eip(EipStatus::Associating, Some(POD_IP)),
        eip(EipStatus::Unassociating, Some(POD_IP)),
        eip(EipStatus::Releasing, None),
        eip(EipStatus::Other, Some(POD_IP)),
        eip(EipStatus::InUse, None),
        eip(EipStatus::InUse, Some(FORMER_IP)),
        elsewhere("NetworkInterface", "eni-2"),
        elsewhere("Nat", "ngw-1"),
    ];
    for shown in shown {
        let step = bound(auto(), shown.clone()).next();
        assert!(!matches!(step, Step::Publish(_)), "{shown:?}: {step:?}");
    }
    // For an interface's primary address the API shows no address: the binding is the lease's only
    // if its target is the primary address.
    let unsaid = Eip {
        binding: in_use(auto()).cloud_eip().binding.map(|b| EipBinding { private_ip: None, ..b }),
        ..eip(EipStatus::InUse, None)
    };
    assert!(!matches!(bound(auto(), unsaid.clone()).next(), Step::Publish(_)));
    let primary = bound(auto(), unsaid)
        .with(|s| s.lease.target = Some(crate::lease::Target { primary: true, ..target(POD_IP) }));
    assert!(matches!(primary.next(), Step::Publish(_)));
}

impl Scene {
    fn cloud_eip(&self) -> Eip {
        if let Lookup::Present(eip) = &self.cloud.eip {
            eip.clone()
        } else {
            panic!("no EIP was seen")
        }
    }
}

#[test]
fn the_gate_goes_false_again_when_a_published_eip_is_lost() {
    let published = in_use(auto()).published();
    for shown in [
        Lookup::Present(eip(EipStatus::Available, None)),
        Lookup::Present(eip(EipStatus::InUse, Some(FORMER_IP))),
        Lookup::Absent,
    ] {
        let missing = published.with(|s| s.cloud.eip = shown.clone());
        assert_eq!(missing.next(), Step::CountMissedRead, "{shown:?}");
        let missed_twice = missing.with(|s| s.lease.missed_reads = 1);
        let Step::Withdraw(withdrawal) = missed_twice.next() else {
            panic!("{shown:?}: {:?}", missed_twice.next())
        };
        assert_eq!((withdrawal.status, withdrawal.reason), (false, Reason::AddressLost));
    }
    let withdrawn =
        bound(auto(), eip(EipStatus::Available, None)).with(|s| s.lease.missed_reads = 0);
    assert_eq!(action(&withdrawn.next()), Some("AssociateEipAddress"));
    // The EIP shows again: the publication is confirmed, and the missed read forgotten.
    assert!(matches!(published.with(|s| s.lease.missed_reads = 1).next(), Step::Publish(_)));
}

#[test]
fn a_moved_pod_is_withdrawn_then_unbound_then_targeted_anew() {
    let moved = in_use(auto()).published().with(|s| s.pod().ip = Some(FORMER_IP));
    assert!(matches!(moved.next(), Step::Withdraw(_)));
    let withdrawn = in_use(auto()).with(|s| s.pod().ip = Some(FORMER_IP));
    assert_eq!(action(&withdrawn.next()), Some("UnassociateEipAddress"));
    let changing = withdrawn
        .with(|s| s.cloud.eip = Lookup::Present(eip(EipStatus::Unassociating, Some(POD_IP))));
    assert_eq!(waits(&changing.next()), Some(Reason::EipChanging));
    assert_eq!(
        withdrawn.with(|s| s.cloud.eip = Lookup::Present(eip(EipStatus::Available, None))).next(),
        Step::ClearTarget
    );
}

#[test]
fn two_owners_do_not_fight_over_an_eip() {
    let taken = eip(EipStatus::InUse, Some(FORMER_IP));
    assert_eq!(waits(&bound(auto(), taken.clone()).next()), Some(Reason::EipBoundElsewhere));
    let releasing = bound(auto(), taken.clone())
        .with(|s| (s.lease.phase, s.pod) = (Phase::Releasing, super::PodState::Absent));
    assert_eq!(releasing.next(), Step::ClearTarget, "not bound to the target any more");
    assert_eq!(
        waits(&releasing.with(|s| s.lease.target = None).next()),
        Some(Reason::EipBoundElsewhere)
    );
}

#[test]
fn a_vanished_managed_eip_is_proven_gone_and_a_given_one_is_waited_for() {
    let gone = |request, missed_reads| {
        in_use(request).with(|s| {
            s.cloud.eip = Lookup::Absent;
            s.lease.missed_reads = missed_reads;
        })
    };
    for missed_reads in 0..2 {
        assert_eq!(
            gone(auto(), missed_reads).next(),
            Step::CountMissedRead,
            "an empty list is what wrong credentials give, too"
        );
    }
    assert_eq!(action(&gone(auto(), 2).next()), Some("ReleaseEipAddress"), "its 404 is the proof");
    assert_eq!(waits(&gone(given(), 2).next()), Some(Reason::EipNotFound));
    let never = EipRequest {
        source: EipSource::Allocate(EipSpec::default()),
        release: ReleaseStrategy::Never,
    };
    assert_eq!(
        waits(&gone(Request::Eip(never), 2).next()),
        Some(Reason::EipNotFound),
        "what is to be retained is never released"
    );
}

#[test]
fn a_managed_eip_is_adjusted_to_its_pods_request_and_a_given_one_never() {
    let package = Some(BandwidthPackageId::new("cbwp-1"));
    let spec = EipSpec { bandwidth_package: package.clone(), ..EipSpec::default() };
    let packed = Request::Eip(EipRequest {
        source: EipSource::Allocate(spec),
        release: ReleaseStrategy::Follow,
    });
    let scene = in_use(auto()).with(|s| {
        s.lease.request = packed.clone();
        s.pod().desired = Desired::Request(Box::new(packed));
    });
    assert_eq!(action(&scene.next()), Some("AddCommonBandwidthPackageIp"));

    let other = Eip {
        bandwidth: 50,
        name: "theirs".to_owned(),
        bandwidth_package: None,
        ..eip(EipStatus::InUse, Some(POD_IP))
    };
    assert_eq!(
        action(&bound(auto(), other.clone()).published().next()),
        Some("ModifyEipAddressAttribute")
    );
    let member = Eip { bandwidth_package: package, ..other.clone() };
    for shown in [other, member] {
        assert_eq!(waits(&bound(given(), shown).published().next()), Some(Reason::EipAssociated));
    }
}

#[test]
fn a_bandwidth_that_is_refused_keeps_no_address_from_its_pod_nor_from_being_watched() {
    let wider = Request::Eip(EipRequest {
        source: EipSource::Allocate(EipSpec { bandwidth: 50, ..EipSpec::default() }),
        release: ReleaseStrategy::Follow,
    });
    assert_eq!(
        action(&bound(wider.clone(), eip(EipStatus::Available, None)).next()),
        Some("AssociateEipAddress")
    );
    assert!(matches!(in_use(wider.clone()).next(), Step::Publish(_)));
    let published = in_use(wider).published();
    assert_eq!(action(&published.next()), Some("ModifyEipAddressAttribute"));
    assert_eq!(
        published.with(|s| s.cloud.eip = Lookup::Present(eip(EipStatus::Available, None))).next(),
        Step::CountMissedRead
    );
}

#[test]
fn wrong_annotations_on_a_running_pod_change_nothing() {
    let scene =
        in_use(auto()).published().with(|s| s.pod().desired = Desired::Invalid("no".to_owned()));
    assert_eq!(waits(&scene.next()), Some(Reason::EipAssociated));
}

#[test]
fn a_pod_that_moved_is_off_its_former_address_before_anything_that_may_be_refused() {
    let wider = EipSpec {
        bandwidth: 50,
        bandwidth_package: Some(BandwidthPackageId::new("cbwp-1")),
        ..EipSpec::default()
    };
    let request = Request::Eip(EipRequest {
        source: EipSource::Allocate(wider),
        release: ReleaseStrategy::Never,
    });
    let moved = in_use(auto()).with(|s| {
        s.lease.request = request.clone();
        s.pod().desired = Desired::Request(Box::new(request));
        s.pod().ip = Some(FORMER_IP);
    });
    assert_eq!(action(&moved.next()), Some("UnassociateEipAddress"));
    let unbound = moved.with(|s| s.cloud.eip = Lookup::Present(eip(EipStatus::Available, None)));
    assert_eq!(unbound.next(), Step::ClearTarget);
    // An EIP that a read does not show may be bound all the same: the answer to the unbinding
    // decides.
    assert_eq!(
        action(&moved.with(|s| s.cloud.eip = Lookup::Absent).next()),
        Some("UnassociateEipAddress")
    );
    assert_eq!(
        action(&unbound.with(|s| s.lease.target = None).next()),
        Some("AddCommonBandwidthPackageIp")
    );
}
