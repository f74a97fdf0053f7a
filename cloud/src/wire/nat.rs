//! Answers about NAT gateways, their forward entries and their SNAT entries.

use super::{
    Page, non_empty, parse_address, required_id, scalar_number, scalar_text, text_list,
    wrapped_list,
};
use crate::network::SnatEntry;
use serde::Deserialize;
use waygate_core::change::Answer;
use waygate_core::cloud_facts::{ForwardEntry, ForwardEntryStatus, GatewayEip, NatGateway};
use waygate_core::ids::{
    AllocationId, ForwardEntryId, ForwardTableId, NatGatewayId, VSwitchId, VpcId, ZoneId,
};
use waygate_core::text::Text;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Created {
    #[serde(default, deserialize_with = "scalar_text")]
    request_id: String,
    #[serde(deserialize_with = "scalar_text")]
    forward_entry_id: String,
}

impl Created {
    pub(crate) fn into_answer(self) -> Result<Answer, String> {
        let entry_id = ForwardEntryId::new(required_id("ForwardEntryId", self.forward_entry_id)?);
        Ok(Answer {
            request_id: Text::RequestId.clean(&self.request_id),
            entry_id: Some(entry_id),
            ..Answer::default()
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ForwardEntries {
    #[serde(deserialize_with = "scalar_number")]
    total_count: u32,
    #[serde(deserialize_with = "wrapped_list")]
    forward_table_entries: Vec<WireForward>,
}

impl Page for ForwardEntries {
    type Item = ForwardEntry;

    fn total_count(&self) -> u32 {
        self.total_count
    }

    fn into_page_items(self) -> Result<Vec<ForwardEntry>, String> {
        self.forward_table_entries.into_iter().map(WireForward::into_entry).collect()
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireForward {
    #[serde(deserialize_with = "scalar_text")]
    forward_entry_id: String,
    #[serde(deserialize_with = "scalar_text")]
    forward_table_id: String,
    #[serde(default, deserialize_with = "scalar_text")]
    forward_entry_name: String,
    #[serde(deserialize_with = "scalar_text")]
    external_ip: String,
    #[serde(deserialize_with = "scalar_text")]
    external_port: String,
    #[serde(deserialize_with = "scalar_text")]
    internal_ip: String,
    #[serde(deserialize_with = "scalar_text")]
    internal_port: String,
    #[serde(deserialize_with = "scalar_text")]
    ip_protocol: String,
    #[serde(deserialize_with = "scalar_text")]
    status: String,
}

impl WireForward {
    fn into_entry(self) -> Result<ForwardEntry, String> {
        Ok(ForwardEntry {
            entry_id: ForwardEntryId::new(required_id("ForwardEntryId", self.forward_entry_id)?),
            table_id: ForwardTableId::new(required_id("ForwardTableId", self.forward_table_id)?),
            name: self.forward_entry_name,
            external_ip: parse_address("ExternalIp", &self.external_ip)?,
            external_port: self.external_port,
            internal_ip: parse_address("InternalIp", &self.internal_ip)?,
            internal_port: self.internal_port,
            ip_protocol: self.ip_protocol.to_ascii_lowercase(),
            status: match self.status.as_str() {
                "Pending" | "Modifying" => ForwardEntryStatus::Pending,
                "Available" => ForwardEntryStatus::Available,
                "Deleting" => ForwardEntryStatus::Deleting,
                _ => ForwardEntryStatus::Other,
            },
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct NatGateways {
    #[serde(deserialize_with = "scalar_number")]
    total_count: u32,
    #[serde(deserialize_with = "wrapped_list")]
    nat_gateways: Vec<WireGateway>,
}

impl Page for NatGateways {
    type Item = NatGateway;

    fn total_count(&self) -> u32 {
        self.total_count
    }

    fn into_page_items(self) -> Result<Vec<NatGateway>, String> {
        self.nat_gateways.into_iter().map(WireGateway::into_gateway).collect()
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireGateway {
    #[serde(deserialize_with = "scalar_text")]
    nat_gateway_id: String,
    #[serde(deserialize_with = "scalar_text")]
    vpc_id: String,
    #[serde(deserialize_with = "scalar_text")]
    status: String,
    #[serde(default, deserialize_with = "scalar_text")]
    business_status: String,
    #[serde(deserialize_with = "text_list")]
    forward_table_ids: Vec<String>,
    #[serde(default, deserialize_with = "wrapped_list")]
    ip_lists: Vec<WireGatewayEip>,
    #[serde(default)]
    nat_gateway_private_info: Option<PrivateInfo>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireGatewayEip {
    #[serde(deserialize_with = "scalar_text")]
    allocation_id: String,
    #[serde(deserialize_with = "scalar_text")]
    ip_address: String,
    #[serde(default, deserialize_with = "scalar_text")]
    using_status: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PrivateInfo {
    #[serde(default, deserialize_with = "scalar_text")]
    iz_no: String,
}

impl WireGateway {
    fn into_gateway(self) -> Result<NatGateway, String> {
        let table_id = self.forward_table_ids.into_iter().next().unwrap_or_default();
        Ok(NatGateway {
            nat_gateway_id: NatGatewayId::new(required_id("NatGatewayId", self.nat_gateway_id)?),
            forward_table_id: ForwardTableId::new(required_id("ForwardTableIds", table_id)?),
            vpc_id: VpcId::new(required_id("VpcId", self.vpc_id)?),
            zone_id: self
                .nat_gateway_private_info
                .and_then(|info| non_empty(info.iz_no))
                .map(ZoneId::new),
            available: self.status == "Available"
                && matches!(self.business_status.as_str(), "Normal" | ""),
            eips: self
                .ip_lists
                .into_iter()
                .map(WireGatewayEip::into_gateway_eip)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl WireGatewayEip {
    fn into_gateway_eip(self) -> Result<GatewayEip, String> {
        Ok(GatewayEip {
            allocation_id: AllocationId::new(required_id(
                "IpLists.AllocationId",
                self.allocation_id,
            )?),
            ip_address: parse_address("IpLists.IpAddress", &self.ip_address)?,
            snat: matches!(
                self.using_status.as_str(),
                "UsedBySnatTable" | "UsedByForwardSnatTable"
            ),
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct SnatEntries {
    #[serde(deserialize_with = "scalar_number")]
    total_count: u32,
    #[serde(deserialize_with = "wrapped_list")]
    snat_table_entries: Vec<WireSnat>,
}

impl Page for SnatEntries {
    type Item = SnatEntry;

    fn total_count(&self) -> u32 {
        self.total_count
    }

    fn into_page_items(self) -> Result<Vec<SnatEntry>, String> {
        self.snat_table_entries.into_iter().map(WireSnat::into_snat_entry).collect()
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireSnat {
    #[serde(deserialize_with = "scalar_text")]
    snat_entry_id: String,
    #[serde(default, deserialize_with = "scalar_text")]
    snat_ip: String,
    #[serde(default, rename = "SourceCIDR", deserialize_with = "scalar_text")]
    source_cidr: String,
    #[serde(default, rename = "SourceVSwitchId", deserialize_with = "scalar_text")]
    source_vswitch_id: String,
    #[serde(default, deserialize_with = "scalar_text")]
    status: String,
}

impl WireSnat {
    fn into_snat_entry(self) -> Result<SnatEntry, String> {
        // Several addresses come in one string, separated by commas.
        let ips = self.snat_ip.split(',').filter(|ip| !ip.trim().is_empty());
        Ok(SnatEntry {
            snat_entry_id: required_id("SnatEntryId", self.snat_entry_id)?,
            ips: ips.map(|ip| parse_address("SnatIp", ip)).collect::<Result<_, _>>()?,
            source_cidr: self.source_cidr,
            source_vswitch_id: non_empty(self.source_vswitch_id).map(VSwitchId::new),
            available: self.status == "Available",
        })
    }
}
