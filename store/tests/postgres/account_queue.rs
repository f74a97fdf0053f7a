//! The account's queues: turns; looks; what becomes of calls that were throttled, not written, or
//! never answered. Rates as the cloud counts them are in `virtual_time.rs`.

mod virtual_time;

use crate::database::{Bench, CLAIM, account_queue, bought, finish, in_database, release};
use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;
use uuid::Uuid;
use waygate_core::change::Change;
use waygate_core::operation::{Outcome, Priority};
use waygate_core::request::EipSpec;
use waygate_core::rules::timing::CALL_TIMEOUT;
use waygate_store::{Cluster, DequeuedChange, Finish, SettledBy, Settlement};

const ACTION: &str = "ReleaseEipAddress";
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// Lets the store's clock of call slots stand where the test puts it.
async fn set_clock(bench: &Bench, now: Timestamp) -> Result<()> {
    sqlx::query("UPDATE virtual_clock SET now = to_timestamp($1)")
        .bind(now.as_duration().as_secs_f64())
        .execute(&bench.pool)
        .await?;
    Ok(())
}

async fn use_virtual_clock(bench: &Bench) -> Result<()> {
    for statement in [
        "CREATE TABLE virtual_clock (now timestamptz)",
        "INSERT INTO virtual_clock VALUES (clock_timestamp())",
        "CREATE OR REPLACE FUNCTION wall_clock() RETURNS timestamptz LANGUAGE sql AS 'SELECT now FROM virtual_clock'",
    ] {
        sqlx::query(statement).execute(&bench.pool).await?;
    }
    Ok(())
}

/// Queues `count` releases of a namespace, one lease each.
async fn queue_releases(bench: &Bench, namespace: &str, count: i32) -> Result<()> {
    queue_releases_of(bench, 1, namespace, count).await
}

async fn queue_releases_of(bench: &Bench, cluster: i32, namespace: &str, count: i32) -> Result<()> {
    let change = serde_json::to_value(release("eip-x"))?;
    sqlx::query(
        "WITH l AS (
           INSERT INTO lease (cluster_id, kind, namespace, pod_name, pod_uid, request, phase)
           SELECT $4, 'eip', $1, 'pod-' || n, gen_random_uuid(), '{}', 'releasing' FROM generate_series(1, $2) n
           RETURNING lease_id, cluster_id, namespace, pod_name),
         f AS (INSERT INTO fair_queue VALUES ('ReleaseEipAddress', $4, $1, now() - interval '1 minute') ON CONFLICT DO NOTHING)
         INSERT INTO operation (lease_id, resource, action, change, owner, epoch, fence_until, cluster_id, namespace, queued)
         SELECT lease_id, lease_id::text, 'ReleaseEipAddress', $3, gen_random_uuid(), 1, now(), cluster_id, namespace, true FROM l",
    )
    .bind(namespace)
    .bind(count)
    .bind(change)
    .bind(cluster)
    .execute(&bench.pool)
    .await?;
    Ok(())
}

async fn dequeue(bench: &Bench, limit: usize) -> Result<Vec<DequeuedChange>> {
    dequeue_for(bench, bench.cluster, limit).await
}

async fn dequeue_for(bench: &Bench, cluster: Cluster, limit: usize) -> Result<Vec<DequeuedChange>> {
    let queue = account_queue(ACTION, 120);
    Ok(bench.store.dequeue_account_changes(cluster, queue, limit).await?.changes)
}

async fn namespaces(bench: &Bench, sent: &[DequeuedChange]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for change in sent {
        names.push(
            sqlx::query_scalar("SELECT namespace FROM lease WHERE lease_id = $1")
                .bind(change.lease_id.0)
                .fetch_one(&bench.pool)
                .await?,
        );
    }
    Ok(names)
}

