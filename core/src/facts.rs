//! What a read of the cloud showed. Plain values: `cloud` fills them, the plan reads them.

use crate::ids::{
    AllocationId, BandwidthPackageId, EniId, ForwardEntryId, ForwardTableId, NatGatewayId,
    VSwitchId, VpcId, ZoneId,
};
use crate::request::Protocol;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

/// An Elastic IP as DescribeEipAddresses shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Eip {
    /// Its instance ID.
    pub allocation_id: AllocationId,
    /// The public address.
    pub ip_address: Ipv4Addr,
    /// Where it stands in its life.
    pub status: EipStatus,
    /// What it is bound to; none while unbound.
    pub binding: Option<EipBinding>,
    /// The shared bandwidth package it has joined.
    pub bandwidth_package: Option<BandwidthPackageId>,
    /// Peak bandwidth in Mbit/s.
    pub bandwidth: u32,
    /// `PayByTraffic` or `PayByBandwidth`.
    pub internet_charge_type: String,
    /// `PostPaid` or `PrePaid`.
    pub charge_type: String,
    /// Until when a PrePaid EIP is paid for; it cannot be released before.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
    /// Line type, such as `BGP`.
    pub isp: String,
    /// Resource group.
    pub resource_group_id: String,
    /// Name; may be empty.
    pub name: String,
    /// Description; may be empty.
    #[serde(default)]
    pub description: String,
    /// Address pool it came from; may be empty.
    pub public_ip_address_pool_id: String,
    /// Tags by key.
    pub tags: BTreeMap<String, String>,
}

impl Eip {
    /// Whether it is bound to this address of this interface. For an interface's primary address
    /// the API leaves the address out.
    pub fn bound_to(&self, eni_id: &EniId, private_ip: Ipv4Addr, primary: bool) -> bool {
        self.binding.as_ref().is_some_and(|binding| {
            binding.instance_id == eni_id.as_str()
                && (binding.private_ip == Some(private_ip)
                    || (binding.private_ip.is_none() && primary))
        })
    }
}

/// Where an EIP stands in its life. Anything the API may add later reads as `Other`, on which
/// nothing is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EipStatus {
    /// Unbound and free to bind or release.
    Available,
    /// A bind is under way.
    Associating,
    /// Bound, and working.
    InUse,
    /// An unbind is under way.
    Unassociating,
    /// On its way out.
    Releasing,
    /// A word we do not know.
    Other,
}

/// What an EIP is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EipBinding {
    /// `NetworkInterface`, `Nat`, `EcsInstance`, …
    pub instance_type: String,
    /// The interface, gateway or instance.
    pub instance_id: String,
    /// The private address behind it. The API leaves it empty for an interface's primary address.
    pub private_ip: Option<Ipv4Addr>,
}

/// A DNAT entry as DescribeForwardTableEntries shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardEntry {
    /// Its ID.
    pub entry_id: ForwardEntryId,
    /// The table it stands in.
    pub table_id: ForwardTableId,
    /// Its name: all that can carry ownership, since entries cannot be tagged.
    pub name: String,
    /// Public address.
    pub external_ip: Ipv4Addr,
    /// `80`, `10/20` or `Any`.
    pub external_port: String,
    /// Private address.
    pub internal_ip: Ipv4Addr,
    /// `80`, `10/20` or `Any`.
    pub internal_port: String,
    /// `tcp`, `udp` or `any`, in lower case.
    pub ip_protocol: String,
    /// Whether it forwards yet.
    pub status: ForwardEntryStatus,
}

impl ForwardEntry {
    /// Whether this entry occupies the external port `port` of `ip` for `protocol`, alone or within
    /// a range.
    pub fn covers_external(&self, ip: Ipv4Addr, protocol: Protocol, port: u16) -> bool {
        self.meets_external(ip, protocol, &(port..=port))
    }

    /// Whether this entry forwards to `port` of `ip` for `protocol`, alone or within a range.
    pub fn covers_internal(&self, ip: Ipv4Addr, protocol: Protocol, port: u16) -> bool {
        self.meets_internal(ip, protocol, &(port..=port))
    }

