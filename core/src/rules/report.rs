//! Reports of a wait: by condition, by event, or not at all.

use crate::condition::{ConditionState, Reason};
use crate::lease::Phase;
use crate::plan::{CustomResourceState, PodState, PodView};
use crate::retry::RetryPolicy;

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
pub struct PreviousWait<'a> {
    /// Reason of the last wait.
    pub reason: Option<&'a str>,
    /// Number of refusals in a row of a queued change.
    pub rejections: i32,
}

/// Decides how the pod hears of a wait. No report goes to a pod that is terminating (Ready False
/// would end its drain) or has exited, nor for an idle lease, nor for short waits that are over
/// before a person has read of them.
pub fn report_for_wait(
    phase: Phase,
    pod: &PodState,
    resource: &CustomResourceState,
    before: PreviousWait<'_>,
    retry_policy: RetryPolicy,
    state: &ConditionState,
) -> Report {
    let PodState::Present(pod) = pod else { return Report::Nothing };
    if pod.terminating
        || pod.exited
        || phase == Phase::Releasing
        || !is_lasting(pod, before, retry_policy, state)
    {
        return Report::Nothing;
    }
    if phase == Phase::Bound || resource.is_foreign() {
        // The address works and something else does not: only a withdrawal sets the condition back
        // to False. Beside a foreign custom resource the condition is the other controller's.
        return if before.reason == Some(&state.reason) { Report::Nothing } else { Report::Event };
    }
    let new =
        pod.condition.as_ref().is_none_or(|shown| shown.status || shown.reason != state.reason);
    // No event for a missing IP, with which every pod starts.
    if new && !retry_policy.is_short() && state.reason != Reason::WaitingForPodIp.as_str() {
        return Report::ConditionAndEvent;
    }
    if pod.condition.as_ref() == Some(state) { Report::Nothing } else { Report::Condition }
}

fn is_lasting(
    pod: &PodView,
    before: PreviousWait<'_>,
    retry_policy: RetryPolicy,
    state: &ConditionState,
) -> bool {
    match retry_policy {
        // A rejected change is queued again; the reason of its rejection is more useful to people.
        RetryPolicy::Queue if before.rejections > 0 => false,
        RetryPolicy::Poll | RetryPolicy::Queue | RetryPolicy::Answer(_) => {
            before.reason == Some(&state.reason) || pod.condition.is_none()
        }
        RetryPolicy::Event | RetryPolicy::Person | RetryPolicy::SetAside => true,
        RetryPolicy::PodExit | RetryPolicy::Idle | RetryPolicy::Until(_) => false,
    }
}
