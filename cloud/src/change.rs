//! Changes: the parameters of each and the reading of its answer.

use crate::error::Error;
use crate::http::client::unreadable_answer;
use crate::http::params::Params;
use crate::transport::{Permit, Transport, vpc_action};
use crate::wire::Plain;
use crate::wire::eip::Allocated;
use crate::wire::nat::Created;
use reqwest::StatusCode;
use std::collections::BTreeMap;
use std::fmt::Display;
use tokio::time::Instant;
use waygate_core::change::{Answer, Change, ForwardEntrySpec};
use waygate_core::ids::{AllocationId, BandwidthPackageId, EniId};
use waygate_core::request::{EipSpec, InstanceChargeType, Protocol};
use waygate_core::text::Text;

/// Sends `change` once, for every action; `token` is left out where the action takes none.
pub(crate) async fn send_once(
    transport: &Transport,
    permit: Permit,
    change: &Change,
    token: Option<&str>,
    deadline: Instant,
) -> Result<Answer, Error> {
    let token = token.filter(|_| change.takes_token());
    let params = change_params(change).with_optional("ClientToken", token);
    let answer = match change {
        Change::AllocateEipAddress { .. } | Change::AllocateEipAddressPro { .. } => {
            transport.send_signed::<Allocated>(permit, params, deadline).await?.value.into_answer()
        }
        Change::CreateForwardEntry(_) => {
            transport.send_signed::<Created>(permit, params, deadline).await?.value.into_answer()
        }
        _ => transport
            .send_signed::<Plain>(permit, params, deadline)
            .await
            .map(|read| Ok(plain_answer(&read.value)))?,
    };
    answer.map_err(|detail| unreadable_answer(change.action(), StatusCode::OK, detail))
}

/// Tags resources that belong to no pod, such as a gateway with its owner.
pub(crate) async fn tag_resources(
    transport: &Transport,
    resource_type: &str,
    ids: &[&str],
    tags: &BTreeMap<String, String>,
    deadline: Instant,
) -> Result<(), Error> {
    let params = Params::default()
        .with("ResourceType", resource_type)
        .with_list("ResourceId", ids)
        .with_tags(tags);
    transport.call_once::<Plain>(vpc_action("TagResources"), params, deadline).await.map(drop)
}

fn plain_answer(answer: &Plain) -> Answer {
    Answer { request_id: Text::RequestId.clean(&answer.request_id), ..Answer::default() }
}

fn change_params(change: &Change) -> Params {
    match change {
        Change::AllocateEipAddress { spec, tags } => {
            let params = allocation_params(spec, tags)
                .with_optional("Description", spec.description.as_ref());
            // The API refuses a name for a prepaid EIP.
            let name = spec
                .name
                .as_ref()
                .filter(|_| spec.instance_charge_type == InstanceChargeType::PostPaid);
            params.with_optional("Name", name)
        }
        Change::AllocateEipAddressPro { ip_address, spec, tags } => {
            allocation_params(spec, tags).with("IpAddress", ip_address)
        }
        Change::AssociateEipAddress { allocation_id, eni_id, private_ip } => {
            binding_params(allocation_id, eni_id, private_ip).with("Mode", "NAT")
        }
        Change::UnassociateEipAddress { allocation_id, eni_id, private_ip } => {
            binding_params(allocation_id, eni_id, private_ip)
        }
        Change::ReleaseEipAddress { allocation_id } => {
            Params::default().with("AllocationId", allocation_id)
        }
        Change::AddCommonBandwidthPackageIp { allocation_id, package_id } => {
            package_params(allocation_id, package_id).with("IpType", "EIP")
        }
        Change::RemoveCommonBandwidthPackageIp { allocation_id, package_id } => {
            package_params(allocation_id, package_id)
        }
        Change::ModifyEipAddressAttribute { allocation_id, bandwidth, name, description } => {
            Params::default()
                .with("AllocationId", allocation_id)
                .with_optional("Bandwidth", bandwidth.as_ref())
                .with_optional("Name", name.as_ref())
                .with_optional("Description", description.as_ref())
        }
        Change::CreateForwardEntry(entry) => forward_params(entry),
        Change::ModifyForwardEntry { entry_id, forward: entry } => {
            forward_params(entry).with("ForwardEntryId", entry_id)
        }
        Change::DeleteForwardEntry { table_id, entry_id } => {
            Params::default().with("ForwardTableId", table_id).with("ForwardEntryId", entry_id)
        }
    }
}

