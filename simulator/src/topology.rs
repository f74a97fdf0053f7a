//! Resources that exist before the first call: a region, one VPC, its zones, vSwitches, nodes and
//! NAT gateways.
//!
//! A topology is YAML or JSON; `simulator --print-topology` prints the effective one as JSON in the
//! same format, so that others make the same nodes from it:
//!
//! ```yaml
//! region: cn-hangzhou
//! vpc: {id: vpc-bp1waygate, cidr: 10.0.0.0/8}
//! zones: [cn-hangzhou-j, cn-hangzhou-k]
//! vSwitches:
//! - {id: vsw-j-1, zone: cn-hangzhou-j, cidr: 10.1.0.0/16}
//! nodes:
//! - {name: node-j-1, instanceId: i-node-j-1, zone: cn-hangzhou-j, vSwitch: vsw-j-1, podCIDR: 10.1.0.0/24, eni: secondary}
//! natGateways:
//! - {id: ngw-j, table: ftb-j, zone: cn-hangzhou-j, eips: 2}      # or eips: [{allocationId: eip-x, ipAddress: 198.18.0.1}]
//! bandwidthPackages:
//! - {id: cbwp-1, bandwidth: 1000}
//! ```
//!
//! Every address of a node's `podCIDR` belongs to a network interface of that node, cut up by its
//! `eni` kind:
//! - `secondary`: ten addresses an interface, the lowest its primary address, nine secondary ones;
//! - `prefix`: 32 addresses an interface, a /28 prefix, then a primary address, then secondary
//!   ones;
//! - `none`: no interface ever.

use std::{collections::BTreeSet, net::Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::cidr::Cidr;

/// The whole of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Topology {
    /// Region ID, such as `cn-hangzhou`.
    pub region: String,
    /// The only VPC of the region.
    pub vpc: Vpc,
    /// Zones of the region.
    pub zones: Vec<String>,
    /// vSwitches of the VPC.
    pub v_switches: Vec<VSwitch>,
    /// ECS instances that are Kubernetes nodes.
    #[serde(default)]
    pub nodes: Vec<Node>,
    /// Internet NAT gateways, in any zone.
    #[serde(default)]
    pub nat_gateways: Vec<NatGateway>,
    /// Common bandwidth packages, empty at the start.
    #[serde(default)]
    pub bandwidth_packages: Vec<BandwidthPackage>,
}

/// A common bandwidth package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BandwidthPackage {
    /// ID of the package, `cbwp-…`.
    pub id: String,
    /// Shared bandwidth in Mbit/s.
    pub bandwidth: u32,
}

/// The VPC of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Vpc {
    /// ID of the VPC, `vpc-…`.
    pub id: String,
    /// Address range of the VPC.
    pub cidr: Cidr,
}

/// A vSwitch (subnet) of the VPC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VSwitch {
    /// ID of the vSwitch, `vsw-…`.
    pub id: String,
    /// Zone that the vSwitch is in.
    pub zone: String,
    /// Address range, within the VPC's.
    pub cidr: Cidr,
}

/// Method by which a node's pods get their addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EniKind {
    /// Primary and secondary private addresses.
    Secondary,
    /// /28 prefixes besides private addresses.
    Prefix,
    /// Overlay: the VPC knows no pod of this node.
    None,
}

/// A Kubernetes node on an ECS instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Node {
    /// The Kubernetes node's name.
    pub name: String,
    /// ID of the instance, `i-…`.
    pub instance_id: String,
    /// Zone that the node is in.
    pub zone: String,
    /// The vSwitch its interfaces sit in.
    pub v_switch: String,
    /// Range of the pods' addresses.
    #[serde(rename = "podCIDR")]
    pub pod_cidr: Cidr,
    /// Kind of the network interfaces that carry the pods' addresses.
    pub eni: EniKind,
}

/// An internet NAT gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NatGateway {
    /// ID of the gateway, `ngw-…`.
    pub id: String,
    /// ID of the DNAT table, `ftb-…`.
    pub table: String,
    /// Zone that the gateway is in.
    pub zone: String,
    /// EIPs bound from the start.
    pub eips: Eips,
}

/// A number of EIPs, or these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Eips {
    /// This number, with ids and addresses of the simulator's choice.
    Count(u32),
    /// Exactly these EIPs, with their ids.
    Listed(Vec<BoundEip>),
}

/// An EIP of the topology, bound to a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BoundEip {
    /// ID of the EIP, `eip-…`.
    pub allocation_id: String,
    /// Public IPv4 address of the EIP.
    pub ip_address: Ipv4Addr,
}

/// A topology that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// Not YAML, not JSON, or not of this shape.
    #[error("the topology cannot be read: {0}")]
    Malformed(String),
    /// A name that names nothing, or names two things.
    #[error("the topology contradicts itself: {0}")]
    Contradiction(String),
}

impl Topology {
    /// Reads and checks YAML or JSON.
    pub fn from_yaml(text: &str) -> Result<Self, TopologyError> {
        let topology: Self = serde_saphyr::from_str(text)
            .map_err(|error| TopologyError::Malformed(error.to_string()))?;
        topology.check_references()?;
        Ok(topology)
    }

