//! Keeps what is known of the NAT gateways as the cloud has it: their EIPs are offered in the
//! store, and others' entries on them marked.

use crate::context::Worker;
use crate::errors::Error;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use waygate_core::config::Gateway;
use waygate_core::facts::{self, ForwardEntry, NatGateway};
use waygate_core::ids::{AllocationId, NatGatewayId};
use waygate_core::names::Owner;
use waygate_core::rules::reads;
use waygate_serving::Check;
use waygate_store::{EntriesSeen, GatewayEip, PortRange};

/// After a failed read.
const RETRY: Duration = Duration::from_secs(2);

/// Keeps the pool as the cloud has it until `token` is cancelled, with a look each `period`: people
/// bind EIPs to gateways, rarely. `known` says whether every gateway has been read once.
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
            tracing::warn!(
                error = crate::errors::chain(&error),
                "quiet ports were not freed; they stay unused until they are"
            );
        }
        let pause = if failed { RETRY.min(period) } else { period };
        token.run_until_cancelled(tokio::time::sleep(pause)).await;
    }
    Ok(())
}

/// Somebody's entry that no look has shown for `grace` is gone: that takes two looks of ours, and
/// another worker's may follow at once.
async fn refresh(worker: &Worker, gateway: &Gateway, grace: Duration) -> Result<(), Error> {
    let id = &gateway.nat_gateway_id;
    let found = worker.cloud.nat_gateway(id).await?.value;
    let trouble = match &found {
        None => Some(format!("NAT gateway {id} does not exist any more")),
        Some(found) if !found.available => {
            Some(format!("NAT gateway {id} is locked or being changed, and takes no entries"))
        }
        Some(_) => None,
    };
    let Some(found) = found.filter(|_| trouble.is_none()) else {
        tracing::error!(gateway.id = %id, trouble, "no new ports are reserved on the NAT gateway, and its pods are told");
        worker.pool.replace(id, Vec::new());
        return tell(worker, id, &[], trouble.as_deref()).await;
    };
    for missing in
        gateway.eips.iter().filter(|ip| !found.eips.iter().any(|eip| eip.ip_address == **ip))
    {
        tracing::error!(gateway.id = %id, eip = %missing, "the configured EIP is not bound to this NAT gateway; bind it or take it out of `eips`");
    }
    let chosen = found
        .eips
        .iter()
        .filter(|eip| gateway.eips.is_empty() || gateway.eips.contains(&eip.ip_address));
    let eips: Vec<_> = chosen.map(|eip| offered(gateway, &found, eip)).collect();
    for eip in &eips {
        worker
            .store
            .offer(eip, PortRange { first: *gateway.ports.start(), last: *gateway.ports.end() })
            .await?;
    }
    let bound: Vec<_> = found.eips.iter().map(|eip| eip.allocation_id.clone()).collect();
    tell(worker, id, &bound, None).await?;
    let entries = worker.cloud.forward_entries(id).await?.value;
    worker.store.saw_entries(id, &seen(worker.cluster.owner, &entries, &eips), grace).await?;
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
async fn tell(
    worker: &Worker,
    gateway: &NatGatewayId,
    bound: &[AllocationId],
    trouble: Option<&str>,
) -> Result<(), Error> {
    let changed = worker.store.bound(gateway, bound, trouble).await?;
    if changed > 0 {
        tracing::warn!(gateway.id = %gateway, eips = changed, "EIPs came to the NAT gateway, or left it");
        worker.due.notify_one();
    }
    Ok(())
}

/// What a look at a gateway's entries tells of those that are not ours.
fn seen(owner: Owner, entries: &[ForwardEntry], eips: &[GatewayEip]) -> EntriesSeen {
    let others = reads::foreign_entries(owner, entries);
    let addresses: Vec<_> = eips.iter().map(|eip| (&eip.allocation_id, eip.address)).collect();
    let foreign = reads::occupied_ports(&others, &addresses);
    EntriesSeen { standing: entries.len(), others: others.len(), foreign }
}
