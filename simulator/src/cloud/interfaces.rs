//! Network interfaces, which own the pods' addresses.
//!
//! Interfaces are not stored but derived: an address of a pod CIDR falls into a slot of its node,
//! and the slot is the interface. Stored are the addresses asked for, and when each may be seen,
//! because a new pod's address takes a moment to appear. A detached slot comes back as another
//! interface, so every address resolves in the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::resources::{Interface, Slot};
use super::{
    Cloud, Eip, EipStatus, Outcome, dispatch::Context, gateways::RESOURCE_GROUP, network::CREATED,
    tags::after_token,
};
use crate::{
    cidr::Cidr,
    dice::Dice,
    params::Params,
    refusal::Refusal,
    topology::{EniKind, Node},
};

/// The security group of every interface.
pub(super) const SECURITY_GROUP: &str = "sg-bp1waygate000000000";

/// Offsets of a pod CIDR that have interfaces from the start, out of the way of the first pods.
const FIRST: std::ops::Range<u32> = 250..254;

/// Addresses per interface of this kind, and where among them the primary one is.
fn interface_layout(kind: EniKind) -> Option<(u32, u32)> {
    match kind {
        EniKind::Secondary => Some((10, 0)),
        EniKind::Prefix => Some((32, 16)),
        EniKind::None => None,
    }
}

impl Cloud {
    pub(super) fn announce_first_interfaces(&mut self) {
        let networks: Vec<Cidr> = self.topology.nodes.iter().map(|node| node.pod_cidr).collect();
        for address in
            networks.iter().flat_map(|network| FIRST.filter_map(|offset| network.nth(offset)))
        {
            self.announce_address(address, self.now);
        }
    }

    /// Notes an address that a caller asked for; the API shows it from `visible_from` on.
    fn announce_address(&mut self, address: Ipv4Addr, visible_from: Timestamp) {
        let Some(slot) = self.slot_of(address) else { return };
        self.interfaces.visible_from.entry(address).or_insert(visible_from);
        if self.interfaces.slots.insert(slot) {
            self.interfaces.by_id.insert(self.interface_id(slot), slot);
        }
    }

    /// Notes that a pod has this address now, as the admin interface announces. The API shows the
    /// address after the profile's delay.
    pub fn announce_pod(&mut self, address: Ipv4Addr) {
        self.announce_address(address, self.now + self.pace.interface_visible);
    }

    fn slot_of(&self, address: Ipv4Addr) -> Option<Slot> {
        let holds = |node: &Node| node.eni != EniKind::None && node.pod_cidr.contains(address);
        let (node, found) = self.topology.nodes.iter().enumerate().find(|(_, node)| holds(node))?;
        let (size, _) = interface_layout(found.eni)?;
        Some(Slot { node, index: found.pod_cidr.offset(address) / size })
    }

    fn interface_id(&self, slot: Slot) -> String {
        let generation = self.interfaces.generations.get(&slot).copied().unwrap_or(0);
        let instance =
            self.topology.nodes.get(slot.node).map_or("", |node| node.instance_id.as_str());
        let mixed = format!("{instance}/{}/{generation}", slot.index)
            .bytes()
            .fold(0_u64, |hash, byte| Dice::new(hash ^ u64::from(byte)).roll());
        format!("eni-bp1{}", Dice::new(mixed).draw_word(17))
    }

    /// The interface of this id, if anything of it can be seen.
    pub(super) fn find_interface(&self, id: &str) -> Option<Interface> {
        self.visible_interface(*self.interfaces.by_id.get(id)?)
    }

