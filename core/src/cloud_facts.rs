//! Facts that a read of the cloud showed. Plain values: crate `cloud` fills them, the plan reads
//! them.

use crate::ids::{
    AllocationId, BandwidthPackageId, EniId, ForwardEntryId, ForwardTableId, NatGatewayId,
    VSwitchId, VpcId, ZoneId,
};
use crate::request::Protocol;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

/// An Elastic IP as DescribeEipAddresses shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Eip {
    /// Instance ID, `eip-…`; the cloud reuses addresses, not IDs.
    pub allocation_id: AllocationId,
    /// Public IPv4 address of the EIP.
    pub ip_address: Ipv4Addr,
    /// State of its binding or release.
    pub status: EipStatus,
    /// Resource that the EIP is bound to; none while unbound.
    pub binding: Option<EipBinding>,
    /// Shared bandwidth package that the EIP has joined.
    pub bandwidth_package: Option<BandwidthPackageId>,
    /// Peak bandwidth in Mbit/s.
    pub bandwidth: u32,
    /// Traffic billing: `PayByTraffic` or `PayByBandwidth`.
    pub internet_charge_type: String,
    /// EIP billing: `PostPaid` or `PrePaid`.
    pub charge_type: String,
    /// End of the time a PrePaid EIP is paid for; the cloud refuses to release it before.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
    /// Line type, such as `BGP`.
    pub isp: String,
    /// Resource group ID, `rg-…`.
    pub resource_group_id: String,
    /// Name of the EIP; may be empty.
    pub name: String,
    /// Description of the EIP; may be empty.
    #[serde(default)]
    pub description: String,
    /// Address pool that the EIP came from, `pippool-…`; may be empty.
    pub public_ip_address_pool_id: String,
    /// Values of all tags by their keys.
    pub tags: BTreeMap<String, String>,
}

impl Eip {
    /// True if the EIP is bound to this address of this interface. For an interface's primary
    /// address the API leaves the address out.
    pub fn is_bound_to(&self, eni_id: &EniId, private_ip: Ipv4Addr, primary: bool) -> bool {
        self.binding.as_ref().is_some_and(|binding| {
            binding.instance_id == eni_id.as_str()
                && (binding.private_ip == Some(private_ip)
                    || (binding.private_ip.is_none() && primary))
        })
    }
}

/// State of an EIP. A status that the API may add later reads as `Other`, on which nothing is
/// decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EipStatus {
    /// Unbound and free to bind or release.
    Available,
    /// A bind is under way.
    Associating,
    /// Bound to its resource, and working.
    InUse,
    /// An unbind is under way.
    Unassociating,
    /// Being released by the cloud.
    Releasing,
    /// Any status that Waygate does not know.
    Other,
}

impl fmt::Display for EipStatus {
    /// The API's word.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Available => "Available",
            Self::Associating => "Associating",
            Self::InUse => "InUse",
            Self::Unassociating => "Unassociating",
            Self::Releasing => "Releasing",
            Self::Other => "Unknown",
        })
    }
}

/// The resource behind an EIP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EipBinding {
    /// Type of the resource: `NetworkInterface`, `Nat`, `EcsInstance`, …
    pub instance_type: String,
    /// ID of the interface, gateway or instance.
    pub instance_id: String,
    /// The private address behind it. The API leaves it empty for an interface's primary address.
    pub private_ip: Option<Ipv4Addr>,
}

/// A DNAT entry as DescribeForwardTableEntries shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardEntry {
    /// Entry ID, `fwd-…`; kept when the entry is modified.
    pub entry_id: ForwardEntryId,
    /// DNAT table that holds the entry.
    pub table_id: ForwardTableId,
    /// Entry name: all that can carry ownership, since entries cannot be tagged.
    pub name: String,
    /// Public address that the entry listens on.
    pub external_ip: Ipv4Addr,
    /// External ports: `80`, `10/20` or `Any`.
    pub external_port: String,
    /// Private address that the entry forwards to.
    pub internal_ip: Ipv4Addr,
    /// Ports of the private address: `80`, `10/20` or `Any`.
    pub internal_port: String,
    /// `tcp`, `udp` or `any`, in lower case.
    pub ip_protocol: String,
    /// State of the entry; only `Available` forwards.
    pub status: ForwardEntryStatus,
}

impl ForwardEntry {
    /// True if the entry occupies the external port `port` of `ip` for `protocol`, alone or within
    /// a range.
    pub fn covers_external(&self, ip: Ipv4Addr, protocol: Protocol, port: u16) -> bool {
        self.meets_external(ip, protocol, &(port..=port))
    }

    /// True if the entry forwards to `port` of `ip` for `protocol`, alone or within a range.
    pub fn covers_internal(&self, ip: Ipv4Addr, protocol: Protocol, port: u16) -> bool {
        self.meets_internal(ip, protocol, &(port..=port))
    }

