//! Reads the NAT gateways periodically: their EIPs are offered to leases through the store and the
//! port pool, and ports occupied by foreign entries are marked.

use crate::context::Worker;
use crate::errors::{Error, error_chain};
use crate::metrics::ObjectLoop;
use crate::set_aside::SetAside;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use waygate_core::cloud_facts::{self, ForwardEntry, NatGateway};
use waygate_core::config::Gateway;
use waygate_core::ids::{AllocationId, NatGatewayId};
use waygate_core::ownership::Owner;
use waygate_core::rules::reads;
use waygate_serving::Check;
use waygate_store::{GatewayEip, ObservedEntries, OfferedPorts};

/// Refreshes the port pool from the cloud every `period` until `token` is cancelled: operators bind
/// EIPs to gateways, rarely. Sets the readiness check `known` once every gateway has been read, but
/// for those that are set aside.
pub(crate) async fn discover_gateways(
    worker: Arc<Worker>,
    period: Duration,
    known: Check,
    token: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    let aside = SetAside::new(ObjectLoop::Gateways, &worker.metrics);
    let gateways = &worker.config.gateways;
    // Index of a gateway, and when it is read next.
    let mut due: Vec<Instant> = vec![Instant::now(); gateways.len()];
    let mut read = BTreeSet::new();
    while !token.is_cancelled() {
        for (gateway, due) in
            gateways.iter().zip(&mut due).filter(|(_, due)| **due <= Instant::now())
        {
            let id = &gateway.nat_gateway_id;
            let pause = match refresh_gateway(&worker, gateway, period / 2).await {
                Ok(()) => {
                    aside.forget(id);
                    read.insert(id);
                    period
                }
                Err(error) => put_gateway_aside(&aside, id, &error).min(period),
            };
            *due = Instant::now() + pause;
        }
        let known_or_aside = |id| read.contains(id) || aside.is_set_aside(id);
        if gateways.iter().all(|gateway| known_or_aside(&gateway.nat_gateway_id))
            && (gateways.is_empty() || !read.is_empty())
        {
            known.set_passing(true);
        }
        if let Err(error) = worker.store.end_cooldowns().await {
            tracing::warn!(
                error = error_chain(&error),
                "freeing ports after their cooldown failed; they stay unused until the next round"
            );
        }
        let next = due.iter().copied().min().unwrap_or_else(|| Instant::now() + period);
        token.run_until_cancelled(tokio::time::sleep_until(next)).await;
    }
    Ok(())
}

/// Records that a gateway could not be read, and returns the time until it is read again.
fn put_gateway_aside(aside: &SetAside<NatGatewayId>, id: &NatGatewayId, error: &Error) -> Duration {
    let failure = aside.record_failure(id, error);
    tracing::warn!(
        gateway.id = %id, retry_in = failure.retry_in.as_secs_f32(), error = error_chain(error),
        "reading the NAT gateway failed; its last known state stays in use"
    );
    failure.retry_in
}

/// Reads one gateway, offers its EIPs and records its foreign entries. A foreign entry counts as
/// gone once no read has shown it for `grace`: with half a period that takes two reads of this
/// worker, since another worker's read may follow at once.
async fn refresh_gateway(worker: &Worker, gateway: &Gateway, grace: Duration) -> Result<(), Error> {
    let id = &gateway.nat_gateway_id;
    let found = worker.cloud.nat_gateway(id).await?.value;
    let unavailable_reason = match &found {
        None => Some(format!("NAT gateway {id} does not exist")),
        Some(found) if !found.available => {
            Some(format!("NAT gateway {id} is locked or being changed and takes no entries"))
        }
        Some(_) => None,
    };
    let Some(found) = found.filter(|_| unavailable_reason.is_none()) else {
        tracing::error!(
            gateway.id = %id, unavailable_reason,
            "NAT gateway unavailable; no ports are reserved on it, its pods' conditions say so"
        );
        worker.port_pool.replace_eips(id, Vec::new());
        return record_bound_eips(worker, id, &[], unavailable_reason.as_deref()).await;
    };
    for missing in
        gateway.eips.iter().filter(|ip| !found.eips.iter().any(|eip| eip.ip_address == **ip))
    {
        tracing::error!(
            gateway.id = %id, eip.address = %missing,
            "configured EIP is not bound to the NAT gateway; bind it or remove it from `eips`"
        );
    }
    let chosen = found
        .eips
        .iter()
        .filter(|eip| gateway.eips.is_empty() || gateway.eips.contains(&eip.ip_address));
    let eips: Vec<_> = chosen.map(|eip| build_gateway_eip(gateway, &found, eip)).collect();
    for eip in &eips {
        worker
            .store
            .offer_ports(
                eip,
                OfferedPorts { first: *gateway.ports.start(), last: *gateway.ports.end() },
            )
            .await?;
    }
    let bound: Vec<_> = found.eips.iter().map(|eip| eip.allocation_id.clone()).collect();
    record_bound_eips(worker, id, &bound, None).await?;
    // The pool is replaced last: ports of a newly bound EIP are given only once the store knows
    // which of them foreign entries occupy.
    let entries = worker.cloud.forward_entries(id).await?.value;
    worker
        .store
        .record_entries(id, &summarize_entries(worker.cluster.owner, &entries, &eips), grace)
        .await?;
    worker.port_pool.replace_eips(id, eips);
    Ok(())
}

fn build_gateway_eip(
    gateway: &Gateway,
    found: &NatGateway,
    eip: &cloud_facts::GatewayEip,
) -> GatewayEip {
    GatewayEip {
        allocation_id: eip.allocation_id.clone(),
        address: eip.ip_address,
        gateway_id: gateway.nat_gateway_id.clone(),
        table_id: found.forward_table_id.clone(),
        zone_id: gateway.zone_id.clone(),
        snat: eip.snat,
    }
}

/// Records which EIPs are bound to the gateway, or why it is unavailable. The store wakes the
/// leases whose EIP became available or unavailable.
async fn record_bound_eips(
    worker: &Worker,
    gateway: &NatGatewayId,
    bound: &[AllocationId],
    unavailable_reason: Option<&str>,
) -> Result<(), Error> {
    let changed = worker.store.set_gateway_eips(gateway, bound, unavailable_reason).await?;
    if changed > 0 {
        tracing::warn!(
            gateway.id = %gateway, eips = changed,
            "EIPs became available or unavailable at the NAT gateway"
        );
        worker.due.notify_one();
    }
    Ok(())
}

/// Summarizes a list of a gateway's entries for the store: all entries counted, and the ports that
/// entries of other owners occupy.
fn summarize_entries(
    owner: Owner,
    entries: &[ForwardEntry],
    eips: &[GatewayEip],
) -> ObservedEntries {
    let foreign_entries = reads::foreign_entries(owner, entries);
    let addresses: Vec<_> = eips.iter().map(|eip| (&eip.allocation_id, eip.address)).collect();
    let foreign_ports = reads::occupied_ports(&foreign_entries, &addresses);
    ObservedEntries {
        entry_count: entries.len(),
        foreign_count: foreign_entries.len(),
        foreign_ports,
    }
}
