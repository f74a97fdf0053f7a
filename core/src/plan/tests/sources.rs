//! Sources of an EIP, and its passage from pod to pod.

use super::{NOW, PUBLIC_IP, Scene, action, auto, bound, eip, given, in_use, waits};
use crate::change::Change;
use crate::cloud_facts::{Eip, EipBinding, EipStatus};
use crate::condition::Reason;
use crate::ids::{AllocationId, BandwidthPackageId, EniId, LeaseId};
use crate::lease::Phase;
use crate::lease::{CurrentHolder, HolderState};
use crate::ownership::TAG_LEASE;
use crate::plan::{CustomResourceState, Lookup, PodState, Step};
use crate::request::{
    EipRequest, EipSource, EipSpec, InstanceChargeType, InternetChargeType, ReleaseStrategy,
    Request,
};
use jiff::SignedDuration;
use std::net::Ipv4Addr;
use uuid::Uuid;

fn of_pool() -> Request {
    Request::Eip(EipRequest {
        source: EipSource::Pool("games".to_owned()),
        release: ReleaseStrategy::Follow,
    })
}

fn monthly() -> Request {
    let (instance_charge_type, internet_charge_type) =
        (InstanceChargeType::PrePaid, InternetChargeType::PayByBandwidth);
    let spec = EipSpec { internet_charge_type, instance_charge_type, ..EipSpec::default() };
    Request::Eip(EipRequest { source: EipSource::Allocate(spec), release: ReleaseStrategy::Follow })
}

fn pooled(number: u8, status: EipStatus) -> Eip {
    let allocation_id = AllocationId::new(format!("eip-{number}"));
    Eip { allocation_id, ip_address: Ipv4Addr::new(203, 0, 113, number), ..eip(status, None) }
}

/// A pod that names an EIP which another lease has.
fn held_by_another(holder_state: HolderState) -> Scene {
    Scene::new(given()).with(|s| {
        s.cloud.eip = Lookup::Present(eip(EipStatus::InUse, Some(Ipv4Addr::new(10, 0, 0, 99))));
        s.sources.current_holder =
            Some(CurrentHolder { pod: "ns/other".to_owned(), state: holder_state });
    })
}

#[test]
fn a_pool_gives_what_is_available_and_not_bought_for_a_lease() {
    let mut allocated = pooled(3, EipStatus::Available);
    allocated.tags.insert(TAG_LEASE.to_owned(), "another lease".to_owned());
    let scene = Scene::new(of_pool()).with(|s| {
        s.cloud.pool = vec![
            pooled(1, EipStatus::InUse),
            pooled(2, EipStatus::Available),
            allocated,
            pooled(4, EipStatus::Available),
        ];
    });
    let Step::AdoptEip(mut candidates, _) = scene.next() else { panic!("{:?}", scene.next()) };
    candidates.sort();
    assert_eq!(
        candidates.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(),
        ["eip-2", "eip-4"]
    );
}

#[test]
fn pods_that_start_together_reach_for_different_eips_of_a_pool() {
    let firsts = (0..20).map(|lease| {
        let scene = Scene::new(of_pool()).with(|s| {
            s.lease.id = LeaseId(Uuid::from_u128(lease));
            s.cloud.pool = (1..=20).map(|number| pooled(number, EipStatus::Available)).collect();
        });
        let Step::AdoptEip(candidates, exhausted) = scene.next() else {
            panic!("{:?}", scene.next())
        };
        assert_eq!(exhausted.reason, Reason::EipPoolExhausted);
        candidates[0].clone()
    });
    let different: std::collections::BTreeSet<_> = firsts.collect();
    assert!(different.len() > 5, "{different:?}");
}

#[test]
fn a_pool_without_a_free_eip_is_named() {
    for pool in [vec![], vec![pooled(1, EipStatus::InUse)]] {
        let Step::Wait(wait) =
            Scene::new(of_pool()).with(|s| s.cloud.pool.clone_from(&pool)).next()
        else {
            panic!("it does not wait")
        };
        assert_eq!(wait.reason, Reason::EipPoolExhausted);
        assert!(wait.message.contains("games"), "{}", wait.message);
    }
}

