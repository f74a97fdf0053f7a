//! Several clusters share one store without affecting each other.

use crate::database::{Bench, CLAIM, bought, dnat, finish, in_database, leases, ports, target};
use anyhow::Result;
use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::time::Duration;
use uuid::Uuid;
use waygate_core::ids::{AccountId, AllocationId, RegionId, VpcId};
use waygate_core::lease::PortReservation;
use waygate_core::request::Kind;
use waygate_core::rules::pins::Place;
use waygate_store::Error;

#[tokio::test]
async fn each_cluster_claims_and_wakes_its_own_leases_only() -> Result<()> {
    in_database(async |bench: &Bench| {
        let other = bench.store.register_cluster(Uuid::new_v4(), "c2").await?;
        // A copied cluster has pods with the same UIDs.
        let pod = Uuid::new_v4();
        bench.observe_in(bench.cluster, pod, &bought()).await?;
        bench.observe_in(other, pod, &bought()).await?;
        let mine = bench
            .store
            .claim_due_leases(bench.cluster, Uuid::new_v4(), 10, Duration::ZERO, CLAIM)
            .await?;
        let theirs =
            bench.store.claim_due_leases(other, Uuid::new_v4(), 10, Duration::ZERO, CLAIM).await?;
        assert_eq!((mine.len(), theirs.len()), (1, 1));
        assert_ne!(leases(&mine), leases(&theirs));
        for claim in [mine[0], theirs[0]] {
            bench
                .store
                .under_claim(&claim)
                .finish_claim(&finish(bench.load(&claim).await?.wake, Duration::from_mins(5)))
                .await?;
        }
        let listener = bench.listen().await?;
        assert_eq!(bench.store.wake_pod(&listener, bench.cluster, pod, None).await?, [Kind::Eip]);
        assert_eq!(
            bench.store.wake_leases_without_pod(&listener, bench.cluster, &HashSet::new()).await?,
            1
        );
        assert!(
            bench
                .store
                .claim_due_leases(other, Uuid::new_v4(), 10, Duration::ZERO, CLAIM)
                .await?
                .is_empty()
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn eips_addresses_and_ports_have_one_holder_over_all_clusters() -> Result<()> {
    in_database(async |bench: &Bench| {
        let other = bench.store.register_cluster(Uuid::new_v4(), "c2").await?;
        let pool = [bench.offer("eip-1", 1000, 1000).await?];
        let (eip, ip) = (AllocationId::new("eip-2"), Ipv4Addr::new(198, 18, 0, 2));
        let mut claims = Vec::new();
        for cluster in [bench.cluster, other] {
            bench.observe_in(cluster, Uuid::new_v4(), &bought()).await?;
            bench.observe_in(cluster, Uuid::new_v4(), &ports(&[80], &[])).await?;
            for claim in bench
                .store
                .claim_due_leases(cluster, Uuid::new_v4(), 10, Duration::ZERO, CLAIM)
                .await?
            {
                claims.push((cluster, bench.load(&claim).await?.lease.kind, claim));
            }
        }
        for (cluster, kind, claim) in &claims {
            let first = *cluster == bench.cluster;
            if *kind == waygate_core::request::Kind::Eip {
                assert_eq!(
                    bench.store.under_claim(claim).adopt_eip(&[(eip.clone(), ip)]).await?,
                    first
                );
                assert_eq!(
                    bench.store.under_claim(claim).set_target(&target(1)).await.is_ok(),
                    first
                );
            } else {
                let reserved = bench
                    .store
                    .under_claim(claim)
                    .reserve_ports(&dnat(&[80], &[]), &[pool.to_vec()])
                    .await?;
                assert_eq!(reserved == PortReservation::Reserved, first);
            }
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_cluster_is_found_again_by_its_uid_and_may_change_its_name() -> Result<()> {
    in_database(async |bench: &Bench| {
        let uid = bench.cluster.owner.cluster;
        assert_eq!(bench.store.register_cluster(uid, "c1").await?, bench.cluster);
        assert_eq!(bench.store.register_cluster(uid, "renamed").await?, bench.cluster);
        let fresh = bench.store.register_cluster(Uuid::new_v4(), "c1").await?;
        assert_ne!(fresh, bench.cluster);
        assert_eq!(fresh.owner.store, bench.cluster.owner.store);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_cluster_name_cannot_be_taken_by_another_uid() -> Result<()> {
    in_database(async |bench: &Bench| {
        let holder = bench.cluster.owner.cluster;
        let second = Uuid::new_v4();
        bench.store.register_cluster(second, "c2").await?;
        for (who, uid) in [("a newcomer", Uuid::new_v4()), ("a cluster of another name", second)] {
            let refused = bench.store.register_cluster(uid, "c1").await;
            assert!(
                matches!(refused, Err(Error::ClusterNameInUse { uid, .. }) if uid == holder),
                "{who}: {refused:?}"
            );
        }
        assert_eq!(bench.store.register_cluster(holder, "c1").await?, bench.cluster);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn account_and_region_are_pinned_for_the_store_and_a_vpc_for_each_cluster() -> Result<()> {
    in_database(async |bench: &Bench| {
        let place = |account: Option<&str>, region: &str, vpc: &str| Place {
            account: account.map(AccountId::new),
            region: Some(RegionId::new(region)),
            vpc: Some(VpcId::new(vpc)),
        };
        let (mine, store) = (bench.cluster, &bench.store);
        let unknown = place(None, "cn-a", "vpc-1");
        assert_eq!(store.pin_place(mine, &unknown).await?, Place::default(), "not without account");
        let first = place(Some("1"), "cn-a", "vpc-1");
        assert_eq!(store.pin_place(mine, &first).await?, first);
        for later in [&unknown, &place(Some("2"), "cn-b", "vpc-2")] {
            assert_eq!(store.pin_place(mine, later).await?, first, "pinned once");
        }
        let other = store.register_cluster(Uuid::new_v4(), "c2").await?;
        let theirs = store.pin_place(other, &place(Some("2"), "cn-b", "vpc-2")).await?;
        assert_eq!(theirs, place(Some("1"), "cn-a", "vpc-2"));
        Ok(())
    })
    .await
}
