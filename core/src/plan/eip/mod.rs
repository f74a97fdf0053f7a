//! Dedicated EIPs: get an EIP, set the target, bind, prove; and the same backwards.
//!
//! ```text
//! acquire ─▶ settings ─▶ target ─▶ custom resource ─▶ bind ─▶ publish
//! unbind ─▶ clear target ─▶ release
//! ```

mod acquire;
mod publication;
mod release;
mod settings;

pub(super) use publication::eip_content;
pub(super) use release::{detach_eip, plan_eip_release, yield_eip};
pub use settings::eip_settings_differ;

use super::publication::{
    ensure_custom_resource, publish_or_idle, reread_or_withdraw, withdraw_if_ip_changed,
};
use super::situation::{Lookup, PodView, Situation};
use super::step::{EndReason, Step};
use super::target::wait_for_interface;
use crate::change::Change;
use crate::cloud_facts::{Eip, EipStatus};
use crate::condition::Reason;
use crate::lease::{LeasedEip, Phase, Target};
use crate::request::{EipRequest, Request};
use crate::retry::RetryPolicy;
use std::net::Ipv4Addr;

pub(super) fn plan_eip(s: &Situation<'_>, pod: &PodView) -> Step {
    let Request::Eip(request) = &s.lease.request else {
        return Step::BeginRelease(EndReason::RequestChanged);
    };
    if let Some(step) = withdraw_if_ip_changed(s, pod) {
        return step;
    }
    let Some(leased) = &s.lease.eip else { return acquire::obtain_eip(s, pod, request) };
    // Off a former address before any change that may be refused: the address may be another pod's
    // by now.
    if s.lease
        .target
        .as_ref()
        .is_some_and(|target| pod.ip.is_some_and(|ip| ip != target.private_ip))
        && let Some(step) = detach_eip(s)
    {
        return step;
    }
    let Lookup::Present(eip) = &s.cloud.eip else {
        let why = format!(
            "the cloud does not show EIP {} ({}); check that it exists, and that the worker's \
             credentials are those of its account",
            leased.allocation_id, leased.ip_address
        );
        return reread_or_withdraw(s, pod, why.clone())
            .unwrap_or_else(|| acquire::on_missing_eip(s, leased, why));
    };
    if s.lease.phase != Phase::Bound
        && let Some(step) = settings::adjust_package(s, request, eip)
    {
        return step;
    }
    let Some(ip) = pod.ip else {
        let message = format!("EIP {} is ready; the pod has no IP yet", eip.ip_address);
        return Step::wait_for(Reason::WaitingForPodIp, RetryPolicy::PodEvent, message);
    };
    let Some(target) = &s.lease.target else {
        return release::unbind_foreign(s, request, eip)
            .unwrap_or_else(|| find_target(s, pod, ip, eip));
    };
    if let Some(step) = ensure_custom_resource(s, eip_content(s, request, leased, None)) {
        return step;
    }
    bind_eip(s, pod, request, leased, eip, target)
}

/// Finds the interface behind the pod's IP and makes it the target.
fn find_target(s: &Situation<'_>, pod: &PodView, ip: Ipv4Addr, eip: &Eip) -> Step {
    match &s.cloud.eni {
        Lookup::Present(eni) => Step::SetTarget(Target::from_eni(eni, ip)),
        Lookup::Absent | Lookup::NotRead => {
            wait_for_interface(pod, ip, &format!("EIP {}", eip.ip_address))
        }
    }
}

fn bind_eip(
    s: &Situation<'_>,
    pod: &PodView,
    request: &EipRequest,
    leased: &LeasedEip,
    eip: &Eip,
    target: &Target,
) -> Step {
    let bound = eip.is_bound_to(&target.eni_id, target.private_ip, target.primary);
    if eip.status == EipStatus::InUse && bound {
        // Publishing first: a setting that the cloud refuses for good must neither keep the address
        // from the pod nor stop its supervision.
        return match publish_or_idle(
            s,
            pod,
            publication::eip_publication(s, request, leased, eip, target),
        ) {
            wait @ Step::Wait(_) => settings::adjust_package(s, request, eip)
                .or_else(|| settings::adjust_attributes(request, eip))
                .unwrap_or(wait),
            step => step,
        };
    }
    let why = format!(
        "EIP {} is {} in the cloud and not bound to pod IP {}",
        eip.ip_address, eip.status, target.private_ip
    );
    if let Some(step) = reread_or_withdraw(s, pod, why) {
        return step;
    }
    match eip.status {
        EipStatus::Available => Step::QueueEipChange {
            resource: eip.allocation_id.to_string(),
            change: Change::AssociateEipAddress {
                allocation_id: eip.allocation_id.clone(),
                eni_id: target.eni_id.clone(),
                private_ip: target.private_ip,
            },
        },
        EipStatus::InUse => {
            let message = format!(
                "EIP {} ({}) is bound to {}; unbind it there, and it is bound to this pod",
                eip.allocation_id,
                eip.ip_address,
                release::describe_binding(eip)
            );
            Step::wait_for(Reason::EipBoundElsewhere, RetryPolicy::Event, message)
        }
        EipStatus::Associating
        | EipStatus::Unassociating
        | EipStatus::Releasing
        | EipStatus::Other => {
            let message = format!(
                "EIP {} is {} in the cloud; it will be bound to pod IP {}",
                eip.ip_address, eip.status, target.private_ip
            );
            Step::wait_for(Reason::EipChanging, RetryPolicy::Poll, message)
        }
    }
}