    /// Two zones, four nodes, two gateways with two EIPs each.
    pub fn built_in() -> Self {
        let zone = |letter: &str| format!("cn-hangzhou-{letter}");
        let v_switches = [("j", 1, 1), ("j", 2, 2), ("k", 1, 3), ("k", 2, 4)];
        Self {
            region: "cn-hangzhou".to_owned(),
            vpc: Vpc {
                id: "vpc-bp1waygate0000000".to_owned(),
                cidr: Cidr::containing(Ipv4Addr::new(10, 0, 0, 0), 8),
            },
            zones: vec![zone("j"), zone("k")],
            v_switches: v_switches
                .iter()
                .map(|(letter, index, net)| VSwitch {
                    id: format!("vsw-bp1{letter}{index}0000000000000"),
                    zone: zone(letter),
                    cidr: Cidr::containing(Ipv4Addr::new(10, *net, 0, 0), 16),
                })
                .collect(),
            nodes: v_switches
                .iter()
                .map(|(letter, index, net)| Node {
                    name: format!("node-{letter}-{index}"),
                    instance_id: format!("i-bp1node{letter}{index}0000000000"),
                    zone: zone(letter),
                    v_switch: format!("vsw-bp1{letter}{index}0000000000000"),
                    pod_cidr: Cidr::containing(Ipv4Addr::new(10, *net, 0, 0), 24),
                    eni: if *net == 4 { EniKind::Prefix } else { EniKind::Secondary },
                })
                .collect(),
            nat_gateways: ["j", "k"]
                .iter()
                .map(|letter| NatGateway {
                    id: format!("ngw-bp1{letter}0000000000000"),
                    table: format!("ftb-bp1{letter}0000000000000"),
                    zone: zone(letter),
                    eips: Eips::Count(2),
                })
                .collect(),
            bandwidth_packages: vec![BandwidthPackage {
                id: "cbwp-bp1waygate0000000".to_owned(),
                bandwidth: 1000,
            }],
        }
    }

    /// The node whose pod CIDR holds the address and whose interfaces would carry it.
    pub fn node_of(&self, address: Ipv4Addr) -> Option<&Node> {
        self.nodes.iter().find(|node| node.eni != EniKind::None && node.pod_cidr.contains(address))
    }

    /// The vSwitch of this id.
    pub fn v_switch(&self, id: &str) -> Option<&VSwitch> {
        self.v_switches.iter().find(|v_switch| v_switch.id == id)
    }

    fn check_references(&self) -> Result<(), TopologyError> {
        let contradiction = |text: String| Err(TopologyError::Contradiction(text));
        let names =
            self.v_switches.iter().map(|it| &it.id).chain(self.nodes.iter().map(|it| &it.name));
        let gateways = self.nat_gateways.iter().flat_map(|it| [&it.id, &it.table]);
        let mut seen = BTreeSet::new();
        for name in names.chain(gateways).chain(self.nodes.iter().map(|it| &it.instance_id)) {
            if !seen.insert(name) {
                return contradiction(format!("{name} is there twice"));
            }
        }
        for v_switch in &self.v_switches {
            if !self.vpc.cidr.covers(v_switch.cidr) {
                return contradiction(format!("vSwitch {} lies outside the VPC", v_switch.id));
            }
        }
        for node in &self.nodes {
            if self.v_switch(&node.v_switch).is_none() {
                return contradiction(format!(
                    "node {} is in the unknown vSwitch {}",
                    node.name, node.v_switch
                ));
            }
            if node.eni != EniKind::None && !self.vpc.cidr.covers(node.pod_cidr) {
                return contradiction(format!(
                    "the pods of node {} lie outside the VPC",
                    node.name
                ));
            }
        }
        let zones =
            self.v_switches.iter().map(|it| &it.zone).chain(self.nodes.iter().map(|it| &it.zone));
        for zone in zones.chain(self.nat_gateways.iter().map(|it| &it.zone)) {
            if !self.zones.contains(zone) {
                return contradiction(format!("zone {zone} is not among the zones"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_topology_survives_its_own_format() {
        let printed = serde_json::to_string(&Topology::built_in()).unwrap();
        assert_eq!(Topology::from_yaml(&printed).unwrap(), Topology::built_in());
    }

    #[test]
    fn yaml_with_listed_eips_is_read() {
        let text = "region: r\nvpc: {id: v, cidr: 10.0.0.0/8}\nzones: [z]\nvSwitches: []\n\
                    natGateways:\n- {id: n, table: t, zone: z, eips: [{allocationId: e, ipAddress: 198.18.0.9}]}\n";
        let topology = Topology::from_yaml(text).unwrap();
        assert!(
            matches!(&topology.nat_gateways[0].eips, Eips::Listed(eips) if eips[0].allocation_id == "e")
        );
    }

    #[test]
    fn a_node_in_an_unknown_v_switch_is_refused() {
        let mut topology = Topology::built_in();
        topology.v_switches.clear();
        let error = Topology::from_yaml(&serde_json::to_string(&topology).unwrap()).unwrap_err();
        assert!(error.to_string().contains("unknown vSwitch"), "{error}");
    }
}