fn allocation_params(spec: &EipSpec, tags: &BTreeMap<String, String>) -> Params {
    // Waygate's tags win: a user's tag must not take ownership away.
    let mut all_tags = spec.tags.clone();
    all_tags.extend(tags.clone());
    let params = Params::default()
        .with("Bandwidth", spec.bandwidth)
        .with("InternetChargeType", spec.internet_charge_type.as_str())
        .with("InstanceChargeType", spec.instance_charge_type.as_str())
        .with_optional("ISP", spec.isp.as_ref())
        .with_optional("PublicIpAddressPoolId", spec.public_ip_address_pool_id.as_ref())
        .with_optional("ResourceGroupId", spec.resource_group_id.as_ref())
        .with_list("SecurityProtectionTypes", &spec.security_protection_types)
        .with_tags(&all_tags);
    match spec.instance_charge_type {
        InstanceChargeType::PostPaid => params,
        // A month is the shortest period the cloud sells; without AutoPay the order stays open.
        InstanceChargeType::PrePaid => {
            params.with("PricingCycle", "Month").with("Period", 1).with("AutoPay", true)
        }
    }
}

fn binding_params(
    allocation_id: &AllocationId,
    eni_id: &EniId,
    private_ip: &impl Display,
) -> Params {
    Params::default()
        .with("AllocationId", allocation_id)
        .with("InstanceId", eni_id)
        .with("InstanceType", "NetworkInterface")
        .with("PrivateIpAddress", private_ip)
}

fn package_params(allocation_id: &AllocationId, package_id: &BandwidthPackageId) -> Params {
    Params::default().with("IpInstanceId", allocation_id).with("BandwidthPackageId", package_id)
}

fn forward_params(forward: &ForwardEntrySpec) -> Params {
    let protocol = match forward.protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
    };
    Params::default()
        .with("ForwardTableId", &forward.table_id)
        .with("ForwardEntryName", &forward.name)
        .with("ExternalIp", forward.external_ip)
        .with("ExternalPort", forward.external_ports())
        .with("InternalIp", forward.internal_ip)
        .with("InternalPort", forward.internal_ports())
        .with("IpProtocol", protocol)
        .with_optional("PortBreak", forward.port_break.then_some(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use waygate_core::ids::{ForwardEntryId, ForwardTableId};

    fn entry(ports: u16) -> ForwardEntrySpec {
        ForwardEntrySpec {
            table_id: ForwardTableId::new("ftb-1"),
            name: "wg2.s.c.l.1".to_owned(),
            external_ip: "203.0.113.1".parse().unwrap(),
            external_port: 30000,
            internal_ip: "10.0.0.1".parse().unwrap(),
            internal_port: 8000,
            ports,
            protocol: Protocol::Udp,
            port_break: false,
        }
    }

    #[test]
    fn a_range_is_written_with_a_slash_and_a_single_port_without() {
        let single = change_params(&Change::CreateForwardEntry(entry(1))).canonical_query();
        assert!(
            single.contains("ExternalPort=30000&") && single.contains("InternalPort=8000&"),
            "{single}"
        );
        assert!(!single.contains("PortBreak"), "{single}");
        let range = change_params(&Change::ModifyForwardEntry {
            entry_id: ForwardEntryId::new("fwd-1"),
            forward: entry(10),
        })
        .canonical_query();
        assert!(
            range.contains("ExternalPort=30000%2F30009&")
                && range.contains("InternalPort=8000%2F8009&"),
            "{range}"
        );
    }

    #[test]
    fn our_tags_win_over_the_users() {
        let spec = EipSpec {
            tags: BTreeMap::from([("a".to_owned(), "theirs".to_owned())]),
            ..EipSpec::default()
        };
        let ours = BTreeMap::from([("a".to_owned(), "ours".to_owned())]);
        let query = allocation_params(&spec, &ours).canonical_query();
        assert!(
            query.contains("Tag.1.Key=a&Tag.1.Value=ours") && !query.contains("theirs"),
            "{query}"
        );
    }

    #[test]
    fn a_prepaid_eip_is_paid_for_and_has_no_name() {
        let spec = EipSpec {
            instance_charge_type: InstanceChargeType::PrePaid,
            name: Some("n".to_owned()),
            ..EipSpec::default()
        };
        let query = change_params(&Change::AllocateEipAddress { spec, tags: BTreeMap::new() })
            .canonical_query();
        assert!(
            query.contains("AutoPay=true")
                && query.contains("Period=1")
                && !query.contains("Name="),
            "{query}"
        );
    }
}
