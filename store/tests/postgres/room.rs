//! The choice among the EIPs on which a pod can get its ports.

use crate::database::{Bench, dnat, in_database};
use anyhow::Result;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::BTreeMap;
use std::time::Duration;
use waygate_core::ids::{AllocationId, NatGatewayId};
use waygate_core::lease::PortReservation;
use waygate_core::request::{DnatRequest, Request};
use waygate_store::ObservedEntries;

const LONG: Duration = Duration::from_hours(1);

/// The EIP on which a new pod gets these ports; none without room.
async fn chosen(
    bench: &Bench,
    asked: &DnatRequest,
    groups: &[Vec<AllocationId>],
) -> Result<Option<String>> {
    let claim = bench.claimed(&Request::Dnat(asked.clone())).await?;
    let reserved = bench.store.under_claim(&claim).reserve_ports(asked, groups).await?;
    let eip =
        bench.load(&claim).await?.lease.ports.first().map(|port| port.allocation_id.to_string());
    assert_eq!(eip.is_some(), reserved == PortReservation::Reserved);
    Ok(eip)
}

#[tokio::test]
async fn a_preferred_eip_is_taken_while_it_has_room_for_all_and_then_the_next() -> Result<()> {
    in_database(async |bench: &Bench| {
        let small = bench.offer("eip-small", 1000, 1001).await?;
        let large = bench.offer_on("ngw-2", "eip-large", 1000, 1010).await?;
        let groups = [vec![small], vec![large]];
        for (asked, eip) in [
            (dnat(&[1, 2, 3], &[]), "eip-large"),
            (dnat(&[1, 2], &[]), "eip-small"),
            (dnat(&[1], &[]), "eip-large"),
        ] {
            assert_eq!(chosen(bench, &asked, &groups).await?.as_deref(), Some(eip), "{asked:?}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn of_two_eips_the_one_whose_gateway_takes_more_entries_is_taken() -> Result<()> {
    in_database(async |bench: &Bench| {
        let one = bench.offer_on("ngw-1", "eip-1", 1000, 1999).await?;
        let two = bench.offer_on("ngw-2", "eip-2", 1000, 1010).await?;
        let group = [vec![one.clone(), two.clone()]];
        let pair = dnat(&[80, 443], &[]);
        assert_eq!(
            chosen(bench, &pair, &group).await?.as_deref(),
            Some("eip-1"),
            "both are empty, so the first"
        );
        assert_eq!(
            chosen(bench, &pair, &group).await?.as_deref(),
            Some("eip-2"),
            "its gateway has no entries, though it has fewer ports"
        );
        let range: Vec<u16> = (7000..7008).collect();
        assert_eq!(
            chosen(bench, &dnat(&range, &[]), &group).await?.as_deref(),
            Some("eip-1"),
            "the other has too few free"
        );
        let (ngw_1, ngw_2) = (NatGatewayId::new("ngw-1"), NatGatewayId::new("ngw-2"));
        bench
            .store
            .record_entries(
                &ngw_2,
                &ObservedEntries { entry_count: 4, foreign_count: 2, foreign_ports: Vec::new() },
                LONG,
            )
            .await?;
        assert_eq!(
            chosen(bench, &dnat(&[53], &[]), &group).await?.as_deref(),
            Some("eip-1"),
            "foreign entries count as well"
        );
        bench.store.record_gateway_full(&ngw_1, 50, LONG).await?;
        assert_eq!(
            chosen(bench, &dnat(&[53], &[]), &group).await?.as_deref(),
            Some("eip-2"),
            "its quota is smaller than the usual one"
        );
        bench.store.record_gateway_full(&ngw_1, 1000, LONG).await?;
        for _ in 0..2 {
            assert_eq!(
                chosen(bench, &dnat(&[53], &[]), &group).await?.as_deref(),
                Some("eip-1"),
                "its quota is larger than the usual one"
            );
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn of_two_eips_on_one_gateway_the_one_with_more_free_ports_of_the_protocols_asked_for_is_taken()
-> Result<()> {
    in_database(async |bench: &Bench| {
        let one = bench.offer("eip-1", 1000, 1009).await?;
        let two = bench.offer("eip-2", 1000, 1008).await?;
        let group = [vec![two, one]];
        assert_eq!(
            chosen(bench, &dnat(&[1, 3, 5], &[]), &group).await?.as_deref(),
            Some("eip-1"),
            "10 free against 9"
        );
        assert_eq!(
            chosen(bench, &dnat(&[1], &[]), &group).await?.as_deref(),
            Some("eip-2"),
            "7 against 9"
        );
        assert_eq!(
            chosen(bench, &dnat(&[], &[1]), &group).await?.as_deref(),
            Some("eip-1"),
            "of UDP, 10 against 9"
        );
        assert_eq!(
            chosen(bench, &dnat(&[1], &[1]), &group).await?.as_deref(),
            Some("eip-2"),
            "7 TCP and 9 UDP against 8 and 9"
        );
        Ok(())
    })
    .await
}

/// Four gateways of the usual quota, exactly filled: counts the entries beyond a quota. No gateway
/// has refused anything yet, so none is excluded here.
#[tokio::test]
async fn pods_fill_four_gateways_of_a_hundred_entries_so_evenly_that_hardly_a_call_is_refused()
-> Result<()> {
    in_database(async |bench: &Bench| {
        let mut dice = StdRng::seed_from_u64(6);
        let mut eips = Vec::new();
        for gateway in 1..=4 {
            eips.push(
                bench
                    .offer_on(&format!("ngw-{gateway}"), &format!("eip-{gateway}"), 1000, 1999)
                    .await?,
            );
        }
        let mut held: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..200 {
            eips.shuffle(&mut dice);
            let port = dice.random_range(1..30_000);
            let eip =
                chosen(bench, &dnat(&[port, port + 2], &[]), std::slice::from_ref(&eips)).await?;
            *held.entry(eip.unwrap_or_default()).or_default() += 2;
        }
        let beyond: usize = held.values().map(|entries| entries.saturating_sub(100)).sum();
        assert!(beyond <= 4, "{beyond} of 400 entries are beyond the quota of 100: {held:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn withdrawals_at_a_gateway_are_limited() -> Result<()> {
    in_database(async |bench: &Bench| {
        let pool = [vec![bench.offer("eip-1", 1000, 1010).await?]];
        let elsewhere = [vec![bench.offer_on("ngw-2", "eip-2", 1000, 1010).await?]];
        let asked = dnat(&[80], &[]);
        let mut claims = Vec::new();
        for group in [&pool, &pool, &pool, &pool, &pool, &pool, &pool, &elsewhere] {
            let claim = bench.claimed(&Request::Dnat(asked.clone())).await?;
            bench.store.under_claim(&claim).reserve_ports(&asked, group).await?;
            claims.push(claim);
        }
        let (ngw_1, ngw_2) = (NatGatewayId::new("ngw-1"), NatGatewayId::new("ngw-2"));
        let held = async |claim| anyhow::Ok(bench.load(claim).await?.gateway.withdrawals_limited);
        for round in 0..2 {
            for claim in &claims[..5] {
                assert!(
                    bench.store.under_claim(claim).try_count_loss(&ngw_1).await?
                        && bench.store.under_claim(claim).try_count_loss(&ngw_1).await?,
                    "round {round}: each lease counts once"
                );
                assert!(!held(claim).await?);
            }
            for claim in &claims[5..7] {
                assert!(!bench.store.under_claim(claim).try_count_loss(&ngw_1).await?, "round {round}");
                assert!(held(claim).await?);
            }
            assert!(
                !held(&claims[0]).await? && bench.store.under_claim(&claims[0]).try_count_loss(&ngw_1).await?,
                "round {round}: a lease that was counted is not limited"
            );
            assert!(
                bench.store.under_claim(&claims[7]).try_count_loss(&ngw_2).await? && !held(&claims[7]).await?,
                "each gateway has its own count"
            );
            sqlx::raw_sql(
                "UPDATE lease SET loss_reported_at = loss_reported_at - interval '10 minutes';
                 UPDATE gateway SET withdrawals_limited_until = withdrawals_limited_until - interval '10 minutes'",
            )
            .execute(&bench.pool)
            .await?;
            assert!(!held(&claims[0]).await?, "ten minutes later");
        }
        Ok(())
    })
    .await
}