#[tokio::test]
async fn namespaces_take_turns_and_urgent_changes_come_first() -> Result<()> {
    in_database(async |bench: &Bench| {
        queue_releases(bench, "crowd", 50).await?;
        queue_releases(bench, "small", 2).await?;
        let first = namespaces(bench, &dequeue(bench, 6).await?).await?;
        assert_eq!(first.iter().filter(|name| *name == "small").count(), 2, "{first:?}");
        assert_eq!(first[..4], ["crowd", "small", "crowd", "small"]);
        queue_releases(bench, "other", 1).await?;
        sqlx::query("UPDATE operation SET priority = 0 WHERE resource IN (SELECT resource FROM operation WHERE namespace = 'crowd' AND queued ORDER BY intended_at DESC LIMIT 2)")
            .execute(&bench.pool)
            .await?;
        assert_eq!(
            namespaces(bench, &dequeue(bench, 3).await?).await?,
            ["crowd", "crowd", "other"]
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn clusters_with_something_ready_take_turns() -> Result<()> {
    in_database(async |bench: &Bench| {
        use_virtual_clock(bench).await?;
        let other = bench.store.register_cluster(Uuid::new_v4(), "c2").await?;
        queue_releases(bench, "crowd", 200).await?;
        queue_releases_of(bench, 2, "crowd", 200).await?;
        let (mut ours, mut theirs) = (0, 0);
        for _ in 0..60 {
            ours += dequeue(bench, 10).await?.len();
            theirs += dequeue_for(bench, other, 10).await?.len();
        }
        assert_eq!(ours + theirs, 120, "the whole rate is used");
        assert!((55..=65).contains(&ours), "{ours} of 120 went to one of two clusters");
        // One that asks no more is passed over.
        let now = Timestamp::now() + SignedDuration::from_secs(80);
        set_clock(bench, now).await?;
        assert_eq!(dequeue(bench, 10).await?.len(), 10);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_gives_is_sent_after_a_recent_look_and_its_lease_is_woken_for_that() -> Result<()> {
    in_database(async |bench: &Bench| {
        let change = Change::AllocateEipAddress { spec: EipSpec::default(), tags: [].into() };
        let claim = bench.claimed(&bought()).await?;
        let wake = bench.load(&claim).await?.wake;
        assert!(bench.queue(&claim, "lease/1", &change).await?);
        bench.store.under_claim(&claim).finish_claim(&finish(wake, CLAIM)).await?;
        sqlx::query("UPDATE lease SET looked_at = now() - interval '11 s'")
            .execute(&bench.pool)
            .await?;
        assert_eq!(bench.due().await?, 0);
        let queue = account_queue(change.action(), 120);
        let batch = bench.store.dequeue_account_changes(bench.cluster, queue, 10).await?;
        assert_eq!((batch.changes.len(), batch.woken, bench.due().await?), (0, 1, 1));
        let batch = bench.store.dequeue_account_changes(bench.cluster, queue, 10).await?;
        assert_eq!((batch.changes.len(), batch.woken), (0, 0), "woken once, not at every question");
        let claim = bench.claim_one().await?;
        let loaded = bench.load(&claim).await?;
        let failed = finish(loaded.wake, CLAIM);
        bench.store.under_claim(&claim).finish_claim(&failed).await?;
        let batch = bench.store.dequeue_account_changes(bench.cluster, queue, 10).await?;
        assert!(batch.changes.is_empty(), "a look that failed says nothing");
        sqlx::query("UPDATE lease SET due_at = now()").execute(&bench.pool).await?;
        let claim = bench.claim_one().await?;
        let loaded = bench.load(&claim).await?;
        let looked = Finish { looked_at: Some(loaded.now), ..finish(loaded.wake, CLAIM) };
        bench.store.under_claim(&claim).finish_claim(&looked).await?;
        bench.dequeue(&change).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_change_taken_back_and_queued_anew_keeps_its_place() -> Result<()> {
    in_database(async |bench: &Bench| {
        let claim = bench.claimed(&bought()).await?;
        let change = Change::AllocateEipAddress { spec: EipSpec::default(), tags: [].into() };
        assert!(bench.queue(&claim, "lease/1", &change).await?);
        sqlx::query("UPDATE operation SET intended_at = now() - interval '5 minutes'")
            .execute(&bench.pool)
            .await?;
        let queued = bench.load(&claim).await?.operations.remove(0);
        bench.store.under_claim(&claim).cancel_queued_change(queued.id).await?;
        let other = Change::AllocateEipAddress {
            spec: EipSpec { bandwidth: 7, ..EipSpec::default() },
            tags: [].into(),
        };
        assert!(bench.queue(&claim, "lease/1", &other).await?);
        let sent = bench.dequeue(&other).await?;
        assert!(sent.waited > Duration::from_mins(4), "{:?}", sent.waited);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_sent_change_makes_its_lease_due_when_the_answer_must_have_come() -> Result<()> {
    in_database(async |bench: &Bench| {
        let claim = bench.claimed(&bought()).await?;
        let wake = bench.load(&claim).await?.wake;
        assert!(bench.queue(&claim, "eip-1", &release("eip-1")).await?);
        let later = Duration::from_mins(5);
        bench.store.under_claim(&claim).finish_claim(&finish(wake, later)).await?;
        bench.dequeue(&release("eip-1")).await?;
        bench.pass(CALL_TIMEOUT).await?;
        assert_eq!(bench.due().await?, 1);
        // A lease that is looked at meanwhile looks again.
        let claim = bench.claim_one().await?;
        let loaded = bench.load(&claim).await?;
        bench.store.requeue_unsent(&loaded.operations[0]).await?;
        bench.dequeue(&release("eip-1")).await?;
        bench.store.under_claim(&claim).finish_claim(&finish(loaded.wake, later)).await?;
        assert_eq!(bench.due().await?, 1);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_process_that_thaws_decides_nothing_about_a_later_send() -> Result<()> {
    in_database(async |bench: &Bench| {
        queue_releases(bench, "ns", 1).await?;
        let frozen = dequeue(bench, 1).await?.remove(0);
        sqlx::query("UPDATE operation SET queued = true").execute(&bench.pool).await?;
        let later = dequeue(bench, 1).await?.remove(0);
        assert_eq!((frozen.operation.id, later.operation.sends), (later.operation.id, 2));
        let store = &bench.store;
        store.requeue_unsent(&frozen.operation).await?;
        store.requeue_throttled(&frozen.operation, 120, Duration::ZERO).await?;
        let refused = Settlement::from_refusal("busy");
        let by = SettledBy::Sender(Duration::ZERO);
        store.settle_operation(by, &frozen.operation, refused).await?;
        assert!(dequeue(bench, 1).await?.is_empty(), "the later send is under way");
        store.settle_operation(by, &later.operation, refused).await?;
        let outcome: Option<String> =
            sqlx::query_scalar("SELECT outcome FROM operation").fetch_one(&bench.pool).await?;
        assert_eq!(outcome.as_deref(), Some("refused"));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn throttling_lowers_the_rate_once_for_all_calls_under_way_and_successes_raise_it()
-> Result<()> {
    in_database(async |bench: &Bench| {
        use_virtual_clock(bench).await?;
        let start = Timestamp::now();
        queue_releases(bench, "crowd", 60).await?;
        let sent = dequeue(bench, 10).await?;
        set_clock(bench, start + SignedDuration::from_secs(1)).await?;
        for change in &sent {
            bench.store.requeue_throttled(&change.operation, 120, Duration::ZERO).await?;
        }
        let lowered = async || -> Result<Option<i32>> {
            Ok(sqlx::query_scalar("SELECT lowered_to FROM account_rate")
                .fetch_one(&bench.pool)
                .await?)
        };
        assert_eq!(lowered().await?, Some(84), "once, though ten were throttled");
        assert_eq!(dequeue(bench, 10).await?.len(), 0, "calls are spread evenly");
        set_clock(bench, start + SignedDuration::from_secs(3)).await?;
        let again = dequeue(bench, 10).await?;
        assert_eq!(again.len(), 1, "one at a time");
        assert!(!again[0].may_still_arrive, "a throttled send counts as not sent");
        let settlement = Settlement::from_read(Outcome::Done, None);
        let by = SettledBy::Sender(Duration::ZERO);
        bench.store.settle_operation(by, &again[0].operation, settlement).await?;
        assert_eq!(lowered().await?, Some(85));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_clock_that_was_set_back_holds_no_slot_for_longer_than_a_minute() -> Result<()> {
    in_database(async |bench: &Bench| {
        use_virtual_clock(bench).await?;
        queue_releases(bench, "crowd", 20).await?;
        let queue = account_queue(ACTION, 10);
        let start = Timestamp::now();
        let send = async || bench.store.dequeue_account_changes(bench.cluster, queue, 10).await;
        assert_eq!(send().await?.changes.len(), 10);
        set_clock(bench, start - SignedDuration::from_hours(1)).await?;
        assert_eq!(send().await?.changes.len(), 0);
        set_clock(bench, start - SignedDuration::from_hours(1) + MINUTE).await?;
        assert_eq!(send().await?.changes.len(), 10);
        Ok(())
    })
    .await
}

#[test]
fn priorities_are_stored_in_the_order_in_which_they_are_sent() {
    let numbers = [Priority::Urgent, Priority::Normal, Priority::Early].map(Priority::number);
    assert!(numbers.is_sorted(), "{numbers:?}");
}
