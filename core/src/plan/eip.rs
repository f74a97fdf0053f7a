//! An EIP of the pod's own: allocate or take, point, bind, prove; and back.

use super::situation::{PodHere, Seen, Situation};
use super::step::{Content, Patience, Publication, Reason, Step};
use super::{doubt, moved, publish, resource_step};
use crate::change::Change;
use crate::facts::{Eip, EipStatus};
use crate::ids::{AllocationId, EniId};
use crate::lease::{LeasedEip, Target};
use crate::request::{EipRequest, EipSource, Keep, ReleaseStrategy, Request};
use crate::resources::{AllocationType, PodEipSpec, PodEipStatus};
use std::net::Ipv4Addr;

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
    let Some(leased) = &s.lease.eip else { return obtain(s, request) };
    let Seen::There(eip) = &s.cloud.eip else {
        let why = format!("EIP {} ({}) does not exist any more", leased.allocation_id, leased.ip_address);
        return doubt(s, pod, why.clone()).unwrap_or_else(|| lost(s, leased, why));
    };
    if let Some(step) = join_package(request, eip) {
        return step;
    }
    if let Some(step) = modify(request, eip) {
        return step;
    }
    let Some(ip) = pod.ip else {
        let message = format!("EIP {} is ready; the pod has no IP yet", eip.ip_address);
        return Step::wait(Reason::WaitingForPodIp, Patience::Event, message);
    };
    let target = match &s.lease.target {
        Some(target) if target.private_ip == ip => target,
        Some(former) => return unbind(eip, former).unwrap_or(Step::ClearTarget),
        None => return aim(s, pod, ip, eip),
    };
    if let Some(step) = resource_step(s, content(request, leased, None)) {
        return step;
    }
    bind(s, pod, request, leased, eip, target)
}

/// No EIP yet: allocate one with tags that find it again, or take the given one.
fn obtain(s: &Situation<'_>, request: &EipRequest) -> Step {
    match (&request.source, &s.cloud.eip) {
        (EipSource::Allocate(spec), _) => {
            let change = Change::AllocateEipAddress { spec: spec.clone(), tags: s.owner.tags(s.lease.id) };
            Step::Change { resource: format!("lease/{}/eip", s.lease.id), change }
        }
        (EipSource::Given(id), Seen::There(eip)) => Step::TakeGiven { allocation_id: id.clone(), ip_address: eip.ip_address },
        (EipSource::Given(id), Seen::Absent | Seen::NotRead) => Step::wait(
            Reason::EipNotFound,
            Patience::Event,
            format!("EIP {id} does not exist in this region or is not visible to this account; check k8s.aliyun.com/pod-eip-instanceid"),
        ),
    }
}

/// The EIP does not show. An empty list is what wrong credentials give, too, so nothing is done on one: only one of ours that nobody asked to
/// keep is asked back after three in a row, which proves by a 404 that it is gone, and replaced then.
fn lost(s: &Situation<'_>, leased: &LeasedEip, why: String) -> Step {
    const ENOUGH: i32 = 2;
    let allocation_id = leased.allocation_id.clone();
    if !leased.ours || s.lease.request.keep() != Keep::Not {
        return Step::wait(Reason::EipNotFound, Patience::Event, why);
    }
    if s.lease.doubts < ENOUGH {
        return Step::Doubt;
    }
    Step::Change { resource: allocation_id.to_string(), change: Change::ReleaseEipAddress { allocation_id } }
}

fn join_package(request: &EipRequest, eip: &Eip) -> Option<Step> {
    let EipSource::Allocate(spec) = &request.source else { return None };
    let package_id = spec.bandwidth_package.clone()?;
    (eip.bandwidth_package.as_ref() != Some(&package_id)).then(|| {
        let allocation_id = eip.allocation_id.clone();
        Step::Change { resource: allocation_id.to_string(), change: Change::AddCommonBandwidthPackageIp { allocation_id, package_id } }
    })
}

/// What the cloud lets us change on an EIP of ours that is in use. In a shared bandwidth package the package's bandwidth shows.
fn modify(request: &EipRequest, eip: &Eip) -> Option<Step> {
    let EipSource::Allocate(spec) = &request.source else { return None };
    let bandwidth = (eip.bandwidth_package.is_none() && eip.bandwidth != spec.bandwidth).then_some(spec.bandwidth);
    let name = spec.name.clone().filter(|name| *name != eip.name && eip.charge_type != "PrePaid");
    let settled = matches!(eip.status, EipStatus::Available | EipStatus::InUse);
    (settled && (bandwidth.is_some() || name.is_some())).then(|| {
        let allocation_id = eip.allocation_id.clone();
        Step::Change {
            resource: allocation_id.to_string(),
            change: Change::ModifyEipAddressAttribute { allocation_id, bandwidth, name, description: None },
        }
    })
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
        return publish(s, pod, publication(s, request, leased, eip, target));
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
            let message = format!("EIP {} ({}) is bound to {}; unbind it there", eip.allocation_id, eip.ip_address, bound_to(eip));
            Step::wait(Reason::EipBoundElsewhere, Patience::Event, message)
        }
        EipStatus::Associating | EipStatus::Unassociating | EipStatus::Releasing | EipStatus::Other => {
            let message = format!("EIP {} is {:?}; it is being bound to pod IP {}", eip.ip_address, eip.status, target.private_ip);
            Step::wait(Reason::EipChanging, Patience::Poll, message)
        }
    }
}

/// Frees the pod's address from the EIP; none once it is free.
pub(super) fn detach(s: &Situation<'_>) -> Option<Step> {
    let target = s.lease.target.as_ref()?;
    match &s.cloud.eip {
        Seen::There(eip) => Some(unbind(eip, target).unwrap_or(Step::ClearTarget)),
        // It does not show: the unbinding's own answer tells. What is kept must not be released on an empty list.
        Seen::Absent | Seen::NotRead => Some(match &s.lease.eip {
            Some(leased) => unassociate(&leased.allocation_id, target),
            None => Step::ClearTarget,
        }),
    }
}

