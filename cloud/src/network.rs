//! Facts of the network around the pods, for warnings. No lease depends on them.

use std::net::Ipv4Addr;
use waygate_core::ids::{NatGatewayId, VSwitchId, VpcId, ZoneId};

/// A VPC with the CIDR blocks of its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vpc {
    /// `vpc-…`, as in the settings' `vpc`.
    pub vpc_id: VpcId,
    /// Primary block first, then the secondary ones.
    pub cidrs: Vec<String>,
}

/// A vSwitch: a subnet of a VPC in one zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VSwitch {
    /// `vsw-…`; interfaces name their vSwitch by this.
    pub vswitch_id: VSwitchId,
    /// The VPC the vSwitch is in.
    pub vpc_id: VpcId,
    /// The zone of all its interfaces, such as `cn-beijing-h`.
    pub zone_id: ZoneId,
    /// The CIDR block of its addresses.
    pub cidr: String,
    /// The route table its traffic follows.
    pub route_table_id: Option<String>,
}

/// An SNAT entry of a gateway: source addresses and the public addresses they leave by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnatEntry {
    /// `snat-…`; tells one entry from another.
    pub snat_entry_id: String,
    /// The public addresses it uses.
    pub ips: Vec<Ipv4Addr>,
    /// Traffic from this CIDR block is translated.
    pub source_cidr: String,
    /// The vSwitch whose traffic is translated, where the entry names one.
    pub source_vswitch_id: Option<VSwitchId>,
    /// True in status `Available`; a new entry does not translate at once.
    pub available: bool,
}

/// A route table of a VPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteTable {
    /// `vtb-…`; vSwitches name their table by this.
    pub route_table_id: String,
    /// True for the VPC's system table, which serves the vSwitches that no other table names.
    pub system: bool,
    /// The vSwitches bound to it.
    pub vswitch_ids: Vec<VSwitchId>,
}

/// A route of a route table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteEntry {
    /// The CIDR block of the destinations, `0.0.0.0/0` for the default route.
    pub destination: String,
    /// True in status `Available`; a new route does not forward at once.
    pub available: bool,
    /// The next hops; several share the traffic.
    pub next_hops: Vec<NextHop>,
}

impl RouteEntry {
    /// True for a working default route to `gateway`, which the replies to forwarded traffic need.
    pub fn is_egress_through(&self, gateway: &NatGatewayId) -> bool {
        let through = |hop: &NextHop| hop.kind == "NatGateway" && hop.id == gateway.as_str();
        self.available && self.destination == "0.0.0.0/0" && self.next_hops.iter().any(through)
    }
}

/// A next hop of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// The kind of the next hop: `NatGateway`, `Instance`, `local`, …
    pub kind: String,
    /// The ID of the gateway or instance; empty for `local`.
    pub id: String,
}

/// An inbound rule of a security group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityRule {
    /// True if the rule accepts traffic, false if it drops it.
    pub accept: bool,
    /// `TCP`, `UDP`, `ALL`, …, in upper case.
    pub ip_protocol: String,
    /// First and last port as `a/b`; `-1/-1` is every port.
    pub port_range: String,
    /// Priority 1 to 100; the smaller number wins.
    pub priority: u32,
    /// The CIDR block of the clients; empty where the rule names them by group or prefix list,
    /// which this call cannot resolve.
    pub source_cidr: String,
}

/// A tag on a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceTag {
    /// ID of the tagged resource.
    pub resource_id: String,
    /// Tag key, such as `waygate.dev/store`.
    pub key: String,
    /// Tag value; may be empty.
    pub value: String,
}

/// The owner of the credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The account that owns and pays for the resources.
    pub account_id: String,
    /// The user or the assumed role, as `acs:ram::…`.
    pub arn: String,
}
