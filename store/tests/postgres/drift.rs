//! The records that lists of the cloud are compared with, and the wake-ups that follow.

use crate::database::{Bench, bought, in_database, ports, release};
use anyhow::{Context as _, Result};
use std::collections::BTreeSet;
use std::time::Duration;
use uuid::Uuid;
use waygate_core::change::Answer;
use waygate_core::ids::{LeaseId, NatGatewayId};
use waygate_core::ownership::Owner;
use waygate_core::rules::drift::EipRecord;
use waygate_store::{SettledBy, Settlement, UnconfiguredQueues, Work};

/// Makes this number of bound leases with an EIP each, `eip-0001` and so on.
async fn bind_eips(bench: &Bench, count: i32) -> Result<()> {
    for _ in 0..count {
        bench.observe(Uuid::new_v4(), &bought()).await?;
    }
    sqlx::query(
        "UPDATE lease SET phase = 'bound', due_at = now() + interval '1 day', allocation_id = 'eip-' || lpad(n::text, 4, '0'),
           eip_address = '198.18.0.0'::inet + n, eni_id = 'eni-1', vpc_id = 'vpc-1', private_ip = '10.0.0.0'::inet + n, primary_ip = n = 1
         FROM (SELECT lease_id AS id, row_number() OVER (ORDER BY created_at)::int AS n FROM lease WHERE kind = 'eip') numbered
         WHERE id = lease_id",
    )
    .execute(&bench.pool)
    .await?;
    Ok(())
}

/// All records of EIPs for a list that starts now.
async fn read_all(bench: &Bench) -> Result<Vec<EipRecord>> {
    let start = bench.store.start_list().await?;
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = bench.store.eip_records(start, after.as_ref()).await?;
        all.extend(page.records);
        match page.last {
            None => return Ok(all),
            last => after = last,
        }
    }
}