fn unassociate(allocation_id: &AllocationId, target: &Target) -> Step {
    Step::Change {
        resource: allocation_id.to_string(),
        change: Change::UnassociateEipAddress {
            allocation_id: allocation_id.clone(),
            eni_id: target.eni_id.clone(),
            private_ip: target.private_ip,
        },
    }
}

/// What is left to take back; none when nothing is.
pub(super) fn ending(s: &Situation<'_>) -> Option<Step> {
    let Some(leased) = &s.lease.eip else { return s.lease.target.is_some().then_some(Step::ClearTarget) };
    let allocation_id = leased.allocation_id.clone();
    let Seen::There(eip) = &s.cloud.eip else {
        // An empty list is what wrong credentials give, too: only a 404 to a change is proof.
        let change = match (&s.lease.target, leased.ours) {
            (_, true) => Change::ReleaseEipAddress { allocation_id },
            (Some(t), false) => Change::UnassociateEipAddress { allocation_id, eni_id: t.eni_id.clone(), private_ip: t.private_ip },
            (None, false) => return Some(Step::ForgetEip),
        };
        return Some(Step::Change { resource: leased.allocation_id.to_string(), change });
    };
    if let Some(target) = &s.lease.target {
        return Some(unbind(eip, target).unwrap_or(Step::ClearTarget));
    }
    if leased.ours { Some(release(s, eip)) } else { Some(Step::ForgetEip) }
}

/// The step that frees `target` from the EIP; none once it is free.
fn unbind(eip: &Eip, target: &Target) -> Option<Step> {
    match eip.status {
        EipStatus::InUse if eip.bound_to(&target.eni_id, target.private_ip, target.primary) => {
            Some(unassociate(&eip.allocation_id, target))
        }
        EipStatus::Associating | EipStatus::Unassociating | EipStatus::Other => {
            Some(Step::wait(Reason::EipChanging, Patience::Poll, format!("EIP {} is {:?}", eip.ip_address, eip.status)))
        }
        // Bound elsewhere by somebody else's hand: not from us any more.
        EipStatus::InUse | EipStatus::Available | EipStatus::Releasing => None,
    }
}

/// Gives our unbound EIP back. The proof is the 404 to the release after the one that worked.
fn release(s: &Situation<'_>, eip: &Eip) -> Step {
    let allocation_id = eip.allocation_id.clone();
    let resource = allocation_id.to_string();
    match (eip.status, &eip.bandwidth_package, &s.lease.request) {
        (EipStatus::InUse, ..) => {
            let message = format!(
                "EIP {} ({}) was bound to {} by somebody else; unbind it there, and it is released",
                eip.allocation_id,
                eip.ip_address,
                bound_to(eip)
            );
            Step::wait(Reason::EipBoundElsewhere, Patience::Idle, message)
        }
        (EipStatus::Associating | EipStatus::Unassociating | EipStatus::Releasing | EipStatus::Other, ..) => {
            Step::wait(Reason::EipChanging, Patience::Poll, format!("EIP {} is {:?}", eip.ip_address, eip.status))
        }
        (EipStatus::Available, _, _) if eip.charge_type == "PrePaid" => {
            let message = format!("EIP {} ({}) is PrePaid and stays until it expires", eip.allocation_id, eip.ip_address);
            Step::wait(Reason::PrePaid, Patience::Idle, message)
        }
        (EipStatus::Available, Some(package_id), Request::Eip(EipRequest { source: EipSource::Allocate(spec), .. }))
            if spec.bandwidth_package.as_ref() == Some(package_id) =>
        {
            Step::Change { resource, change: Change::RemoveCommonBandwidthPackageIp { allocation_id, package_id: package_id.clone() } }
        }
        (EipStatus::Available, ..) => Step::Change { resource, change: Change::ReleaseEipAddress { allocation_id } },
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
        content: content(request, leased, Some(status)),
        annotation: eip.ip_address.to_string(),
        reason: Reason::EipAssociated,
        message: format!("EIP {} ({}) is bound to pod IP {}", eip.ip_address, eip.allocation_id, target.private_ip),
    }
}

fn content(request: &EipRequest, leased: &LeasedEip, status: Option<PodEipStatus>) -> Content {
    let (kind, package) = match &request.source {
        EipSource::Allocate(spec) => ("Auto", spec.bandwidth_package.as_ref().map(ToString::to_string)),
        EipSource::Given(_) => ("Static", None),
    };
    let (strategy, after) = match &request.release {
        ReleaseStrategy::Follow => ("Follow", None),
        ReleaseStrategy::Never => ("Never", None),
        ReleaseStrategy::Ttl { text, .. } => ("TTL", Some(text.clone())),
    };
    let allocation_type = AllocationType { kind: Some(kind.to_owned()), release_strategy: Some(strategy.to_owned()), release_after: after };
    let spec = PodEipSpec {
        allocation_id: Some(leased.allocation_id.to_string()),
        bandwidth_package_id: package,
        allocation_type: Some(allocation_type),
    };
    Content::Eip { spec, status: status.map(Box::new) }
}

fn bound_to(eip: &Eip) -> String {
    let Some(binding) = &eip.binding else { return "something the cloud does not name".to_owned() };
    match binding.private_ip {
        Some(ip) => format!("{} {} ({ip})", binding.instance_type, binding.instance_id),
        None => format!("{} {}", binding.instance_type, binding.instance_id),
    }
}

fn wrong_kind() -> Step {
    Step::End(super::EndReason::RequestChanged)
}
