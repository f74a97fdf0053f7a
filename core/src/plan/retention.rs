//! What outlives its pod: an EIP with a release strategy, fixed ports. Unbound when the pod is
//! gone, kept for a successor of the same name and controller, released when its time is over or a
//! person deletes its custom resource.

use super::publication::withdrawal;
use super::situation::{Removal, ResourceFact, Situation, Successor};
use super::step::{Content, EndReason, Step};
use super::{dnat, eip};
use crate::condition::Reason;
use crate::request::{Keep, Kind, Request};
use crate::retry::Patience;

/// The pod is gone or has exited: what is to be kept is unbound and kept, everything else ends.
pub(super) fn parted(s: &Situation<'_>, reason: EndReason) -> Step {
    let seconds = match s.lease.request.keep() {
        Keep::Not => return Step::End(reason),
        Keep::Seconds(seconds) => Some(seconds),
        Keep::Always => None,
    };
    // What never had a custom resource was bound to nothing, and nobody was told of it; kept,
    // nobody could see or release it. What is being given back for want of room nobody was told of,
    // either.
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

/// Fixed ports' entries are pointed at the successor as they stand, if it comes soon: one change an
/// entry instead of two, and ports that are never seen free. None where that cannot be, or not any
/// more.
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
    let message = || "the entries stand for the pod's successor".to_owned();
    (s.now < until).then(|| Step::wait(Reason::Kept, Patience::Until(until), message()))
}

/// The pod that what is kept is kept for.
fn heir<'a>(s: &Situation<'a>) -> Option<&'a Successor> {
    s.successor.filter(|pod| pod.controller == s.lease.controller)
}

/// Kept: a successor takes it, time ends it, or a person does.
pub(super) fn kept(s: &Situation<'_>) -> Step {
    if matches!(s.resource, ResourceFact::Mine(object, Removal::Asked) if object.is_owned()) {
        // Made before its pod asked for this to be kept, and deleted with that pod, by nobody: the
        // next one has no owner.
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
            let message = "the custom resource is deleted along with its namespace or definition; what it stands for is kept until somebody sets \
                           waygate.dev/release to \"true\" on it";
            Step::wait(Reason::ReleaseHeld, Patience::Person, message.to_owned())
        }
        (_, Some(end)) if end <= s.now => Step::End(EndReason::Expired),
        // Its writer died before it wrote it, or somebody took it away by force: what people cannot
        // see they cannot release.
        (ResourceFact::Absent, _) => {
            content(s).map_or(Step::End(EndReason::PodGone), Step::WriteResource)
        }
        (_, Some(end)) => Step::wait(
            Reason::Kept,
            Patience::Until(end),
            format!("kept for a successor of the same name until {end}"),
        ),
        (_, None) => Step::wait(
            Reason::Kept,
            Patience::Idle,
            "kept for a successor until its custom resource is deleted".to_owned(),
        ),
    }
}

/// What the custom resource of a kept lease says; none where nothing is left to keep.
fn content(s: &Situation<'_>) -> Option<Content> {
    match &s.lease.request {
        Request::Eip(request) => {
            s.lease.eip.as_ref().map(|leased| eip::content(s, request, leased, None))
        }
        Request::Dnat(_) => Some(dnat::content(s.lease, None, None)),
    }
}
