//! Claims: one worker at a time has a lease, for a while, and no wake-up is lost.

use crate::database::{Bench, CLAIM, bought, finish, in_database, leases};
use anyhow::Result;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use uuid::Uuid;
use waygate_core::lease::Phase;
use waygate_store::Error;

const LATER: Duration = Duration::from_mins(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_belongs_to_one_worker() -> Result<()> {
    in_database(async |bench: &Bench| {
        for _ in 0..100 {
            bench.observe(Uuid::new_v4(), &bought()).await?;
        }
        let start = Arc::new(Barrier::new(16));
        let mut workers = JoinSet::new();
        for _ in 0..16 {
            let (store, cluster, start) = (bench.store.clone(), bench.cluster, Arc::clone(&start));
            workers.spawn(async move {
                start.wait().await;
                let owner = Uuid::new_v4();
                let mut claimed = Vec::new();
                for _ in 0..10 {
                    claimed.extend(
                        store.claim_due_leases(cluster, owner, 3, Duration::ZERO, CLAIM).await?,
                    );
                }
                Ok::<_, Error>(claimed)
            });
        }
        let mut claimed = Vec::new();
        while let Some(claims) = workers.join_next().await {
            claimed.extend(claims??);
        }
        let mut distinct = leases(&claimed);
        distinct.dedup();
        assert_eq!((claimed.len(), distinct.len()), (100, 100));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_longest_due_is_claimed_first() -> Result<()> {
    in_database(async |bench: &Bench| {
        let first = bench.claimed(&bought()).await?;
        bench
            .store
            .under_claim(&first)
            .finish_claim(&finish(bench.load(&first).await?.wake, Duration::ZERO))
            .await?;
        bench.observe(Uuid::new_v4(), &bought()).await?;
        let claims = bench
            .store
            .claim_due_leases(bench.cluster, Uuid::new_v4(), 1, Duration::ZERO, CLAIM)
            .await?;
        assert_eq!(leases(&claims), [first.lease_id]);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_expired_claim_is_reclaimed_and_the_former_owner_cannot_read_on() -> Result<()> {
    in_database(async |bench: &Bench| {
        let former = bench.claimed(&bought()).await?;
        assert!(
            bench
                .store
                .claim_due_leases(bench.cluster, Uuid::new_v4(), 10, Duration::ZERO, CLAIM)
                .await?
                .is_empty(),
            "claimed twice"
        );
        bench.pass(CLAIM).await?;
        assert!(
            matches!(bench.store.under_claim(&former).load(CLAIM).await, Err(Error::ClaimLost)),
            "an expired claim has no effect, claimed anew or not"
        );
        let now = bench.claim_one().await?;
        assert_eq!(now.lease_id, former.lease_id);
        assert_ne!(now, former);
        bench.load(&now).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn loading_renews_a_claim() -> Result<()> {
    in_database(async |bench: &Bench| {
        let claim = bench.claimed(&bought()).await?;
        for _ in 0..3 {
            bench.pass(CLAIM * 2 / 3).await?;
            bench.load(&claim).await?;
        }
        assert_eq!(bench.due().await?, 0);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn renewing_extends_only_the_owners_claims_that_still_hold() -> Result<()> {
    in_database(async |bench: &Bench| {
        bench.observe(Uuid::new_v4(), &bought()).await?;
        let owner = Uuid::new_v4();
        let held =
            bench.store.claim_due_leases(bench.cluster, owner, 1, Duration::ZERO, CLAIM).await?;
        bench.pass(CLAIM / 2).await?;
        bench.store.renew_claims(owner, &leases(&held), CLAIM).await?;
        bench.pass(CLAIM * 2 / 3).await?;
        assert_eq!(bench.due().await?, 0, "renewed");
        bench.store.renew_claims(Uuid::new_v4(), &leases(&held), CLAIM).await?;
        bench.pass(CLAIM / 2).await?;
        assert_eq!(bench.due().await?, 1, "renewals of another owner do not extend it");
        bench.store.renew_claims(owner, &leases(&held), CLAIM).await?;
        assert_eq!(bench.due().await?, 1, "an expired claim stays expired");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_finished_lease_is_due_in_time_and_remembers_its_reason() -> Result<()> {
    in_database(async |bench: &Bench| {
        let claim = bench.claimed(&bought()).await?;
        let loaded = bench.load(&claim).await?;
        bench
            .store
            .under_claim(&claim)
            .finish_claim(&waygate_store::Finish { tries: 3, ..finish(loaded.wake, LATER) })
            .await?;
        assert_eq!(bench.due().await?, 0);
        bench.pass(LATER).await?;
        let loaded = bench.load(&bench.claim_one().await?).await?;
        assert_eq!((loaded.tries, loaded.reason.as_deref()), (3, Some("Test")));
        Ok(())
    })
    .await
}

/// Every wake-up, each while a claim holder is between its read and the end of its claim.
#[tokio::test]
async fn news_during_a_claim_makes_the_lease_due_at_once() -> Result<()> {
    in_database(async |bench: &Bench| {
        let pod = Uuid::new_v4();
        bench.observe(pod, &bought()).await?;
        for news in ["nothing", "observed", "woken", "pod absent"] {
            let claim = bench.claim_one().await?;
            let loaded = bench.load(&claim).await?;
            match news {
                "observed" => bench.observe(pod, &bought()).await?,
                "woken" => assert_eq!(
                    bench
                        .store
                        .wake_pod(&bench.listen().await?, bench.cluster, pod, None)
                        .await?
                        .len(),
                    1
                ),
                "pod absent" => assert_eq!(
                    bench
                        .store
                        .wake_leases_without_pod(
                            &bench.listen().await?,
                            bench.cluster,
                            &HashSet::new()
                        )
                        .await?,
                    1
                ),
                _ => {}
            }
            assert_eq!(bench.due().await?, 0, "{news}: the claim still holds");
            bench.load(&claim).await?;
            bench.store.under_claim(&claim).finish_claim(&finish(loaded.wake, LATER)).await?;
            assert_eq!(bench.due().await?, i64::from(news != "nothing"), "{news}");
            bench.pass(LATER).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn waking_makes_a_lease_due_but_not_an_announced_one() -> Result<()> {
    in_database(async |bench: &Bench| {
        let (pod, announced) = (Uuid::new_v4(), Uuid::new_v4());
        bench.observe(pod, &bought()).await?;
        crate::announce::announce(bench, "c1", announced, &bought()).await?;
        let claim = bench.claim_one().await?;
        bench
            .store
            .under_claim(&claim)
            .finish_claim(&finish(bench.load(&claim).await?.wake, LATER))
            .await?;
        let listener = bench.listen().await?;
        assert_eq!(
            bench.store.wake_leases_without_pod(&listener, bench.cluster, &HashSet::new()).await?,
            1
        );
        assert_eq!(leases(&[bench.claim_one().await?]), [claim.lease_id]);
        assert_eq!(
            bench.store.wake_pod(&listener, bench.cluster, Uuid::new_v4(), None).await?.len(),
            0
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_published_lease_stays_published() -> Result<()> {
    in_database(async |bench: &Bench| {
        let claim = bench.claimed(&crate::database::ports(&[80], &[])).await?;
        for (phase, was_published) in
            [(Phase::Provisioning, false), (Phase::Bound, true), (Phase::Provisioning, true)]
        {
            bench.store.under_claim(&claim).set_phase(phase).await?;
            assert_eq!(bench.load(&claim).await?.lease.was_published, was_published, "{phase:?}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_lease_whose_address_works_again_has_its_successor_and_waits_anew_for_the_next()
-> Result<()> {
    in_database(async |bench: &Bench| {
        let claim = bench.claimed(&crate::database::ports(&[80], &[])).await?;
        bench.store.under_claim(&claim).begin_handover().await?;
        let since = bench.load(&claim).await?.lease.handover_since.expect("its handover has begun");
        bench.store.under_claim(&claim).begin_handover().await?;
        bench.store.under_claim(&claim).set_phase(Phase::Provisioning).await?;
        assert_eq!(
            bench.load(&claim).await?.lease.handover_since,
            Some(since),
            "a handover begins once"
        );
        bench.store.under_claim(&claim).set_phase(Phase::Bound).await?;
        assert_eq!(bench.load(&claim).await?.lease.handover_since, None);
        Ok(())
    })
    .await
}
