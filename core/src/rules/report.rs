//! Reports of a wait: by condition, by event, or not at all.

use crate::condition::{ConditionState, Reason};
use crate::lease::Phase;
use crate::plan::{CustomResourceState, PodState};
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
    /// Number of waits in a row for that reason, before this one.
    pub tries: i32,
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
        || !is_lasting(before, retry_policy, state)
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

/// Polls in a row, for the same reason, that a pod does not hear of: some four seconds.
const QUIET_POLLS: i32 = 5;

fn is_lasting(before: PreviousWait<'_>, retry_policy: RetryPolicy, state: &ConditionState) -> bool {
    let again = before.reason == Some(&state.reason);
    match retry_policy {
        // A rejected change is queued again; the reason of its rejection is more useful to people.
        RetryPolicy::Queue | RetryPolicy::Answer(_) if before.rejections > 0 => false,
        // The first refusal is often over within a second; its wait has a curve of its own.
        RetryPolicy::Refusal => before.rejections > 0,
        // The second of such waits begins after seconds; most pods need no first report.
        RetryPolicy::Queue | RetryPolicy::PodEvent | RetryPolicy::Answer(_) => again,
        RetryPolicy::Poll | RetryPolicy::Appearance => again && before.tries >= QUIET_POLLS,
        RetryPolicy::Event | RetryPolicy::Person | RetryPolicy::Remedy | RetryPolicy::SetAside => {
            true
        }
        RetryPolicy::PodExit | RetryPolicy::Check | RetryPolicy::Idle | RetryPolicy::Until(_) => {
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    /// The first of the waits in a row that is reported; none if none of the first twenty is.
    fn first_reported(retry_policy: RetryPolicy, rejections: i32) -> Option<i32> {
        let state = ConditionState::new(false, Reason::RateLimited, "");
        (0..20).find(|wait| {
            let reason = (*wait > 0).then_some(Reason::RateLimited.as_str());
            is_lasting(PreviousWait { reason, tries: *wait - 1, rejections }, retry_policy, &state)
        })
    }

    #[test]
    fn waits_that_are_usually_over_in_seconds_are_reported_once_they_are_not() {
        for (retry_policy, first) in [
            (RetryPolicy::Event, Some(0)),
            (RetryPolicy::Person, Some(0)),
            (RetryPolicy::Queue, Some(1)),
            (RetryPolicy::PodEvent, Some(1)),
            (RetryPolicy::Answer(Timestamp::UNIX_EPOCH), Some(1)),
            (RetryPolicy::Poll, Some(6)),
            (RetryPolicy::Appearance, Some(6)),
            (RetryPolicy::Idle, None),
        ] {
            assert_eq!(first_reported(retry_policy, 0), first, "{retry_policy:?}");
        }
        assert_eq!(first_reported(RetryPolicy::Queue, 1), None, "the rejection says more");
    }
}
