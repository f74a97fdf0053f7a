//! The plan: from what is known of a lease, its pod, its custom resource and the cloud, the one next step.
//!
//! ```text
//! Situation ─▶ next() ─▶ Step      not served? left alone
//!                                  unresolved operations? see what becomes of them
//!                                  pod gone or asks no more? end
//!                                  else eip::live / dnat::live … Publish, or ending … Forget
//! ```
//!
//! Pure: the same situation gives the same step. It never publishes what a read after the last answer does not prove, never frees what
//! may still exist, and asks for at most one change at a time of any one thing in the cloud. Nothing but waiting, asking again and taking back is
//! decided while an operation is unresolved.

mod dnat;
mod eip;
mod keep;
mod operations;
mod situation;
mod step;
#[cfg(test)]
mod tests;

pub use situation::{
    Asks, CloudFacts, EipSources, GatewayFact, Holder, Object, PodFact, PodHere, Removal, ResourceFact, Seen, Situation, Standing,
    Successor, Verdict,
};
pub use step::{Ask, Content, EndReason, Patience, PortKey, PortSpan, Publication, Reason, Step, Wait, Withdrawal};

use crate::lease::Phase;
use crate::request::{EipSource, Kind, Request};

/// The one next step.
pub fn next(s: &Situation<'_>) -> Step {
    if !s.served {
        return leave_alone();
    }
    operations::unresolved(s).unwrap_or_else(|| afresh(s))
}

/// What is switched off is paused: nothing is made, repaired, taken back or told.
fn leave_alone() -> Step {
    let message = "the configuration's enableControllers switches addresses of this kind off; what the lease has stays as it is";
    Step::wait(Reason::NotServed, Patience::Idle, message.to_owned())
}

/// Whether what was read serves for the next step, too: this one only writes to the store, and no answer was awaited that could have come since. Lists
/// of forward entries are none of it: they have an age of their own.
pub fn still_stands(s: &Situation<'_>, step: &Step) -> bool {
    let only_store = match step {
        Step::ReservePorts { .. } | Step::SetTarget(_) | Step::Queue { .. } => true,
        // Another lease's may have gone while this one waited for its name.
        Step::ClaimResource => matches!(s.resource, ResourceFact::Absent | ResourceFact::Mine(..)),
        _ => false,
    };
    only_store && s.operations.is_empty()
}

/// The step if nothing were under way.
fn afresh(s: &Situation<'_>) -> Step {
    match s.lease.phase {
        Phase::Headstart => headstart(s),
        Phase::Wanted | Phase::Held => match end_reason(s) {
            Some(reason @ (EndReason::PodGone | EndReason::PodExited)) => keep::parted(s, reason),
            Some(reason) => Step::End(reason),
            None => live(s),
        },
        Phase::Kept => keep::kept(s),
        Phase::Ending => ending(s),
    }
}

/// A head start is looked at when it expires: by then its pod is there and the watch missed it, or it never came.
fn headstart(s: &Situation<'_>) -> Step {
    match s.pod {
        PodFact::Here(_) => Step::Want,
        // Ending first: until then it stands for the next pod of its name, too, which may have been seen since this read.
        PodFact::Gone => Step::End(EndReason::PodGone),
    }
}

/// Why the lease must end; none while it must not. Terminated containers alone prove nothing: only the phase, or absence by a live read.
fn end_reason(s: &Situation<'_>) -> Option<EndReason> {
    let PodFact::Here(pod) = s.pod else { return Some(EndReason::PodGone) };
    if pod.exited {
        return Some(EndReason::PodExited);
    }
    match &pod.asks {
        Asks::For(request) if needs_another_lease(&s.lease.request, request) => Some(EndReason::RequestChanged),
        // Wrong annotations on a running pod are reported, not punished: what it has, it keeps.
        Asks::For(_) | Asks::Wrong(_) => None,
        Asks::Nothing => Some(EndReason::NotRequested),
    }
}

/// Whether a changed request can only be met by another address or other ports.
fn needs_another_lease(had: &Request, wants: &Request) -> bool {
    match (had, wants) {
        (Request::Eip(had), Request::Eip(wants)) => match (&had.source, &wants.source) {
            (EipSource::Allocate(_), EipSource::Allocate(_)) => false,
            (EipSource::Given(_), EipSource::Given(_)) | (EipSource::Pool(_), EipSource::Pool(_)) => had.source != wants.source,
            (EipSource::Allocate(_) | EipSource::Given(_) | EipSource::Pool(_), _) => true,
        },
        (Request::Dnat(had), Request::Dnat(wants)) => had.ports != wants.ports,
        (Request::Eip(_), Request::Dnat(_)) | (Request::Dnat(_), Request::Eip(_)) => true,
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
        // Its address stays until it has exited: connections drain through it. And it is given nothing new.
        return Step::wait(Reason::PodTerminating, Patience::Exit, "the pod is terminating; its address stays until it has exited".into());
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
        // Its custom resource stands for nothing any more, and a successor of the name needs not wait for the end of what is paid for.
        Some(Step::Wait(wait)) if wait.reason == Reason::PrePaid => match remove_resource(s) {
            Step::Forget if s.lease.resource => Step::YieldResource,
            Step::Forget => Step::Wait(wait),
            removal => removal,
        },
        Some(step) => step,
        None => remove_resource(s),
    }
}

