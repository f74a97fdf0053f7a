//! Operations whose answer was lost: each change, each read, wanted and not, before the fence and
//! after.

use super::{FORMER_IP, LEASE, NOW, OWNER, POD_IP, Scene, bound, eip, given, in_use, waits};
use crate::change::{Answer, Change};
use crate::cloud_facts::EipStatus;
use crate::condition::Reason;
use crate::ids::{AllocationId, BandwidthPackageId, EniId};
use crate::lease::Phase;
use crate::operation::Outcome;
use crate::plan::tests::dnat::{self, entry, forwarding};
use crate::plan::{Lookup, PodState, Step};
use crate::request::EipSpec;
use jiff::SignedDuration;
use std::net::Ipv4Addr;
use uuid::Uuid;

const ID: Uuid = Uuid::from_u128(9);

/// The plan's decision on the operation.
#[derive(Debug, PartialEq)]
enum Verdict {
    Done,
    Resend,
    Poll,
    /// Waits for the fence, then counts a read without effect, then is void.
    WaitedOut,
}

fn judge(scene: &Scene) -> Verdict {
    match scene.next() {
        Step::Settle { operation: ID, outcome: Outcome::Done, .. } => Verdict::Done,
        Step::Resend(ID) if scene.operations[0].change.forward_table().is_none() => Verdict::Resend,
        Step::Requeue(ID) if scene.operations[0].change.forward_table().is_some() => {
            Verdict::Resend
        }
        step if waits(&step) == Some(Reason::EipChanging) => Verdict::Poll,
        step => {
            assert_eq!(waits(&step), Some(Reason::WaitingForAnswer), "{step:?}");
            let after = NOW + SignedDuration::from_secs(61);
            assert_eq!(scene.next_at(after), Step::CountReadWithoutEffect(ID));
            let missed = scene.with(|s| s.operations[0].reads_without_effect = 1);
            assert_eq!(
                waits(&missed.next()),
                Some(Reason::WaitingForAnswer),
                "misses before the fence prove nothing"
            );
            assert_eq!(
                missed.next_at(after),
                Step::Settle { operation: ID, outcome: Outcome::Void, answer: None }
            );
            Verdict::WaitedOut
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
    assert_eq!(judge(&scene), Verdict::Resend);
    let found = scene.with(|s| s.cloud.tagged = vec![eip(EipStatus::Available, None)]);
    for scene in unwanted(&scene) {
        assert_eq!(judge(&scene), Verdict::WaitedOut);
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
fn a_lost_association_is_judged_by_where_the_eip_is() {
    let table = [
        (eip(EipStatus::InUse, Some(POD_IP)), Verdict::Done, Verdict::Done),
        (eip(EipStatus::Associating, Some(POD_IP)), Verdict::Poll, Verdict::Poll),
        (eip(EipStatus::Unassociating, Some(POD_IP)), Verdict::Poll, Verdict::Poll),
        (eip(EipStatus::Available, None), Verdict::Resend, Verdict::WaitedOut),
        (eip(EipStatus::InUse, Some(FORMER_IP)), Verdict::WaitedOut, Verdict::WaitedOut),
        (eip(EipStatus::Releasing, None), Verdict::WaitedOut, Verdict::WaitedOut),
        (eip(EipStatus::Other, None), Verdict::WaitedOut, Verdict::WaitedOut),
    ];
    for (shown, wanted, not) in table {
        let scene = in_use(super::auto())
            .unresolved(associate(POD_IP))
            .with(|s| s.cloud.eip = Lookup::Present(shown.clone()));
        assert_eq!(judge(&scene), wanted, "{shown:?}");
        for scene in unwanted(&scene) {
            assert_eq!(judge(&scene), not, "unwanted, {shown:?}");
        }
    }
    let unseen =
        in_use(super::auto()).unresolved(associate(POD_IP)).with(|s| s.cloud.eip = Lookup::Absent);
    assert_eq!(judge(&unseen), Verdict::WaitedOut);
}

#[test]
fn an_association_for_an_address_the_pod_has_left_is_not_sent_again() {
    let scene = bound(given(), eip(EipStatus::Available, None)).unresolved(associate(POD_IP));
    assert_eq!(judge(&scene.with(|s| s.pod().ip = Some(FORMER_IP))), Verdict::WaitedOut);
    assert_eq!(judge(&scene.with(|s| s.pod().ip = None)), Verdict::WaitedOut);
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
        (unbind.clone(), Lookup::Present(eip(EipStatus::InUse, Some(POD_IP))), Verdict::Resend),
        (
            unbind.clone(),
            Lookup::Present(eip(EipStatus::Unassociating, Some(POD_IP))),
            Verdict::Poll,
        ),
        (unbind.clone(), Lookup::Present(eip(EipStatus::Available, None)), Verdict::Done),
        (unbind, Lookup::Absent, Verdict::Resend),
        (leave.clone(), Lookup::Present(member), Verdict::Resend),
        (leave.clone(), Lookup::Present(eip(EipStatus::Available, None)), Verdict::Done),
        (leave, Lookup::Absent, Verdict::Resend),
        (release.clone(), Lookup::Present(eip(EipStatus::Available, None)), Verdict::Resend),
        (release, Lookup::Absent, Verdict::Resend),
    ];
    for (change, shown, condition) in table {
        let scene =
            in_use(super::auto()).unresolved(change.clone()).with(|s| s.cloud.eip = shown.clone());
        for scene in unwanted(&scene).into_iter().chain([scene]) {
            assert_eq!(judge(&scene), condition, "{change:?} {shown:?}");
        }
    }
}

#[test]
fn a_lost_entry_into_a_package_is_judged_by_the_eip() {
    let package_id = BandwidthPackageId::new("cbwp-1");
    let join =
        Change::AddCommonBandwidthPackageIp { allocation_id: id(), package_id: package_id.clone() };
    let scene = in_use(super::auto()).unresolved(join);
    assert_eq!(judge(&scene), Verdict::Resend);
    for scene in unwanted(&scene) {
        assert_eq!(judge(&scene), Verdict::WaitedOut);
    }
    let member = crate::cloud_facts::Eip {
        bandwidth_package: Some(package_id),
        ..eip(EipStatus::InUse, Some(POD_IP))
    };
    assert_eq!(judge(&scene.with(|s| s.cloud.eip = Lookup::Present(member))), Verdict::Done);
}

#[test]
fn an_entry_whose_creation_seemed_to_fail_is_not_leaked() {
    let forwarded = forwarding(&[80]);
    let create = Change::CreateForwardEntry(dnat::forward(&forwarded));
    let scene = forwarded.with(|s| s.cloud.entries.clear()).unresolved(create);
    assert_eq!(judge(&scene), Verdict::Resend);
    assert_eq!(judge(&scene.with(|s| s.pod().ip = Some(FORMER_IP))), Verdict::WaitedOut);
    for scene in unwanted(&scene) {
        assert_eq!(judge(&scene), Verdict::WaitedOut);
    }
    let shown = scene.with(|s| s.cloud.entries = forwarded.cloud.entries.clone());
    assert_eq!(
        judge(&shown),
        Verdict::WaitedOut,
        "an entry known before was made by an earlier creation; this one's may still come"
    );
    let found = shown.with(|s| s.lease.ports[0].entry_id = None);
    let Step::Settle { outcome: Outcome::Done, answer: Some(answer), .. } = found.next() else {
        panic!("{:?}", found.next())
    };
    assert_eq!(answer.entry_id.as_ref().map(crate::ids::ForwardEntryId::as_str), Some("fwd-80"));
    let earlier = scene.with(|s| s.cloud.entries = vec![entry(LEASE, 0, 80, POD_IP)]);
    assert_eq!(
        judge(&earlier),
        Verdict::WaitedOut,
        "the entry of an earlier generation is not this one, and is what is changed next"
    );
}

#[test]
fn a_lost_repointing_is_judged_by_where_the_entry_leads() {
    let scene = forwarding(&[80]);
    let (entry_id, forward) = (scene.cloud.entries[0].entry_id.clone(), dnat::forward(&scene));
    let scene = scene.unresolved(Change::ModifyForwardEntry { entry_id, forward });
    assert_eq!(judge(&scene), Verdict::Done);
    // A person has pointed the entry elsewhere, which its name does not show.
    for bent in [
        scene.with(|s| s.cloud.entries[0].internal_ip = FORMER_IP),
        scene.with(|s| "81".clone_into(&mut s.cloud.entries[0].internal_port)),
    ] {
        assert_ne!(judge(&bent), Verdict::Done);
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
        assert_eq!(judge(&scene), Verdict::Resend);
        assert_eq!(judge(&scene.with(|s| s.cloud.entries.clear())), Verdict::Resend);
    }
}

/// With the same token the cloud may repeat its refusal for a day: sending after each refusal would
/// not end within that time.
#[test]
fn what_was_refused_while_an_earlier_send_may_arrive_is_waited_out_and_not_sent_again() {
    let scene = forwarding(&[80]);
    let listed = &scene.cloud.entries[0];
    let delete = Change::DeleteForwardEntry {
        table_id: listed.table_id.clone(),
        entry_id: listed.entry_id.clone(),
    };
    let create = Change::CreateForwardEntry(dnat::forward(&scene));
    for change in [delete, create] {
        let scene = scene.unresolved(change).with(|s| s.cloud.entries.clear());
        assert_eq!(judge(&scene), Verdict::Resend);
        assert_eq!(judge(&scene.with(|s| s.operations[0].awaits_fence = true)), Verdict::WaitedOut);
    }
    let bound = in_use(super::auto()).unresolved(Change::ReleaseEipAddress { allocation_id: id() });
    assert_eq!(judge(&bound), Verdict::Resend);
    assert_eq!(judge(&bound.with(|s| s.operations[0].awaits_fence = true)), Verdict::WaitedOut);
}

#[test]
fn nothing_else_is_decided_while_an_answer_is_missing() {
    let published = in_use(super::auto()).published();
    let scene = published.unresolved(associate(POD_IP)).with(|s| {
        s.pod = PodState::Absent;
        s.cloud.eip = Lookup::Present(eip(EipStatus::Available, None));
    });
    assert_eq!(judge(&scene), Verdict::WaitedOut);
}
