//! The gateways' EIPs and what stands on them: read from the cloud, offered in the store, and where to look for room first.

use crate::errors::Error;
use crate::worker::Worker;
use rand::seq::SliceRandom as _;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use waygate_core::config::Gateway;
use waygate_core::facts::{self, ForwardEntry, NatGateway};
use waygate_core::ids::{AllocationId, NatGatewayId, ZoneId};
use waygate_core::lease::PortSpan;
use waygate_core::names;
use waygate_serving::Check;
use waygate_store::{EntriesSeen, GatewayEip, PortRange};

/// After a failed read.
const RETRY: Duration = Duration::from_secs(2);

/// The EIPs of all usable gateways, as last seen.
#[derive(Default)]
pub(crate) struct Pool(RwLock<BTreeMap<NatGatewayId, Vec<GatewayEip>>>);

impl Pool {
    /// Where to look for free ports on these gateways: addresses that SNAT does not use, then the zone's own gateways, each group in random order.
    /// The first EIPs of a group are of different gateways, as far as there are: two that are compared should differ in their room for entries.
    pub(crate) fn candidates(&self, gateways: &[&Gateway], zone: &ZoneId) -> Vec<Vec<AllocationId>> {
        let pool = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut eips: Vec<_> = gateways.iter().filter_map(|gateway| pool.get(&gateway.nat_gateway_id)).flatten().collect();
        eips.shuffle(&mut rand::rng());
        let group = |eip: &GatewayEip| (eip.snat, eip.zone_id != *zone);
        let mut met: BTreeMap<_, usize> = BTreeMap::new();
        eips.sort_by_cached_key(|eip| {
            let turn = met.entry((group(eip), &eip.gateway_id)).or_default();
            *turn += 1;
            (group(eip), *turn)
        });
        eips.chunk_by(|one, next| group(one) == group(next))
            .map(|eips| eips.iter().map(|eip| eip.allocation_id.clone()).collect())
            .collect()
    }

    fn replace(&self, gateway: &NatGatewayId, eips: Vec<GatewayEip>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(gateway.clone(), eips);
    }
}

/// Keeps the pool as the cloud has it until `token` is cancelled, with a look each `period`: people bind EIPs to gateways, rarely. `known` says
/// whether every gateway has been read once.
pub(crate) async fn run(
    worker: Arc<Worker>,
    period: Duration,
    known: Check,
    token: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    while !token.is_cancelled() {
        let mut failed = false;
        for gateway in &worker.config.gateways {
            if let Err(error) = refresh(&worker, gateway, period / 2).await {
                failed = true;
                let error = crate::errors::chain(&error);
                tracing::warn!(gateway.id = %gateway.nat_gateway_id, error, "the NAT gateway could not be read; what is known of it stays");
            }
        }
        if !failed {
            known.set(true);
        }
        if let Err(error) = worker.store.end_quiet().await {
            tracing::warn!(error = crate::errors::chain(&error), "quiet ports were not freed; they stay unused until they are");
        }
        let pause = if failed { RETRY.min(period) } else { period };
        token.run_until_cancelled(tokio::time::sleep(pause)).await;
    }
    Ok(())
}

/// Somebody's entry that no look has shown for `grace` is gone: that takes two looks of ours, and another worker's may follow at once.
async fn refresh(worker: &Worker, gateway: &Gateway, grace: Duration) -> Result<(), Error> {
    let id = &gateway.nat_gateway_id;
    let found = worker.cloud.nat_gateway(id).await?.value;
    let trouble = match &found {
        None => Some(format!("NAT gateway {id} does not exist any more")),
        Some(found) if !found.available => Some(format!("NAT gateway {id} is locked or being changed, and takes no entries")),
        Some(_) => None,
    };
    let Some(found) = found.filter(|_| trouble.is_none()) else {
        tracing::error!(gateway.id = %id, trouble, "no new ports are reserved on the NAT gateway, and its pods are told");
        worker.pool.replace(id, Vec::new());
        return tell(worker, id, &[], trouble.as_deref()).await;
    };
    for missing in gateway.eips.iter().filter(|ip| !found.eips.iter().any(|eip| eip.ip_address == **ip)) {
        tracing::error!(gateway.id = %id, eip = %missing, "the configured EIP is not bound to this NAT gateway; bind it or take it out of `eips`");
    }
    let chosen = found.eips.iter().filter(|eip| gateway.eips.is_empty() || gateway.eips.contains(&eip.ip_address));
    let eips: Vec<_> = chosen.map(|eip| offered(gateway, &found, eip)).collect();
    for eip in &eips {
        worker.store.offer(eip, PortRange { first: *gateway.ports.start(), last: *gateway.ports.end() }).await?;
    }
    let bound: Vec<_> = found.eips.iter().map(|eip| eip.allocation_id.clone()).collect();
    tell(worker, id, &bound, None).await?;
    let entries = worker.cloud.forward_entries(id).await?.value;
    worker.store.saw_entries(id, &seen(&entries, &eips), grace).await?;
    worker.pool.replace(id, eips);
    Ok(())
}

