//! Where a lease stands in its life, and what that asks for: begun, kept, ended.
//!
//! ```text
//! headstart ─▶ wanted ⇄ held ─▶ kept ─▶ (wanted, for a successor)
//!                  └──────┴───────┴──▶ ending ─▶ forgotten
//! ```

use super::publication::{remove_resource, withdrawal};
use super::situation::{Asks, PodFact, ResourceFact, Situation};
use super::step::{EndReason, Step};
use super::{dnat, eip, retention};
use crate::condition::Reason;
use crate::lease::Phase;
use crate::request::Kind;
use crate::retry::Patience;

/// The step if no operation were under way.
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

/// A head start is looked at when it expires: by then its pod is there and the watch missed it, or
/// it never came.
fn headstart(s: &Situation<'_>) -> Step {
    match s.pod {
        PodFact::Here(_) => Step::Want,
        // Ending first: until then it stands for the next pod of its name, too, which may have been
        // seen since this read.
        PodFact::Gone => Step::End(EndReason::PodGone),
    }
}

/// Why the lease must end; none while it must not. Terminated containers alone prove nothing: only
/// the phase, or absence by a live read.
fn end_reason(s: &Situation<'_>) -> Option<EndReason> {
    let PodFact::Here(pod) = s.pod else { return Some(EndReason::PodGone) };
    if pod.exited {
        return Some(EndReason::PodExited);
    }
    match &pod.asks {
        Asks::For(request) if s.lease.request.needs_another_lease(request) => {
            Some(EndReason::RequestChanged)
        }
        // Wrong annotations on a running pod are reported, not punished: what it has, it keeps.
        Asks::For(_) | Asks::Wrong(_) => None,
        Asks::Nothing => Some(EndReason::NotRequested),
    }
}

fn live(s: &Situation<'_>) -> Step {
    let PodFact::Here(pod) = s.pod else { return Step::End(EndReason::PodGone) };
    if let Some(winner) = &s.lease.lost_to {
        return eip::lose(s, pod, winner);
    }
    if let ResourceFact::Foreign { what } = s.resource {
        // Before anything is bought or reserved for a pod that another controller serves.
        return Step::wait(Reason::ResourceTaken, Patience::Person, what.clone());
    }
    if pod.terminating {
        // Its address stays until it has exited: connections drain through it. And it is given
        // nothing new.
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
        // Its custom resource stands for nothing any more, and a successor of the name needs not
        // wait for the end of what is paid for.
        Some(Step::Wait(wait)) if wait.reason == Reason::PrePaid => match remove_resource(s) {
            Step::Forget if s.lease.resource => Step::YieldResource,
            Step::Forget => Step::Wait(wait),
            removal => removal,
        },
        Some(step) => step,
        None => remove_resource(s),
    }
}
