//! Elastic IPs and their life.
//!
//! ```text
//! Available ─▶ Associating ─▶ InUse ─▶ Unassociating ─▶ Available ─▶ Releasing ─▶ gone
//! ```

use std::net::Ipv4Addr;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::resources::{Eip, EipStatus};
use super::{Cloud, iso_time, timeline::Event};

impl Cloud {
    /// Starts a passing state that ends after a time drawn from `span`.
    pub(super) fn start_eip(&mut self, id: &str, status: EipStatus, span: crate::profile::Span) {
        let settles_at = self.now + self.draw_duration(span);
        if let Some(eip) = self.eips.get_mut(id) {
            eip.status = status;
            eip.settles_at = Some(settles_at);
            self.timeline.push_event(settles_at, Event::Eip(id.to_owned()));
        }
    }

    pub(super) fn settle_eip(&mut self, id: &str, due: Timestamp) {
        let in_binding = self.pace.in_binding;
        let Some(eip) = self.eips.get_mut(id).filter(|eip| eip.settles_at == Some(due)) else {
            return;
        };
        eip.settles_at = None;
        match eip.status {
            EipStatus::Associating => {
                eip.status = EipStatus::InUse;
                eip.usable_from = due + in_binding;
            }
            EipStatus::Unassociating => {
                eip.status = EipStatus::Available;
                eip.binding = None;
            }
            EipStatus::Releasing => {
                let address = eip.address;
                self.eips.remove(id);
                self.released.note_release(id, address, due);
            }
            EipStatus::Available | EipStatus::InUse => {}
        }
    }

    /// Ends an association at once, as when its target goes.
    pub(super) fn drop_binding(&mut self, id: &str) {
        if let Some(eip) = self.eips.get_mut(id) {
            eip.status = EipStatus::Available;
            eip.binding = None;
            eip.settles_at = None;
        }
    }

    /// The EIP with this public address.
    pub(super) fn eip_at(&self, address: Ipv4Addr) -> Option<&Eip> {
        self.eips.values().find(|eip| eip.address == address)
    }

    /// EIPs on this target, in order of allocation.
    pub(super) fn eips_on<'a>(&'a self, instance_id: &'a str) -> impl Iterator<Item = &'a Eip> {
        self.eips.values().filter(move |eip| eip.is_on(instance_id))
    }

    /// Returns the next public address that no EIP has.
    pub(super) fn free_address(&mut self) -> Ipv4Addr {
        loop {
            let address = Ipv4Addr::from_bits(self.next_address);
            self.next_address = self.next_address.wrapping_add(1);
            if self.eip_at(address).is_none() && !matches!(address.octets()[3], 0 | 255) {
                return address;
            }
        }
    }

    /// The EIP as the API shows it; `private_address` as the caller is to see it.
    pub(super) fn eip_json(&self, eip: &Eip, private_address: &str) -> Value {
        let binding = eip.binding.as_ref();
        let package = eip
            .membership
            .as_ref()
            .map(|member| (member.package.as_str(), self.package_bandwidth(&member.package)));
        let shared = package.map(|(_, bandwidth)| bandwidth.to_string());
        let is_locked = eip.is_expired(self.now);
        let locks: Vec<Value> =
            is_locked.then(|| json!({"LockReason": "financial"})).into_iter().collect();
        let tags: Vec<Value> =
            eip.tags.iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect();
        json!({
            "AllocationId": eip.id, "IpAddress": eip.address, "Name": eip.name, "Description": eip.description,
            "RegionId": self.topology.region, "ResourceGroupId": eip.resource_group, "Zone": "", "Netmode": "public", "BizType": "",
            "VpcId": binding.map_or("", |_| self.topology.vpc.id.as_str()),
            "Status": eip.status.as_str(), "BusinessStatus": if is_locked { "FinancialLocked" } else { "Normal" },
            "OperationLocks": {"LockReason": locks},
            "DeletionProtection": false, "SecondLimited": false,
            "InstanceId": binding.map_or("", |binding| binding.instance_id.as_str()),
            "InstanceType": binding.map_or("", |binding| binding.target.as_str()),
            "InstanceRegionId": binding.map_or("", |_| self.topology.region.as_str()),
            "PrivateIpAddress": private_address,
            "Mode": binding.map_or("", |binding| binding.mode.as_str()),
            "Bandwidth": shared.clone().unwrap_or_else(|| eip.bandwidth.to_string()), "EipBandwidth": eip.bandwidth.to_string(),
            "InternetChargeType": eip.internet_charge_type, "ChargeType": eip.charge_type(),
            "BandwidthPackageId": package.map_or("", |(id, _)| id),
            "BandwidthPackageType": package.map_or("", |_| "CommonBandwidthPackage"),
            "BandwidthPackageBandwidth": shared.unwrap_or_default(),
            "HasReservationData": "false", "AllocationTime": iso_time(eip.allocated_at),
            "ExpiredTime": eip.expires_at.map(iso_time).unwrap_or_default(),
            "ISP": eip.isp, "PublicIpAddressPoolId": eip.pool, "SegmentInstanceId": "", "HDMonitorStatus": "OFF",
            "ServiceManaged": 0, "ServiceID": 0, "SecurityProtectionTypes": {"SecurityProtectionType": eip.security_protection},
            "Tags": {"Tag": tags},
        })
    }
}
