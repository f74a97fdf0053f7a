//! The EIPs of the usable gateways, in the order in which free ports are looked for.

use parking_lot::RwLock;
use rand::seq::SliceRandom as _;
use std::collections::BTreeMap;
use waygate_core::config::Gateway;
use waygate_core::ids::{AllocationId, NatGatewayId, ZoneId};
use waygate_store::GatewayEip;

/// EIPs of all usable gateways, as discovery last read them.
#[derive(Default)]
pub(crate) struct PortPool(RwLock<BTreeMap<NatGatewayId, Vec<GatewayEip>>>);

impl PortPool {
    /// EIPs on which to look for free ports at these gateways, in groups: first addresses that SNAT
    /// does not use, within these the zone's own gateways, each group in random order. The first
    /// EIPs of a group belong to different gateways as far as possible, because the store compares
    /// the first two by their room for entries.
    pub(crate) fn candidate_eips(
        &self,
        gateways: &[&Gateway],
        zone: &ZoneId,
    ) -> Vec<Vec<AllocationId>> {
        let pool = self.0.read();
        let mut eips: Vec<_> = gateways
            .iter()
            .filter_map(|gateway| pool.get(&gateway.nat_gateway_id))
            .flatten()
            .collect();
        eips.shuffle(&mut rand::rng());
        let group = |eip: &GatewayEip| (eip.snat, eip.zone_id != *zone);
        let mut seen_of_gateway: BTreeMap<_, usize> = BTreeMap::new();
        eips.sort_by_cached_key(|eip| {
            let place = seen_of_gateway.entry((group(eip), &eip.gateway_id)).or_default();
            *place += 1;
            (group(eip), *place)
        });
        eips.chunk_by(|one, next| group(one) == group(next))
            .map(|eips| eips.iter().map(|eip| eip.allocation_id.clone()).collect())
            .collect()
    }

    /// Replaces the EIPs of a gateway; `eips` is empty while the gateway takes no entries.
    pub(crate) fn replace_eips(&self, gateway: &NatGatewayId, eips: Vec<GatewayEip>) {
        self.0.write().insert(gateway.clone(), eips);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waygate_core::ids::ForwardTableId;

    const OWN_ZONE: &str = "cn-hangzhou-j";
    const OTHER_ZONE: &str = "cn-hangzhou-k";

    fn gateway(id: &str, zone: &str) -> Gateway {
        let (nat_gateway_id, zone_id) = (NatGatewayId::new(id), ZoneId::new(zone));
        Gateway {
            nat_gateway_id,
            name: None,
            zone_id,
            ports: 1..=9,
            eips: Vec::new(),
            namespaces: std::collections::BTreeSet::new(),
        }
    }

    /// A pool with these EIPs: an EIP's name starts with its gateway's, and ends with `snat` where
    /// SNAT uses the address.
    fn pool(gateways: &[Gateway], eips: &[&str]) -> PortPool {
        let pool = PortPool::default();
        for gateway in gateways {
            let gateway_eips =
                eips.iter().filter(|eip| eip.starts_with(gateway.nat_gateway_id.as_str()));
            let eip = |eip: &&str| GatewayEip {
                allocation_id: AllocationId::new(*eip),
                address: std::net::Ipv4Addr::LOCALHOST,
                gateway_id: gateway.nat_gateway_id.clone(),
                table_id: ForwardTableId::new("ftb"),
                zone_id: gateway.zone_id.clone(),
                snat: eip.ends_with("snat"),
            };
            pool.replace_eips(&gateway.nat_gateway_id, gateway_eips.map(eip).collect());
        }
        pool
    }

    fn sorted(group: &[AllocationId]) -> Vec<&str> {
        let mut names: Vec<_> = group.iter().map(AllocationId::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn port_pool_puts_snat_addresses_last_and_the_own_zone_first() {
        let gateways = [gateway("a", OWN_ZONE), gateway("b", OTHER_ZONE), gateway("c", OWN_ZONE)];
        let pool = pool(&gateways, &["a1", "a2-snat", "b1", "b2-snat", "c1", "c2-snat"]);
        let groups =
            pool.candidate_eips(&gateways.iter().collect::<Vec<_>>(), &ZoneId::new(OWN_ZONE));
        let shown: Vec<_> = groups.iter().map(|group| sorted(group)).collect();
        assert_eq!(
            shown,
            [vec!["a1", "c1"], vec!["b1"], vec!["a2-snat", "c2-snat"], vec!["b2-snat"]]
        );
        let others = pool.candidate_eips(&[&gateways[1]], &ZoneId::new(OWN_ZONE));
        assert_eq!(
            others.iter().map(|group| sorted(group)).collect::<Vec<_>>(),
            [["b1"], ["b2-snat"]],
            "only of these gateways"
        );
    }

    #[test]
    fn port_pool_compares_random_eips_of_different_gateways() {
        let gateways = [gateway("a", OWN_ZONE), gateway("b", OWN_ZONE), gateway("c", OWN_ZONE)];
        let pool = pool(&gateways, &["a1", "a2", "a3", "a4", "a5", "b1", "c1", "c2"]);
        let mut firsts = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let groups =
                pool.candidate_eips(&gateways.iter().collect::<Vec<_>>(), &ZoneId::new(OWN_ZONE));
            assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [8]);
            let gateways_of_eips: Vec<_> = groups[0].iter().map(|eip| &eip.as_str()[..1]).collect();
            assert_eq!(
                sorted(&groups[0][..3]).iter().map(|eip| &eip[..1]).collect::<Vec<_>>(),
                ["a", "b", "c"],
                "{gateways_of_eips:?}"
            );
            firsts.insert(groups[0][0].clone());
        }
        assert_eq!(firsts.len(), 8, "any of them may be the first");
    }
}