    /// Whether this entry occupies any of these external ports of `ip` for `protocol`.
    pub fn meets_external(
        &self,
        ip: Ipv4Addr,
        protocol: Protocol,
        ports: &RangeInclusive<u16>,
    ) -> bool {
        self.external_ip == ip && self.speaks(protocol) && overlap(&self.external_ports(), ports)
    }

    /// Whether this entry forwards to any of these ports of `ip` for `protocol`.
    pub fn meets_internal(
        &self,
        ip: Ipv4Addr,
        protocol: Protocol,
        ports: &RangeInclusive<u16>,
    ) -> bool {
        self.internal_ip == ip
            && self.speaks(protocol)
            && overlap(&port_range(&self.internal_port), ports)
    }

    /// The external ports it occupies; all, where we cannot read which.
    pub fn external_ports(&self) -> RangeInclusive<u16> {
        port_range(&self.external_port)
    }

    /// The one protocol it is for; none where it is for every one.
    pub fn protocol(&self) -> Option<Protocol> {
        [Protocol::Tcp, Protocol::Udp]
            .into_iter()
            .find(|protocol| self.ip_protocol == protocol.as_str())
    }

    fn speaks(&self, protocol: Protocol) -> bool {
        self.protocol().is_none_or(|own| own == protocol)
    }
}

fn overlap(one: &RangeInclusive<u16>, other: &RangeInclusive<u16>) -> bool {
    one.start() <= other.end() && other.start() <= one.end()
}

/// How the API writes adjacent ports: `80` for one, `80/89` for ten.
pub fn port_text(first: u16, count: u16) -> String {
    match count {
        0 | 1 => first.to_string(),
        // Wider than a port: the API refuses a range that ends beyond the last one, which is what
        // such a request deserves.
        _ => format!("{first}/{}", u32::from(first) + u32::from(count) - 1),
    }
}

/// `80` → 80..=80, `10/20` → 10..=20, `Any` and whatever we cannot read → every port: what is not
/// understood is not free.
fn port_range(text: &str) -> RangeInclusive<u16> {
    let (first, last) = text.split_once('/').unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) => first..=last,
        _ => 0..=u16::MAX,
    }
}

/// Whether an entry forwards yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ForwardEntryStatus {
    /// Being created or changed.
    Pending,
    /// Forwarding.
    Available,
    /// On its way out.
    Deleting,
    /// A word we do not know.
    Other,
}

/// The interface that owns a private address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Eni {
    /// Its ID.
    pub eni_id: EniId,
    /// Its vSwitch.
    pub vswitch_id: VSwitchId,
    /// Its zone.
    pub zone_id: ZoneId,
    /// Its VPC.
    pub vpc_id: VpcId,
    /// Its primary address.
    pub primary_ip: Ipv4Addr,
    /// EIPs already bound to its private addresses, by private address.
    pub associated: BTreeMap<Ipv4Addr, AllocationId>,
}

/// A NAT gateway with the EIPs bound to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatGateway {
    /// Its ID.
    pub nat_gateway_id: NatGatewayId,
    /// Its DNAT table.
    pub forward_table_id: ForwardTableId,
    /// Its VPC.
    pub vpc_id: VpcId,
    /// The zone of its own interface.
    pub zone_id: Option<ZoneId>,
    /// `Available` and `Normal`: able to take changes.
    pub available: bool,
    /// The EIPs bound to it.
    pub eips: Vec<GatewayEip>,
}

/// An EIP bound to a NAT gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayEip {
    /// Its instance ID.
    pub allocation_id: AllocationId,
    /// The public address.
    pub ip_address: Ipv4Addr,
    /// A SNAT entry uses it.
    pub snat: bool,
}

#[cfg(test)]
mod tests {
    use super::{port_range, port_text};

    #[test]
    fn an_unreadable_port_counts_as_taken() {
        assert!(port_range("Any").contains(&80));
        assert!(port_range("10/20").contains(&15));
        assert!(!port_range("10/20").contains(&21));
        assert!(!port_range("80").contains(&81));
    }

    #[test]
    fn a_range_is_written_with_a_slash_and_a_single_port_without() {
        assert_eq!(
            (port_text(80, 1), port_text(80, 10), port_text(65_535, 2)),
            ("80".into(), "80/89".into(), "65535/65536".into())
        );
        assert_eq!(port_range(&port_text(80, 10)), 80..=89);
    }
}
