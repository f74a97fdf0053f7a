//! Ports: all or none, on one EIP, one holder each, in cooldown before the next.

use crate::database::{Bench, CLAIM, dnat, in_database, keys, ports, span, target};
use anyhow::{Context as _, Result};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;
use waygate_core::ids::{AllocationId, ForwardEntryId, NatGatewayId};
use waygate_core::lease::{Constraint, PortKey, PortReservation, PortSpan};
use waygate_core::request::{DnatRequest, Protocol, Request};
use waygate_store::{Claim, Error, ObservedEntries, Store};

const MINUTE: Duration = Duration::from_mins(1);

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

async fn held(bench: &Bench) -> Result<i64> {
    Ok(sqlx::query_scalar("SELECT count(*) FROM port WHERE state = 'held'")
        .fetch_one(&bench.pool)
        .await?)
}

/// Requests for 1 to 5 ports, TCP and UDP alternately.
fn asks(number: u16) -> DnatRequest {
    let ports: Vec<u16> = (0..=number % 5).map(|i| 8000 + i).collect();
    let (tcp, udp): (Vec<u16>, Vec<u16>) =
        ports.iter().partition(|port| !(*port + number).is_multiple_of(3));
    dnat(&tcp, &udp)
}

/// Reserves for 64 leases at once. A reservation that found no room tries again, because locks of
/// other transactions may have hidden free ports.
async fn reserve_at_once(bench: &Bench, pool: &[AllocationId]) -> Result<()> {
    for number in 0..64 {
        bench.observe(Uuid::new_v4(), &Request::Dnat(asks(number))).await?;
    }
    let claims = bench
        .store
        .claim_due_leases(bench.cluster, Uuid::new_v4(), 64, Duration::ZERO, CLAIM)
        .await?;
    let start = Arc::new(Barrier::new(claims.len()));
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut tasks = JoinSet::new();
    for claim in claims {
        let (store, start, pool) = (bench.store.clone(), Arc::clone(&start), pool.to_vec());
        let Request::Dnat(asked) = bench.load(&claim).await?.lease.request else { continue };
        tasks.spawn(async move {
            start.wait().await;
            timeout_at(deadline, until_reserved(&store, &claim, &asked, &pool))
                .await
                .context("no room until the deadline")?
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

async fn until_reserved(
    store: &Store,
    claim: &Claim,
    asked: &DnatRequest,
    pool: &[AllocationId],
) -> Result<()> {
    while store.under_claim(claim).reserve_ports(asked, &[pool.to_vec()]).await?
        == PortReservation::NoRoom
    {
        tokio::task::yield_now().await;
    }
    let lease = store.under_claim(claim).load(CLAIM).await?.lease;
    let exposed: Vec<_> = lease.ports.iter().map(|port| port.exposed).collect();
    assert_eq!(exposed, asked.ports, "all of them, in the order asked for");
    let eips: BTreeSet<_> = lease.ports.iter().map(|port| &port.allocation_id).collect();
    assert_eq!(eips.len(), 1, "on one EIP");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_cache_lets_sixty_four_reservations_share_a_port() -> Result<()> {
    in_database(async |bench: &Bench| {
        let pool =
            [bench.offer("eip-1", 1000, 1999).await?, bench.offer("eip-2", 1000, 1999).await?];
        reserve_at_once(bench, &pool).await?;
        let asked: usize = (0..64).map(|number| asks(number).ports.len()).sum();
        assert_eq!(held(bench).await?, i64::try_from(asked)?);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_reservations_fill_a_pool_of_exactly_their_size() -> Result<()> {
    in_database(async |bench: &Bench| {
        let of = |protocol| {
            let ports = (0..64)
                .flat_map(|number| asks(number).ports)
                .filter(move |port| port.protocol == protocol);
            u16::try_from(ports.count()).unwrap_or(u16::MAX)
        };
        let most = of(Protocol::Tcp).max(of(Protocol::Udp));
        let pool = [bench.offer("eip-1", 1000, 999 + most).await?];
        reserve_at_once(bench, &pool).await
    })
    .await
}

#[tokio::test]
async fn a_full_pool_says_no_room_and_holds_nothing() -> Result<()> {
    in_database(async |bench: &Bench| {
        let pool = [bench.offer("eip-1", 1000, 1002).await?];
        let (_, first) = reserve(bench, &dnat(&[1, 2], &[]), &pool).await?;
        assert_eq!(first, PortReservation::Reserved);
        for asked in [
            dnat(&[1, 2], &[]),
            dnat(&[1, 2], &[3]),
            dnat(&[], &[1, 2, 3, 4]),
            dnat(&[1], &[1, 2, 3, 4]),
        ] {
            let (claim, reserved) = reserve(bench, &asked, &pool).await?;
            assert_eq!((reserved, held(bench).await?), (PortReservation::NoRoom, 2), "{asked:?}");
            assert!(bench.load(&claim).await?.lease.ports.is_empty());
        }
        let (_, last) = reserve(bench, &dnat(&[9], &[1, 2, 3]), &pool).await?;
        assert_eq!((last, held(bench).await?), (PortReservation::Reserved, 6));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_empty_or_unknown_pool_has_no_room() -> Result<()> {
    in_database(async |bench: &Bench| {
        assert_eq!(reserve(bench, &dnat(&[80], &[]), &[]).await?.1, PortReservation::NoRoom);
        assert_eq!(
            reserve(bench, &dnat(&[80], &[]), &[AllocationId::new("eip-none")]).await?.1,
            PortReservation::NoRoom
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn reserving_again_adds_only_what_is_missing_and_on_the_same_eip() -> Result<()> {
    in_database(async |bench: &Bench| {
        let pool =
            [bench.offer("eip-1", 1000, 1010).await?, bench.offer("eip-2", 1000, 1010).await?];
        let asked = dnat(&[80, 443], &[53]);
        let (claim, _) = reserve(bench, &asked, &pool).await?;
        let before = bench.load(&claim).await?.lease.ports;
        bench.store.under_claim(&claim).reserve_ports(&asked, &[pool.to_vec()]).await?;
        assert_eq!(bench.load(&claim).await?.lease.ports, before, "repeating it changes nothing");

        let other_first: Vec<_> = pool.iter().rev().cloned().collect();
        bench
            .store
            .under_claim(&claim)
            .mark_foreign(&span(&keys(&bench.load(&claim).await?)[1]))
            .await?;
        bench
            .store
            .under_claim(&claim)
            .reserve_ports(&asked, std::slice::from_ref(&other_first))
            .await?;
        let after = bench.load(&claim).await?.lease.ports;
        assert_eq!(after.len(), 3);
        assert!(after.iter().all(|port| port.allocation_id == before[0].allocation_id));
        assert_ne!(
            after[1].external_port, before[1].external_port,
            "the foreign one is not given again"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_same_port_outside_as_inside_is_given_or_nothing_is() -> Result<()> {
    in_database(async |bench: &Bench| {
        let pool = [bench.offer("eip-1", 1000, 1010).await?];
        let same = |tcp: &[u16], udp: &[u16]| DnatRequest { same_port: true, ..dnat(tcp, udp) };
        let (claim, reserved) = reserve(bench, &same(&[1003, 1001], &[1003]), &pool).await?;
        assert_eq!(reserved, PortReservation::Reserved);
        assert!(
            bench
                .load(&claim)
                .await?
                .lease
                .ports
                .iter()
                .all(|port| port.external_port == port.exposed.port)
        );
        for (asked, why) in
            [(same(&[1002, 1001], &[]), "one is held"), (same(&[999], &[]), "it is not on offer")]
        {
            assert_eq!(reserve(bench, &asked, &pool).await?.1, PortReservation::NoRoom, "{why}");
        }
        assert_eq!(held(bench).await?, 3);
        assert_eq!(
            reserve(bench, &same(&[1002], &[1001]), &pool).await?.1,
            PortReservation::Reserved
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_port_in_cooldown_is_not_allocated_before_it_ends() -> Result<()> {
    in_database(async |bench: &Bench| {
        let pool = [bench.offer("eip-1", 1000, 1000).await?];
        let (claim, _) = reserve(bench, &dnat(&[80], &[]), &pool).await?;
        bench
            .store
            .under_claim(&claim)
            .start_cooldown(&keys(&bench.load(&claim).await?)[0], MINUTE)
            .await?;
        assert_eq!(held(bench).await?, 0);
        let (next, reserved) = reserve(bench, &dnat(&[80], &[]), &pool).await?;
        assert_eq!((reserved, bench.store.end_cooldowns().await?), (PortReservation::NoRoom, 0));
        bench.pass_cooldown(MINUTE / 2).await?;
        assert_eq!(bench.store.end_cooldowns().await?, 0);
        bench.pass_cooldown(MINUTE / 2).await?;
        assert_eq!(bench.store.end_cooldowns().await?, 1);
        assert_eq!(
            bench
                .store
                .under_claim(&next)
                .reserve_ports(&dnat(&[80], &[]), &[pool.to_vec()])
                .await?,
            PortReservation::Reserved
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn all_ports_with_an_ended_cooldown_are_freed() -> Result<()> {
    in_database(async |bench: &Bench| {
        bench.offer("eip-1", 1000, 2249).await?;
        sqlx::query("UPDATE port SET state = 'cooldown', cooldown_until = now()")
            .execute(&bench.pool)
            .await?;
        assert_eq!(bench.store.end_cooldowns().await?, 2500);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_foreign_port_is_never_given() -> Result<()> {
    in_database(async |bench: &Bench| {
        let pool = [bench.offer("eip-1", 1000, 1001).await?];
        let (claim, _) = reserve(bench, &dnat(&[80], &[]), &pool).await?;
        let foreign = keys(&bench.load(&claim).await?).remove(0);
        bench.store.under_claim(&claim).mark_foreign(&span(&foreign)).await?;
        bench.offer("eip-1", 1000, 1001).await?;
        bench.pass_cooldown(MINUTE * 100).await?;
        assert_eq!(bench.store.end_cooldowns().await?, 0);
        assert_eq!(
            reserve(bench, &dnat(&[80], &[]), &pool).await?.1,
            PortReservation::Reserved,
            "the other port"
        );
        assert_eq!(
            reserve(bench, &dnat(&[80], &[]), &pool).await?.1,
            PortReservation::NoRoom,
            "the foreign one"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn no_port_is_given_out_of_the_bounds_of_its_gateway() -> Result<()> {
    in_database(async |bench: &Bench| {
        let pool = [bench.offer("eip-1", 1000, 1009).await?];
        let all: Vec<u16> = (1..=10).collect();
        let (claim, reserved) = reserve(bench, &dnat(&all, &[]), &pool).await?;
        assert_eq!(reserved, PortReservation::Reserved);
        bench.offer("eip-1", 1004, 1005).await?;
        assert_eq!(bench.load(&claim).await?.lease.ports.len(), 10, "what is held stays held");
        let same = DnatRequest { same_port: true, ..dnat(&[], &[1000]) };
        assert_eq!(reserve(bench, &same, &pool).await?.1, PortReservation::NoRoom);
        let (claim, _) = reserve(bench, &dnat(&[], &[1, 2]), &pool).await?;
        let numbers: BTreeSet<_> =
            bench.load(&claim).await?.lease.ports.iter().map(|port| port.external_port).collect();
        assert_eq!(numbers, BTreeSet::from([1004, 1005]));
        assert_eq!(reserve(bench, &dnat(&[], &[1]), &pool).await?.1, PortReservation::NoRoom);

        // Adjacent ports do not go beyond the last port of the range.
        let last = [bench.offer("eip-2", 65_534, 65_535).await?];
        assert_eq!(
            reserve(bench, &dnat(&[7000, 7001, 7002], &[]), &last).await?.1,
            PortReservation::NoRoom
        );
        let (claim, _) = reserve(bench, &dnat(&[7000, 7001], &[]), &last).await?;
        let numbers: Vec<_> =
            bench.load(&claim).await?.lease.ports.iter().map(|port| port.external_port).collect();
        assert_eq!(numbers, [65_534, 65_535]);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_ending_lease_reserves_nothing() -> Result<()> {
    in_database(async |bench: &Bench| {
        let pool = [bench.offer("eip-1", 1000, 1010).await?];
        let claim = bench.claimed(&ports(&[80], &[])).await?;
        bench.store.under_claim(&claim).set_phase(waygate_core::lease::Phase::Releasing).await?;
        assert!(matches!(
            bench
                .store
                .under_claim(&claim)
                .reserve_ports(&dnat(&[80], &[]), &[pool.to_vec()])
                .await,
            Err(Error::ClaimLost)
        ));
        assert_eq!(held(bench).await?, 0);
        Ok(())
    })
    .await
}

/// The constraint compares addresses, so a port that is added later must get the address that its
/// lease points to.
#[tokio::test]
async fn a_port_reserved_after_the_target_points_where_the_others_do() -> Result<()> {
    in_database(async |bench: &Bench| {
        let pool = [bench.offer("eip-1", 1000, 1010).await?];
        let asked = dnat(&[80, 443], &[]);
        let (claim, _) = reserve(bench, &asked, &pool).await?;
        bench.store.under_claim(&claim).set_target(&target(1)).await?;
        bench
            .store
            .under_claim(&claim)
            .mark_foreign(&span(&keys(&bench.load(&claim).await?)[0]))
            .await?;
        bench.store.under_claim(&claim).reserve_ports(&asked, &[pool.to_vec()]).await?;
        let (other, _) = reserve(bench, &dnat(&[80], &[]), &pool).await?;
        let conflicting = bench.store.under_claim(&other).set_target(&target(1)).await;
        assert_eq!(
            conflicting.err().as_ref().and_then(Error::violated_constraint),
            Some(Constraint::ForwardedPort)
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn clearing_the_target_forgets_entries_and_keeps_ports() -> Result<()> {
    in_database(async |bench: &Bench| {
        let pool = [bench.offer("eip-1", 1000, 1010).await?];
        let (claim, _) = reserve(bench, &dnat(&[80], &[]), &pool).await?;
        bench.store.under_claim(&claim).set_target(&target(1)).await?;
        let before = bench.load(&claim).await?;
        bench
            .store
            .under_claim(&claim)
            .record_entry(&keys(&before)[0], &ForwardEntryId::new("fwd-1"))
            .await?;
        assert_eq!(
            bench.load(&claim).await?.lease.ports[0].entry_id,
            Some(ForwardEntryId::new("fwd-1"))
        );
        bench.store.under_claim(&claim).clear_target().await?;
        assert_eq!(bench.load(&claim).await?.lease.ports, before.lease.ports);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn adjacent_targets_get_adjacent_ports_and_one_range_start() -> Result<()> {
    in_database(async |bench: &Bench| {
        let pool = [bench.offer("eip-1", 1000, 1999).await?];
        let (claim, reserved) =
            reserve(bench, &dnat(&[7002, 80, 7000, 7001], &[7000, 7001]), &pool).await?;
        assert_eq!(reserved, PortReservation::Reserved);
        let lease = bench.load(&claim).await?.lease;
        let ranges: BTreeSet<_> = lease
            .port_ranges()
            .iter()
            .map(|range| (range.first.protocol(), range.internal_ports()))
            .map(|(p, i)| (p, *i.start(), *i.end()))
            .collect();
        assert_eq!(
            ranges,
            BTreeSet::from([
                (Protocol::Tcp, 80, 80),
                (Protocol::Tcp, 7000, 7002),
                (Protocol::Udp, 7000, 7001)
            ])
        );
        for port in &lease.ports {
            let range_start = lease.ports.iter().find(|range_start| {
                range_start.external_port == port.range_start
                    && range_start.protocol() == port.protocol()
            });
            let range_start = range_start.context("its range start")?;
            assert_eq!(
                port.external_port - range_start.external_port,
                port.exposed.port - range_start.exposed.port,
                "mapped position by position"
            );
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn without_adjacent_free_ports_a_range_is_halved_down_to_single_ports() -> Result<()> {
    in_database(async |bench: &Bench| {
        let pool = [bench.offer("eip-1", 1000, 1006).await?];
        // Free: 1000 1001 _ 1003 _ 1005 1006.
        sqlx::query("UPDATE port SET state = 'foreign' WHERE port IN (1002, 1004)")
            .execute(&bench.pool)
            .await?;
        let (claim, reserved) =
            reserve(bench, &dnat(&[7000, 7001, 7002, 7003, 7004], &[]), &pool).await?;
        assert_eq!(reserved, PortReservation::Reserved);
        let lease = bench.load(&claim).await?.lease;
        let mut widths: Vec<_> = lease.port_ranges().iter().map(|range| range.count).collect();
        widths.sort_unstable();
        assert_eq!(widths, [1, 2, 2]);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_foreign_port_within_a_range_splits_it() -> Result<()> {
    in_database(async |bench: &Bench| {
        let pool = [bench.offer("eip-1", 1000, 1010).await?];
        let same = DnatRequest { same_port: true, ..dnat(&[1000, 1001, 1002, 1003], &[]) };
        let (claim, _) = reserve(bench, &same, &pool).await?;
        let range_start = keys(&bench.load(&claim).await?).remove(0);
        bench
            .store
            .under_claim(&claim)
            .record_entry(&range_start, &ForwardEntryId::new("fwd-1"))
            .await?;
        assert!(
            bench.load(&claim).await?.lease.ports.iter().all(|port| port.entry_id.is_some()),
            "the range's ports share the entry"
        );
        bench
            .store
            .under_claim(&claim)
            .mark_foreign(&span(&PortKey { port: 1001, ..range_start.clone() }))
            .await?;
        let range_starts = |loaded: &waygate_store::Loaded| {
            loaded.lease.ports.iter().map(|p| (p.external_port, p.range_start)).collect::<Vec<_>>()
        };
        let split = bench.load(&claim).await?;
        assert_eq!(range_starts(&split), [(1000, 1000), (1002, 1002), (1003, 1002)]);
        assert!(
            split.lease.ports.iter().all(|port| port.entry_id.is_none()),
            "their entry cannot exist any more"
        );
        bench
            .store
            .under_claim(&claim)
            .start_cooldown(&PortKey { port: 1002, ..range_start }, MINUTE)
            .await?;
        assert_eq!(
            range_starts(&bench.load(&claim).await?),
            [(1000, 1000)],
            "a range cools down as a whole"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_full_gateway_allocates_no_more_ranges_than_it_has_room_for() -> Result<()> {
    in_database(async |bench: &Bench| {
        let pool = [bench.offer("eip-1", 1000, 1999).await?];
        let gateway = NatGatewayId::new("ngw-1");
        let (first, _) = reserve(bench, &dnat(&[80, 443], &[]), &pool).await?;
        bench.store.record_gateway_full(&gateway, 5, MINUTE).await?;
        bench
            .store
            .record_entries(
                &gateway,
                &ObservedEntries { entry_count: 3, foreign_count: 1, foreign_ports: Vec::new() },
                MINUTE,
            )
            .await?;
        assert_eq!(bench.load(&first).await?.gateway.entries_when_full, Some(5));
        let full = PortReservation::QuotaFull(vec![gateway.clone()]);
        assert_eq!(
            reserve(bench, &dnat(&[1, 3, 5], &[]), &pool).await?.1,
            full,
            "2 held, 1 foreign, 3 more"
        );
        assert_eq!(
            reserve(bench, &dnat(&[7, 8, 9], &[7]), &pool).await?.1,
            PortReservation::Reserved,
            "adjacent ones count once"
        );
        assert_eq!(reserve(bench, &dnat(&[1], &[]), &pool).await?.1, full);
        bench
            .store
            .record_entries(
                &gateway,
                &ObservedEntries { entry_count: 6, foreign_count: 1, foreign_ports: Vec::new() },
                MINUTE,
            )
            .await?;
        assert_eq!(
            reserve(bench, &dnat(&[1], &[]), &pool).await?.1,
            PortReservation::Reserved,
            "more entries than at the refusal: the quota was raised"
        );
        bench.store.record_gateway_full(&gateway, 1, Duration::ZERO).await?;
        assert_eq!(
            reserve(bench, &dnat(&[1], &[]), &pool).await?.1,
            PortReservation::Reserved,
            "an old refusal is no longer believed"
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_reservations_at_once_do_not_exceed_a_quota() -> Result<()> {
    in_database(async |bench: &Bench| {
        let pool =
            [bench.offer("eip-1", 1000, 1999).await?, bench.offer("eip-2", 1000, 1999).await?];
        bench.store.record_gateway_full(&NatGatewayId::new("ngw-1"), 20, MINUTE).await?;
        for _ in 0..64 {
            bench.observe(Uuid::new_v4(), &ports(&[80, 443], &[])).await?;
        }
        let claims = bench
            .store
            .claim_due_leases(bench.cluster, Uuid::new_v4(), 64, Duration::ZERO, CLAIM)
            .await?;
        let start = Arc::new(Barrier::new(claims.len()));
        let mut tasks = JoinSet::new();
        for claim in claims {
            let (store, start, pool) = (bench.store.clone(), Arc::clone(&start), pool.to_vec());
            tasks.spawn(async move {
                start.wait().await;
                store
                    .under_claim(&claim)
                    .reserve_ports(&dnat(&[80, 443], &[]), std::slice::from_ref(&pool))
                    .await
            });
        }
        let mut reserved = 0;
        while let Some(done) = tasks.join_next().await {
            reserved += usize::from(done?? == PortReservation::Reserved);
        }
        assert_eq!((reserved, held(bench).await?), (10, 20));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn foreign_entries_are_marked_before_a_reservation_and_freed_after_two_reads() -> Result<()> {
    in_database(async |bench: &Bench| {
        let pool = [bench.offer("eip-1", 1000, 1003).await?];
        let gateway = NatGatewayId::new("ngw-1");
        let (holder, _) =
            reserve(bench, &DnatRequest { same_port: true, ..dnat(&[1003], &[]) }, &pool).await?;
        let foreign = vec![PortSpan {
            allocation_id: pool[0].clone(),
            protocol: Some(Protocol::Tcp),
            ports: 0..=u16::MAX,
        }];
        let seen = ObservedEntries { entry_count: 1, foreign_count: 1, foreign_ports: foreign };
        bench.store.record_entries(&gateway, &seen, MINUTE).await?;
        assert_eq!(
            bench.load(&holder).await?.lease.ports.len(),
            1,
            "held ports are left to their lease"
        );
        assert_eq!(reserve(bench, &dnat(&[1], &[]), &pool).await?.1, PortReservation::NoRoom);
        assert_eq!(
            reserve(bench, &dnat(&[], &[1]), &pool).await?.1,
            PortReservation::Reserved,
            "UDP ports are separate"
        );

        let nothing = ObservedEntries::default();
        for (look, grace) in [
            (&nothing, MINUTE),
            (&nothing, MINUTE),
            (&seen, Duration::ZERO),
            (&nothing, Duration::ZERO),
        ] {
            bench.store.record_entries(&gateway, look, grace).await?;
            assert_eq!(
                reserve(bench, &dnat(&[1], &[]), &pool).await?.1,
                PortReservation::NoRoom,
                "not absent for long enough, or seen again, or absent in one read only"
            );
        }
        bench.store.record_entries(&gateway, &nothing, Duration::ZERO).await?;
        assert_eq!(
            reserve(bench, &dnat(&[1, 2, 3], &[]), &pool).await?.1,
            PortReservation::Reserved
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_eip_that_left_its_gateway_is_unavailable_until_it_is_back() -> Result<()> {
    in_database(async |bench: &Bench| {
        let pool = [bench.offer("eip-1", 1000, 1003).await?];
        let (one, two) = (NatGatewayId::new("ngw-1"), NatGatewayId::new("ngw-2"));
        let (claim, _) = reserve(bench, &dnat(&[80], &[]), &pool).await?;
        let wake = bench.load(&claim).await?.wake;
        assert_eq!(bench.store.set_gateway_eips(&one, &pool, None).await?, 0);
        assert_eq!(bench.store.set_gateway_eips(&one, &[], None).await?, 1);
        let loaded = bench.load(&claim).await?;
        assert_eq!(loaded.wake, wake + 1, "its lease is woken");
        assert!(
            loaded
                .gateway
                .unavailable_reason
                .is_some_and(|reason| reason.contains("eip-1") && reason.contains("ngw-1"))
        );
        assert_eq!(
            bench.store.set_gateway_eips(&one, &[], None).await?,
            0,
            "the lease is woken once"
        );

        bench.offer_on("ngw-2", "eip-1", 1000, 1003).await?;
        assert_eq!(bench.store.set_gateway_eips(&two, &pool, None).await?, 1);
        let loaded = bench.load(&claim).await?;
        assert_eq!(
            (loaded.gateway.unavailable_reason, loaded.lease.ports[0].gateway_id.clone()),
            (None, two.clone())
        );
        bench.store.set_gateway_eips(&two, &[], Some("locked")).await?;
        assert_eq!(bench.load(&claim).await?.gateway.unavailable_reason.as_deref(), Some("locked"));
        Ok(())
    })
    .await
}
