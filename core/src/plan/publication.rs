//! Publication of an address: custom resource, annotation, condition. Published once proven,
//! withdrawn before the address stops working.

use super::situation::{Asks, PodFact, PodHere, ResourceFact, Situation};
use super::step::{Content, Publication, Step, Withdrawal};
use crate::condition::{Reason, Verdict};
use crate::lease::Phase;
use crate::retry::Patience;

/// The withdrawal that must precede any unbinding, so that no client reads an address that is about
/// to stop working. Beside a foreign custom resource there is none: condition and annotation are
/// the other controller's there.
pub(super) fn withdrawal(s: &Situation<'_>) -> Option<Withdrawal> {
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
        let answered = !pod.gated
            || pod
                .verdict
                .as_ref()
                .is_some_and(|v| v.status && v.reason == Reason::NotRequested.as_str());
        let message = "the pod no longer asks for a public address";
        return (resource || pod.announced.is_some() || !answered)
            .then(|| Withdrawal::not_requested(message));
    }
    // A lease that never wrote the custom resource has published nothing: the pod's annotation is
    // from the lease of its successor.
    let shown = resource || (s.lease.resource && pod.announced.is_some());
    shown.then(|| {
        Withdrawal::ending(
            Reason::Replacing,
            "the pod asks for another address now; its former one is being released",
        )
    })
}

pub(super) fn remove_resource(s: &Situation<'_>) -> Step {
    match s.resource {
        ResourceFact::Mine(..) | ResourceFact::Stray => Step::RemoveResource,
        ResourceFact::Absent | ResourceFact::Another { .. } | ResourceFact::Foreign { .. } => {
            Step::Forget
        }
    }
}

/// Makes the lease the only writer of its custom resource, and the resource equal to `content`;
/// none once both hold.
pub(super) fn resource_step(s: &Situation<'_>, content: Content) -> Option<Step> {
    if !s.lease.resource {
        return Some(Step::ClaimResource);
    }
    match s.resource {
        ResourceFact::Absent => Some(Step::WriteResource(content)),
        ResourceFact::Stray => Some(Step::RemoveResource),
        ResourceFact::Mine(object, _) => {
            let current =
                content.spec_is(object) && object.pod_uid() == Some(s.lease.pod_uid.as_str());
            (!current).then_some(Step::WriteResource(content))
        }
        ResourceFact::Another { what } | ResourceFact::Foreign { what } => {
            Some(Step::wait(Reason::ResourceTaken, Patience::Poll, what.clone()))
        }
    }
}

/// Publishes what is proven, unless all of it is published already; then the lease is idle for
/// minutes.
pub(super) fn publish(s: &Situation<'_>, pod: &PodHere, publication: Publication) -> Step {
    let announced = pod.announced.as_deref() == Some(publication.annotation.as_str());
    let says = |v: &Verdict| {
        v.status && v.reason == publication.reason.as_str() && v.message == publication.message
    };
    let answered = pod.verdict.as_ref().is_some_and(says);
    let written =
        matches!(s.resource, ResourceFact::Mine(object, _) if publication.content.is(object));
    if written && announced && answered && s.lease.phase == Phase::Held && s.lease.doubts == 0 {
        return Step::wait(publication.reason, Patience::Idle, publication.message);
    }
    Step::Publish(publication)
}

/// Reacts to a read that does not show what was published. The first such read may be wrong and is
/// only counted; the second in a row withdraws the address, and the plan then repairs it.
pub(super) fn doubt(s: &Situation<'_>, pod: &PodHere, why: String) -> Option<Step> {
    if s.lease.phase != Phase::Held && !shows_address(s, pod) {
        return None;
    }
    Some(if s.lease.phase == Phase::Held && s.lease.doubts == 0 {
        Step::Doubt
    } else {
        Step::Withdraw(Withdrawal::lost(why))
    })
}

pub(super) fn shows_address(s: &Situation<'_>, pod: &PodHere) -> bool {
    let told = pod.announced.is_some() || pod.verdict.as_ref().is_some_and(|v| v.status);
    s.resource.shows_address() || (told && !s.resource.is_foreign())
}

/// Withdraws if the pod has another IP under the same UID (a new sandbox): the kubelet has kept the
/// condition, which must go before the target changes.
pub(super) fn moved(s: &Situation<'_>, pod: &PodHere) -> Option<Step> {
    let (target, ip) = (s.lease.target.as_ref()?, pod.ip?);
    let why =
        format!("the pod's IP changed from {} to {ip}; its address will follow", target.private_ip);
    (target.private_ip != ip && shows_address(s, pod))
        .then(|| Step::Withdraw(Withdrawal::lost(why)))
}
