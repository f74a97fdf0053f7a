//! Operations whose answer was lost: each change, each read, wanted and not, before the fence and
//! after.

use super::{FORMER_IP, LEASE, NOW, OWNER, POD_IP, Scene, bound, eip, given, in_use, waits};
use crate::change::{Answer, Change};
use crate::cloud_facts::EipStatus;
use crate::condition::Reason;
use crate::ids::{AllocationId, BandwidthPackageId, EniId};
use crate::lease::Phase;
use crate::operation::{Outcome, SendState};
use crate::plan::tests::dnat::{self, entry, forwarding};
use crate::plan::{Lookup, PodState, Step};
use crate::request::EipSpec;
use jiff::SignedDuration;
use std::net::Ipv4Addr;
use uuid::Uuid;

const ID: Uuid = Uuid::from_u128(9);

/// The plan's decision on the operation.
#[derive(Debug, PartialEq)]
enum Decision {
    Done,
    Resend,
    Poll,
    /// Awaits the fence, then counts a read without effect, then is void.
    AwaitFence,
}

fn decide(scene: &Scene) -> Decision {
    match scene.next() {
        Step::Settle { operation: ID, outcome: Outcome::Done, .. } => Decision::Done,
        Step::Requeue(ID) => {
            let queued = scene.with(|s| s.operations[0].send_state = SendState::Queued);
            assert_ne!(queued.next(), Step::CancelQueued(ID), "requeued, then taken back");
            Decision::Resend
        }
        step if waits(&step) == Some(Reason::EipChanging) => Decision::Poll,
        step => {
            assert_eq!(waits(&step), Some(Reason::WaitingForAnswer), "{step:?}");
            let after = NOW + SignedDuration::from_secs(61);
            assert_eq!(scene.next_at(after), Step::CountReadWithoutEffect(ID));
            let missed = scene.with(|s| s.operations[0].reads_without_effect = 1);
            assert_eq!(
                waits(&missed.next()),
                Some(Reason::WaitingForAnswer),
                "reads before the fence prove nothing"
            );
            assert_eq!(
                missed.next_at(after),
                Step::Settle { operation: ID, outcome: Outcome::Void, answer: None }
            );
            Decision::AwaitFence
        }
    }
}

/// Every way in which the effect of a change is no longer wanted.
fn unwanted(scene: &Scene) -> Vec<Scene> {
    vec![
        scene.with(|s| s.pod = PodState::Absent),
        scene.with(|s| s.lease.phase = Phase::Releasing),
        scene.with(|s| s.pod().exited = true),
        scene.with(|s| s.pod().terminating = true),
    ]
}

fn id() -> AllocationId {
    AllocationId::new("eip-1")
}

fn associate(private_ip: Ipv4Addr) -> Change {
    Change::AssociateEipAddress { allocation_id: id(), eni_id: EniId::new("eni-1"), private_ip }
}

#[test]
fn an_eip_whose_allocation_seemed_to_fail_is_not_leaked() {
    let scene = Scene::new(super::auto()).unresolved(Change::AllocateEipAddress {
        spec: EipSpec::default(),
        tags: OWNER.lease_tags(LEASE),
    });
    assert_eq!(decide(&scene), Decision::Resend);
    let found = scene.with(|s| s.cloud.tagged = vec![eip(EipStatus::Available, None)]);
    for scene in unwanted(&scene) {
        assert_eq!(decide(&scene), Decision::AwaitFence);
    }
    // A found EIP settles the operation even when unwanted, since it must be released.
    for scene in unwanted(&found).into_iter().chain([found]) {
        let Step::Settle { outcome: Outcome::Done, answer: Some(answer), .. } = scene.next() else {
            panic!("{:?}", scene.next())
        };
        assert_eq!(
            answer,
            Answer {
                allocation_id: Some(id()),
                ip_address: Some(super::PUBLIC_IP),
                ..Answer::default()
            }
        );
    }
}