fn offered(gateway: &Gateway, found: &NatGateway, eip: &facts::GatewayEip) -> GatewayEip {
    GatewayEip {
        allocation_id: eip.allocation_id.clone(),
        address: eip.ip_address,
        gateway_id: gateway.nat_gateway_id.clone(),
        table_id: found.forward_table_id.clone(),
        zone_id: gateway.zone_id.clone(),
        snat: eip.snat,
    }
}

/// Writes down which EIPs the gateway has; leases that this concerns look for themselves.
async fn tell(worker: &Worker, gateway: &NatGatewayId, bound: &[AllocationId], trouble: Option<&str>) -> Result<(), Error> {
    let changed = worker.store.bound(gateway, bound, trouble).await?;
    if changed > 0 {
        tracing::warn!(gateway.id = %gateway, eips = changed, "EIPs came to the NAT gateway, or left it");
        worker.due.notify_one();
    }
    Ok(())
}

/// What a look at a gateway's entries tells of those that are not ours.
fn seen(entries: &[ForwardEntry], eips: &[GatewayEip]) -> EntriesSeen {
    let others: Vec<_> = entries.iter().filter(|entry| names::read_entry_name(&entry.name).is_none()).collect();
    let span = |entry: &&ForwardEntry| {
        let eip = eips.iter().find(|eip| eip.address == entry.external_ip)?;
        Some(PortSpan { allocation_id: eip.allocation_id.clone(), protocol: entry.protocol(), ports: entry.external_ports() })
    };
    EntriesSeen { standing: entries.len(), others: others.len(), foreign: others.iter().filter_map(span).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waygate_core::ids::ForwardTableId;

    const OURS: &str = "cn-hangzhou-j";
    const OTHER: &str = "cn-hangzhou-k";

    fn gateway(id: &str, zone: &str) -> Gateway {
        let (nat_gateway_id, zone_id) = (NatGatewayId::new(id), ZoneId::new(zone));
        Gateway { nat_gateway_id, name: None, zone_id, ports: 1..=9, eips: Vec::new(), namespaces: std::collections::BTreeSet::new() }
    }

    /// A pool with these EIPs: the first part of a name says which gateway's it is, `snat` that SNAT uses it.
    fn pool(gateways: &[Gateway], eips: &[&str]) -> Pool {
        let pool = Pool::default();
        for gateway in gateways {
            let its = eips.iter().filter(|eip| eip.starts_with(gateway.nat_gateway_id.as_str()));
            let eip = |eip: &&str| GatewayEip {
                allocation_id: AllocationId::new(*eip),
                address: std::net::Ipv4Addr::LOCALHOST,
                gateway_id: gateway.nat_gateway_id.clone(),
                table_id: ForwardTableId::new("ftb"),
                zone_id: gateway.zone_id.clone(),
                snat: eip.ends_with("snat"),
            };
            pool.replace(&gateway.nat_gateway_id, its.map(eip).collect());
        }
        pool
    }

    fn sorted(group: &[AllocationId]) -> Vec<&str> {
        let mut names: Vec<_> = group.iter().map(AllocationId::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn addresses_that_snat_uses_come_last_and_the_own_zones_first() {
        let gateways = [gateway("a", OURS), gateway("b", OTHER), gateway("c", OURS)];
        let pool = pool(&gateways, &["a1", "a2-snat", "b1", "b2-snat", "c1", "c2-snat"]);
        let groups = pool.candidates(&gateways.iter().collect::<Vec<_>>(), &ZoneId::new(OURS));
        let shown: Vec<_> = groups.iter().map(|group| sorted(group)).collect();
        assert_eq!(shown, [vec!["a1", "c1"], vec!["b1"], vec!["a2-snat", "c2-snat"], vec!["b2-snat"]]);
        let others = pool.candidates(&[&gateways[1]], &ZoneId::new(OURS));
        assert_eq!(others.iter().map(|group| sorted(group)).collect::<Vec<_>>(), [["b1"], ["b2-snat"]], "only of these gateways");
    }

    #[test]
    fn the_two_that_are_compared_first_are_of_different_gateways_at_random() {
        let gateways = [gateway("a", OURS), gateway("b", OURS), gateway("c", OURS)];
        let pool = pool(&gateways, &["a1", "a2", "a3", "a4", "a5", "b1", "c1", "c2"]);
        let mut firsts = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let groups = pool.candidates(&gateways.iter().collect::<Vec<_>>(), &ZoneId::new(OURS));
            assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [8]);
            let of: Vec<_> = groups[0].iter().map(|eip| &eip.as_str()[..1]).collect();
            assert_eq!(sorted(&groups[0][..3]).iter().map(|eip| &eip[..1]).collect::<Vec<_>>(), ["a", "b", "c"], "{of:?}");
            firsts.insert(groups[0][0].clone());
        }
        assert_eq!(firsts.len(), 8, "whichever of them may be the first");
    }
}
