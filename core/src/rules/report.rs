//! Reports of a wait: by condition, by event, or not at all.

use crate::condition::{Reason, Verdict};
use crate::lease::Phase;
use crate::plan::{PodFact, PodHere, ResourceFact};
use crate::retry::Patience;

/// Form in which a wait is reported to the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// No report: the pod already says so, or the wait is not worth one.
    Nothing,
    /// An event only: the condition stays as it is.
    Event,
    /// The pod's condition only.
    Condition,
    /// The pod's condition, with an event beside it.
    ConditionAndEvent,
}

/// Previous wait of the lease.
#[derive(Clone, Copy, Debug)]
pub struct Before<'a> {
    /// Reason of the last wait.
    pub reason: Option<&'a str>,
    /// Number of refusals in a row of a queued change.
    pub refusals: i32,
}

/// Decides how the pod hears of a wait. No report goes to a pod that is terminating (Ready False
/// would end its drain) or has exited, nor for an idle lease, nor for short waits that are over
/// before a person has read of them.
pub fn of_wait(
    phase: Phase,
    pod: &PodFact,
    resource: &ResourceFact,
    before: Before<'_>,
    patience: Patience,
    told: &Verdict,
) -> Report {
    let PodFact::Here(pod) = pod else { return Report::Nothing };
    if pod.terminating
        || pod.exited
        || phase == Phase::Ending
        || !is_lasting(pod, before, patience, told)
    {
        return Report::Nothing;
    }
    if phase == Phase::Held || resource.is_foreign() {
        // The address works and something else does not: only a withdrawal sets the condition back
        // to False. Beside a foreign custom resource the condition is the other controller's.
        return if before.reason == Some(&told.reason) { Report::Nothing } else { Report::Event };
    }
    let new =
        pod.verdict.as_ref().is_none_or(|verdict| verdict.status || verdict.reason != told.reason);
    // No event for a missing IP, with which every pod starts.
    if new && !patience.is_short() && told.reason != Reason::WaitingForPodIp.as_str() {
        return Report::ConditionAndEvent;
    }
    if pod.verdict.as_ref() == Some(told) { Report::Nothing } else { Report::Condition }
}

fn is_lasting(pod: &PodHere, before: Before<'_>, patience: Patience, told: &Verdict) -> bool {
    match patience {
        // A rejected change is queued again; the reason of its rejection is more useful to people.
        Patience::Turn if before.refusals > 0 => false,
        Patience::Poll | Patience::Turn => {
            before.reason == Some(&told.reason) || pod.verdict.is_none()
        }
        Patience::Event | Patience::Person => true,
        Patience::Exit | Patience::Idle | Patience::Until(_) => false,
    }
}
