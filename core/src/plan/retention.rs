//! Retention: an EIP with a release strategy and fixed ports outlive their pod. Unbound when the
//! pod is gone, retained for a successor of the same name and controller, released when the
//! retention expires or a person deletes the custom resource.

use super::publication::withdrawal_before_release;
use super::situation::{CustomResourceState, Deletion, Situation, Successor};
use super::step::{CustomResourceContent, EndReason, Step};
use super::{dnat, eip};
use crate::condition::Reason;
use crate::request::{Kind, Request, Retention};
use crate::retry::RetryPolicy;

/// Plans for a pod that is gone or has exited: unbinds and retains what is to be retained, and
/// releases the rest.
pub(super) fn retain_or_end(s: &Situation<'_>, reason: EndReason) -> Step {
    let seconds = match s.lease.request.retention() {
        Retention::None => return Step::BeginRelease(reason),
        Retention::For(seconds) => Some(seconds),
        Retention::Forever => None,
    };
    // Without a custom resource nothing was ever bound or published; if the address were retained,
    // no person could see or release it. Ports of a vacating lease were not published, either.
    let has_resource = s.lease.owns_custom_resource
        && !matches!(
            s.custom_resource,
            CustomResourceState::OtherLease { .. } | CustomResourceState::Foreign { .. }
        );
    if !has_resource || !s.lease.holds_something() || s.lease.vacating {
        return Step::BeginRelease(reason);
    }
    if let Some(withdrawal) = withdrawal_before_release(s) {
        return Step::Withdraw(withdrawal);
    }
    if let Some(step) = hand_over(s, reason) {
        return step;
    }
    let detach = match s.lease.kind {
        Kind::Eip => eip::detach_eip(s),
        Kind::Dnat => dnat::detach_entries(s),
    };
    detach.unwrap_or(Step::Retain(seconds))
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
    let Some(until) = s.lease.handover_until() else { return Some(Step::BeginHandover) };
    if let Some(successor) = matching_successor(s) {
        return (!s.lease.request.needs_another_lease(&successor.request))
            .then(|| Step::TransferToSuccessor(Box::new(successor.clone())));
    }
    let message = || "the forward entries stay for the pod's successor".to_owned();
    (s.now < until)
        .then(|| Step::wait_for(Reason::RetainedForSuccessor, RetryPolicy::Until(until), message()))
}

/// The successor that the lease may pass to: a pod of the same controller.
fn matching_successor<'a>(s: &Situation<'a>) -> Option<&'a Successor> {
    s.successor.filter(|pod| pod.controller == s.lease.controller)
}

/// Plans a retained lease: a successor takes it, or the end of its time or a person releases it.
pub(super) fn plan_retained(s: &Situation<'_>) -> Step {
    if matches!(s.custom_resource, CustomResourceState::Owned(object, Deletion::Requested) if object.is_owned_by_pod())
    {
        // The resource was made before the pod asked for retention, so the pod owns it and
        // Kubernetes deleted it along with the pod, not a person; the next resource gets no owner
        // reference.
        return Step::RemoveCustomResource;
    }
    if let Some(successor) = matching_successor(s) {
        return if s.lease.request.needs_another_lease(&successor.request) {
            Step::BeginRelease(EndReason::RequestChanged)
        } else {
            Step::TransferToSuccessor(Box::new(successor.clone()))
        };
    }
    match (s.custom_resource, s.lease.retained_until) {
        (CustomResourceState::Owned(_, Deletion::Requested), _) => Step::ReleaseRetained,
        (CustomResourceState::Owned(_, Deletion::Cascaded), _) => {
            let message = "the custom resource is being deleted along with its namespace or \
                           definition; its address is retained until an operator sets the \
                           annotation waygate.dev/release to \"true\" on it";
            Step::wait_for(Reason::ReleasesLimited, RetryPolicy::Person, message.to_owned())
        }
        (_, Some(end)) if end <= s.now => Step::BeginRelease(EndReason::Expired),
        // The writer died before the write, or a person removed the finalizer by force: without the
        // resource no person could release the address.
        (CustomResourceState::Absent, _) => retained_content(s)
            .map_or(Step::BeginRelease(EndReason::PodGone), Step::WriteCustomResource),
        (_, Some(end)) => Step::wait_for(
            Reason::RetainedForSuccessor,
            RetryPolicy::Until(end),
            format!("retained for a successor of the same name until {end}"),
        ),
        (_, None) => Step::wait_for(
            Reason::RetainedForSuccessor,
            RetryPolicy::Idle,
            "retained for a successor until the custom resource is deleted".to_owned(),
        ),
    }
}

/// Content of a retained lease's custom resource; none if the lease holds nothing.
fn retained_content(s: &Situation<'_>) -> Option<CustomResourceContent> {
    match &s.lease.request {
        Request::Eip(request) => {
            s.lease.eip.as_ref().map(|leased| eip::eip_content(s, request, leased, None))
        }
        Request::Dnat(_) => Some(dnat::dnat_content(s.lease, None, None)),
    }
}
