//! Waits after a refusal, which hold against whatever wakes the lease.

use super::dnat::forwarding;
use super::{NOW, Scene, auto, bound, eip};
use crate::change::Change;
use crate::cloud_facts::EipStatus;
use crate::condition::ConditionState;
use crate::failure::{CallFailure, FailureClass};
use crate::operation::{Operation, Refusal, Rejection, SendState};
use crate::plan::{PodState, Step};
use crate::request::Request;
use crate::retry::RetryPolicy;
use crate::rules::report::{PreviousWait, Report, report_for_wait};
use crate::rules::response::{Record, failure_records};
use jiff::SignedDuration;
use uuid::Uuid;

const CLASSES: [FailureClass; 5] = [
    FailureClass::Conflict,
    FailureClass::NotFound,
    FailureClass::Quota,
    FailureClass::Denied,
    FailureClass::Permanent,
];

/// The rejection that a definite failure of this class gives.
fn rejection(change: &Change, class: FailureClass) -> Option<Rejection> {
    let failure = CallFailure {
        class,
        definite: true,
        sent: true,
        scope: None,
        reason: "TheReason",
        message: "m".to_owned(),
        retry_after: None,
    };
    failure_records(change, &failure, false).into_iter().find_map(|record| match record {
        Record::Reject(rejection) => Some(*rejection),
        _ => None,
    })
}

/// The scene after the refusal of this change, a minute before the end of its wait.
fn refused(scene: &Scene, change: &Change, class: FailureClass) -> Scene {
    let refusal = rejection(change, class)
        .map(|rejection| Refusal { rejection, until: NOW + SignedDuration::from_mins(1) })
        .map(Box::new);
    scene.with(|s| s.refusal = refusal)
}

fn asked(step: &Step) -> Vec<Change> {
    match step {
        Step::QueueEipChange { change, .. } => vec![change.clone()],
        Step::QueueChanges { requests, .. } => {
            requests.iter().map(|request| request.change.clone()).collect()
        }
        _ => Vec::new(),
    }
}

/// Scenes that ask for a change, each of another action.
fn asking() -> Vec<Scene> {
    let allocates = Scene::new(auto());
    let creates = forwarding(&[80]).with(|s| {
        s.cloud.entries.clear();
        s.lease.ports.iter_mut().for_each(|port| port.entry_id = None);
    });
    let deletes = forwarding(&[80]).with(|s| {
        s.lease.phase = crate::lease::Phase::Releasing;
        s.pod = PodState::Absent;
    });
    let releases = bound(auto(), eip(EipStatus::Available, None)).with(|s| {
        s.lease.phase = crate::lease::Phase::Releasing;
        s.lease.target = None;
        s.pod = PodState::Absent;
    });
    vec![allocates, creates, deletes, releases]
}

#[test]
fn a_refusal_of_any_class_holds_until_its_moment_and_no_longer() {
    let mut held = 0;
    for scene in asking() {
        let changes = asked(&scene.next());
        assert!(!changes.is_empty(), "{:?}", scene.next());
        for class in CLASSES {
            let scene = refused(&scene, &changes[0], class);
            let Some(refusal) = scene.refusal.clone() else { continue };
            assert_eq!(scene.next(), Step::AwaitRetry((*refusal).clone()), "{class:?}");
            assert_eq!(asked(&scene.next_at(refusal.until)), changes, "{class:?}");
            held += 1;
        }
    }
    // NotFound is the end of what takes away, and no refusal.
    assert_eq!(held, 4 * CLASSES.len() - 2);
}

#[test]
fn another_change_goes_on_at_once() {
    let scene = Scene::new(auto());
    let changes = asked(&scene.next());
    let corrected = refused(&scene, &changes[0], FailureClass::Permanent).with(|s| {
        let Request::Eip(request) = &mut s.lease.request else { panic!("an EIP") };
        let crate::request::EipSource::Allocate(spec) = &mut request.source else { panic!("new") };
        spec.bandwidth += 1;
        s.pod().desired = crate::plan::Desired::Request(Box::new(s.lease.request.clone()));
    });
    let now = asked(&corrected.next());
    assert!(now.len() == 1 && now != changes, "{now:?}");
}

