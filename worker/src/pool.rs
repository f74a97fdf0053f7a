//! The gateways' EIPs: read from the cloud, offered in the store, and where to look for room first.

use crate::worker::Worker;
use rand::seq::SliceRandom as _;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use waygate_core::config::Gateway;
use waygate_core::ids::{AllocationId, NatGatewayId, ZoneId};
use waygate_serving::Check;
use waygate_store::{GatewayEip, PortRange};

/// EIPs are bound to gateways by people, rarely.
const REFRESH: Duration = Duration::from_mins(1);
/// After a failed read.
const RETRY: Duration = Duration::from_secs(2);

/// The EIPs of all usable gateways, as last seen.
#[derive(Default)]
pub(crate) struct Pool(RwLock<BTreeMap<NatGatewayId, Vec<GatewayEip>>>);

impl Pool {
    /// Where to look for free ports: the zone's own gateways first, each group in random order, so that workers rarely meet on one EIP.
    pub(crate) fn candidates(&self, zone: &ZoneId) -> Vec<AllocationId> {
        let pool = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let (mut near, mut far): (Vec<_>, Vec<_>) = pool.values().flatten().partition(|eip| eip.zone_id == *zone);
        near.shuffle(&mut rand::rng());
        far.shuffle(&mut rand::rng());
        near.into_iter().chain(far).map(|eip| eip.allocation_id.clone()).collect()
    }

    fn replace(&self, gateway: &NatGatewayId, eips: Vec<GatewayEip>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(gateway.clone(), eips);
    }
}

/// Keeps the pool as the cloud has it until `token` is cancelled. `known` says whether every gateway has been read once.
pub(crate) async fn run(worker: Arc<Worker>, known: Check, token: CancellationToken) -> Result<(), std::convert::Infallible> {
    while !token.is_cancelled() {
        let mut failed = false;
        for gateway in &worker.config.gateways {
            if let Err(error) = refresh(&worker, gateway).await {
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
        let pause = if failed { RETRY } else { REFRESH };
        token.run_until_cancelled(tokio::time::sleep(pause)).await;
    }
    Ok(())
}

async fn refresh(worker: &Worker, gateway: &Gateway) -> Result<(), crate::errors::Error> {
    let id = &gateway.nat_gateway_id;
    let Some(found) = worker.cloud.nat_gateway(id).await?.value.filter(|found| found.available) else {
        tracing::error!(gateway.id = %id, "the NAT gateway does not exist or takes no changes; no new ports are reserved on it");
        worker.pool.replace(id, Vec::new());
        return Ok(());
    };
    for missing in gateway.eips.iter().filter(|ip| !found.eips.iter().any(|eip| eip.ip_address == **ip)) {
        tracing::error!(gateway.id = %id, eip = %missing, "the configured EIP is not bound to this NAT gateway; bind it or take it out of `eips`");
    }
    let chosen = found.eips.iter().filter(|eip| gateway.eips.is_empty() || gateway.eips.contains(&eip.ip_address));
    let eips: Vec<_> = chosen
        .map(|eip| GatewayEip {
            allocation_id: eip.allocation_id.clone(),
            address: eip.ip_address,
            gateway_id: id.clone(),
            table_id: found.forward_table_id.clone(),
            zone_id: gateway.zone_id.clone(),
        })
        .collect();
    for eip in &eips {
        worker.store.offer(eip, PortRange { first: *gateway.ports.start(), last: *gateway.ports.end() }).await?;
    }
    worker.pool.replace(id, eips);
    Ok(())
}