#[tokio::test]
async fn every_bound_eip_of_every_cluster_is_recorded_once() -> Result<()> {
    in_database(async |bench: &Bench| {
        let other = bench.store.register_cluster(Uuid::new_v4(), "c2").await?;
        bench.observe_in(other, Uuid::new_v4(), &bought()).await?;
        bind_eips(bench, 310).await?;
        bench.observe(Uuid::new_v4(), &bought()).await?;
        let records = read_all(bench).await?;
        let ids: BTreeSet<_> = records.iter().map(|record| record.allocation_id.clone()).collect();
        assert_eq!((records.len(), ids.len()), (311, 311));
        let first = records.first().context("a record")?;
        assert_eq!((first.allocation_id.as_str(), first.eni_id.as_str()), ("eip-0001", "eni-1"));
        assert_eq!((first.private_ip, first.primary), ([10, 0, 0, 1].into(), true));
        assert_eq!(first.settled_at, None);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_list_says_nothing_of_a_lease_whose_operation_it_may_not_show() -> Result<()> {
    in_database(async |bench: &Bench| {
        let claim = bench.claimed(&bought()).await?;
        bind_eips(bench, 0).await?;
        sqlx::query("UPDATE lease SET due_at = now() + interval '1 minute'")
            .execute(&bench.pool)
            .await?;
        assert_eq!(read_all(bench).await?.len(), 1);
        let operation = bench.send(&claim, "eip-0001", &release("eip-0001")).await?;
        assert!(read_all(bench).await?.is_empty(), "unresolved");
        let before = bench.store.start_list().await?;
        let answer = Answer::default();
        let done = Settlement::from_success(&answer);
        bench.store.settle_operation(SettledBy::Sender(Duration::ZERO), &operation, done).await?;
        assert!(bench.store.eip_records(before, None).await?.records.is_empty(), "settled since");
        let lock = bench
            .store
            .acquire_worker_locks(Uuid::new_v4(), &[Work::EipList], UnconfiguredQueues::Serve)
            .await?;
        let lock = lock.first().context("the lock")?;
        assert_eq!(bench.store.wake_drifted(lock, before, &[claim.lease_id]).await?, 0);
        let records = read_all(bench).await?;
        assert!(records.first().context("settled before")?.settled_at.is_some());
        let start = bench.store.start_list().await?;
        assert_eq!(bench.store.wake_drifted(lock, start, &[claim.lease_id]).await?, 1);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn drift_wakes_bound_leases_under_the_lock_alone() -> Result<()> {
    in_database(async |bench: &Bench| {
        bind_eips(bench, 2).await?;
        let leases: Vec<LeaseId> =
            read_all(bench).await?.iter().map(|record| record.lease).collect();
        let (former, next) = (Uuid::new_v4(), Uuid::new_v4());
        let locks = bench
            .store
            .acquire_worker_locks(former, &[Work::EipList], UnconfiguredQueues::Serve)
            .await?;
        let lock = locks.first().context("the lock")?;
        assert!(
            bench
                .store
                .acquire_worker_locks(next, &[Work::EipList], UnconfiguredQueues::Serve)
                .await?
                .is_empty()
        );
        let start = bench.store.start_list().await?;
        assert_eq!(bench.due().await?, 0);
        assert_eq!(bench.store.wake_drifted(lock, start, &leases[..1]).await?, 1);
        assert_eq!(bench.due().await?, 1);
        bench.store.release_worker_locks(&locks).await?;
        assert_eq!(bench.store.wake_drifted(lock, start, &leases).await?, 0, "released");
        let locks = bench
            .store
            .acquire_worker_locks(next, &[Work::EipList], UnconfiguredQueues::Serve)
            .await?;
        assert_eq!(bench.store.wake_drifted(lock, start, &leases).await?, 0, "another's");
        let lock = locks.first().context("the lock")?;
        sqlx::query("UPDATE lease SET phase = 'provisioning'").execute(&bench.pool).await?;
        assert_eq!(bench.store.wake_drifted(lock, start, &leases).await?, 0, "not bound");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_row_that_cannot_be_read_keeps_no_other_from_its_comparison() -> Result<()> {
    in_database(async |bench: &Bench| {
        bind_eips(bench, 3).await?;
        sqlx::query("UPDATE lease SET request = '{}' WHERE allocation_id = 'eip-0002'")
            .execute(&bench.pool)
            .await?;
        assert_eq!(read_all(bench).await?.len(), 2);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn entries_are_recorded_by_gateway_with_the_names_of_their_clusters() -> Result<()> {
    in_database(async |bench: &Bench| {
        let other = bench.store.register_cluster(Uuid::new_v4(), "c2").await?;
        bench.offer("eip-1", 1000, 1100).await?;
        for cluster in [bench.cluster, other] {
            bench.observe_in(cluster, Uuid::new_v4(), &ports(&[80, 81, 90], &[])).await?;
        }
        // One entry for two ports, one for the third.
        for (cluster, first) in [(bench.cluster, 1000), (other, 1010)] {
            for (port, range, asked) in [(0, 0, 80), (1, 0, 81), (5, 5, 90)] {
                sqlx::query(
                    "UPDATE port SET state = 'held', lease_id = l.lease_id, range_start = $2, target_port = $3
                     FROM lease l JOIN cluster USING (cluster_id) WHERE cluster_uid = $4 AND port = $1 AND proto = 6",
                )
                .bind(first + port)
                .bind(first + range)
                .bind(asked)
                .bind(cluster.owner.cluster)
                .execute(&bench.pool)
                .await?;
            }
        }
        sqlx::query("UPDATE lease SET phase = 'bound', eni_id = 'eni-1', private_ip = '10.0.0.9', generation = 3")
            .execute(&bench.pool)
            .await?;
        let gateway = NatGatewayId::new("ngw-1");
        let start = bench.store.start_list().await?;
        let store = bench.cluster.owner.store;
        let page = bench.store.entry_records(&gateway, store, start, None).await?;
        let mut seen: Vec<_> = page
            .records
            .iter()
            .map(|record| (record.external_port, record.ports, record.internal_port))
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, [(1000, 2, 80), (1005, 1, 90), (1010, 2, 80), (1015, 1, 90)]);
        for record in &page.records {
            let cluster = if record.external_port < 1010 { bench.cluster } else { other };
            let owner = Owner { store, cluster: cluster.owner.cluster };
            assert_eq!(record.name, owner.entry_name(record.lease, 3));
            assert_eq!(record.internal_ip, std::net::Ipv4Addr::new(10, 0, 0, 9));
        }
        let last = page.last.context("the last lease")?;
        let rest = bench.store.entry_records(&gateway, store, start, Some(last)).await?;
        assert!(rest.records.is_empty() && rest.last.is_none());
        Ok(())
    })
    .await
}
