//! Settings of a managed EIP compared with the pod's request: adjusted where the cloud allows a
//! change, reported where it does not.

use crate::change::Change;
use crate::cloud_facts::{Eip, EipStatus};
use crate::plan::situation::{CustomResourceObject, CustomResourceState, Lookup, Situation};
use crate::plan::step::Step;
use crate::request::{EipRequest, EipSource, EipSpec, InstanceChargeType};

/// Joins the requested shared bandwidth package, and leaves the one requested before. A package
/// that a person chose stays. A PrePaid EIP joins none.
pub(super) fn adjust_package(s: &Situation<'_>, request: &EipRequest, eip: &Eip) -> Option<Step> {
    let spec = managed_spec(request).filter(|_| !is_prepaid(eip))?;
    let allocation_id = eip.allocation_id.clone();
    let before = recorded_package(s);
    let change = match (&eip.bandwidth_package, &spec.bandwidth_package) {
        (None, None) => return None,
        (Some(current), Some(wanted)) if current == wanted => return None,
        (Some(current), None) if before != Some(current.as_str()) => return None,
        (Some(current), _) => {
            Change::RemoveCommonBandwidthPackageIp { allocation_id, package_id: current.clone() }
        }
        (None, Some(wanted)) => {
            Change::AddCommonBandwidthPackageIp { allocation_id, package_id: wanted.clone() }
        }
    };
    Some(Step::QueueEipChange { resource: eip.allocation_id.to_string(), change })
}

/// Package to record on the custom resource: the requested one, but the previously requested one
/// until the EIP has left it, which marks that package as Waygate's to leave.
pub(super) fn package_to_record(s: &Situation<'_>, request: &EipRequest) -> Option<String> {
    let requested = managed_spec(request)?.bandwidth_package.as_ref().map(ToString::to_string);
    let Lookup::Present(Eip { bandwidth_package: Some(current), .. }) = &s.cloud.eip else {
        return requested;
    };
    recorded_package(s)
        .filter(|recorded| *recorded == current.as_str())
        .map(str::to_owned)
        .or(requested)
}

fn recorded_package<'a>(s: &Situation<'a>) -> Option<&'a str> {
    match s.custom_resource {
        CustomResourceState::Owned(CustomResourceObject::Eip(object), _) => {
            object.spec.bandwidth_package_id.as_deref()
        }
        CustomResourceState::Owned(CustomResourceObject::Dnat(_), _)
        | CustomResourceState::Absent
        | CustomResourceState::Orphaned
        | CustomResourceState::OtherLease { .. }
        | CustomResourceState::Foreign { .. } => None,
    }
}

/// Changes what ModifyEipAddressAttribute can change. In a shared bandwidth package the EIP shows
/// the package's bandwidth; a PrePaid EIP takes no name, and its bandwidth is part of the price
/// paid.
pub(super) fn adjust_attributes(request: &EipRequest, eip: &Eip) -> Option<Step> {
    let spec = managed_spec(request)?;
    let postpaid = !is_prepaid(eip);
    let bandwidth =
        (postpaid && eip.bandwidth_package.is_none() && eip.bandwidth != spec.bandwidth)
            .then_some(spec.bandwidth);
    let name = spec.name.clone().filter(|name| *name != eip.name && postpaid);
    let description =
        spec.description.clone().filter(|description| *description != eip.description);
    // An EIP that is being bound, unbound or released takes no change.
    let takes_changes = matches!(eip.status, EipStatus::Available | EipStatus::InUse);
    let differs = bandwidth.is_some() || name.is_some() || description.is_some();
    let allocation_id = eip.allocation_id.clone();
    let change =
        || Change::ModifyEipAddressAttribute { allocation_id, bandwidth, name, description };
    (takes_changes && differs)
        .then(|| Step::QueueEipChange { resource: eip.allocation_id.to_string(), change: change() })
}

/// True if a managed EIP has other settings than its pod asks for, which Waygate can change. A
/// package that a person chose is no difference.
pub fn eip_settings_differ(request: &EipRequest, eip: &Eip) -> bool {
    let wanted = managed_spec(request).and_then(|spec| spec.bandwidth_package.as_ref());
    let other_package =
        !is_prepaid(eip) && wanted.is_some() && wanted != eip.bandwidth_package.as_ref();
    other_package || adjust_attributes(request, eip).is_some()
}

fn is_prepaid(eip: &Eip) -> bool {
    eip.charge_type == InstanceChargeType::PrePaid.as_str()
}

/// Settings that a managed EIP should have; none for an EIP that people allocated.
fn managed_spec(request: &EipRequest) -> Option<&EipSpec> {
    match &request.source {
        EipSource::Allocate(spec) => Some(spec),
        EipSource::Given(_) | EipSource::Pool(_) => None,
    }
}

/// Lists requested settings that only another EIP could have, for the end of the condition's
/// message; empty if there are none.
pub(super) fn list_unfollowed_settings(request: &EipRequest, eip: &Eip) -> String {
    let Some(spec) = managed_spec(request) else { return String::new() };
    let shown = |value: &str| (!value.is_empty()).then(|| value.to_owned());
    let prepaid = is_prepaid(eip);
    // A shared bandwidth package has its own billing.
    let outside_package = eip.bandwidth_package.is_none();
    let settings = [
        ("eip-isp", shown(&eip.isp), spec.isp.clone()),
        (
            "eip-internet-charge-type",
            shown(&eip.internet_charge_type),
            outside_package.then(|| spec.internet_charge_type.as_str().to_owned()),
        ),
        (
            "eip-instance-charge-type",
            shown(&eip.charge_type),
            Some(spec.instance_charge_type.as_str().to_owned()),
        ),
        (
            "eip-public-ip-address-pool-id",
            shown(&eip.public_ip_address_pool_id),
            spec.public_ip_address_pool_id.clone(),
        ),
        ("eip-resource-group-id", shown(&eip.resource_group_id), spec.resource_group_id.clone()),
        (
            "eip-common-bandwidth-package-id",
            prepaid.then(|| "none".to_owned()),
            spec.bandwidth_package.as_ref().map(ToString::to_string),
        ),
        (
            "eip-bandwidth",
            prepaid.then(|| eip.bandwidth.to_string()),
            Some(spec.bandwidth.to_string()),
        ),
    ];
    let differing = settings.into_iter().filter_map(|(key, current, wanted)| {
        let (current, wanted) = (current?, wanted?);
        (current != wanted).then(|| format!("{key} is {current} and not {wanted}"))
    });
    let differing: Vec<_> = differing.collect();
    if differing.is_empty() {
        return String::new();
    }
    format!("; {}: the cloud cannot change that, recreate the pod to get it", differing.join(", "))
}