    fn visible_interface(&self, slot: Slot) -> Option<Interface> {
        let node = self.topology.nodes.get(slot.node)?;
        let (size, primary_at) = interface_layout(node.eni)?;
        let start = slot.index * size;
        let primary = node.pod_cidr.nth(start + primary_at).or_else(|| node.pod_cidr.nth(start))?;
        let last = (start..start + size).rev().find_map(|offset| node.pod_cidr.nth(offset))?;
        let range = self.interfaces.visible_from.range(node.pod_cidr.nth(start)?..=last);
        let visible: Vec<Ipv4Addr> =
            range.filter(|(_, from)| **from <= self.now).map(|(address, _)| *address).collect();
        let in_prefix = |address: &Ipv4Addr| node.pod_cidr.offset(*address) < start + primary_at;
        let prefix = visible
            .first()
            .filter(|address| in_prefix(address))
            .map(|address| Cidr::containing(*address, 28));
        let secondary = visible
            .iter()
            .filter(|address| **address != primary && !in_prefix(address))
            .copied()
            .collect();
        (!visible.is_empty()).then(|| Interface {
            id: self.interface_id(slot),
            node: slot.node,
            index: slot.index,
            primary,
            secondary,
            prefix,
        })
    }

    pub(super) fn describe_network_interfaces(&mut self, context: &Context<'_>) -> Outcome {
        let params = context.params;
        let addresses = requested_addresses(params)?;
        let ids = params.get_list("NetworkInterfaceId");
        if addresses.len() > 100 || ids.len() > 100 {
            return Err(Refusal::invalid_parameter(if ids.len() > 100 {
                "NetworkInterfaceId"
            } else {
                "PrivateIpAddress"
            }));
        }
        for address in &addresses {
            self.announce_pod(*address);
        }
        let slots: BTreeSet<Slot> = match (addresses.is_empty(), ids.is_empty()) {
            (false, _) => addresses.iter().filter_map(|address| self.slot_of(*address)).collect(),
            (true, false) => {
                ids.iter().filter_map(|id| self.interfaces.by_id.get(*id).copied()).collect()
            }
            (true, true) => self.interfaces.slots.clone(),
        };
        let published = self.eips_by_private_address();
        let shown =
            slots.into_iter().filter_map(|slot| self.visible_interface(slot)).filter(|interface| {
                let named = |address: &Ipv4Addr| {
                    interface.primary == *address || interface.secondary.contains(address)
                };
                let in_prefix = |address: &Ipv4Addr| {
                    interface.prefix.is_some_and(|prefix| prefix.contains(*address))
                };
                (addresses.is_empty()
                    || addresses.iter().any(|address| named(address) || in_prefix(address)))
                    && (ids.is_empty() || ids.contains(&interface.id.as_str()))
                    && self.passes_interface_filters(interface, params)
            });
        let rows: Vec<Value> =
            shown.map(|interface| self.interface_json(&interface, &published)).collect();
        let total = rows.len();
        let size = params
            .get_number("MaxResults")?
            .or(params.get_number("PageSize")?)
            .unwrap_or(10)
            .clamp(10, 500) as usize;
        let (rows, next) = after_token(rows, params, size)?;
        Ok(json!({
            "NetworkInterfaceSets": {"NetworkInterfaceSet": rows}, "NextToken": next,
            "TotalCount": total, "PageNumber": 1, "PageSize": size,
        }))
    }

    fn passes_interface_filters(&self, interface: &Interface, params: &Params) -> bool {
        let Some(node) = self.topology.nodes.get(interface.node) else { return false };
        let is = |name: &str, value: &str| params.get(name).is_none_or(|wanted| wanted == value);
        is("VpcId", &self.topology.vpc.id)
            && is("VSwitchId", &node.v_switch)
            && is("InstanceId", &node.instance_id)
            && is("PrimaryIpAddress", &interface.primary.to_string())
            && is("SecurityGroupId", SECURITY_GROUP)
            && is("Type", "Secondary")
            && is("Status", "InUse")
            && params.get_tags().is_empty()
    }

    /// EIPs by the private address they are bound to.
    fn eips_by_private_address(&self) -> BTreeMap<Ipv4Addr, &Eip> {
        let bound = self.eips.values().filter(|eip| eip.status != EipStatus::Associating);
        bound.filter_map(|eip| Some((eip.binding.as_ref()?.private_address?, eip))).collect()
    }

    /// All interfaces that can be seen, for an observer.
    pub(super) fn interfaces_json(&self) -> Vec<Value> {
        let published = self.eips_by_private_address();
        let seen = self.interfaces.slots.iter().filter_map(|slot| self.visible_interface(*slot));
        seen.map(|interface| self.interface_json(&interface, &published)).collect()
    }