#[test]
fn a_lost_association_is_resolved_by_the_binding_of_the_eip() {
    let table = [
        (eip(EipStatus::InUse, Some(POD_IP)), Decision::Done, Decision::Done),
        (eip(EipStatus::Associating, Some(POD_IP)), Decision::Poll, Decision::Poll),
        (eip(EipStatus::Unassociating, Some(POD_IP)), Decision::Poll, Decision::Poll),
        (eip(EipStatus::Available, None), Decision::Resend, Decision::AwaitFence),
        (eip(EipStatus::InUse, Some(FORMER_IP)), Decision::AwaitFence, Decision::AwaitFence),
        (eip(EipStatus::Releasing, None), Decision::AwaitFence, Decision::AwaitFence),
        (eip(EipStatus::Other, None), Decision::AwaitFence, Decision::AwaitFence),
    ];
    for (shown, wanted, otherwise) in table {
        let scene = in_use(super::auto())
            .unresolved(associate(POD_IP))
            .with(|s| s.cloud.eip = Lookup::Present(shown.clone()));
        assert_eq!(decide(&scene), wanted, "{shown:?}");
        for scene in unwanted(&scene) {
            assert_eq!(decide(&scene), otherwise, "unwanted, {shown:?}");
        }
    }
    let unseen =
        in_use(super::auto()).unresolved(associate(POD_IP)).with(|s| s.cloud.eip = Lookup::Absent);
    assert_eq!(decide(&unseen), Decision::AwaitFence);
}

#[test]
fn an_association_for_an_address_the_pod_has_left_is_not_sent_again() {
    let scene = bound(given(), eip(EipStatus::Available, None)).unresolved(associate(POD_IP));
    assert_eq!(decide(&scene.with(|s| s.pod().ip = Some(FORMER_IP))), Decision::AwaitFence);
    assert_eq!(decide(&scene.with(|s| s.pod().ip = None)), Decision::AwaitFence);
}

#[test]
fn what_takes_away_is_sent_until_the_cloud_says_that_it_is_gone() {
    let package_id = BandwidthPackageId::new("cbwp-1");
    let unbind = Change::UnassociateEipAddress {
        allocation_id: id(),
        eni_id: EniId::new("eni-1"),
        private_ip: POD_IP,
    };
    let leave = Change::RemoveCommonBandwidthPackageIp {
        allocation_id: id(),
        package_id: package_id.clone(),
    };
    let release = Change::ReleaseEipAddress { allocation_id: id() };
    let member = crate::cloud_facts::Eip {
        bandwidth_package: Some(package_id),
        ..eip(EipStatus::Available, None)
    };
    let table = [
        (unbind.clone(), Lookup::Present(eip(EipStatus::InUse, Some(POD_IP))), Decision::Resend),
        (
            unbind.clone(),
            Lookup::Present(eip(EipStatus::Unassociating, Some(POD_IP))),
            Decision::Poll,
        ),
        (unbind.clone(), Lookup::Present(eip(EipStatus::Available, None)), Decision::Done),
        (unbind, Lookup::Absent, Decision::Resend),
        (leave.clone(), Lookup::Present(member), Decision::Resend),
        (leave.clone(), Lookup::Present(eip(EipStatus::Available, None)), Decision::Done),
        (leave, Lookup::Absent, Decision::Resend),
        (release.clone(), Lookup::Present(eip(EipStatus::Available, None)), Decision::Resend),
        (release, Lookup::Absent, Decision::Resend),
    ];
    for (change, shown, expected) in table {
        let scene =
            in_use(super::auto()).unresolved(change.clone()).with(|s| s.cloud.eip = shown.clone());
        for scene in unwanted(&scene).into_iter().chain([scene]) {
            assert_eq!(decide(&scene), expected, "{change:?} {shown:?}");
        }
    }
}

#[test]
fn a_lost_joining_of_a_package_is_resolved_by_the_eip() {
    let package_id = BandwidthPackageId::new("cbwp-1");
    let join =
        Change::AddCommonBandwidthPackageIp { allocation_id: id(), package_id: package_id.clone() };
    let scene = in_use(super::auto()).unresolved(join);
    assert_eq!(decide(&scene), Decision::Resend);
    for scene in unwanted(&scene) {
        assert_eq!(decide(&scene), Decision::AwaitFence);
    }
    let member = crate::cloud_facts::Eip {
        bandwidth_package: Some(package_id),
        ..eip(EipStatus::InUse, Some(POD_IP))
    };
    assert_eq!(decide(&scene.with(|s| s.cloud.eip = Lookup::Present(member))), Decision::Done);
}