    /// True if the entry occupies any of these external ports of `ip` for `protocol`.
    pub fn meets_external(
        &self,
        ip: Ipv4Addr,
        protocol: Protocol,
        ports: &RangeInclusive<u16>,
    ) -> bool {
        self.external_ip == ip
            && self.matches_protocol(protocol)
            && ranges_overlap(&self.external_ports(), ports)
    }

    /// True if the entry forwards to any of these ports of `ip` for `protocol`.
    pub fn meets_internal(
        &self,
        ip: Ipv4Addr,
        protocol: Protocol,
        ports: &RangeInclusive<u16>,
    ) -> bool {
        self.internal_ip == ip
            && self.matches_protocol(protocol)
            && ranges_overlap(&parse_port_text(&self.internal_port), ports)
    }

    /// External ports that the entry occupies; every port if the text cannot be read.
    pub fn external_ports(&self) -> RangeInclusive<u16> {
        parse_port_text(&self.external_port)
    }

    /// The protocol that the entry is limited to; none if it forwards every protocol.
    pub fn protocol(&self) -> Option<Protocol> {
        [Protocol::Tcp, Protocol::Udp]
            .into_iter()
            .find(|protocol| self.ip_protocol == protocol.as_str())
    }

    fn matches_protocol(&self, protocol: Protocol) -> bool {
        self.protocol().is_none_or(|own| own == protocol)
    }
}

fn ranges_overlap(one: &RangeInclusive<u16>, other: &RangeInclusive<u16>) -> bool {
    one.start() <= other.end() && other.start() <= one.end()
}

/// Adjacent ports as the API writes them: `80` for one, `80/89` for ten.
pub fn format_ports(first: u16, count: u16) -> String {
    match count {
        0 | 1 => first.to_string(),
        // Wider than a port: the API refuses a range that ends beyond the last port, as it should.
        _ => format!("{first}/{}", u32::from(first) + u32::from(count) - 1),
    }
}

/// `80` → 80..=80, `10/20` → 10..=20, `Any` and any unreadable text → every port: ports that cannot
/// be read must not count as free.
fn parse_port_text(text: &str) -> RangeInclusive<u16> {
    let (first, last) = text.split_once('/').unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) => first..=last,
        _ => 0..=u16::MAX,
    }
}

/// State of a forward entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ForwardEntryStatus {
    /// Being created or changed.
    Pending,
    /// Forwarding, and able to take a change.
    Available,
    /// Being deleted by the cloud.
    Deleting,
    /// Any status that Waygate does not know.
    Other,
}

impl fmt::Display for ForwardEntryStatus {
    /// The API's word.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "Pending",
            Self::Available => "Available",
            Self::Deleting => "Deleting",
            Self::Other => "Unknown",
        })
    }
}

/// The interface that owns a private address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Eni {
    /// ID of the interface, `eni-…`.
    pub eni_id: EniId,
    /// vSwitch of the interface, `vsw-…`.
    pub vswitch_id: VSwitchId,
    /// Zone of the vSwitch.
    pub zone_id: ZoneId,
    /// VPC of the vSwitch.
    pub vpc_id: VpcId,
    /// Primary private address of the interface.
    pub primary_ip: Ipv4Addr,
    /// EIPs already bound to its private addresses, by private address.
    pub associated: BTreeMap<Ipv4Addr, AllocationId>,
}

/// A NAT gateway with the EIPs bound to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatGateway {
    /// ID of the gateway, `ngw-…`.
    pub nat_gateway_id: NatGatewayId,
    /// DNAT table of the gateway, `ftb-…`.
    pub forward_table_id: ForwardTableId,
    /// VPC that the gateway serves.
    pub vpc_id: VpcId,
    /// Zone of the gateway's own interface; none where the API names none.
    pub zone_id: Option<ZoneId>,
    /// True if its status is `Available` and its business status `Normal`: the gateway takes
    /// changes.
    pub available: bool,
    /// EIPs bound to the gateway.
    pub eips: Vec<GatewayEip>,
}

/// An EIP bound to a NAT gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayEip {
    /// Instance ID of the EIP, `eip-…`.
    pub allocation_id: AllocationId,
    /// Public IPv4 address of the EIP.
    pub ip_address: Ipv4Addr,
    /// True if a SNAT entry uses the EIP, too.
    pub snat: bool,
}

#[cfg(test)]
mod tests {
    use super::{format_ports, parse_port_text};

    #[test]
    fn an_unreadable_port_counts_as_taken() {
        assert!(parse_port_text("Any").contains(&80));
        assert!(parse_port_text("10/20").contains(&15));
        assert!(!parse_port_text("10/20").contains(&21));
        assert!(!parse_port_text("80").contains(&81));
    }

    #[test]
    fn a_range_is_written_with_a_slash_and_a_single_port_without() {
        assert_eq!(
            (format_ports(80, 1), format_ports(80, 10), format_ports(65_535, 2)),
            ("80".into(), "80/89".into(), "65535/65536".into())
        );
        assert_eq!(parse_port_text(&format_ports(80, 10)), 80..=89);
    }
}
