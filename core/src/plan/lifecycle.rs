//! Phases of a lease, and the step that each asks for while no operation is unresolved.
//!
//! ```text
//! announced ─▶ provisioning ⇄ bound ─▶ retained ─▶ (provisioning, for a successor)
//!     └──────────────┴──────────┴─────────┴──▶ releasing ─▶ deleted
//! ```

use super::publication::{remove_resource, withdrawal};
use super::situation::{Asks, PodFact, ResourceFact, Situation};
use super::step::{EndReason, Step};
use super::{dnat, eip, retention};
use crate::condition::Reason;
use crate::lease::Phase;
use crate::request::Kind;
use crate::retry::Patience;

/// The step that the plan would take if no operation were under way.
pub(super) fn next(s: &Situation<'_>) -> Step {
    match s.lease.phase {
        Phase::Headstart => headstart(s),
        Phase::Wanted | Phase::Held => match end_reason(s) {
            Some(reason @ (EndReason::PodGone | EndReason::PodExited)) => {
                retention::parted(s, reason)
            }
            Some(reason) => Step::End(reason),
            None => live(s),
        },
        Phase::Kept => retention::kept(s),
        Phase::Ending => ending(s),
    }
}

/// Plans an announced lease, which is due when it expires: by then the watch has missed its pod, or
/// the pod never came.
fn headstart(s: &Situation<'_>) -> Step {
    match s.pod {
        PodFact::Here(_) => Step::Want,
        // Releasing first: until then the announcement also serves the next pod of the name, which
        // may have been observed since this read.
        PodFact::Gone => Step::End(EndReason::PodGone),
    }
}

/// Reason why the lease must end; none while its pod is there and asks for it. Terminated
/// containers alone prove nothing: only the pod's phase does, or its absence in a live read.
fn end_reason(s: &Situation<'_>) -> Option<EndReason> {
    let PodFact::Here(pod) = s.pod else { return Some(EndReason::PodGone) };
    if pod.exited {
        return Some(EndReason::PodExited);
    }
    match &pod.asks {
        Asks::For(request) if s.lease.request.needs_another_lease(request) => {
            Some(EndReason::RequestChanged)
        }
        // Invalid annotations on a running pod are reported only: the pod keeps what it has.
        Asks::For(_) | Asks::Wrong(_) => None,
        Asks::Nothing => Some(EndReason::NotRequested),
    }
}

fn live(s: &Situation<'_>) -> Step {
    let PodFact::Here(pod) = s.pod else { return Step::End(EndReason::PodGone) };
    // First of all: a preempted pod gives the EIP up even while terminating, since the younger pod
    // waits for it.
    if let Some(winner) = &s.lease.lost_to {
        return eip::lose(s, pod, winner);
    }
    if let ResourceFact::Foreign { what } = s.resource {
        // Checked before anything is bought or reserved for a pod that another controller serves.
        return Step::wait(Reason::ResourceTaken, Patience::Person, what.clone());
    }
    if pod.terminating {
        // A terminating pod keeps its address until it has exited, since connections drain through
        // it, and gets nothing new.
        return Step::wait(
            Reason::PodTerminating,
            Patience::Exit,
            "the pod is terminating; its address stays until it has exited".into(),
        );
    }
    if let Asks::For(request) = &pod.asks
        && **request != s.lease.request
    {
        return Step::Adjust(request.clone());
    }
    match s.lease.kind {
        Kind::Eip => eip::live(s, pod),
        Kind::Dnat => dnat::live(s, pod),
    }
}

fn ending(s: &Situation<'_>) -> Step {
    if let Some(withdrawal) = withdrawal(s) {
        return Step::Withdraw(withdrawal);
    }
    let left = match s.lease.kind {
        Kind::Eip => eip::ending(s),
        Kind::Dnat => dnat::ending(s),
    };
    match left {
        // The custom resource is of no use any more, and a successor of the name need not wait
        // until the prepaid time is over.
        Some(Step::Wait(wait)) if wait.reason == Reason::PrePaid => match remove_resource(s) {
            Step::Forget if s.lease.resource => Step::YieldResource,
            Step::Forget => Step::Wait(wait),
            removal => removal,
        },
        Some(step) => step,
        None => remove_resource(s),
    }
}
