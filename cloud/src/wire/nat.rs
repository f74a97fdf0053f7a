//! Answers about NAT gateways, their forward entries and their SNAT entries.

use super::{Page, address, list, number, present, required, text, texts};
use crate::network::SnatEntry;
use serde::Deserialize;
use waygate_core::change::Answer;
use waygate_core::facts::{ForwardEntry, ForwardEntryStatus, GatewayEip, NatGateway};
use waygate_core::ids::{
    AllocationId, ForwardEntryId, ForwardTableId, NatGatewayId, VSwitchId, VpcId, ZoneId,
};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Created {
    #[serde(default, deserialize_with = "text")]
    request_id: String,
    #[serde(deserialize_with = "text")]
    forward_entry_id: String,
}

impl Created {
    pub(crate) fn answer(self) -> Result<Answer, String> {
        let entry_id = ForwardEntryId::new(required("ForwardEntryId", self.forward_entry_id)?);
        Ok(Answer { request_id: self.request_id, entry_id: Some(entry_id), ..Answer::default() })
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ForwardEntries {
    #[serde(deserialize_with = "number")]
    total_count: u32,
    #[serde(deserialize_with = "list")]
    forward_table_entries: Vec<WireForward>,
}

impl Page for ForwardEntries {
    type Item = ForwardEntry;

    fn total(&self) -> u32 {
        self.total_count
    }

    fn items(self) -> Result<Vec<ForwardEntry>, String> {
        self.forward_table_entries.into_iter().map(WireForward::fact).collect()
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireForward {
    #[serde(deserialize_with = "text")]
    forward_entry_id: String,
    #[serde(deserialize_with = "text")]
    forward_table_id: String,
    #[serde(default, deserialize_with = "text")]
    forward_entry_name: String,
    #[serde(deserialize_with = "text")]
    external_ip: String,
    #[serde(deserialize_with = "text")]
    external_port: String,
    #[serde(deserialize_with = "text")]
    internal_ip: String,
    #[serde(deserialize_with = "text")]
    internal_port: String,
    #[serde(deserialize_with = "text")]
    ip_protocol: String,
    #[serde(deserialize_with = "text")]
    status: String,
}

impl WireForward {
    fn fact(self) -> Result<ForwardEntry, String> {
        Ok(ForwardEntry {
            entry_id: ForwardEntryId::new(required("ForwardEntryId", self.forward_entry_id)?),
            table_id: ForwardTableId::new(required("ForwardTableId", self.forward_table_id)?),
            name: self.forward_entry_name,
            external_ip: address("ExternalIp", &self.external_ip)?,
            external_port: self.external_port,
            internal_ip: address("InternalIp", &self.internal_ip)?,
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
    #[serde(deserialize_with = "number")]
    total_count: u32,
    #[serde(deserialize_with = "list")]
    nat_gateways: Vec<WireGateway>,
}

impl Page for NatGateways {
    type Item = NatGateway;

    fn total(&self) -> u32 {
        self.total_count
    }

    fn items(self) -> Result<Vec<NatGateway>, String> {
        self.nat_gateways.into_iter().map(WireGateway::fact).collect()
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireGateway {
    #[serde(deserialize_with = "text")]
    nat_gateway_id: String,
    #[serde(deserialize_with = "text")]
    vpc_id: String,
    #[serde(deserialize_with = "text")]
    status: String,
    #[serde(default, deserialize_with = "text")]
    business_status: String,
    #[serde(deserialize_with = "texts")]
    forward_table_ids: Vec<String>,
    #[serde(default, deserialize_with = "list")]
    ip_lists: Vec<WireGatewayEip>,
    #[serde(default)]
    nat_gateway_private_info: Option<PrivateInfo>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireGatewayEip {
    #[serde(deserialize_with = "text")]
    allocation_id: String,
    #[serde(deserialize_with = "text")]
    ip_address: String,
    #[serde(default, deserialize_with = "text")]
    using_status: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PrivateInfo {
    #[serde(default, deserialize_with = "text")]
    iz_no: String,
}

impl WireGateway {
    fn fact(self) -> Result<NatGateway, String> {
        let table = self.forward_table_ids.into_iter().next().unwrap_or_default();
        Ok(NatGateway {
            nat_gateway_id: NatGatewayId::new(required("NatGatewayId", self.nat_gateway_id)?),
            forward_table_id: ForwardTableId::new(required("ForwardTableIds", table)?),
            vpc_id: VpcId::new(required("VpcId", self.vpc_id)?),
            zone_id: self
                .nat_gateway_private_info
                .and_then(|info| present(info.iz_no))
                .map(ZoneId::new),
            available: self.status == "Available"
                && matches!(self.business_status.as_str(), "Normal" | ""),
            eips: self.ip_lists.into_iter().map(WireGatewayEip::fact).collect::<Result<_, _>>()?,
        })
    }
}

impl WireGatewayEip {
    fn fact(self) -> Result<GatewayEip, String> {
        Ok(GatewayEip {
            allocation_id: AllocationId::new(required("IpLists.AllocationId", self.allocation_id)?),
            ip_address: address("IpLists.IpAddress", &self.ip_address)?,
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
    #[serde(deserialize_with = "number")]
    total_count: u32,
    #[serde(deserialize_with = "list")]
    snat_table_entries: Vec<WireSnat>,
}

impl Page for SnatEntries {
    type Item = SnatEntry;

    fn total(&self) -> u32 {
        self.total_count
    }

    fn items(self) -> Result<Vec<SnatEntry>, String> {
        self.snat_table_entries.into_iter().map(WireSnat::fact).collect()
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireSnat {
    #[serde(deserialize_with = "text")]
    snat_entry_id: String,
    #[serde(default, deserialize_with = "text")]
    snat_ip: String,
    #[serde(default, rename = "SourceCIDR", deserialize_with = "text")]
    source_cidr: String,
    #[serde(default, rename = "SourceVSwitchId", deserialize_with = "text")]
    source_vswitch_id: String,
    #[serde(default, deserialize_with = "text")]
    status: String,
}

impl WireSnat {
    fn fact(self) -> Result<SnatEntry, String> {
        // Several addresses come in one string, separated by commas.
        let ips = self.snat_ip.split(',').filter(|ip| !ip.trim().is_empty());
        Ok(SnatEntry {
            snat_entry_id: required("SnatEntryId", self.snat_entry_id)?,
            ips: ips.map(|ip| address("SnatIp", ip)).collect::<Result<_, _>>()?,
            source_cidr: self.source_cidr,
            source_vswitch_id: present(self.source_vswitch_id).map(VSwitchId::new),
            available: self.status == "Available",
        })
    }
}
