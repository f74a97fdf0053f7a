//! Changes in their queue, and changes on their way to the cloud.

use super::dnat::forwarding;
use super::{FORMER_IP, NOW, Scene, auto, bound, eip, eni, waits};
use crate::change::Change;
use crate::cloud_facts::EipStatus;
use crate::condition::Reason;
use crate::lease::Phase;
use crate::operation::{Operation, SendState};
use crate::plan::{Lookup, PodState, Step};
use jiff::SignedDuration;
use uuid::Uuid;

/// A pod whose ports' entries are all asked for and none of them made, each operation in this
/// state.
fn requested(ports: &[u16], send_states: &[SendState]) -> Scene {
    let scene = forwarding(ports).with(|s| {
        s.cloud.entries.clear();
        s.lease.ports.iter_mut().for_each(|port| port.entry_id = None);
    });
    let Step::QueueChanges { requests, .. } = scene.next() else { panic!("{:?}", scene.next()) };
    let operation =
        |(number, (request, send_state)): (u128, (crate::operation::ChangeRequest, &SendState))| {
            Operation {
                id: Uuid::from_u128(number),
                resource: request.resource,
                change: request.change,
                send_state: *send_state,
                sends: 0,
                fence_until: NOW + SignedDuration::from_mins(1),
                reads_without_effect: 0,
                awaits_fence: false,
            }
        };
    scene.with(|s| {
        s.operations = (1..).zip(requests.into_iter().zip(send_states)).map(operation).collect();
    })
}

const SENT: SendState = SendState::Sent { answer_by: NOW };
const FIRST: Uuid = Uuid::from_u128(1);
const SECOND: Uuid = Uuid::from_u128(2);

#[test]
fn a_queued_change_that_is_still_wanted_stays_queued() {
    let scene = requested(&[80, 443], &[SendState::Queued, SendState::Queued]);
    assert_eq!(waits(&scene.next()), Some(Reason::WaitingForGateway));
    // The first entry was made meanwhile.
    let made = forwarding(&[80, 443]).cloud.entries;
    let scene = scene.with(|s| {
        s.operations.remove(0);
        s.cloud.entries = made[..1].to_vec();
    });
    assert_eq!(waits(&scene.next()), Some(Reason::WaitingForGateway));
}

#[test]
fn what_is_queued_and_not_wanted_any_more_is_taken_back() {
    let scene = requested(&[80], &[SendState::Queued]);
    let unwanted = [
        ("gone", scene.with(|s| s.pod = PodState::Absent)),
        ("exited", scene.with(|s| s.pod().exited = true)),
        ("terminating", scene.with(|s| s.pod().terminating = true)),
        ("of a lease in release", scene.with(|s| s.lease.phase = Phase::Releasing)),
        (
            "asking for something else",
            scene.with(|s| s.pod().desired = crate::plan::Desired::Nothing),
        ),
        (
            "without its custom resource",
            scene.with(|s| s.resource = crate::plan::CustomResourceState::Absent),
        ),
        ("beyond the quota", scene.with(|s| s.cloud.gateway.entries_when_full = Some(0))),
        (
            "at an unavailable gateway",
            scene.with(|s| s.cloud.gateway.unavailable_reason = Some("locked".to_owned())),
        ),
        (
            "at another IP",
            scene.with(|s| {
                s.pod().ip = Some(FORMER_IP);
                s.cloud.eni = Lookup::Present(eni());
            }),
        ),
    ];
    for (how, scene) in unwanted {
        assert_eq!(scene.next(), Step::CancelQueued(FIRST), "the pod is {how}");
    }
}

#[test]
fn a_queued_change_of_an_eip_stays_while_it_is_wanted_and_is_taken_back_then() {
    let bare = Scene::new(auto()).with(|s| s.cloud.eni = Lookup::Present(eni()));
    let unbound = bound(auto(), eip(EipStatus::Available, None));
    for scene in [bare, unbound] {
        let Step::QueueEipChange { resource, change } = scene.next() else {
            panic!("{:?}", scene.next())
        };
        let queued = scene.unresolved(change).with(|s| {
            let operation = &mut s.operations[0];
            operation.resource = resource;
            (operation.send_state, operation.sends) = (SendState::Queued, 0);
        });
        assert_eq!(waits(&queued.next()), Some(Reason::RateLimited));
        let id = queued.operations[0].id;
        for unwanted in [
            queued.with(|s| s.pod = PodState::Absent),
            queued.with(|s| s.pod().exited = true),
            queued.with(|s| s.pod().terminating = true),
            queued.with(|s| s.lease.phase = Phase::Releasing),
            queued.with(|s| s.pod().desired = crate::plan::Desired::Nothing),
        ] {
            assert_eq!(unwanted.next(), Step::CancelQueued(id));
        }
    }
}

#[test]
fn a_sent_change_is_awaited_in_every_situation() {
    let scene = requested(&[80], &[SENT]);
    assert_eq!(waits(&scene.next()), Some(Reason::WaitingForAnswer));
    assert_eq!(
        waits(&scene.with(|s| s.pod = PodState::Absent).next()),
        Some(Reason::WaitingForAnswer)
    );
    // Also when the effect shows already: the answer is still awaited.
    let shown = scene.with(|s| s.cloud.entries = forwarding(&[80]).cloud.entries);
    assert_eq!(waits(&shown.next()), Some(Reason::WaitingForAnswer));
}

#[test]
fn a_lost_answer_is_resolved_while_others_wait() {
    let scene = requested(&[80, 443], &[SendState::Queued, SendState::Unanswered]);
    assert_eq!(scene.next(), Step::Requeue(SECOND));
    let gone = scene.with(|s| s.pod = PodState::Absent);
    assert_eq!(gone.next(), Step::CancelQueued(FIRST), "what was not sent is taken back first");
    let taken_back = gone.with(|s| drop(s.operations.remove(0)));
    assert_eq!(waits(&taken_back.next()), Some(Reason::WaitingForAnswer));
}

#[test]
fn a_queued_deletion_of_an_entry_that_vanished_stays() {
    let releasing = forwarding(&[80]).with(|s| {
        s.lease.phase = Phase::Releasing;
        s.resource = crate::plan::CustomResourceState::Absent;
    });
    let Step::QueueChanges { mut requests, .. } = releasing.next() else {
        panic!("{:?}", releasing.next())
    };
    let request = requests.remove(0);
    assert!(matches!(request.change, Change::DeleteForwardEntry { .. }));
    let queued = releasing.unresolved(request.change).with(|s| {
        s.operations[0].resource = request.resource;
        s.operations[0].send_state = SendState::Queued;
    });
    assert_eq!(waits(&queued.next()), Some(Reason::WaitingForGateway));
    // A list that lacks the entry proves nothing; the deletion's own answer will.
    assert_eq!(
        waits(&queued.with(|s| s.cloud.entries.clear()).next()),
        Some(Reason::WaitingForGateway)
    );
    // The deletion stays queued while the plan has another step to do first: deleting twice does no
    // harm.
    let gone = queued.with(|s| {
        s.lease.phase = Phase::Provisioning;
        s.pod = PodState::Absent;
    });
    assert_eq!(waits(&gone.next()), Some(Reason::WaitingForGateway));
}
