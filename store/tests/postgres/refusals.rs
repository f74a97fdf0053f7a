//! Refused changes: counted until they are done, held back, and woken one by one.

use crate::database::{Bench, CLAIM, bought, finish, in_database, release};
use anyhow::Result;
use std::time::Duration;
use uuid::Uuid;
use waygate_core::change::{Answer, Change};
use waygate_core::operation::Rejection;
use waygate_core::retry::RetryPolicy;
use waygate_store::{Claim, Finish, RefusalHistory, SettledBy, Settlement};

const HOUR: Duration = Duration::from_hours(1);

fn rejection(change: &Change, reason: &str) -> Rejection {
    Rejection {
        change: change.clone(),
        reason: reason.to_owned(),
        message: "no".to_owned(),
        retry_policy: RetryPolicy::Remedy,
        min_wait_seconds: 0,
    }
}

/// Ends the claim with this history; the lease is due again after `again`.
async fn finish_with(
    bench: &Bench,
    claim: &Claim,
    again: Duration,
    history: RefusalHistory<'_>,
) -> Result<()> {
    let wake = bench.load(claim).await?.wake;
    bench.store.under_claim(claim).finish_claim(&Finish { history, ..finish(wake, again) }).await?;
    Ok(())
}

/// A lease that was refused `change` for this reason, and waits for this long.
async fn refused(
    bench: &Bench,
    change: &Change,
    reason: &str,
    wait: Duration,
) -> Result<waygate_core::ids::LeaseId> {
    let (claim, rejection) = (bench.claimed(&bought()).await?, rejection(change, reason));
    let history = RefusalHistory::Acknowledged { rejection: &rejection, starts_anew: false };
    finish_with(bench, &claim, wait, history).await?;
    Ok(claim.lease_id)
}

async fn claim_again(bench: &Bench) -> Result<Claim> {
    bench.pass(HOUR + HOUR).await?;
    bench.claim_one().await
}

#[tokio::test]
async fn only_the_refused_change_itself_ends_the_history_of_its_refusals() -> Result<()> {
    in_database(async |bench: &Bench| {
        let (refused_change, other) = (release("eip-1"), release("eip-2"));
        refused(bench, &refused_change, "TheReason", HOUR).await?;
        let by = SettledBy::Sender(Duration::ZERO);
        let answer = Answer::default();
        let claim = claim_again(bench).await?;
        let loaded = bench.load(&claim).await?;
        let refusal = loaded.refusal.clone().expect("a refusal");
        assert_eq!(refusal.rejection, rejection(&refused_change, "TheReason"));
        assert!(refusal.until > loaded.now && loaded.rejections == 1);

        let sent = bench.send(&claim, "eip-2", &other).await?;
        bench.store.settle_operation(by, &sent, Settlement::from_success(&answer)).await?;
        let loaded = bench.load(&claim).await?;
        assert_eq!((loaded.rejections, loaded.refusal), (1, Some(refusal)), "another was done");

        let again = rejection(&refused_change, "TheReason");
        let next = RefusalHistory::Acknowledged { rejection: &again, starts_anew: false };
        finish_with(bench, &claim, HOUR, next).await?;
        let claim = claim_again(bench).await?;
        assert_eq!(bench.load(&claim).await?.rejections, 2);
        let sent = bench.send(&claim, "eip-1", &refused_change).await?;
        bench.store.settle_operation(by, &sent, Settlement::from_success(&answer)).await?;
        let loaded = bench.load(&claim).await?;
        assert_eq!((loaded.rejections, loaded.refusal), (0, None), "it was done at last");

        let anew = RefusalHistory::Acknowledged { rejection: &again, starts_anew: true };
        for _ in 0..2 {
            let claim = bench.claim_one().await;
            let claim = if let Ok(claim) = claim { claim } else { claim_again(bench).await? };
            finish_with(bench, &claim, HOUR, anew).await?;
        }
        let claim = claim_again(bench).await?;
        assert_eq!(bench.load(&claim).await?.rejections, 1, "a corrected request");
        finish_with(bench, &claim, HOUR, RefusalHistory::Ended).await?;
        let claim = claim_again(bench).await?;
        let loaded = bench.load(&claim).await?;
        assert_eq!((loaded.rejections, loaded.refusal), (0, None), "the lease rested");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_comes_free_wakes_the_lease_that_has_waited_longest_and_one_at_a_time() -> Result<()> {
    in_database(async |bench: &Bench| {
        let change = release("eip-1");
        let other = refused(bench, &change, "Other", HOUR).await?;
        refused(bench, &change, "Quota", HOUR).await?;
        let second = refused(bench, &change, "Quota", HOUR).await?;
        // The oldest of all is in another cluster.
        let away = bench.store.register_cluster(Uuid::new_v4(), "away").await?;
        bench.observe_in(away, Uuid::new_v4(), &bought()).await?;
        let claims =
            bench.store.claim_due_leases(away, Uuid::new_v4(), 1, Duration::ZERO, CLAIM).await?;
        let rejection = rejection(&change, "Quota");
        let history = RefusalHistory::Acknowledged { rejection: &rejection, starts_anew: false };
        finish_with(bench, &claims[0], HOUR, history).await?;
        sqlx::query("UPDATE lease SET created_at = now() - interval '1 hour' WHERE lease_id = $1")
            .bind(claims[0].lease_id.0)
            .execute(&bench.pool)
            .await?;
        sqlx::query("UPDATE lease SET created_at = now() WHERE lease_id = $1")
            .bind(second.0)
            .execute(&bench.pool)
            .await?;

        assert_eq!(bench.due().await?, 0);
        assert!(bench.store.wake_refused("Quota").await?);
        let claims =
            bench.store.claim_due_leases(away, Uuid::new_v4(), 9, Duration::ZERO, CLAIM).await?;
        assert_eq!((claims.len(), bench.due().await?), (1, 0));
        let loaded = bench.load(&claims[0]).await?;
        assert!(loaded.refusal.is_some_and(|refusal| refusal.until <= loaded.now), "no hold");
        assert_eq!(loaded.rejections, 1, "the history goes on");
        for due in 1..=2 {
            assert!(bench.store.wake_refused("Quota").await?);
            assert_eq!(bench.due().await?, due);
        }
        assert!(!bench.store.wake_refused("Quota").await?, "the other waits for something else");
        let claims = bench
            .store
            .claim_due_leases(bench.cluster, Uuid::new_v4(), 9, Duration::ZERO, CLAIM)
            .await?;
        assert!(claims.len() == 2 && claims.iter().all(|claim| claim.lease_id != other));

        let again = RefusalHistory::Acknowledged { rejection: &rejection, starts_anew: false };
        finish_with(bench, &claims[0], Duration::ZERO, again).await?;
        let claim = bench.claim_one().await?;
        assert!(bench.queue(&claim, "eip-1", &change).await?);
        assert!(!bench.store.wake_refused("Quota").await?, "it asks already");
        Ok(())
    })
    .await
}
