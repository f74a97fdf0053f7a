//! An EIP of the pod's own: obtain, point, bind, prove; and back.
//!
//! ```text
//! obtain ─▶ settings ─▶ aim ─▶ resource ─▶ bind ─▶ publish        part: unbind ─▶ give back
//! ```

use super::situation::{PodHere, Seen, Situation};
use super::step::{Content, Patience, Publication, Reason, Step};
use super::{doubt, moved, publish, resource_step};
use crate::change::Change;
use crate::facts::{Eip, EipStatus};
use crate::ids::EniId;
use crate::lease::{LeasedEip, Phase, Target};
use crate::request::{EipRequest, EipSource, ReleaseStrategy, Request};
use crate::resources::{AllocationType, PodEipSpec, PodEipStatus};
use std::net::Ipv4Addr;

mod obtain;
mod part;
mod settings;

pub(super) use part::{detach, ending, lose};

impl Eip {
    /// Whether it is bound to this address of this interface. For an interface's primary address the API leaves the address out.
    pub fn bound_to(&self, eni_id: &EniId, private_ip: Ipv4Addr, primary: bool) -> bool {
        self.binding.as_ref().is_some_and(|binding| {
            binding.instance_id == eni_id.as_str() && (binding.private_ip == Some(private_ip) || (binding.private_ip.is_none() && primary))
        })
    }
}

pub(super) fn live(s: &Situation<'_>, pod: &PodHere) -> Step {
    let Request::Eip(request) = &s.lease.request else { return wrong_kind() };
    if let Some(step) = moved(s, pod) {
        return step;
    }
    let Some(leased) = &s.lease.eip else { return obtain::obtain(s, pod, request) };
    // Off a former address before anything that may be refused: it may be another pod's by now.
    if s.lease.target.as_ref().is_some_and(|target| pod.ip.is_some_and(|ip| ip != target.private_ip))
        && let Some(step) = detach(s)
    {
        return step;
    }
    let Seen::There(eip) = &s.cloud.eip else {
        let why = format!("EIP {} ({}) does not exist any more", leased.allocation_id, leased.ip_address);
        return doubt(s, pod, why.clone()).unwrap_or_else(|| obtain::lost(s, leased, why));
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
        return part::from_stranger(s, request, eip).unwrap_or_else(|| aim(s, pod, ip, eip));
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
        Seen::Absent | Seen::NotRead => waiting_for_interface(pod, ip, &format!("EIP {}", eip.ip_address)),
    }
}

pub(super) fn waiting_for_interface(pod: &PodHere, ip: Ipv4Addr, what: &str) -> Step {
    let node = pod.node.as_deref().unwrap_or("?");
    let message = format!(
        "{what} waits for the network interface of pod IP {ip} on node {node}: the cloud does not show one yet; nodes whose pods have no \
         address in the VPC (virtual nodes, overlay networks) are not supported"
    );
    Step::wait(Reason::WaitingForInterface, Patience::Poll, message)
}

fn bind(s: &Situation<'_>, pod: &PodHere, request: &EipRequest, leased: &LeasedEip, eip: &Eip, target: &Target) -> Step {
    let bound = eip.bound_to(&target.eni_id, target.private_ip, target.primary);
    if eip.status == EipStatus::InUse && bound {
        // The address first: what may be refused for good must not keep it from the pod, nor from being watched.
        return match publish(s, pod, publication(s, request, leased, eip, target)) {
            rest @ Step::Wait(_) => settings::package(s, request, eip).or_else(|| settings::modify(request, eip)).unwrap_or(rest),
            step => step,
        };
    }
    let shown = format!("EIP {} is {:?} and not bound to pod IP {}", eip.ip_address, eip.status, target.private_ip);
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
            let message = format!("EIP {} ({}) is bound to {}; unbind it there", eip.allocation_id, eip.ip_address, part::bound_to(eip));
            Step::wait(Reason::EipBoundElsewhere, Patience::Event, message)
        }
        EipStatus::Associating | EipStatus::Unassociating | EipStatus::Releasing | EipStatus::Other => {
            let message = format!("EIP {} is {:?}; it is being bound to pod IP {}", eip.ip_address, eip.status, target.private_ip);
            Step::wait(Reason::EipChanging, Patience::Poll, message)
        }
    }
}

fn publication(s: &Situation<'_>, request: &EipRequest, leased: &LeasedEip, eip: &Eip, target: &Target) -> Publication {
    let text = |value: &str| (!value.is_empty()).then(|| value.to_owned());
    let status = PodEipStatus {
        network_interface_id: Some(target.eni_id.to_string()),
        private_ip_address: Some(target.private_ip.to_string()),
        eip_address: Some(eip.ip_address.to_string()),
        isp: text(&eip.isp),
        internet_charge_type: text(&eip.internet_charge_type),
        resource_group_id: text(&eip.resource_group_id),
        name: text(&eip.name),
        public_ip_address_pool_id: text(&eip.public_ip_address_pool_id),
        bandwidth_package_id: eip.bandwidth_package.as_ref().map(ToString::to_string),
        bandwidth: Some(eip.bandwidth.to_string()),
        period: None,
        status: Some(format!("{:?}", eip.status)),
        pod_last_seen: Some(s.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
    };
    Publication {
        content: content(s, request, leased, Some(status)),
        annotation: eip.ip_address.to_string(),
        reason: Reason::EipAssociated,
        message: format!(
            "EIP {} ({}) is bound to pod IP {}{}",
            eip.ip_address,
            eip.allocation_id,
            target.private_ip,
            settings::not_followed(request, eip)
        ),
    }
}

pub(super) fn content(s: &Situation<'_>, request: &EipRequest, leased: &LeasedEip, status: Option<PodEipStatus>) -> Content {
    let kind = match &request.source {
        EipSource::Allocate(_) => "Auto",
        EipSource::Given(_) | EipSource::Pool(_) => "Static",
    };
    let (strategy, after) = match &request.release {
        ReleaseStrategy::Follow => ("Follow", None),
        ReleaseStrategy::Never => ("Never", None),
        ReleaseStrategy::Ttl { text, .. } => ("TTL", Some(text.clone())),
    };
    let allocation_type = AllocationType { kind: Some(kind.to_owned()), release_strategy: Some(strategy.to_owned()), release_after: after };
    let spec = PodEipSpec {
        allocation_id: Some(leased.allocation_id.to_string()),
        bandwidth_package_id: settings::named_package(s, request),
        allocation_type: Some(allocation_type),
    };
    Content::Eip { spec, status: status.map(Box::new) }
}

fn wrong_kind() -> Step {
    Step::End(super::EndReason::RequestChanged)
}
