//! A refused change is not asked for again before its wait is over, whatever wakes the lease.

use super::situation::Situation;
use super::step::Step;

/// Replaces a step that asks for the refused change by the wait for its retry. A change of something
/// else, or with other parameters, goes on at once.
///
/// Of several forward entries one refusal holds back all that ask for the same action: the pod needs
/// every one of them, and what was refused for one mostly is for the others.
pub(super) fn hold_back(s: &Situation<'_>, step: Step) -> Step {
    let Some(refusal) = s.refusal.filter(|refusal| s.now < refusal.until) else { return step };
    let refused = &refusal.rejection.change;
    match step {
        Step::QueueEipChange { change, .. } if change == *refused => {
            Step::AwaitRetry(refusal.clone())
        }
        Step::QueueChanges { gateway, mut requests }
            if requests.iter().any(|request| request.change == *refused) =>
        {
            requests.retain(|request| request.change.action() != refused.action());
            if requests.is_empty() {
                return Step::AwaitRetry(refusal.clone());
            }
            Step::QueueChanges { gateway, requests }
        }
        step => step,
    }
}
