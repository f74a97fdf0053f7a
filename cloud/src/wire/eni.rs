//! Answers about network interfaces and the private addresses they own.

use super::{
    Chain, non_empty, optional_id, parse_address, required_id, scalar_text, text_list, wrapped_list,
};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use waygate_core::cloud_facts::Eni;
use waygate_core::ids::{AllocationId, EniId, VSwitchId, VpcId, ZoneId};

/// An interface with the addresses, prefixes and security groups it has.
#[derive(Clone, Debug)]
pub(crate) struct Interface {
    pub(crate) eni: Eni,
    /// Primary and secondary addresses.
    pub(crate) addresses: Vec<Ipv4Addr>,
    pub(crate) prefixes: Vec<Prefix>,
    pub(crate) security_groups: Vec<String>,
}

impl Interface {
    pub(crate) fn owns(&self, ip: Ipv4Addr) -> bool {
        self.addresses.contains(&ip) || self.prefixes.iter().any(|prefix| prefix.contains(ip))
    }
}

/// A CIDR block assigned to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prefix {
    network: u32,
    mask: u32,
}

impl Prefix {
    fn parse_cidr(text: &str) -> Result<Self, String> {
        let wrong = || format!("Ipv4Prefix is {text:.40?}, not a CIDR block");
        let (ip, bits) = text.split_once('/').ok_or_else(wrong)?;
        let (ip, bits): (Ipv4Addr, u32) =
            (ip.parse().map_err(|_| wrong())?, bits.parse().map_err(|_| wrong())?);
        if bits > 32 {
            return Err(wrong());
        }
        let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
        Ok(Self { network: u32::from(ip) & mask, mask })
    }

    pub(crate) fn contains(self, ip: Ipv4Addr) -> bool {
        u32::from(ip) & self.mask == self.network
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Interfaces {
    #[serde(default, deserialize_with = "scalar_text")]
    next_token: String,
    #[serde(deserialize_with = "wrapped_list")]
    network_interface_sets: Vec<WireEni>,
}

impl Chain for Interfaces {
    type Item = Interface;

    fn take_next_token(&mut self) -> Option<String> {
        non_empty(std::mem::take(&mut self.next_token))
    }

    fn into_chain_items(self) -> Result<Vec<Interface>, String> {
        self.network_interface_sets.into_iter().map(WireEni::into_interface).collect()
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireEni {
    #[serde(deserialize_with = "scalar_text")]
    network_interface_id: String,
    #[serde(default, deserialize_with = "scalar_text")]
    vpc_id: String,
    #[serde(default, deserialize_with = "scalar_text")]
    v_switch_id: String,
    #[serde(default, deserialize_with = "scalar_text")]
    zone_id: String,
    #[serde(deserialize_with = "scalar_text")]
    private_ip_address: String,
    #[serde(default)]
    associated_public_ip: Option<PublicIp>,
    #[serde(default, deserialize_with = "wrapped_list")]
    private_ip_sets: Vec<WirePrivateIp>,
    #[serde(default, deserialize_with = "wrapped_list")]
    ipv4_prefix_sets: Vec<WirePrefix>,
    #[serde(default, deserialize_with = "text_list")]
    security_group_ids: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WirePrivateIp {
    #[serde(deserialize_with = "scalar_text")]
    private_ip_address: String,
    #[serde(default)]
    associated_public_ip: Option<PublicIp>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PublicIp {
    #[serde(default, deserialize_with = "scalar_text")]
    allocation_id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WirePrefix {
    #[serde(deserialize_with = "scalar_text")]
    ipv4_prefix: String,
}

impl WireEni {
    fn into_interface(self) -> Result<Interface, String> {
        let primary_ip = parse_address("PrivateIpAddress", &self.private_ip_address)?;
        let mut addresses = vec![primary_ip];
        let mut associated = BTreeMap::new();
        let mut note = |ip, public: Option<PublicIp>| {
            if let Some(id) = public.and_then(|public| non_empty(public.allocation_id)) {
                associated.insert(ip, AllocationId::new(id));
            }
        };
        note(primary_ip, self.associated_public_ip);
        for private in self.private_ip_sets {
            let ip = parse_address("PrivateIpSets.PrivateIpAddress", &private.private_ip_address)?;
            note(ip, private.associated_public_ip);
            addresses.push(ip);
        }
        let eni = Eni {
            eni_id: EniId::new(required_id("NetworkInterfaceId", self.network_interface_id)?),
            vswitch_id: VSwitchId::new(optional_id("VSwitchId", self.v_switch_id)?),
            zone_id: ZoneId::new(optional_id("ZoneId", self.zone_id)?),
            vpc_id: VpcId::new(optional_id("VpcId", self.vpc_id)?),
            primary_ip,
            associated,
        };
        let prefixes = self
            .ipv4_prefix_sets
            .iter()
            .map(|set| Prefix::parse_cidr(&set.ipv4_prefix))
            .collect::<Result<_, _>>()?;
        Ok(Interface { eni, addresses, prefixes, security_groups: self.security_group_ids })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_contains_its_block_and_no_more() {
        let prefix = Prefix::parse_cidr("10.0.0.16/28").unwrap();
        assert!(prefix.contains("10.0.0.31".parse().unwrap()));
        assert!(!prefix.contains("10.0.0.32".parse().unwrap()));
        assert!(
            Prefix::parse_cidr("0.0.0.0/0").unwrap().contains("255.255.255.255".parse().unwrap())
        );
        for wrong in ["", "10.0.0.0", "10.0.0.0/33", "x/8", "10.0.0.0/-1"] {
            assert!(Prefix::parse_cidr(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_interface_owns_its_primary_its_secondaries_and_its_prefixes() {
        let page: Interfaces = serde_json::from_value(serde_json::json!({
            "NextToken": null,
            "NetworkInterfaceSets": {"NetworkInterfaceSet": [{
                "NetworkInterfaceId": "eni-1", "VSwitchId": "vsw-1", "PrivateIpAddress": "10.0.0.1",
                "PrivateIpSets": {"PrivateIpSet": [
                    {"PrivateIpAddress": "10.0.0.1", "Primary": true},
                    {"PrivateIpAddress": "10.0.0.2", "AssociatedPublicIp": {"AllocationId": "eip-1", "PublicIpAddress": "203.0.113.1"}},
                    {"PrivateIpAddress": "10.0.0.3", "AssociatedPublicIp": {}}]},
                "Ipv4PrefixSets": {"Ipv4PrefixSet": [{"Ipv4Prefix": "10.0.1.0/28"}]}}]}
        }))
        .unwrap();
        let interface = page.into_chain_items().unwrap().remove(0);
        for ip in ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.1.7"] {
            assert!(interface.owns(ip.parse().unwrap()), "{ip}");
        }
        assert!(!interface.owns("10.0.1.16".parse().unwrap()));
        assert_eq!(interface.eni.associated.len(), 1);
        assert_eq!(interface.eni.vswitch_id.as_str(), "vsw-1");
    }
}
