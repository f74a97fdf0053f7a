//! Answers about elastic IPs (EIPs).

use super::{Page, address, list, maybe_address, number, present, required, text};
use serde::Deserialize;
use waygate_core::change::Answer;
use waygate_core::facts::{Eip, EipBinding, EipStatus};
use waygate_core::ids::{AllocationId, BandwidthPackageId};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Allocated {
    #[serde(default, deserialize_with = "text")]
    request_id: String,
    #[serde(deserialize_with = "text")]
    allocation_id: String,
    #[serde(default, deserialize_with = "text")]
    eip_address: String,
}

impl Allocated {
    pub(crate) fn answer(self) -> Result<Answer, String> {
        Ok(Answer {
            request_id: self.request_id,
            ip_address: maybe_address("EipAddress", &self.eip_address)?,
            allocation_id: Some(AllocationId::new(required("AllocationId", self.allocation_id)?)),
            entry_id: None,
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Eips {
    #[serde(deserialize_with = "number")]
    total_count: u32,
    #[serde(deserialize_with = "list")]
    eip_addresses: Vec<WireEip>,
}

impl Page for Eips {
    type Item = Eip;

    fn total(&self) -> u32 {
        self.total_count
    }

    fn items(self) -> Result<Vec<Eip>, String> {
        self.eip_addresses.into_iter().map(WireEip::fact).collect()
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireEip {
    #[serde(deserialize_with = "text")]
    allocation_id: String,
    #[serde(deserialize_with = "text")]
    ip_address: String,
    #[serde(deserialize_with = "text")]
    status: String,
    #[serde(default, deserialize_with = "text")]
    instance_id: String,
    #[serde(default, deserialize_with = "text")]
    instance_type: String,
    #[serde(default, deserialize_with = "text")]
    private_ip_address: String,
    #[serde(default, deserialize_with = "text")]
    bandwidth_package_id: String,
    #[serde(default, deserialize_with = "number")]
    bandwidth: u32,
    #[serde(default, deserialize_with = "text")]
    internet_charge_type: String,
    #[serde(default, deserialize_with = "text")]
    charge_type: String,
    #[serde(default, deserialize_with = "text")]
    expired_time: String,
    #[serde(default, rename = "ISP", deserialize_with = "text")]
    isp: String,
    #[serde(default, deserialize_with = "text")]
    resource_group_id: String,
    #[serde(default, deserialize_with = "text")]
    name: String,
    #[serde(default, deserialize_with = "text")]
    description: String,
    #[serde(default, deserialize_with = "text")]
    public_ip_address_pool_id: String,
    #[serde(default, deserialize_with = "list")]
    tags: Vec<KeyValue>,
}

/// A tag in the form of EIPs, vSwitches and VPCs.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct KeyValue {
    #[serde(deserialize_with = "text")]
    key: String,
    #[serde(default, deserialize_with = "text")]
    value: String,
}

impl WireEip {
    fn fact(self) -> Result<Eip, String> {
        let private_ip = maybe_address("PrivateIpAddress", &self.private_ip_address)?;
        let instance_type = self.instance_type;
        Ok(Eip {
            allocation_id: AllocationId::new(required("AllocationId", self.allocation_id)?),
            ip_address: address("IpAddress", &self.ip_address)?,
            status: status(&self.status),
            binding: present(self.instance_id).map(|instance_id| EipBinding {
                instance_type,
                instance_id,
                private_ip,
            }),
            bandwidth_package: present(self.bandwidth_package_id).map(BandwidthPackageId::new),
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

fn status(word: &str) -> EipStatus {
    match word {
        "Available" => EipStatus::Available,
        "Associating" => EipStatus::Associating,
        "InUse" => EipStatus::InUse,
        "Unassociating" => EipStatus::Unassociating,
        "Releasing" => EipStatus::Releasing,
        _ => EipStatus::Other,
    }
}