#[test]
fn one_refused_entry_holds_back_the_others_but_no_deletion() {
    let scene = forwarding(&[80, 443]).with(|s| {
        s.cloud.entries.clear();
        s.lease.ports.iter_mut().for_each(|port| port.entry_id = None);
    });
    let changes = asked(&scene.next());
    assert_eq!(changes.len(), 2);
    let scene = refused(&scene, &changes[1], FailureClass::Conflict);
    assert!(matches!(scene.next(), Step::AwaitRetry(_)), "{:?}", scene.next());
    let leftover = forwarding(&[80, 443]).with(|s| {
        s.cloud.entries.truncate(1);
        s.cloud.entries[0].internal_ip = super::FORMER_IP;
        s.cloud.gateway.modify_denied = true;
    });
    let both = asked(&leftover.next());
    let creation = both.iter().find(|change| change.gives()).expect("a creation");
    let scene = refused(&leftover, creation, FailureClass::Conflict);
    assert!(!asked(&scene.next()).is_empty() && asked(&scene.next()).iter().all(|it| !it.gives()));
}

#[test]
fn a_change_that_waits_in_its_queue_is_not_taken_back_for_the_refusal_of_another() {
    let scene = forwarding(&[80, 443]).with(|s| {
        s.cloud.entries.clear();
        s.lease.ports.iter_mut().for_each(|port| port.entry_id = None);
    });
    let Step::QueueChanges { requests, .. } = scene.next() else { panic!("{:?}", scene.next()) };
    let queued = |s: &mut Scene| {
        s.operations = vec![Operation {
            id: Uuid::from_u128(1),
            resource: requests[0].resource.clone(),
            change: requests[0].change.clone(),
            send_state: SendState::Queued,
            sends: 0,
            fence_until: NOW,
            reads_without_effect: 0,
            awaits_fence: false,
        }];
    };
    let scene = refused(&scene, &requests[1].change, FailureClass::Conflict).with(queued);
    assert!(matches!(scene.next(), Step::Wait(_)), "{:?}", scene.next());
}

#[test]
fn the_count_goes_on_whatever_is_refused_in_turn_but_for_a_corrected_request() {
    use crate::rules::refusals::starts_anew;
    let mut all: Vec<_> = asking().iter().map(|scene| asked(&scene.next()).remove(0)).collect();
    let mut other_port = all[1].clone();
    if let Change::CreateForwardEntry(forward) = &mut other_port {
        forward.external_port += 1;
    }
    all.push(other_port);
    let refusals: Vec<_> = all
        .iter()
        .filter_map(|change| rejection(change, FailureClass::Conflict))
        .map(|rejection| Refusal { rejection, until: NOW })
        .collect();
    assert_eq!(refusals.len(), all.len());
    for before in &refusals {
        for now in &refusals {
            assert!(!starts_anew(Some(before), &now.rejection), "{before:?} {now:?}");
        }
        assert!(!starts_anew(None, &before.rejection));
    }
    let mut corrected = refusals[0].rejection.clone();
    if let Change::AllocateEipAddress { spec, .. } = &mut corrected.change {
        spec.bandwidth += 1;
    }
    assert!(starts_anew(Some(&refusals[0]), &corrected));
}

#[test]
fn the_condition_keeps_the_clouds_reason_while_the_change_waits_for_its_next_try() {
    let scene = Scene::new(auto()).with(|s| {
        s.pod().condition = Some(ConditionState {
            status: false,
            reason: "TheReason".to_owned(),
            message: "m".to_owned(),
        });
    });
    let report = |reason: &str, retry_policy, rejections, before| {
        let state =
            ConditionState { status: false, reason: reason.to_owned(), message: "m".to_owned() };
        let before = PreviousWait { reason: Some(before), tries: 0, rejections };
        report_for_wait(
            scene.lease.phase,
            &scene.pod,
            &scene.resource,
            before,
            retry_policy,
            &state,
        )
    };
    for (reason, retry_policy) in [
        ("RateLimited", RetryPolicy::Queue),
        ("WaitingForGateway", RetryPolicy::Queue),
        ("WaitingForAnswer", RetryPolicy::Answer(NOW)),
    ] {
        // As long as it takes: with the same wait before.
        assert_eq!(report(reason, retry_policy, 1, reason), Report::Nothing);
        assert_ne!(report(reason, retry_policy, 0, reason), Report::Nothing);
    }
    // A first conflict is often over at once; the next one is told, by an event, too.
    assert_eq!(report("Other", RetryPolicy::Refusal, 0, "RateLimited"), Report::Nothing);
    assert_eq!(report("Other", RetryPolicy::Refusal, 1, "RateLimited"), Report::ConditionAndEvent);
    assert_eq!(report("Other", RetryPolicy::Remedy, 0, "RateLimited"), Report::ConditionAndEvent);
}
