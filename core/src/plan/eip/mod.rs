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

pub(super) use publication::content;
pub(super) use release::{detach, ending, lose};

use super::publication::{doubt, moved, publish, resource_step};
use super::situation::{PodHere, Seen, Situation};
use super::step::{EndReason, Step};
use super::target::waiting_for_interface;
use crate::change::Change;
use crate::condition::Reason;
use crate::facts::{Eip, EipStatus};
use crate::lease::{LeasedEip, Phase, Target};
use crate::request::{EipRequest, Request};
use crate::retry::Patience;
use std::net::Ipv4Addr;

pub(super) fn live(s: &Situation<'_>, pod: &PodHere) -> Step {
    let Request::Eip(request) = &s.lease.request else {
        return Step::End(EndReason::RequestChanged);
    };
    if let Some(step) = moved(s, pod) {
        return step;
    }
    let Some(leased) = &s.lease.eip else { return acquire::obtain(s, pod, request) };
    // Off a former address before any change that may be refused: the address may be another pod's
    // by now.
    if s.lease
        .target
        .as_ref()
        .is_some_and(|target| pod.ip.is_some_and(|ip| ip != target.private_ip))
        && let Some(step) = detach(s)
    {
        return step;
    }
    let Seen::There(eip) = &s.cloud.eip else {
        let why = format!(
            "the cloud does not show EIP {} ({}); check that it exists, and that the worker's \
             credentials are those of its account",
            leased.allocation_id, leased.ip_address
        );
        return doubt(s, pod, why.clone()).unwrap_or_else(|| acquire::lost(s, leased, why));
    };
    if s.lease.phase != Phase::Held
        && let Some(step) = settings::package(s, request, eip)
    {
        return step;
    }
    let Some(ip) = pod.ip else {
        let message = format!("EIP {} is ready; the pod has no IP yet", eip.ip_address);
        return Step::wait(Reason::WaitingForPodIp, Patience::Event, message);
    };
    let Some(target) = &s.lease.target else {
        return release::from_stranger(s, request, eip).unwrap_or_else(|| aim(s, pod, ip, eip));
    };
    if let Some(step) = resource_step(s, content(s, request, leased, None)) {
        return step;
    }
    bind(s, pod, request, leased, eip, target)
}

/// Finds the interface behind the pod's IP and makes it the target.
fn aim(s: &Situation<'_>, pod: &PodHere, ip: Ipv4Addr, eip: &Eip) -> Step {
    match &s.cloud.eni {
        Seen::There(eni) => Step::SetTarget(Target::of(eni, ip)),
        Seen::Absent | Seen::NotRead => {
            waiting_for_interface(pod, ip, &format!("EIP {}", eip.ip_address))
        }
    }
}

fn bind(
    s: &Situation<'_>,
    pod: &PodHere,
    request: &EipRequest,
    leased: &LeasedEip,
    eip: &Eip,
    target: &Target,
) -> Step {
    let bound = eip.bound_to(&target.eni_id, target.private_ip, target.primary);
    if eip.status == EipStatus::InUse && bound {
        // Publishing first: a setting that the cloud refuses for good must neither keep the address
        // from the pod nor stop its supervision.
        return match publish(s, pod, publication::publication(s, request, leased, eip, target)) {
            rest @ Step::Wait(_) => settings::package(s, request, eip)
                .or_else(|| settings::modify(request, eip))
                .unwrap_or(rest),
            step => step,
        };
    }
    let shown = format!(
        "EIP {} is {:?} in the cloud and not bound to pod IP {}",
        eip.ip_address, eip.status, target.private_ip
    );
    if let Some(step) = doubt(s, pod, shown) {
        return step;
    }
    match eip.status {
        EipStatus::Available => Step::Change {
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
                release::bound_to(eip)
            );
            Step::wait(Reason::EipBoundElsewhere, Patience::Event, message)
        }
        EipStatus::Associating
        | EipStatus::Unassociating
        | EipStatus::Releasing
        | EipStatus::Other => {
            let message = format!(
                "EIP {} is {:?} in the cloud; it will be bound to pod IP {}",
                eip.ip_address, eip.status, target.private_ip
            );
            Step::wait(Reason::EipChanging, Patience::Poll, message)
        }
    }
}
