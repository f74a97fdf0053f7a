//! A lease begins with the announcement or the observation of its pod, in any order or at once;
//! there is one lease in every case.

use crate::database::{Bench, bought, in_database, ports};
use anyhow::Result;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use uuid::Uuid;
use waygate_core::lease::Phase;
use waygate_core::request::{EipRequest, EipSource, EipSpec, ReleaseStrategy, Request};
use waygate_store::{Error, Finish, PodAnnouncement, PodObservation, RefusalHistory};

/// Announces a pod as the webhook does.
pub(crate) async fn announce(
    bench: &Bench,
    cluster_name: &str,
    pod_uid: Uuid,
    request: &Request,
) -> Result<(), Error> {
    let kind = request.kind();
    bench
        .store
        .announce_pod(&PodAnnouncement {
            cluster_name,
            kind,
            namespace: "ns",
            pod_name: "pod",
            pod_uid,
            controller: None,
            request,
        })
        .await
}

async fn count(bench: &Bench) -> Result<i64> {
    Ok(sqlx::query_scalar("SELECT count(*) FROM lease").fetch_one(&bench.pool).await?)
}

#[tokio::test]
async fn announcement_and_observation_make_one_lease_in_any_order() -> Result<()> {
    in_database(async |bench: &Bench| {
        for (hand_off_first, request) in [
            (true, bought()),
            (false, bought()),
            (true, ports(&[80], &[])),
            (false, ports(&[80], &[])),
        ] {
            let pod = Uuid::new_v4();
            for announcement in [hand_off_first, !hand_off_first, true, false] {
                if announcement {
                    announce(bench, "c1", pod, &request).await?;
                } else {
                    bench.observe(pod, &request).await?;
                }
            }
            let claim = bench.claim_one().await?;
            let loaded = bench.load(&claim).await?;
            assert_eq!(
                (loaded.lease.phase, loaded.lease.pod_uid.as_str()),
                (Phase::Provisioning, pod.to_string().as_str())
            );
            assert_eq!((loaded.lease.kind, &loaded.lease.request), (request.kind(), &request));
        }
        assert_eq!(count(bench).await?, 4);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_announcements_and_observations_make_one_lease() -> Result<()> {
    in_database(async |bench: &Bench| {
        let pod_uid = Uuid::new_v4();
        let start = Arc::new(Barrier::new(64));
        let mut tasks = JoinSet::new();
        for task in 0..64 {
            let (store, cluster, start) = (bench.store.clone(), bench.cluster, Arc::clone(&start));
            tasks.spawn(async move {
                let request = bought();
                let announcement = PodAnnouncement {
                    cluster_name: "c1",
                    kind: request.kind(),
                    namespace: "ns",
                    pod_name: "pod",
                    pod_uid,
                    controller: None,
                    request: &request,
                };
                let observation = PodObservation {
                    namespace: "ns",
                    pod_name: "pod",
                    pod_uid,
                    controller: None,
                    pod_created_at: None,
                    request: &request,
                };
                start.wait().await;
                if task % 2 == 0 {
                    store.announce_pod(&announcement).await
                } else {
                    store.observe_pod(cluster, &observation).await
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        assert_eq!(count(bench).await?, 1);
        assert_eq!(bench.load(&bench.claim_one().await?).await?.lease.phase, Phase::Provisioning);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn announcing_for_an_unknown_cluster_is_refused_and_names_it() -> Result<()> {
    in_database(async |bench: &Bench| {
        let refused = announce(bench, "nowhere", Uuid::new_v4(), &bought()).await;
        assert!(matches!(refused, Err(Error::UnknownCluster { name }) if name == "nowhere"));
        assert_eq!(count(bench).await?, 0);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_error_about_content_is_not_transient() -> Result<()> {
    in_database(async |bench: &Bench| {
        let named = EipSpec { name: Some("a\0b".to_owned()), ..EipSpec::default() };
        let in_request = Request::Eip(EipRequest {
            source: EipSource::Allocate(named),
            release: ReleaseStrategy::Follow,
        });
        let (plain, pod_uid) = (bought(), Uuid::new_v4());
        let usual = PodObservation {
            namespace: "ns",
            pod_name: "pod",
            pod_uid,
            controller: None,
            pod_created_at: None,
            request: &plain,
        };
        let wrong = [
            PodObservation { request: &in_request, ..usual },
            PodObservation { namespace: "n\0s", ..usual },
            PodObservation { pod_name: "p\0d", ..usual },
            PodObservation { controller: Some("StatefulSet/w\0b"), ..usual },
        ];
        for observation in wrong {
            let seen = bench.store.observe_pod(bench.cluster, &observation).await;
            assert!(
                matches!(&seen, Err(error @ Error::Database(_)) if !error.is_transient()),
                "{observation:?}: {seen:?}"
            );
            let PodObservation { namespace, pod_name, controller, request, .. } = observation;
            let announcement = PodAnnouncement {
                cluster_name: "c1",
                kind: request.kind(),
                namespace,
                pod_name,
                pod_uid,
                controller,
                request,
            };
            let announced = bench.store.announce_pod(&announcement).await;
            assert!(
                matches!(&announced, Err(error @ Error::Database(_)) if !error.is_transient()),
                "{observation:?}: {announced:?}"
            );
        }
        bench.store.observe_pod(bench.cluster, &usual).await?;
        assert_eq!(count(bench).await?, 1);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_announced_lease_without_a_pod_becomes_due_and_can_be_deleted() -> Result<()> {
    in_database(async |bench: &Bench| {
        announce(bench, "c1", Uuid::new_v4(), &bought()).await?;
        assert_eq!(bench.due().await?, 0, "an announced lease waits for its pod first");
        bench.pass(Duration::from_secs(29)).await?;
        assert_eq!(bench.due().await?, 0);
        bench.pass(Duration::from_secs(2)).await?;
        let claim = bench.claim_one().await?;
        assert_eq!(bench.load(&claim).await?.lease.phase, Phase::Announced);
        bench.store.under_claim(&claim).delete_empty_lease().await?;
        assert_eq!(count(bench).await?, 0);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_announced_lease_is_due_once_its_pod_is_observed() -> Result<()> {
    in_database(async |bench: &Bench| {
        let pod = Uuid::new_v4();
        announce(bench, "c1", pod, &bought()).await?;
        bench.observe(pod, &bought()).await?;
        assert_eq!(bench.due().await?, 1);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn releasing_is_final_and_the_pod_gets_a_new_lease() -> Result<()> {
    in_database(async |bench: &Bench| {
        let pod = Uuid::new_v4();
        bench.observe(pod, &bought()).await?;
        let releasing = bench.claim_one().await?;
        bench.store.under_claim(&releasing).set_phase(Phase::Releasing).await?;
        for phase in [Phase::Announced, Phase::Provisioning, Phase::Bound] {
            assert!(
                bench.store.under_claim(&releasing).set_phase(phase).await.is_err(),
                "a releasing lease became {phase:?}"
            );
        }
        bench.observe(pod, &bought()).await?;
        let fresh = bench.claim_one().await?;
        assert_ne!(fresh.lease_id, releasing.lease_id);
        assert_eq!(bench.load(&fresh).await?.lease.phase, Phase::Provisioning);
        assert_eq!(bench.load(&releasing).await?.lease.phase, Phase::Releasing);
        assert_eq!(
            bench.store.wake_pod(&bench.listen().await?, bench.cluster, pod, None).await?.len(),
            2,
            "both leases are woken"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_successor_wakes_its_retained_lease_even_with_another_request() -> Result<()> {
    in_database(async |bench: &Bench| {
        let sees = async |request: &Request| {
            let (pod_uid, controller) = (Uuid::new_v4(), Some("StatefulSet/db"));
            bench
                .store
                .observe_pod(
                    bench.cluster,
                    &PodObservation {
                        namespace: "ns",
                        pod_name: "db-0",
                        pod_uid,
                        controller,
                        pod_created_at: None,
                        request,
                    },
                )
                .await
        };
        let source = EipSource::Allocate(EipSpec::default());
        sees(&Request::Eip(EipRequest { source, release: ReleaseStrategy::Never })).await?;
        let claim = bench.claim_one().await?;
        bench.store.under_claim(&claim).retain_lease(None).await?;
        let wake = bench.load(&claim).await?.wake;
        bench
            .store
            .under_claim(&claim)
            .finish_claim(&Finish {
                wake,
                retry_in: Duration::from_hours(1),
                tries: 0,
                reason: "Kept",
                message: "",
                looked_at: None,
                pod_missing: None,
                history: RefusalHistory::Unchanged,
            })
            .await?;
        assert_eq!(bench.due().await?, 0);
        sees(&bought()).await?;
        assert_eq!(
            (bench.due().await?, count(bench).await?),
            (1, 1),
            "the retained lease is woken, and the pod gets no other"
        );
        Ok(())
    })
    .await
}
