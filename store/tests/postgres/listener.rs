//! What the listener to a cluster's pods writes: only while it holds its lock.

use crate::database::{Bench, bought, in_database};
use anyhow::Result;
use std::collections::{HashMap, HashSet};
use uuid::Uuid;
use waygate_core::request::Kind;
use waygate_store::{Error, PodObservation, UnconfiguredQueues, Work, WorkerLock};

/// Observes a pod of this name as the listener.
async fn observe_watched(bench: &Bench, lock: &WorkerLock, pod_uid: Uuid) -> Result<()> {
    let request = &bought();
    let pod = PodObservation {
        namespace: "ns",
        pod_name: "web-0",
        pod_uid,
        controller: None,
        pod_created_at: None,
        request,
    };
    Ok(bench.store.observe_watched_pod(lock, bench.cluster, &pod).await?)
}

/// All that an event may write, as text.
async fn read_leases(bench: &Bench) -> Result<Vec<String>> {
    let leases = "SELECT (l.*)::text FROM lease l ORDER BY lease_id";
    Ok(sqlx::query_scalar(leases).fetch_all(&bench.pool).await?)
}

#[tokio::test]
async fn a_late_listener_writes_nothing() -> Result<()> {
    in_database(async |bench: &Bench| {
        let (pod, retained) = (Uuid::new_v4(), Uuid::new_v4());
        let late = bench.listen().await?;
        for uid in [pod, retained] {
            observe_watched(bench, &late, uid).await?;
        }
        let retain = "UPDATE lease SET phase = 'retained', retains = true WHERE pod_uid = $1";
        sqlx::query(retain).bind(retained).execute(&bench.pool).await?;
        bench.listen().await?;
        let before = read_leases(bench).await?;
        for uid in [pod, Uuid::new_v4()] {
            observe_watched(bench, &late, uid).await?;
            let woken = bench.store.wake_pod(&late, bench.cluster, uid, Some(7)).await;
            assert!(matches!(woken, Err(Error::WorkerLockLost)), "{woken:?}");
        }
        let none = HashSet::new();
        let absent = bench.store.wake_leases_without_pod(&late, bench.cluster, &none);
        assert_eq!(absent.await?, 0);
        assert_eq!(before, read_leases(bench).await?);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_listener_makes_and_wakes_leases() -> Result<()> {
    in_database(async |bench: &Bench| {
        let (pod, listener) = (Uuid::new_v4(), bench.listen().await?);
        observe_watched(bench, &listener, pod).await?;
        assert_eq!(bench.due().await?, 1);
        assert_eq!(bench.store.wake_pod(&listener, bench.cluster, pod, None).await?, [Kind::Eip]);
        let other = bench.store.wake_pod(&listener, bench.cluster, Uuid::new_v4(), None).await?;
        assert_eq!(other, [], "a pod without a lease is no lost lock");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn each_cluster_has_one_listener() -> Result<()> {
    in_database(async |bench: &Bench| {
        let other = bench.store.register_cluster(Uuid::new_v4(), "c2").await?;
        let clusters = [bench.cluster, other].map(|it| Work::PodEvents(it.owner.cluster));
        let acquire =
            |owner| bench.store.acquire_worker_locks(owner, &clusters, UnconfiguredQueues::Serve);
        let (first, second) = (Uuid::new_v4(), Uuid::new_v4());
        let locks = acquire(first).await?;
        assert!(clusters.iter().all(|work| locks.iter().any(|lock| lock.work == *work)));
        assert_eq!(acquire(second).await?, []);
        bench.store.release_worker_locks(&locks[..1]).await?;
        let passed = acquire(second).await?;
        assert_eq!(passed.len(), 1, "one is released, the other is kept");
        bench.store.release_worker_locks(&locks[..1]).await?;
        let renewed = bench.store.renew_worker_locks(second, &clusters).await?;
        assert_eq!(renewed, passed, "a lock that has passed on is not released");
        Ok(())
    })
    .await
}

/// Pods with leases like these: the digest of each.
async fn insert_pods(bench: &Bench, pods: &[(u128, &[Option<i64>])]) -> Result<()> {
    let insert = "INSERT INTO lease (cluster_id, kind, namespace, pod_name, pod_uid, request, phase, pod_digest)
                  VALUES ($1, 'eip', 'ns', 'pod', $2, '{}', 'releasing', $3)";
    for (pod, leases) in pods {
        for digest in *leases {
            let cluster: i32 =
                sqlx::query_scalar("SELECT cluster_id FROM cluster WHERE name = 'c1'")
                    .fetch_one(&bench.pool)
                    .await?;
            let lease = sqlx::query(insert).bind(cluster).bind(Uuid::from_u128(*pod)).bind(digest);
            lease.execute(&bench.pool).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_pod_is_known_by_the_one_digest_of_all_its_leases() -> Result<()> {
    in_database(async |bench: &Bench| {
        let pods: [(u128, &[Option<i64>]); 5] = [
            (1, &[Some(-5)]),
            (2, &[Some(6), Some(6)]),
            (3, &[Some(6), Some(7)]),
            (4, &[None, Some(6)]),
            (5, &[Some(6), None]),
        ];
        insert_pods(bench, &pods).await?;
        let other = bench.store.register_cluster(Uuid::new_v4(), "c2").await?;
        bench.observe_in(other, Uuid::from_u128(9), &bought()).await?;
        let known = bench.store.read_pod_digests(bench.cluster).await?;
        let expected = [(1, -5), (2, 6)].map(|(pod, digest)| (Uuid::from_u128(pod), digest));
        assert_eq!(known, HashMap::from(expected));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn digests_of_many_pods_are_read_page_by_page() -> Result<()> {
    in_database(async |bench: &Bench| {
        let leases = "INSERT INTO lease (cluster_id, kind, namespace, pod_name, pod_uid, request, phase, pod_digest)
                      SELECT cluster_id, kind, 'ns', 'pod-' || n, ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, '{}', 'bound', n
                      FROM cluster, unnest(ARRAY['eip', 'dnat']) kind, generate_series(1, 1750) n";
        sqlx::query(leases).execute(&bench.pool).await?;
        let known = bench.store.read_pod_digests(bench.cluster).await?;
        let digests: HashSet<_> = known.values().copied().collect();
        assert_eq!(digests, (1..=1750).collect());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_is_recorded_of_a_pod_is_known_until_something_is_left_to_do() -> Result<()> {
    in_database(async |bench: &Bench| {
        let (pod, listener) = (Uuid::new_v4(), bench.listen().await?);
        observe_watched(bench, &listener, pod).await?;
        assert!(bench.store.read_pod_digests(bench.cluster).await?.is_empty(), "not woken yet");
        for digest in [Some(7), None, Some(8)] {
            bench.store.wake_pod(&listener, bench.cluster, pod, digest).await?;
            let known = bench.store.read_pod_digests(bench.cluster).await?;
            assert_eq!(known.get(&pod).copied(), digest);
        }
        Ok(())
    })
    .await
}