#[test]
fn an_eip_of_a_pool_is_unbound_after_use_and_neither_modified_nor_released() {
    let scene = in_use(of_pool()).with(|s| {
        s.cloud.eip = Lookup::Present(Eip { bandwidth: 77, ..eip(EipStatus::InUse, s.pod().ip) });
    });
    assert!(matches!(scene.next(), Step::Publish(_)), "{:?}", scene.next());
    let releasing = scene.with(|s| (s.pod, s.lease.phase) = (PodState::Absent, Phase::Releasing));
    assert_eq!(action(&releasing.next()), Some("UnassociateEipAddress"));
    let unbound = releasing.with(|s| {
        s.lease.target = None;
        s.cloud.eip = Lookup::Present(eip(EipStatus::Available, None));
    });
    assert_eq!(unbound.next(), Step::ForgetEip);
}

#[test]
fn without_preemption_a_given_eip_stays_with_its_holder() {
    for holder_state in [HolderState::Older, HolderState::Younger, HolderState::Releasing] {
        let Step::Wait(wait) = held_by_another(holder_state).next() else {
            panic!("{:?}", held_by_another(holder_state).next())
        };
        assert_eq!(wait.reason, Reason::EipHeldByAnotherPod);
        assert!(wait.message.contains("ns/other"), "{}", wait.message);
    }
}

#[test]
fn a_younger_pod_preempts_a_given_eip_once_it_can_be_bound_here() {
    let allowed =
        |holder_state| held_by_another(holder_state).with(|s| s.sources.preemption_allowed = true);
    assert_eq!(allowed(HolderState::Older).next(), Step::PreemptEip(AllocationId::new("eip-1")));
    assert_eq!(
        waits(&allowed(HolderState::Older).with(|s| s.pod().ip = None).next()),
        Some(Reason::EipHeldByAnotherPod)
    );
    assert_eq!(waits(&allowed(HolderState::Younger).next()), Some(Reason::EipHeldByAnotherPod));
    assert_eq!(waits(&allowed(HolderState::Releasing).next()), Some(Reason::EipHeldByAnotherPod));
}

#[test]
fn a_preempted_pod_gives_all_up_and_never_takes_back() {
    let preempted =
        in_use(given()).published().with(|s| s.lease.preempted_by = Some("ns/younger".to_owned()));
    for scene in [preempted.clone(), preempted.with(|s| s.pod().terminating = true)] {
        let Step::Withdraw(withdrawal) = scene.next() else { panic!("{:?}", scene.next()) };
        assert_eq!((withdrawal.status, withdrawal.reason), (false, Reason::EipPreempted));
        assert!(withdrawal.message.contains("ns/younger"));
    }
    let withdrawn = in_use(given()).with(|s| s.lease.preempted_by = Some("ns/younger".to_owned()));
    assert_eq!(action(&withdrawn.next()), Some("UnassociateEipAddress"));
    let unbound =
        withdrawn.with(|s| s.cloud.eip = Lookup::Present(eip(EipStatus::Available, None)));
    assert_eq!(unbound.next(), Step::ClearTarget);
    let untargeted = unbound.with(|s| s.lease.target = None);
    assert_eq!(untargeted.next(), Step::ForgetEip);
    let empty = untargeted.with(|s| s.lease.eip = None);
    assert_eq!(empty.next(), Step::RemoveCustomResource);
    assert_eq!(
        waits(&empty.with(|s| s.resource = CustomResourceState::Absent).next()),
        Some(Reason::EipPreempted)
    );
}

#[test]
fn a_preempted_pods_binding_whose_answer_was_lost_is_not_sent_again() {
    let scene = bound(given(), eip(EipStatus::Available, None))
        .with(|s| s.lease.preempted_by = Some("ns/younger".to_owned()));
    let bind = Change::AssociateEipAddress {
        allocation_id: AllocationId::new("eip-1"),
        eni_id: EniId::new("eni-1"),
        private_ip: super::POD_IP,
    };
    assert_eq!(waits(&scene.unresolved(bind).next()), Some(Reason::WaitingForAnswer));
}

