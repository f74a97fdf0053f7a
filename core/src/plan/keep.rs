//! What outlives its pod: an EIP with a release strategy, fixed ports. Unbound when the pod is gone, kept for a successor of the same name
//! and controller, released when its time is over or a person deletes its custom resource.

use super::situation::{Removal, ResourceFact, Situation};
use super::step::{EndReason, Patience, Reason, Step};
use super::{dnat, eip, needs_another_lease, withdrawal};
use crate::request::{Keep, Kind};

/// The pod is gone or has exited: what is to be kept is unbound and kept, everything else ends.
pub(super) fn parted(s: &Situation<'_>, reason: EndReason) -> Step {
    let seconds = match s.lease.request.keep() {
        Keep::Not => return Step::End(reason),
        Keep::Seconds(seconds) => Some(seconds),
        Keep::Always => None,
    };
    if s.lease.eip.is_none() && s.lease.ports.is_empty() {
        return Step::End(reason);
    }
    if let Some(withdrawal) = withdrawal(s) {
        return Step::Withdraw(withdrawal);
    }
    let unbound = match s.lease.kind {
        Kind::Eip => eip::detach(s),
        Kind::Dnat => dnat::detach(s),
    };
    unbound.unwrap_or(Step::Keep(seconds))
}

/// Kept: a successor takes it, time ends it, or a person does.
pub(super) fn kept(s: &Situation<'_>) -> Step {
    if let Some(successor) = s.successor.filter(|pod| pod.controller == s.lease.controller) {
        return if needs_another_lease(&s.lease.request, &successor.request) {
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
        (_, Some(end)) => Step::wait(Reason::Kept, Patience::Until(end), format!("kept for a successor of the same name until {end}")),
        (_, None) => Step::wait(Reason::Kept, Patience::Idle, "kept for a successor until its custom resource is deleted".to_owned()),
    }
}
