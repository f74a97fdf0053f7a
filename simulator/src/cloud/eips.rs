//! Elastic IPs and their life.
//!
//! ```text
//! Available ─▶ Associating ─▶ InUse ─▶ Unassociating ─▶ Available ─▶ Releasing ─▶ gone
//! ```

use std::{collections::BTreeMap, net::Ipv4Addr};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Cloud, iso, packages::Membership, timeline::Event};

/// Where in its life an EIP is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EipStatus {
    /// Bound to nothing.
    Available,
    /// On its way to its target.
    Associating,
    /// Bound.
    InUse,
    /// On its way off its target.
    Unassociating,
    /// On its way out of existence.
    Releasing,
}

impl EipStatus {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Available => "Available",
            Self::Associating => "Associating",
            Self::InUse => "InUse",
            Self::Unassociating => "Unassociating",
            Self::Releasing => "Releasing",
        }
    }
}

/// What an EIP can be bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// An ECS instance.
    EcsInstance,
    /// An internet NAT gateway.
    Nat,
    /// A private address of a network interface.
    NetworkInterface,
}

impl Target {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EcsInstance => "EcsInstance",
            Self::Nat => "Nat",
            Self::NetworkInterface => "NetworkInterface",
        }
    }
}

/// What an EIP is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The kind of target.
    pub target: Target,
    /// Its id.
    pub instance_id: String,
    /// Which private address of an interface.
    pub private_address: Option<Ipv4Addr>,
    /// Whether that address is its interface's primary one, which DescribeEipAddresses does not
    /// tell.
    pub is_primary: bool,
    /// `NAT`, `MULTI_BINDED` or `BINDED`.
    pub mode: String,
}

/// An elastic IP.
#[derive(Clone, Debug)]
pub struct Eip {
    /// `eip-…`.
    pub id: String,
    /// The public address.
    pub address: Ipv4Addr,
    /// Where in its life it is.
    pub status: EipStatus,
    /// What it is bound to, from Associating to the end of Unassociating.
    pub binding: Option<Binding>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    pub(super) membership: Option<Membership>,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) bandwidth: u32,
    pub(super) internet_charge_type: String,
    /// Until when it is paid for; none where it is paid by use.
    pub(super) expires_at: Option<Timestamp>,
    pub(super) isp: String,
    pub(super) resource_group: String,
    pub(super) pool: String,
    pub(super) security_protection: Vec<String>,
    pub(super) allocated_at: Timestamp,
    pub(super) settles_at: Option<Timestamp>,
    pub(super) busy_until: Timestamp,
    pub(super) usable_from: Timestamp,
}

impl Eip {
    /// Whether it is bound, or nearly, to this target.
    pub(super) fn is_on(&self, instance_id: &str) -> bool {
        self.binding.as_ref().is_some_and(|binding| binding.instance_id == instance_id)
    }

    pub(super) fn charge_type(&self) -> &'static str {
        if self.expires_at.is_some() { "PrePaid" } else { "PostPaid" }
    }

    /// Whether what was paid for is used up: it is locked then, and may be released.
    pub(super) fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|expires| expires <= now)
    }
}

impl Cloud {
    /// Starts a passing state that ends after a time drawn from `span`.
    pub(super) fn start_eip(&mut self, id: &str, status: EipStatus, span: crate::profile::Span) {
        let settles_at = self.now + self.draw(span);
        if let Some(eip) = self.eips.get_mut(id) {
            eip.status = status;
            eip.settles_at = Some(settles_at);
            self.timeline.push(settles_at, Event::Eip(id.to_owned()));
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
                self.released.note(id, address, due);
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

    /// The next public address nobody has.
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
            "HasReservationData": "false", "AllocationTime": iso(eip.allocated_at),
            "ExpiredTime": eip.expires_at.map(iso).unwrap_or_default(),
            "ISP": eip.isp, "PublicIpAddressPoolId": eip.pool, "SegmentInstanceId": "", "HDMonitorStatus": "OFF",
            "ServiceManaged": 0, "ServiceID": 0, "SecurityProtectionTypes": {"SecurityProtectionType": eip.security_protection},
            "Tags": {"Tag": tags},
        })
    }
}