    fn interface_json(&self, interface: &Interface, published: &BTreeMap<Ipv4Addr, &Eip>) -> Value {
        let Some(node) = self.topology.nodes.get(interface.node) else { return Value::Null };
        let public = |address: &Ipv4Addr| match published.get(address) {
            Some(eip) => json!({"PublicIpAddress": eip.address, "AllocationId": eip.id}),
            None => json!({}),
        };
        let sets = std::iter::once(&interface.primary).chain(&interface.secondary).map(|address| {
            json!({
                "PrivateIpAddress": address, "Primary": *address == interface.primary, "PrivateDnsName": "",
                "AssociatedPublicIp": public(address),
            })
        });
        let prefixes: Vec<Value> = interface
            .prefix
            .iter()
            .map(|prefix| json!({"Ipv4Prefix": prefix.to_string()}))
            .collect();
        let [_, a, b, c] = interface.primary.octets();
        let is_member = self.pace.quirks && interface.index % 2 == 1;
        json!({
            "NetworkInterfaceId": interface.id, "NetworkInterfaceName": format!("{}-{}", node.name, interface.index),
            "MacAddress": format!("00:16:3e:{a:02x}:{b:02x}:{c:02x}"), "InstanceId": if is_member { "" } else { &node.instance_id },
            "VpcId": self.topology.vpc.id, "VSwitchId": node.v_switch, "ZoneId": node.zone, "Type": "Secondary", "Status": "InUse",
            "PrivateIpAddress": interface.primary, "PrivateIpSets": {"PrivateIpSet": sets.collect::<Vec<_>>()},
            "AssociatedPublicIp": public(&interface.primary), "Ipv4PrefixSets": {"Ipv4PrefixSet": prefixes},
            "Ipv6Sets": {"Ipv6Set": []}, "Ipv6PrefixSets": {"Ipv6PrefixSet": []},
            "SecurityGroupIds": {"SecurityGroupId": [SECURITY_GROUP]},
            "Attachment": {
                "InstanceId": node.instance_id, "DeviceIndex": interface.index + 1, "NetworkCardIndex": 0,
                "TrunkNetworkInterfaceId": if is_member { "eni-trunk" } else { "" },
            },
            "Tags": {"Tag": []}, "ServiceManaged": false, "ServiceID": 0, "SourceDestCheck": false, "DeleteOnRelease": true,
            "NetworkInterfaceTrafficMode": "Standard", "QueueNumber": 2, "QueuePairNumber": 0, "ResourceGroupId": RESOURCE_GROUP,
            "OwnerId": "",
            "CreationTime": CREATED, "Description": "",
        })
    }

    /// Takes the interface off its node and deletes it. EIPs on it are unbound but stay allocated;
    /// its addresses, asked for again, turn up on a new interface.
    pub fn detach_interface(&mut self, id: &str) -> Result<(), Refusal> {
        let not_found = || {
            Refusal::not_found(
                "InvalidEniId.NotFound",
                "The specified NetworkInterfaceId is not found.",
            )
        };
        let slot = self.interfaces.by_id.remove(id).ok_or_else(not_found)?;
        self.interfaces.slots.remove(&slot);
        *self.interfaces.generations.entry(slot).or_default() += 1;
        let gone: Vec<Ipv4Addr> = self
            .interfaces
            .visible_from
            .keys()
            .copied()
            .filter(|it| self.slot_of(*it) == Some(slot))
            .collect();
        for address in gone {
            self.interfaces.visible_from.remove(&address);
        }
        let loose: Vec<String> = self.eips_on(id).map(|eip| eip.id.clone()).collect();
        for eip in loose {
            self.drop_binding(&eip);
        }
        Ok(())
    }
}

fn requested_addresses(params: &Params) -> Result<BTreeSet<Ipv4Addr>, Refusal> {
    let primary = params.get_address("PrimaryIpAddress", "InvalidParameter")?;
    let listed = params
        .get_list("PrivateIpAddress")
        .into_iter()
        .map(|text| text.parse().map_err(|_| Refusal::invalid_parameter("PrivateIpAddress")));
    listed.chain(primary.map(Ok)).collect()
}
