//! Retention: an EIP with a release strategy and fixed ports outlive their pod. Unbound when the
//! pod is gone, retained for a successor of the same name and controller, released when the
//! retention expires or a person deletes the custom resource.

use super::publication::withdrawal;
use super::situation::{Removal, ResourceFact, Situation, Successor};
use super::step::{Content, EndReason, Step};
use super::{dnat, eip};
use crate::condition::Reason;
use crate::request::{Keep, Kind, Request};
use crate::retry::Patience;

/// Plans for a pod that is gone or has exited: unbinds and retains what is to be retained, and
/// releases the rest.
pub(super) fn parted(s: &Situation<'_>, reason: EndReason) -> Step {
    let seconds = match s.lease.request.keep() {
        Keep::Not => return Step::End(reason),
        Keep::Seconds(seconds) => Some(seconds),
        Keep::Always => None,
    };
    // Without a custom resource nothing was ever bound or published; if the address were retained,
    // no person could see or release it. Ports of a vacating lease were not published, either.
    let shown = s.lease.resource
        && !matches!(s.resource, ResourceFact::Another { .. } | ResourceFact::Foreign { .. });
    let nothing = s.lease.eip.is_none() && s.lease.ports.is_empty();
    if !shown || nothing || s.lease.spilling {
        return Step::End(reason);
    }
    if let Some(withdrawal) = withdrawal(s) {
        return Step::Withdraw(withdrawal);
    }
    if let Some(step) = hand_over(s, reason) {
        return step;
    }
    let unbound = match s.lease.kind {
        Kind::Eip => eip::detach(s),
        Kind::Dnat => dnat::detach(s),
    };
    unbound.unwrap_or(Step::Keep(seconds))
}

/// Begins the handover of fixed ports and waits for a successor, at which the existing entries are
/// pointed. An entry takes one change instead of two, and the ports never look free. None if a
/// handover is impossible or over.
fn hand_over(s: &Situation<'_>, reason: EndReason) -> Option<Step> {
    if s.lease.kind != Kind::Dnat
        || reason != EndReason::PodGone
        || s.cloud.gateway.modify_denied
        || s.lease.target.is_none()
    {
        return None;
    }
    let Some(until) = s.lease.handover_until() else { return Some(Step::Part) };
    if let Some(successor) = heir(s) {
        return (!s.lease.request.needs_another_lease(&successor.request))
            .then(|| Step::Succeed(Box::new(successor.clone())));
    }
    let message = || "the forward entries stay for the pod's successor".to_owned();
    (s.now < until).then(|| Step::wait(Reason::Kept, Patience::Until(until), message()))
}

/// The successor that the lease may pass to: a pod of the same controller.
fn heir<'a>(s: &Situation<'a>) -> Option<&'a Successor> {
    s.successor.filter(|pod| pod.controller == s.lease.controller)
}

/// Plans a retained lease: a successor takes it, or the end of its time or a person releases it.
pub(super) fn kept(s: &Situation<'_>) -> Step {
    if matches!(s.resource, ResourceFact::Mine(object, Removal::Asked) if object.is_owned()) {
        // The resource was made before the pod asked for retention, so the pod owns it and
        // Kubernetes deleted it along with the pod, not a person; the next resource gets no owner
        // reference.
        return Step::RemoveResource;
    }
    if let Some(successor) = heir(s) {
        return if s.lease.request.needs_another_lease(&successor.request) {
            Step::End(EndReason::RequestChanged)
        } else {
            Step::Succeed(Box::new(successor.clone()))
        };
    }
    match (s.resource, s.lease.ends_at) {
        (ResourceFact::Mine(_, Removal::Asked), _) => Step::ReleaseKept,
        (ResourceFact::Mine(_, Removal::Swept), _) => {
            let message = "the custom resource is being deleted along with its namespace or \
                           definition; its address is retained until an operator sets the \
                           annotation waygate.dev/release to \"true\" on it";
            Step::wait(Reason::ReleaseHeld, Patience::Person, message.to_owned())
        }
        (_, Some(end)) if end <= s.now => Step::End(EndReason::Expired),
        // The writer died before the write, or a person removed the finalizer by force: without the
        // resource no person could release the address.
        (ResourceFact::Absent, _) => {
            content(s).map_or(Step::End(EndReason::PodGone), Step::WriteResource)
        }
        (_, Some(end)) => Step::wait(
            Reason::Kept,
            Patience::Until(end),
            format!("retained for a successor of the same name until {end}"),
        ),
        (_, None) => Step::wait(
            Reason::Kept,
            Patience::Idle,
            "retained for a successor until the custom resource is deleted".to_owned(),
        ),
    }
}

/// Content of a retained lease's custom resource; none if the lease holds nothing.
fn content(s: &Situation<'_>) -> Option<Content> {
    match &s.lease.request {
        Request::Eip(request) => {
            s.lease.eip.as_ref().map(|leased| eip::content(s, request, leased, None))
        }
        Request::Dnat(_) => Some(dnat::content(s.lease, None, None)),
    }
}
