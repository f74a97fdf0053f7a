//! Answers about elastic IPs (EIPs).

use super::{
    Page, non_empty, optional_id, parse_address, parse_optional_address, required_id,
    scalar_number, scalar_text, wrapped_list,
};
use serde::Deserialize;
use waygate_core::change::Answer;
use waygate_core::cloud_facts::{Eip, EipBinding, EipStatus};
use waygate_core::ids::{AllocationId, BandwidthPackageId};
use waygate_core::text::Text;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Allocated {
    #[serde(default, deserialize_with = "scalar_text")]
    request_id: String,
    #[serde(deserialize_with = "scalar_text")]
    allocation_id: String,
    #[serde(default, deserialize_with = "scalar_text")]
    eip_address: String,
}

impl Allocated {
    pub(crate) fn into_answer(self) -> Result<Answer, String> {
        Ok(Answer {
            request_id: Text::RequestId.clean(&self.request_id),
            ip_address: parse_optional_address("EipAddress", &self.eip_address)?,
            allocation_id: Some(AllocationId::new(required_id(
                "AllocationId",
                self.allocation_id,
            )?)),
            entry_id: None,
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Eips {
    #[serde(deserialize_with = "scalar_number")]
    total_count: u32,
    #[serde(deserialize_with = "wrapped_list")]
    eip_addresses: Vec<WireEip>,
}

impl Page for Eips {
    type Item = Eip;

    fn total_count(&self) -> u32 {
        self.total_count
    }

    fn into_page_items(self) -> Result<Vec<Eip>, String> {
        self.eip_addresses.into_iter().map(WireEip::into_eip).collect()
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireEip {
    #[serde(deserialize_with = "scalar_text")]
    allocation_id: String,
    #[serde(deserialize_with = "scalar_text")]
    ip_address: String,
    #[serde(deserialize_with = "scalar_text")]
    status: String,
    #[serde(default, deserialize_with = "scalar_text")]
    instance_id: String,
    #[serde(default, deserialize_with = "scalar_text")]
    instance_type: String,
    #[serde(default, deserialize_with = "scalar_text")]
    private_ip_address: String,
    #[serde(default, deserialize_with = "scalar_text")]
    bandwidth_package_id: String,
    #[serde(default, deserialize_with = "scalar_number")]
    bandwidth: u32,
    #[serde(default, deserialize_with = "scalar_text")]
    internet_charge_type: String,
    #[serde(default, deserialize_with = "scalar_text")]
    charge_type: String,
    #[serde(default, deserialize_with = "scalar_text")]
    expired_time: String,
    #[serde(default, rename = "ISP", deserialize_with = "scalar_text")]
    isp: String,
    #[serde(default, deserialize_with = "scalar_text")]
    resource_group_id: String,
    #[serde(default, deserialize_with = "scalar_text")]
    name: String,
    #[serde(default, deserialize_with = "scalar_text")]
    description: String,
    #[serde(default, deserialize_with = "scalar_text")]
    public_ip_address_pool_id: String,
    #[serde(default, deserialize_with = "wrapped_list")]
    tags: Vec<KeyValue>,
}

/// A tag in the form of EIPs, vSwitches and VPCs.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct KeyValue {
    #[serde(deserialize_with = "scalar_text")]
    key: String,
    #[serde(default, deserialize_with = "scalar_text")]
    value: String,
}

impl WireEip {
    fn into_eip(self) -> Result<Eip, String> {
        let private_ip = parse_optional_address("PrivateIpAddress", &self.private_ip_address)?;
        let instance_type = self.instance_type;
        Ok(Eip {
            allocation_id: AllocationId::new(required_id("AllocationId", self.allocation_id)?),
            ip_address: parse_address("IpAddress", &self.ip_address)?,
            status: parse_status(&self.status),
            binding: non_empty(self.instance_id).map(|instance_id| EipBinding {
                instance_type,
                instance_id,
                private_ip,
            }),
            bandwidth_package: non_empty(optional_id(
                "BandwidthPackageId",
                self.bandwidth_package_id,
            )?)
            .map(BandwidthPackageId::new),
            bandwidth: self.bandwidth,
            internet_charge_type: self.internet_charge_type,
            charge_type: self.charge_type,
            // Comes with seconds or without. Another format must not make the EIP unreadable.
            expires_at: self.expired_time.parse().ok(),
            isp: self.isp,
            resource_group_id: self.resource_group_id,
            name: self.name,
            description: self.description,
            public_ip_address_pool_id: self.public_ip_address_pool_id,
            tags: self.tags.into_iter().map(|tag| (tag.key, tag.value)).collect(),
        })
    }
}

fn parse_status(word: &str) -> EipStatus {
    match word {
        "Available" => EipStatus::Available,
        "Associating" => EipStatus::Associating,
        "InUse" => EipStatus::InUse,
        "Unassociating" => EipStatus::Unassociating,
        "Releasing" => EipStatus::Releasing,
        _ => EipStatus::Other,
    }
}
