//! Phases of a lease, and the step that each asks for while no operation is unresolved.
//!
//! ```text
//! announced ─▶ provisioning ⇄ bound ─▶ retained ─▶ (provisioning, for a successor)
//!     └──────────────┴──────────┴─────────┴──▶ releasing ─▶ deleted
//! ```

use super::publication::{remove_or_delete_lease, withdrawal_before_release};
use super::situation::{CustomResourceState, Desired, PodState, Situation};
use super::step::{EndReason, Step};
use super::{dnat, eip, retention};
use crate::condition::Reason;
use crate::lease::Phase;
use crate::request::Kind;
use crate::retry::RetryPolicy;
use crate::rules::timing::POD_LOOKS_APART;

/// The step that the plan would take if no operation were under way.
pub(super) fn next_without_operations(s: &Situation<'_>) -> Step {
    match s.lease.phase {
        Phase::Announced => plan_announced(s),
        Phase::Provisioning | Phase::Bound => match end_reason(s) {
            Some(reason @ (EndReason::PodGone | EndReason::PodExited)) => {
                wait_for_second_look(s).unwrap_or_else(|| retention::retain_or_end(s, reason))
            }
            Some(reason) => Step::BeginRelease(reason),
            None => plan_live(s),
        },
        Phase::Retained => retention::plan_retained(s),
        Phase::Releasing => plan_releasing(s),
    }
}

/// Plans an announced lease, which is due when it expires: by then the watch has missed its pod, or
/// the pod never came.
fn plan_announced(s: &Situation<'_>) -> Step {
    match s.pod {
        PodState::Present(_) => Step::StartProvisioning,
        // Releasing first: until then the announcement also serves the next pod of the name, which
        // may have been observed since this read.
        PodState::Absent | PodState::NotFound => Step::BeginRelease(EndReason::PodGone),
    }
}

/// Waits for a second look at the pod, if one look alone did not find it and the lease holds
/// something. None once the pod is proven absent: another has its name, or two looks some seconds
/// apart did not find it.
fn wait_for_second_look(s: &Situation<'_>) -> Option<Step> {
    if !matches!(s.pod, PodState::NotFound) || !s.lease.holds_something() {
        return None;
    }
    let until = s.lease.pod_missing_since.unwrap_or(s.now) + POD_LOOKS_APART;
    let message = || "the API server does not know the pod; a second look decides".to_owned();
    (s.now < until)
        .then(|| Step::wait_for(Reason::PodMissing, RetryPolicy::Until(until), message()))
}

/// Reason why the lease must end; none while its pod is there and asks for it. Terminated
/// containers alone prove nothing: only the pod's phase does, or its absence in a live read.
fn end_reason(s: &Situation<'_>) -> Option<EndReason> {
    let PodState::Present(pod) = s.pod else { return Some(EndReason::PodGone) };
    if pod.exited {
        return Some(EndReason::PodExited);
    }
    match &pod.desired {
        Desired::Request(request) if s.lease.request.needs_another_lease(request) => {
            Some(EndReason::RequestChanged)
        }
        // Invalid annotations on a running pod are reported only: the pod keeps what it has.
        Desired::Request(_) | Desired::Invalid(_) => None,
        Desired::Nothing => Some(EndReason::NotRequested),
    }
}

fn plan_live(s: &Situation<'_>) -> Step {
    let PodState::Present(pod) = s.pod else { return Step::BeginRelease(EndReason::PodGone) };
    // First of all: a preempted pod gives the EIP up even while terminating, since the younger pod
    // waits for it.
    if let Some(winner) = &s.lease.preempted_by {
        return eip::yield_eip(s, pod, winner);
    }
    if let CustomResourceState::Foreign { message } = s.custom_resource {
        // Checked before anything is bought or reserved for a pod that another controller serves.
        return Step::wait_for(Reason::CustomResourceTaken, RetryPolicy::Person, message.clone());
    }
    if pod.terminating {
        // A terminating pod keeps its address until it has exited, since connections drain through
        // it, and gets nothing new.
        return Step::wait_for(
            Reason::PodTerminating,
            RetryPolicy::PodExit,
            "the pod is terminating; its address stays until it has exited".into(),
        );
    }
    if let Desired::Request(request) = &pod.desired
        && **request != s.lease.request
    {
        return Step::UpdateRequest(request.clone());
    }
    match s.lease.kind {
        Kind::Eip => eip::plan_eip(s, pod),
        Kind::Dnat => dnat::plan_dnat(s, pod),
    }
}

fn plan_releasing(s: &Situation<'_>) -> Step {
    if let Some(withdrawal) = withdrawal_before_release(s) {
        return Step::Withdraw(withdrawal);
    }
    let step = match s.lease.kind {
        Kind::Eip => eip::plan_eip_release(s),
        Kind::Dnat => dnat::plan_dnat_release(s),
    };
    match step {
        // The custom resource is of no use any more, and a successor of the name need not wait
        // until the prepaid time is over.
        Some(Step::Wait(wait)) if wait.reason == Reason::PrePaidNotReleased => {
            match remove_or_delete_lease(s) {
                Step::DeleteLease if s.lease.owns_custom_resource => Step::DisownCustomResource,
                Step::DeleteLease => Step::Wait(wait),
                removal => removal,
            }
        }
        Some(step) => step,
        None => remove_or_delete_lease(s),
    }
}
