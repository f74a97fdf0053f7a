//! Whether a pod is told what it waits for.

use crate::condition::{Reason, Verdict};
use crate::lease::Phase;
use crate::plan::{PodFact, PodHere, ResourceFact};
use crate::retry::Patience;

/// What a wait is told by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// Nothing.
    Nothing,
    /// An event alone: the pod stays ready.
    Event,
    /// The pod's condition.
    Condition,
    /// The pod's condition, and an event beside it.
    ConditionAndEvent,
}

/// What the lease waited for before.
#[derive(Clone, Copy, Debug)]
pub struct Before<'a> {
    /// The reason of its last wait.
    pub reason: Option<&'a str>,
    /// How often in a row a queued change of it was refused.
    pub refusals: i32,
}

/// How the pod is told of a wait. Not where it is terminating (Ready False would end its drain) or
/// has exited, not where all is well, and not of the short waits that are over before anyone has
/// read of them.
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
        // Its address works, and something else does not: only a withdrawal sets the condition back
        // to False. Or another controller serves the pod, whose word its condition is.
        return if before.reason == Some(&told.reason) { Report::Nothing } else { Report::Event };
    }
    let new =
        pod.verdict.as_ref().is_none_or(|verdict| verdict.status || verdict.reason != told.reason);
    if new && !patience.is_short() && told.reason != Reason::WaitingForPodIp.as_str() {
        return Report::ConditionAndEvent;
    }
    if pod.verdict.as_ref() == Some(told) { Report::Nothing } else { Report::Condition }
}

fn is_lasting(pod: &PodHere, before: Before<'_>, patience: Patience, told: &Verdict) -> bool {
    match patience {
        // It is asked for once more; why it was refused is what people want to read.
        Patience::Turn if before.refusals > 0 => false,
        Patience::Poll | Patience::Turn => {
            before.reason == Some(&told.reason) || pod.verdict.is_none()
        }
        Patience::Event | Patience::Person => true,
        Patience::Exit | Patience::Idle | Patience::Until(_) => false,
    }
}
