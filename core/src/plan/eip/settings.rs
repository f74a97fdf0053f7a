//! What an EIP of ours is like, as against what its pod asks for: brought there where the cloud allows it, said where it does not.

use crate::change::Change;
use crate::facts::{Eip, EipStatus};
use crate::plan::situation::{Object, ResourceFact, Situation};
use crate::plan::step::Step;
use crate::request::{EipRequest, EipSource, EipSpec, InstanceChargeType};

/// The next change that brings the EIP to what is asked for; none when it is, or when it is not ours to change.
pub(super) fn follow(s: &Situation<'_>, request: &EipRequest, eip: &Eip) -> Option<Step> {
    let EipSource::Allocate(spec) = &request.source else { return None };
    package(s, spec, eip).or_else(|| modify(spec, eip)).map(|change| Step::Change { resource: eip.allocation_id.to_string(), change })
}

/// Into the shared bandwidth package asked for, and out of the one asked for before. One that a person chose stays.
fn package(s: &Situation<'_>, spec: &EipSpec, eip: &Eip) -> Option<Change> {
    let allocation_id = eip.allocation_id.clone();
    let before = match s.resource {
        ResourceFact::Mine(Object::Eip(object), _) => object.spec.bandwidth_package_id.as_deref(),
        _ => None,
    };
    match (&eip.bandwidth_package, &spec.bandwidth_package) {
        (Some(is), Some(wanted)) if is == wanted => None,
        (Some(is), None) if before != Some(is.as_str()) => None,
        (Some(is), _) => Some(Change::RemoveCommonBandwidthPackageIp { allocation_id, package_id: is.clone() }),
        (None, Some(wanted)) => Some(Change::AddCommonBandwidthPackageIp { allocation_id, package_id: wanted.clone() }),
        (None, None) => None,
    }
}

/// What ModifyEipAddressAttribute can change. In a shared bandwidth package the package's bandwidth shows; a PrePaid EIP takes no name, and
/// its bandwidth is part of what was paid.
fn modify(spec: &EipSpec, eip: &Eip) -> Option<Change> {
    let postpaid = eip.charge_type != InstanceChargeType::PrePaid.as_str();
    let bandwidth = (postpaid && eip.bandwidth_package.is_none() && eip.bandwidth != spec.bandwidth).then_some(spec.bandwidth);
    let name = spec.name.clone().filter(|name| *name != eip.name && postpaid);
    let description = spec.description.clone().filter(|description| *description != eip.description);
    let settled = matches!(eip.status, EipStatus::Available | EipStatus::InUse);
    let differs = bandwidth.is_some() || name.is_some() || description.is_some();
    (settled && differs).then(|| Change::ModifyEipAddressAttribute {
        allocation_id: eip.allocation_id.clone(),
        bandwidth,
        name,
        description,
    })
}

/// What was asked for after the EIP was bought and only another EIP could be, for the end of the condition's message; empty when nothing was.
pub(super) fn not_followed(request: &EipRequest, eip: &Eip) -> String {
    let EipSource::Allocate(spec) = &request.source else { return String::new() };
    let bought = |is: &str| (!is.is_empty()).then(|| is.to_owned());
    let prepaid = eip.charge_type == InstanceChargeType::PrePaid.as_str();
    // A shared bandwidth package bills in its own way.
    let alone = eip.bandwidth_package.is_none();
    let settings = [
        ("eip-isp", bought(&eip.isp), spec.isp.clone()),
        ("eip-internet-charge-type", bought(&eip.internet_charge_type), alone.then(|| spec.internet_charge_type.as_str().to_owned())),
        ("eip-instance-charge-type", bought(&eip.charge_type), Some(spec.instance_charge_type.as_str().to_owned())),
        ("eip-public-ip-address-pool-id", bought(&eip.public_ip_address_pool_id), spec.public_ip_address_pool_id.clone()),
        ("eip-resource-group-id", bought(&eip.resource_group_id), spec.resource_group_id.clone()),
        ("eip-bandwidth", prepaid.then(|| eip.bandwidth.to_string()), Some(spec.bandwidth.to_string())),
    ];
    let differing = settings.into_iter().filter_map(|(key, is, wanted)| {
        let (is, wanted) = (is?, wanted?);
        (is != wanted).then(|| format!("{key} is {is} and not {wanted}"))
    });
    let differing: Vec<_> = differing.collect();
    if differing.is_empty() {
        return String::new();
    }
    format!("; {}: the cloud cannot change that, a new pod gets it", differing.join(", "))
}
