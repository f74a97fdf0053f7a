//! Publication of an address: custom resource, annotation, condition. Published once proven,
//! withdrawn before the address stops working.

use super::situation::{CustomResourceState, Desired, PodState, PodView, Situation};
use super::step::{CustomResourceContent, Publication, Step, Withdrawal};
use crate::condition::{ConditionState, Reason};
use crate::lease::Phase;
use crate::retry::RetryPolicy;

/// The withdrawal that must precede any unbinding, so that no client reads an address that is about
/// to stop working. Beside a foreign custom resource there is none: condition and annotation are
/// the other controller's there.
pub(super) fn withdrawal_before_release(s: &Situation<'_>) -> Option<Withdrawal> {
    if s.custom_resource.is_foreign() {
        return None;
    }
    let resource_shown = s.custom_resource.shows_address();
    let PodState::Present(pod) = s.pod else {
        return resource_shown
            .then(|| Withdrawal::with_reason(Reason::Released, "the pod is gone"));
    };
    if pod.exited {
        return resource_shown
            .then(|| Withdrawal::with_reason(Reason::Released, "the pod has exited"));
    }
    if matches!(pod.desired, Desired::Nothing) {
        let condition_shown = !pod.has_gate
            || pod
                .condition
                .as_ref()
                .is_some_and(|v| v.status && v.reason == Reason::NotRequested.as_str());
        let message = "the pod no longer asks for a public address";
        return (resource_shown || pod.annotation.is_some() || !condition_shown)
            .then(|| Withdrawal::not_requested(message));
    }
    // A lease that never wrote the custom resource has published nothing: the pod's annotation is
    // from the lease of its successor.
    let shown = resource_shown || (s.lease.owns_custom_resource && pod.annotation.is_some());
    shown.then(|| {
        Withdrawal::with_reason(
            Reason::Replacing,
            "the pod asks for another address now; its former one is being released",
        )
    })
}

pub(super) fn remove_or_delete_lease(s: &Situation<'_>) -> Step {
    match s.custom_resource {
        CustomResourceState::Owned(..) | CustomResourceState::Orphaned => {
            Step::RemoveCustomResource
        }
        CustomResourceState::Absent
        | CustomResourceState::OtherLease { .. }
        | CustomResourceState::Foreign { .. } => Step::DeleteLease,
    }
}

/// Makes the lease the only writer of its custom resource, and the resource equal to `content`;
/// none once both hold.
pub(super) fn ensure_custom_resource(
    s: &Situation<'_>,
    content: CustomResourceContent,
) -> Option<Step> {
    if !s.lease.owns_custom_resource {
        return Some(Step::OwnCustomResource);
    }
    match s.custom_resource {
        CustomResourceState::Absent => Some(Step::WriteCustomResource(content)),
        CustomResourceState::Orphaned => Some(Step::RemoveCustomResource),
        CustomResourceState::Owned(object, _) => {
            let current =
                content.matches_spec(object) && object.pod_uid() == Some(s.lease.pod_uid.as_str());
            (!current).then_some(Step::WriteCustomResource(content))
        }
        CustomResourceState::OtherLease { message } | CustomResourceState::Foreign { message } => {
            Some(Step::wait_for(Reason::CustomResourceTaken, RetryPolicy::Poll, message.clone()))
        }
    }
}

/// Publishes what is proven, unless all of it is published already; then the lease rests until it is
/// woken.
pub(super) fn publish_or_idle(s: &Situation<'_>, pod: &PodView, publication: Publication) -> Step {
    let annotation_shown = pod.annotation.as_deref() == Some(publication.annotation.as_str());
    let is_published = |state: &ConditionState| {
        state.status
            && state.reason == publication.reason.as_str()
            && state.message == publication.message
    };
    let condition_shown = pod.condition.as_ref().is_some_and(is_published);
    let resource_shown = matches!(s.custom_resource, CustomResourceState::Owned(object, _) if publication.content.matches_object(object));
    if resource_shown
        && annotation_shown
        && condition_shown
        && s.lease.phase == Phase::Bound
        && s.lease.missed_reads == 0
    {
        return Step::wait_for(publication.reason, RetryPolicy::Idle, publication.message);
    }
    Step::Publish(publication)
}

/// Reacts to a read that does not show what was published. The first such read may be wrong and is
/// only counted; the second in a row withdraws the address, and the plan then repairs it.
pub(super) fn reread_or_withdraw(s: &Situation<'_>, pod: &PodView, why: String) -> Option<Step> {
    if s.lease.phase != Phase::Bound && !pod_shows_address(s, pod) {
        return None;
    }
    Some(if s.lease.phase == Phase::Bound && s.lease.missed_reads == 0 {
        Step::CountMissedRead
    } else {
        Step::Withdraw(Withdrawal::address_lost(why))
    })
}

pub(super) fn pod_shows_address(s: &Situation<'_>, pod: &PodView) -> bool {
    let was_shown = pod.annotation.is_some() || pod.condition.as_ref().is_some_and(|v| v.status);
    s.custom_resource.shows_address() || (was_shown && !s.custom_resource.is_foreign())
}

/// Withdraws if the pod has another IP under the same UID (a new sandbox): the kubelet has kept the
/// condition, which must go before the target changes.
pub(super) fn withdraw_if_ip_changed(s: &Situation<'_>, pod: &PodView) -> Option<Step> {
    let (target, ip) = (s.lease.target.as_ref()?, pod.ip?);
    let why = format!(
        "the pod's IP changed from {} to {ip}; its public address moves to {ip}",
        target.private_ip
    );
    (target.private_ip != ip && pod_shows_address(s, pod))
        .then(|| Step::Withdraw(Withdrawal::address_lost(why)))
}