#[test]
fn an_eip_bound_to_a_foreign_interface_is_unbound_where_that_is_allowed_and_once_only() {
    let foreign = Eip {
        binding: Some(EipBinding {
            instance_type: "NetworkInterface".to_owned(),
            instance_id: "eni-9".to_owned(),
            private_ip: Some(Ipv4Addr::new(10, 0, 0, 99)),
        }),
        ..eip(EipStatus::InUse, None)
    };
    let scene = bound(given(), eip(EipStatus::Available, None)).with(|s| {
        (s.lease.target, s.lease.generation, s.cloud.eni) =
            (None, 0, Lookup::Present(super::eni()));
        s.cloud.eip = Lookup::Present(foreign.clone());
    });
    assert!(
        matches!(scene.next(), Step::SetTarget(_)),
        "without the setting nothing is unbound: {:?}",
        scene.next()
    );
    let allowed = scene.with(|s| s.sources.preemption_allowed = true);
    let Step::QueueEipChange { change: Change::UnassociateEipAddress { eni_id, .. }, .. } =
        allowed.next()
    else {
        panic!("{:?}", allowed.next())
    };
    assert_eq!(eni_id, EniId::new("eni-9"));
    // An EIP that a person bound back after this lease had it is left there.
    let again = allowed
        .with(|s| (s.lease.generation, s.lease.target) = (1, Some(super::target(super::POD_IP))));
    assert_eq!(waits(&again.next()), Some(Reason::EipBoundElsewhere));
    // An EIP that serves a gateway or a load balancer is never unbound.
    let on_gateway = allowed.with(|s| {
        let binding =
            EipBinding { instance_type: "Nat".to_owned(), ..foreign.binding.clone().unwrap() };
        s.cloud.eip = Lookup::Present(Eip { binding: Some(binding), ..foreign.clone() });
    });
    assert!(matches!(on_gateway.next(), Step::SetTarget(_)), "{:?}", on_gateway.next());
}

#[test]
fn a_former_address_is_bought_back_with_the_same_settings_and_tags() {
    let plain = Scene::new(auto()).next();
    let Step::QueueEipChange { resource, change: Change::AllocateEipAddress { spec, tags } } =
        plain
    else {
        panic!("{plain:?}")
    };
    let former = Scene::new(auto()).with(|s| s.sources.former_address = Some(PUBLIC_IP)).next();
    assert_eq!(
        former,
        Step::QueueEipChange {
            resource,
            change: Change::AllocateEipAddressPro { ip_address: PUBLIC_IP, spec, tags }
        }
    );
}

#[test]
fn a_prepaid_eip_stays_until_it_expires_and_its_custom_resource_goes_at_once() {
    let prepaid = Eip {
        charge_type: "PrePaid".to_owned(),
        internet_charge_type: "PayByBandwidth".to_owned(),
        expires_at: Some(NOW + SignedDuration::from_hours(24)),
        ..eip(EipStatus::Available, None)
    };
    let releasing = bound(monthly(), prepaid).with(|s| {
        (s.pod, s.lease.phase, s.lease.target) = (PodState::Absent, Phase::Releasing, None);
    });
    assert_eq!(releasing.next(), Step::RemoveCustomResource);
    let removed = releasing.with(|s| s.resource = CustomResourceState::Absent);
    assert_eq!(removed.next(), Step::DisownCustomResource);
    let waiting = removed.with(|s| s.lease.owns_custom_resource = false);
    assert_eq!(waits(&waiting.next()), Some(Reason::PrePaidNotReleased));
    assert_eq!(
        action(&waiting.next_at(NOW + SignedDuration::from_hours(25))),
        Some("ReleaseEipAddress")
    );
}

#[test]
fn a_reusable_prepaid_eip_is_adopted_before_another_is_bought() {
    let prepaid = LeaseId(Uuid::from_u128(77));
    assert_eq!(
        Scene::new(monthly()).with(|s| s.sources.reusable_prepaid = Some(prepaid)).next(),
        Step::AdoptPrepaidEip(prepaid)
    );
}

/// A managed EIP that works, for a pod with this request.
fn asking(spec: EipSpec, shown: Eip) -> Scene {
    bound(
        Request::Eip(EipRequest {
            source: EipSource::Allocate(spec),
            release: ReleaseStrategy::Follow,
        }),
        shown,
    )
}

#[test]
fn what_only_another_eip_could_be_is_said_in_the_condition_of_the_one_that_works() {
    let working = || eip(EipStatus::InUse, Some(super::POD_IP));
    let spec = EipSpec {
        isp: Some("BGP_PRO".to_owned()),
        internet_charge_type: InternetChargeType::PayByBandwidth,
        ..EipSpec::default()
    };
    let Step::Publish(publication) = asking(spec, working()).next() else {
        panic!("it is not published")
    };
    assert!(
        publication.message.contains("eip-isp is BGP and not BGP_PRO"),
        "{}",
        publication.message
    );
    assert!(
        publication.message.contains("eip-internet-charge-type is PayByTraffic"),
        "{}",
        publication.message
    );
    let Step::Publish(publication) = asking(EipSpec::default(), working()).next() else {
        panic!("it is not published")
    };
    assert!(!publication.message.contains("cannot"), "{}", publication.message);
}

