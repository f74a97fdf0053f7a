//! Changes in their gateway's queue, and changes on their way to the cloud.

use super::dnat::forwarding;
use super::{FORMER_IP, NOW, Scene, eni, waits};
use crate::change::Change;
use crate::condition::Reason;
use crate::lease::Phase;
use crate::operation::{Operation, Sending};
use crate::plan::{PodFact, Seen, Step};
use jiff::SignedDuration;
use uuid::Uuid;

/// A pod whose ports' entries are all asked for and none of them made, each operation in this
/// state.
fn asked(ports: &[u16], sending: &[Sending]) -> Scene {
    let scene = forwarding(ports).with(|s| {
        s.cloud.entries.clear();
        s.lease.ports.iter_mut().for_each(|port| port.entry_id = None);
    });
    let Step::Queue { asks, .. } = scene.next() else { panic!("{:?}", scene.next()) };
    let operation =
        |(number, (ask, sending)): (u128, (crate::operation::Ask, &Sending))| Operation {
            id: Uuid::from_u128(number),
            resource: ask.resource,
            change: ask.change,
            sending: *sending,
            fence_until: NOW + SignedDuration::from_mins(1),
            misses: 0,
            waits_out: false,
        };
    scene.with(|s| s.operations = (1..).zip(asks.into_iter().zip(sending)).map(operation).collect())
}

const FIRST: Uuid = Uuid::from_u128(1);
const SECOND: Uuid = Uuid::from_u128(2);

#[test]
fn what_is_queued_and_still_wanted_waits_for_its_turn() {
    let scene = asked(&[80, 443], &[Sending::Queued, Sending::Queued]);
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
    let scene = asked(&[80], &[Sending::Queued]);
    let unwanted = [
        ("gone", scene.with(|s| s.pod = PodFact::Gone)),
        ("exited", scene.with(|s| s.pod().exited = true)),
        ("terminating", scene.with(|s| s.pod().terminating = true)),
        ("ending", scene.with(|s| s.lease.phase = Phase::Ending)),
        ("asking for something else", scene.with(|s| s.pod().asks = crate::plan::Asks::Nothing)),
        (
            "without its custom resource",
            scene.with(|s| s.resource = crate::plan::ResourceFact::Absent),
        ),
        ("beyond the quota", scene.with(|s| s.cloud.gateway.full_at = Some(0))),
        (
            "at a gateway in trouble",
            scene.with(|s| s.cloud.gateway.trouble = Some("locked".to_owned())),
        ),
        (
            "elsewhere",
            scene.with(|s| {
                s.pod().ip = Some(FORMER_IP);
                s.cloud.eni = Seen::There(eni());
            }),
        ),
    ];
    for (how, scene) in unwanted {
        assert_eq!(scene.next(), Step::Unqueue(FIRST), "the pod is {how}");
    }
}

#[test]
fn what_is_on_its_way_is_waited_for_whatever_has_happened() {
    let scene = asked(&[80], &[Sending::Sent]);
    assert_eq!(waits(&scene.next()), Some(Reason::Unanswered));
    assert_eq!(waits(&scene.with(|s| s.pod = PodFact::Gone).next()), Some(Reason::Unanswered));
    // Also when the effect shows already: the answer is still awaited.
    let shown = scene.with(|s| s.cloud.entries = forwarding(&[80]).cloud.entries);
    assert_eq!(waits(&shown.next()), Some(Reason::Unanswered));
}

#[test]
fn a_lost_answer_is_looked_into_while_others_wait() {
    let scene = asked(&[80, 443], &[Sending::Queued, Sending::Unanswered]);
    assert_eq!(scene.next(), Step::Requeue(SECOND));
    let gone = scene.with(|s| s.pod = PodFact::Gone);
    assert_eq!(gone.next(), Step::Unqueue(FIRST), "what was not sent is taken back first");
    let taken_back = gone.with(|s| drop(s.operations.remove(0)));
    assert_eq!(waits(&taken_back.next()), Some(Reason::Unanswered));
}

#[test]
fn a_queued_deletion_of_an_entry_that_vanished_stays() {
    let ending = forwarding(&[80]).with(|s| {
        s.lease.phase = Phase::Ending;
        s.resource = crate::plan::ResourceFact::Absent;
    });
    let Step::Queue { mut asks, .. } = ending.next() else { panic!("{:?}", ending.next()) };
    let ask = asks.remove(0);
    assert!(matches!(ask.change, Change::DeleteForwardEntry { .. }));
    let queued = ending.unresolved(ask.change).with(|s| {
        s.operations[0].resource = ask.resource;
        s.operations[0].sending = Sending::Queued;
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
        s.lease.phase = Phase::Wanted;
        s.pod = PodFact::Gone;
    });
    assert_eq!(waits(&gone.next()), Some(Reason::WaitingForGateway));
}
