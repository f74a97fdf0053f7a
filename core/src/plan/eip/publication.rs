//! Content of a PodEIP, of the pod's annotation and of its condition for an EIP.

use super::settings;
use crate::cloud_facts::Eip;
use crate::condition::Reason;
use crate::lease::{LeasedEip, Target};
use crate::plan::situation::Situation;
use crate::plan::step::{CustomResourceContent, Publication};
use crate::request::{EipRequest, EipSource, ReleaseStrategy};
use crate::resources::{AllocationType, PodEipSpec, PodEipStatus};

/// Builds the publication of an EIP that is bound to the pod's IP.
pub(super) fn eip_publication(
    s: &Situation<'_>,
    request: &EipRequest,
    leased: &LeasedEip,
    eip: &Eip,
    target: &Target,
) -> Publication {
    let non_empty = |value: &str| (!value.is_empty()).then(|| value.to_owned());
    let status = PodEipStatus {
        network_interface_id: Some(target.eni_id.to_string()),
        private_ip_address: Some(target.private_ip.to_string()),
        eip_address: Some(eip.ip_address.to_string()),
        isp: non_empty(&eip.isp),
        internet_charge_type: non_empty(&eip.internet_charge_type),
        resource_group_id: non_empty(&eip.resource_group_id),
        name: non_empty(&eip.name),
        public_ip_address_pool_id: non_empty(&eip.public_ip_address_pool_id),
        bandwidth_package_id: eip.bandwidth_package.as_ref().map(ToString::to_string),
        bandwidth: Some(eip.bandwidth.to_string()),
        period: None,
        status: Some(eip.status.to_string()),
        pod_last_seen: Some(s.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
    };
    Publication {
        content: eip_content(s, request, leased, Some(status)),
        annotation: eip.ip_address.to_string(),
        reason: Reason::EipAssociated,
        message: format!(
            "EIP {} ({}) is bound to pod IP {}{}",
            eip.ip_address,
            eip.allocation_id,
            target.private_ip,
            settings::list_unfollowed_settings(request, eip)
        ),
    }
}

/// Builds the lease's custom resource; without a status until the EIP works.
pub(in crate::plan) fn eip_content(
    s: &Situation<'_>,
    request: &EipRequest,
    leased: &LeasedEip,
    status: Option<PodEipStatus>,
) -> CustomResourceContent {
    let kind = match &request.source {
        EipSource::Allocate(_) => "Auto",
        EipSource::Given(_) | EipSource::Pool(_) => "Static",
    };
    let (strategy, after) = match &request.release {
        ReleaseStrategy::Follow => ("Follow", None),
        ReleaseStrategy::Never => ("Never", None),
        ReleaseStrategy::Ttl { text, .. } => ("TTL", Some(text.clone())),
    };
    let allocation_type = AllocationType {
        kind: Some(kind.to_owned()),
        release_strategy: Some(strategy.to_owned()),
        release_after: after,
    };
    let spec = PodEipSpec {
        allocation_id: Some(leased.allocation_id.to_string()),
        bandwidth_package_id: settings::package_to_record(s, request),
        allocation_type: Some(allocation_type),
    };
    CustomResourceContent::Eip { spec, status: status.map(Box::new) }
}