#[test]
fn a_published_message_that_is_no_longer_true_is_written_anew() {
    let published = in_use(auto()).published();
    assert_eq!(waits(&published.next()), Some(Reason::EipAssociated));
    assert!(matches!(
        published.with(|s| s.pod().condition.as_mut().unwrap().message.clear()).next(),
        Step::Publish(_)
    ));
}

#[test]
fn a_package_is_left_for_another_and_one_that_a_person_chose_is_not() {
    let packed = |spec: Option<&str>, current: &str| {
        let spec = EipSpec {
            bandwidth_package: spec.map(crate::ids::BandwidthPackageId::new),
            ..EipSpec::default()
        };
        let shown = Eip {
            bandwidth_package: Some(crate::ids::BandwidthPackageId::new(current)),
            ..eip(EipStatus::InUse, Some(super::POD_IP))
        };
        (spec, shown)
    };
    let (spec, shown) = packed(Some("cbwp-1"), "cbwp-1");
    let joined = asking(spec, shown);
    assert!(matches!(joined.next(), Step::Publish(_)), "{:?}", joined.next());
    let request_changed = |scene: &Scene, spec: EipSpec| {
        scene.published().with(|s| {
            s.lease.request = Request::Eip(EipRequest {
                source: EipSource::Allocate(spec),
                release: ReleaseStrategy::Follow,
            });
            s.pod().desired = crate::plan::Desired::Request(Box::new(s.lease.request.clone()));
        })
    };
    assert_eq!(
        action(&request_changed(&joined, EipSpec::default()).next()),
        Some("RemoveCommonBandwidthPackageIp")
    );
    assert_eq!(
        action(&request_changed(&joined, packed(Some("cbwp-2"), "").0).next()),
        Some("RemoveCommonBandwidthPackageIp")
    );
    let left = request_changed(&joined, packed(Some("cbwp-2"), "").0)
        .with(|s| s.cloud.eip = Lookup::Present(eip(EipStatus::InUse, Some(super::POD_IP))));
    let Step::WriteCustomResource(content) = left.next() else { panic!("{:?}", left.next()) };
    let joins = left.with(|s| s.resource = super::resource(&content)).published();
    assert_eq!(action(&joins.next()), Some("AddCommonBandwidthPackageIp"));
    let (_, persons) = packed(None, "cbwp-9");
    let persons = asking(EipSpec::default(), persons);
    assert!(matches!(persons.next(), Step::Publish(_)), "{:?}", persons.next());
}

#[test]
fn a_description_changed_on_a_running_pod_is_changed_on_its_eip() {
    let spec = EipSpec { description: Some("front door".to_owned()), ..EipSpec::default() };
    let shown =
        Eip { description: "front door".to_owned(), ..eip(EipStatus::InUse, Some(super::POD_IP)) };
    let same = asking(spec, shown.clone());
    assert!(matches!(same.next(), Step::Publish(_)));
    let other = same.published().with(|s| {
        s.cloud.eip = Lookup::Present(Eip { description: "back door".to_owned(), ..shown.clone() });
    });
    assert_eq!(action(&other.next()), Some("ModifyEipAddressAttribute"));
}

#[test]
fn a_reused_prepaid_eip_serves_a_pod_that_asks_for_a_package_and_says_that_it_cannot_join_one() {
    let spec = EipSpec {
        bandwidth_package: Some(BandwidthPackageId::new("cbwp-1")),
        ..EipSpec::default()
    };
    let request = Request::Eip(EipRequest {
        source: EipSource::Allocate(spec),
        release: ReleaseStrategy::Follow,
    });
    let prepaid = |status, ip| Eip { charge_type: "PrePaid".to_owned(), ..eip(status, ip) };
    let free = bound(request.clone(), prepaid(EipStatus::Available, None));
    assert_eq!(action(&free.next()), Some("AssociateEipAddress"));
    let scene = bound(request, prepaid(EipStatus::InUse, Some(super::POD_IP)));
    let Step::Publish(publication) = scene.next() else { panic!("{:?}", scene.next()) };
    assert!(
        publication.message.contains("eip-common-bandwidth-package-id is none and not cbwp-1"),
        "{}",
        publication.message
    );
}
