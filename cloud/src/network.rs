//! What reads of the network around the pods show: the facts behind warnings and `doctor`, on which
//! no lease depends.

use std::net::Ipv4Addr;
use waygate_core::ids::{NatGatewayId, VSwitchId, VpcId, ZoneId};

/// A VPC with the blocks its addresses come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vpc {
    /// Its ID.
    pub vpc_id: VpcId,
    /// Primary block first, then the secondary ones.
    pub cidrs: Vec<String>,
}

/// A vSwitch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VSwitch {
    /// Its ID.
    pub vswitch_id: VSwitchId,
    /// Its VPC.
    pub vpc_id: VpcId,
    /// Its zone.
    pub zone_id: ZoneId,
    /// Its block.
    pub cidr: String,
    /// The route table its traffic follows.
    pub route_table_id: Option<String>,
}

/// An SNAT entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnatEntry {
    /// Its ID.
    pub snat_entry_id: String,
    /// The public addresses it uses.
    pub ips: Vec<Ipv4Addr>,
    /// Whose traffic it translates.
    pub source_cidr: String,
    /// The vSwitch whose traffic it translates, where it is bound to one.
    pub source_vswitch_id: Option<VSwitchId>,
    /// Whether it works yet.
    pub available: bool,
}

/// A route table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteTable {
    /// Its ID.
    pub route_table_id: String,
    /// Whether it serves the vSwitches that no other table names.
    pub system: bool,
    /// The vSwitches bound to it.
    pub vswitch_ids: Vec<VSwitchId>,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteEntry {
    /// What it matches.
    pub destination: String,
    /// Whether it works yet.
    pub available: bool,
    /// Where it leads.
    pub next_hops: Vec<NextHop>,
}

impl RouteEntry {
    /// Whether it leads everything else to `gateway`, as the answers of a DNAT entry need.
    pub fn is_egress_through(&self, gateway: &NatGatewayId) -> bool {
        let through = |hop: &NextHop| hop.kind == "NatGateway" && hop.id == gateway.as_str();
        self.available && self.destination == "0.0.0.0/0" && self.next_hops.iter().any(through)
    }
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// `NatGateway`, `Instance`, `local`, …
    pub kind: String,
    /// The thing; empty for `local`.
    pub id: String,
}

/// A rule of a security group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityRule {
    /// Accepts, or drops.
    pub accept: bool,
    /// `TCP`, `UDP`, `ALL`, …, in upper case.
    pub ip_protocol: String,
    /// `a/b`; `-1/-1` is every port.
    pub port_range: String,
    /// 1 to 100; the smaller wins.
    pub priority: u32,
    /// The clients it is for; empty when it names them by group or prefix list, which this call
    /// cannot resolve.
    pub source_cidr: String,
}

/// A tag on a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceTag {
    /// The resource.
    pub resource_id: String,
    /// Key.
    pub key: String,
    /// Value.
    pub value: String,
}

/// Who the credentials are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The account that pays.
    pub account_id: String,
    /// The user or role.
    pub arn: String,
}