#[test]
fn an_entry_whose_creation_seemed_to_fail_is_not_leaked() {
    let forwarded = forwarding(&[80]);
    let create = Change::CreateForwardEntry(dnat::forward(&forwarded));
    let scene = forwarded.with(|s| s.cloud.entries.clear()).unresolved(create);
    assert_eq!(decide(&scene), Decision::Resend);
    assert_eq!(decide(&scene.with(|s| s.pod().ip = Some(FORMER_IP))), Decision::AwaitFence);
    for scene in unwanted(&scene) {
        assert_eq!(decide(&scene), Decision::AwaitFence);
    }
    let shown = scene.with(|s| s.cloud.entries = forwarded.cloud.entries.clone());
    assert_eq!(
        decide(&shown),
        Decision::AwaitFence,
        "an entry known before was made by an earlier creation; this one's may still come"
    );
    let found = shown.with(|s| s.lease.ports[0].entry_id = None);
    let Step::Settle { outcome: Outcome::Done, answer: Some(answer), .. } = found.next() else {
        panic!("{:?}", found.next())
    };
    assert_eq!(answer.entry_id.as_ref().map(crate::ids::ForwardEntryId::as_str), Some("fwd-80"));
    let earlier = scene.with(|s| s.cloud.entries = vec![entry(LEASE, 0, 80, POD_IP)]);
    assert_eq!(
        decide(&earlier),
        Decision::AwaitFence,
        "the entry of an earlier generation is not this one, and is what is changed next"
    );
}

#[test]
fn a_lost_modification_is_resolved_by_where_the_entry_leads() {
    let scene = forwarding(&[80]);
    let (entry_id, forward) = (scene.cloud.entries[0].entry_id.clone(), dnat::forward(&scene));
    let scene = scene.unresolved(Change::ModifyForwardEntry { entry_id, forward });
    assert_eq!(decide(&scene), Decision::Done);
    // A person has pointed the entry elsewhere, which its name does not show.
    for repointed in [
        scene.with(|s| s.cloud.entries[0].internal_ip = FORMER_IP),
        scene.with(|s| "81".clone_into(&mut s.cloud.entries[0].internal_port)),
    ] {
        assert_ne!(decide(&repointed), Decision::Done);
    }
}

#[test]
fn a_lost_deletion_is_sent_until_the_cloud_confirms_it_and_lists_prove_nothing() {
    let scene = forwarding(&[80]);
    let listed = &scene.cloud.entries[0];
    let delete = Change::DeleteForwardEntry {
        table_id: listed.table_id.clone(),
        entry_id: listed.entry_id.clone(),
    };
    let scene = scene.unresolved(delete);
    for scene in unwanted(&scene).into_iter().chain([scene]) {
        assert_eq!(decide(&scene), Decision::Resend);
        assert_eq!(decide(&scene.with(|s| s.cloud.entries.clear())), Decision::Resend);
    }
}

/// With the same token the cloud may repeat its refusal for a day: sending after each refusal would
/// not end within that time.
#[test]
fn what_was_refused_while_an_earlier_send_may_arrive_awaits_its_fence_and_is_not_sent_again() {
    let scene = forwarding(&[80]);
    let listed = &scene.cloud.entries[0];
    let delete = Change::DeleteForwardEntry {
        table_id: listed.table_id.clone(),
        entry_id: listed.entry_id.clone(),
    };
    let create = Change::CreateForwardEntry(dnat::forward(&scene));
    for change in [delete, create] {
        let scene = scene.unresolved(change).with(|s| s.cloud.entries.clear());
        assert_eq!(decide(&scene), Decision::Resend);
        assert_eq!(
            decide(&scene.with(|s| s.operations[0].awaits_fence = true)),
            Decision::AwaitFence
        );
    }
    let bound = in_use(super::auto()).unresolved(Change::ReleaseEipAddress { allocation_id: id() });
    assert_eq!(decide(&bound), Decision::Resend);
    assert_eq!(decide(&bound.with(|s| s.operations[0].awaits_fence = true)), Decision::AwaitFence);
}

#[test]
fn nothing_else_is_decided_while_an_answer_is_missing() {
    let published = in_use(super::auto()).published();
    let scene = published.unresolved(associate(POD_IP)).with(|s| {
        s.pod = PodState::Absent;
        s.cloud.eip = Lookup::Present(eip(EipStatus::Available, None));
    });
    assert_eq!(decide(&scene), Decision::AwaitFence);
}