/// What must be taken back before anything is unbound: nobody may read an address that is about to stop working. What a pod shows beside another
/// controller's custom resource is that one's.
fn withdrawal(s: &Situation<'_>) -> Option<Withdrawal> {
    if s.resource.is_foreign() {
        return None;
    }
    let resource = s.resource.shows_address();
    let PodFact::Here(pod) = s.pod else {
        return resource.then(|| Withdrawal::ending(Reason::Released, "the pod is gone"));
    };
    if pod.exited {
        return resource.then(|| Withdrawal::ending(Reason::Released, "the pod has exited"));
    }
    if matches!(pod.asks, Asks::Nothing) {
        let answered = !pod.gated || pod.verdict.as_ref().is_some_and(|v| v.status && v.reason == Reason::NotRequested.as_str());
        let message = "the pod no longer asks for a public address";
        return (resource || pod.announced.is_some() || !answered).then(|| Withdrawal::not_requested(message));
    }
    // A lease that never became the writer of its resource has published nothing: what the pod announces is its successor's.
    let shown = resource || (s.lease.resource && pod.announced.is_some());
    shown.then(|| Withdrawal::ending(Reason::Replacing, "the pod asks for something else now; its former address is being released"))
}

fn remove_resource(s: &Situation<'_>) -> Step {
    match s.resource {
        ResourceFact::Mine(..) | ResourceFact::Stray => Step::RemoveResource,
        ResourceFact::Absent | ResourceFact::Another { .. } | ResourceFact::Foreign { .. } => Step::Forget,
    }
}

/// Makes the lease the one writer of its custom resource, and the resource what `spec` says; none when that is so.
fn resource_step(s: &Situation<'_>, content: Content) -> Option<Step> {
    if !s.lease.resource {
        return Some(Step::ClaimResource);
    }
    match s.resource {
        ResourceFact::Absent => Some(Step::WriteResource(content)),
        ResourceFact::Stray => Some(Step::RemoveResource),
        ResourceFact::Mine(object, _) => {
            let current = content.spec_is(object) && object.pod_uid() == Some(s.lease.pod_uid.as_str());
            (!current).then_some(Step::WriteResource(content))
        }
        ResourceFact::Another { what } | ResourceFact::Foreign { what } => {
            Some(Step::wait(Reason::ResourceTaken, Patience::Poll, what.clone()))
        }
    }
}

/// Publishes what is proven, unless it stands everywhere already; then the lease is looked at again after a while.
fn publish(s: &Situation<'_>, pod: &PodHere, publication: Publication) -> Step {
    let announced = pod.announced.as_deref() == Some(publication.annotation.as_str());
    let says = |v: &Verdict| v.status && v.reason == publication.reason.as_str() && v.message == publication.message;
    let answered = pod.verdict.as_ref().is_some_and(says);
    let written = matches!(s.resource, ResourceFact::Mine(object, _) if publication.content.is(object));
    if written && announced && answered && s.lease.phase == Phase::Held && s.lease.doubts == 0 {
        return Step::wait(publication.reason, Patience::Idle, publication.message);
    }
    Step::Publish(publication)
}

/// What was published does not show any more. One read may be wrong: the second in a row withdraws, and the plan then repairs.
fn doubt(s: &Situation<'_>, pod: &PodHere, why: String) -> Option<Step> {
    if s.lease.phase != Phase::Held && !shows_address(s, pod) {
        return None;
    }
    Some(if s.lease.phase == Phase::Held && s.lease.doubts == 0 { Step::Doubt } else { Step::Withdraw(Withdrawal::lost(why)) })
}

fn shows_address(s: &Situation<'_>, pod: &PodHere) -> bool {
    let told = pod.announced.is_some() || pod.verdict.as_ref().is_some_and(|v| v.status);
    s.resource.shows_address() || (told && !s.resource.is_foreign())
}

/// The pod has another IP under the same UID (a new sandbox): the kubelet kept our condition, so it goes first.
fn moved(s: &Situation<'_>, pod: &PodHere) -> Option<Step> {
    let (target, ip) = (s.lease.target.as_ref()?, pod.ip?);
    let why = format!("the pod's IP changed from {} to {ip}; its address follows", target.private_ip);
    (target.private_ip != ip && shows_address(s, pod)).then(|| Step::Withdraw(Withdrawal::lost(why)))
}
