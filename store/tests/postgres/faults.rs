//! Known faults of other controllers that the store has to prevent; `docs/faults.md` lists all of
//! them.

use crate::database::{Bench, CLAIM, bought, dnat, in_database, keys, ports};
use anyhow::{Context as _, Result};
use sqlx::ConnectOptions as _;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;
use uuid::Uuid;
use waygate_core::ids::{AllocationId, ForwardTableId, NatGatewayId, ZoneId};
use waygate_core::lease::PortKey;
use waygate_core::lease::{LeasedPort, PortReservation};
use waygate_core::request::{DnatRequest, Request};
use waygate_store::{Claim, GatewayEip, OfferedPorts, PodAnnouncement, PodObservation, Store};

/// Reserves ports for a new lease.
async fn reserve(
    bench: &Bench,
    asked: &DnatRequest,
    pool: &[AllocationId],
) -> Result<(Claim, PortReservation)> {
    let claim = bench.claimed(&Request::Dnat(asked.clone())).await?;
    let reserved = bench.store.under_claim(&claim).reserve_ports(asked, &[pool.to_vec()]).await?;
    Ok((claim, reserved))
}

/// Connects to the same database as another process would.
fn another_process(bench: &Bench) -> Result<Store> {
    Ok(Store::connect_lazy(
        &bench.pool.connect_options().to_url_lossy().as_str().into(),
        2,
        "another process",
    )?)
}

#[tokio::test]
async fn ports_are_persisted_before_they_are_used() -> Result<()> {
    in_database(async |bench: &Bench| {
        let pool = [bench.offer("eip-1", 1000, 1001).await?];
        let (claim, reserved) = reserve(bench, &dnat(&[80, 443], &[]), &pool).await?;
        assert_eq!(reserved, PortReservation::Reserved);
        let before = bench.load(&claim).await?.lease.ports;

        // The process that reserved them is gone, with all its memory.
        bench.pass(CLAIM * 2).await?;
        let next = another_process(bench)?;
        let claims = next
            .claim_due_leases(bench.cluster, Uuid::new_v4(), 100, Duration::ZERO, CLAIM)
            .await?;
        let claim = claims.first().context("the lease is due")?;
        let after = next.under_claim(claim).load(CLAIM).await?.lease.ports;
        assert_eq!(after.len(), 2);
        assert_eq!(after, before);
        let (_, reserved) = reserve(bench, &dnat(&[80], &[]), &pool).await?;
        assert_eq!(reserved, PortReservation::NoRoom, "no other lease gets them");
        Ok(())
    })
    .await
}

/// The keys of the forward entries on these ports.
fn range_keys(ports: &[LeasedPort]) -> Vec<PortKey> {
    let range_starts = ports.iter().filter(|port| port.external_port == port.range_start);
    range_starts
        .map(|port| PortKey {
            allocation_id: port.allocation_id.clone(),
            protocol: port.protocol(),
            port: port.range_start,
        })
        .collect()
}

#[tokio::test]
async fn ports_are_freed_even_if_their_eip_has_changed_meanwhile() -> Result<()> {
    in_database(async |bench: &Bench| {
        let pool = [bench.offer("eip-1", 1000, 1009).await?];
        let (claim, _) = reserve(bench, &dnat(&[80, 7000, 7001, 7002], &[7000]), &pool).await?;
        // The EIP is now on another gateway, with another address, and other ports of it are
        // offered.
        let moved = GatewayEip {
            allocation_id: pool[0].clone(),
            address: Ipv4Addr::new(198, 18, 9, 9),
            gateway_id: NatGatewayId::new("ngw-2"),
            table_id: ForwardTableId::new("ftb-2"),
            zone_id: ZoneId::new("z-2"),
            snat: true,
        };
        bench.store.offer_ports(&moved, OfferedPorts { first: 2000, last: 2009 }).await?;
        let held = bench.load(&claim).await?.lease.ports;
        assert_eq!(held.len(), 5);
        for range in range_keys(&held) {
            bench.store.under_claim(&claim).start_cooldown(&range, Duration::ZERO).await?;
        }
        assert_eq!(keys(&bench.load(&claim).await?), []);
        assert_eq!(bench.store.end_cooldowns().await?, 5);
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM port WHERE state <> 'free'")
            .fetch_one(&bench.pool)
            .await?;
        assert_eq!(left, 0);
        Ok(())
    })
    .await
}

/// A pod of the name `same-0` is admitted and observed.
async fn recreated(bench: &Bench, request: &Request) -> Result<Uuid> {
    let (pod_uid, namespace, pod_name, controller) =
        (Uuid::new_v4(), "ns", "same-0", Some("StatefulSet/same"));
    let announcement = PodAnnouncement {
        cluster_name: "c1",
        kind: request.kind(),
        namespace,
        pod_name,
        pod_uid,
        controller,
        request,
    };
    bench.store.announce_pod(&announcement).await?;
    bench
        .store
        .observe_pod(
            bench.cluster,
            &PodObservation {
                namespace,
                pod_name,
                pod_uid,
                controller,
                pod_created_at: None,
                request,
            },
        )
        .await?;
    Ok(pod_uid)
}

#[tokio::test]
async fn a_fast_recreate_is_not_refused() -> Result<()> {
    in_database(async |bench: &Bench| {
        for request in [bought(), ports(&[80], &[])] {
            let mut pods = BTreeSet::new();
            for _ in 0..3 {
                pods.insert(recreated(bench, &request).await?.to_string());
            }
            let claims = bench
                .store
                .claim_due_leases(bench.cluster, Uuid::new_v4(), 100, Duration::ZERO, CLAIM)
                .await?;
            let mut leased = BTreeSet::new();
            for claim in &claims {
                leased.insert(bench.load(claim).await?.lease.pod_uid.to_string());
            }
            assert_eq!(
                leased, pods,
                "each has its own lease, though the leases before it have not ended"
            );
        }
        Ok(())
    })
    .await
}
