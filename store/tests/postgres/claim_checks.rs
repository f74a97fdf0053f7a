//! Decisions are written under a live claim or not at all.

use crate::database::{
    Bench, CLAIM, dnat, finish, in_database, keys, ports, release, span, target,
};
use crate::gateway_queue::{creation, gateway};
use anyhow::Result;
use std::net::Ipv4Addr;
use std::time::Duration;
use uuid::Uuid;
use waygate_core::ids::{AllocationId, ForwardEntryId, LeaseId};
use waygate_core::lease::Phase;
use waygate_core::lease::PortKey;
use waygate_core::operation::Operation;
use waygate_store::{Claim, Error, OwnsCustomResource};

/// Every function of the store that checks the claim, called under `claim`. Add new ones here.
async fn every_decision(
    bench: &Bench,
    claim: &Claim,
    port: &PortKey,
    operation: &Operation,
) -> Vec<(&'static str, Result<(), Error>)> {
    let claimed = bench.store.under_claim(claim);
    let second = Duration::from_secs(1);
    let eip = AllocationId::new("eip-given");
    let candidates = [vec![port.allocation_id.clone()]];
    vec![
        ("load", claimed.load(CLAIM).await.map(drop)),
        ("finish_claim", claimed.finish_claim(&finish(0, second)).await.map(drop)),
        ("set_phase", claimed.set_phase(Phase::Releasing).await),
        ("count_missed_read", claimed.count_missed_read().await),
        ("update_request", claimed.update_request(&ports(&[81], &[])).await),
        ("retain_lease", claimed.retain_lease(Some(1)).await),
        (
            "transfer_to_successor",
            claimed.transfer_to_successor(Uuid::new_v4(), &ports(&[80], &[])).await,
        ),
        ("try_release_retained", claimed.try_release_retained().await.map(drop)),
        ("delete_empty_lease", claimed.delete_empty_lease().await),
        ("begin_handover", claimed.begin_handover().await),
        ("adopt_eip", claimed.adopt_eip(&[(eip.clone(), Ipv4Addr::LOCALHOST)]).await.map(drop)),
        ("preempt_eip", claimed.preempt_eip(&eip).await),
        ("adopt_prepaid_eip", claimed.adopt_prepaid_eip(LeaseId(Uuid::new_v4())).await.map(drop)),
        ("clear_eip", claimed.clear_eip().await),
        ("set_target", claimed.set_target(&target(99)).await),
        ("clear_target", claimed.clear_target().await),
        (
            "set_owns_custom_resource",
            claimed.set_owns_custom_resource(OwnsCustomResource::Yes).await,
        ),
        (
            "reserve_ports",
            claimed.reserve_ports(&dnat(&[81, 82, 83], &[84]), &candidates).await.map(drop),
        ),
        ("record_entry", claimed.record_entry(port, &ForwardEntryId::new("fwd-9")).await),
        ("mark_foreign", claimed.mark_foreign(&span(port)).await),
        ("start_vacating", claimed.start_vacating().await),
        ("try_count_loss", claimed.try_count_loss(&gateway()).await.map(drop)),
        ("start_cooldown", claimed.start_cooldown(port, second).await),
        ("queue_eip_change", bench.queue(claim, "eip-9", &release("eip-9")).await.map(drop)),
        ("queue_changes", claimed.queue_changes(&gateway(), &[creation(9)]).await.map(drop)),
        ("cancel_queued_change", claimed.cancel_queued_change(operation.id).await),
        ("requeue_unanswered", claimed.requeue_unanswered(operation.id).await),
        ("count_read_without_effect", claimed.count_read_without_effect(operation.id).await),
    ]
}

async fn all_are_refused(
    bench: &Bench,
    when: &str,
    claim: &Claim,
    port: &PortKey,
    operation: &Operation,
) -> Result<()> {
    let before = bench.contents().await?;
    for (name, result) in every_decision(bench, claim, port, operation).await {
        assert!(matches!(result, Err(Error::ClaimLost)), "{when}: {name} gave {result:?}");
    }
    assert_eq!(bench.contents().await?, before, "{when}: a write took effect");
    Ok(())
}

#[tokio::test]
async fn a_former_owner_writes_nothing_any_more() -> Result<()> {
    in_database(async |bench: &Bench| {
        let pool = [bench.offer("eip-1", 1000, 1100).await?];
        let former = bench.claimed(&ports(&[80], &[])).await?;
        bench.store.under_claim(&former).reserve_ports(&dnat(&[80], &[]), &[pool.to_vec()]).await?;
        let operation = bench.send(&former, "eip-1/tcp/1000", &release("eip-1")).await?;
        let port = keys(&bench.load(&former).await?).remove(0);

        bench.pass(CLAIM).await?;
        let next = bench.claim_one().await?;
        all_are_refused(bench, "reclaimed by another", &former, &port, &operation).await?;

        bench.store.under_claim(&next).finish_claim(&finish(0, Duration::from_mins(5))).await?;
        all_are_refused(bench, "given back by the next owner", &former, &port, &operation).await?;
        all_are_refused(bench, "given back by itself", &next, &port, &operation).await
    })
    .await
}

#[tokio::test]
async fn the_same_process_cannot_write_under_its_own_earlier_epoch() -> Result<()> {
    in_database(async |bench: &Bench| {
        let pool = [bench.offer("eip-1", 1000, 1100).await?];
        bench.observe(Uuid::new_v4(), &ports(&[80], &[])).await?;
        let owner = Uuid::new_v4();
        let first = bench
            .store
            .claim_due_leases(bench.cluster, owner, 1, Duration::ZERO, CLAIM)
            .await?
            .remove(0);
        bench.store.under_claim(&first).reserve_ports(&dnat(&[80], &[]), &[pool.to_vec()]).await?;
        let operation = bench.send(&first, "eip-1/tcp/1000", &release("eip-1")).await?;
        let port = keys(&bench.load(&first).await?).remove(0);
        bench.pass(CLAIM).await?;
        let second = bench
            .store
            .claim_due_leases(bench.cluster, owner, 1, Duration::ZERO, CLAIM)
            .await?
            .remove(0);
        all_are_refused(bench, "reclaimed by itself", &first, &port, &operation).await?;
        bench.load(&second).await?;
        Ok(())
    })
    .await
}

/// The operation and the port exist and are valid; only their lease is another one's.
#[tokio::test]
async fn a_live_claim_reaches_no_other_lease_port_or_operation() -> Result<()> {
    in_database(async |bench: &Bench| {
        let pool = [bench.offer("eip-1", 1000, 1100).await?];
        let theirs = bench.claimed(&ports(&[80], &[])).await?;
        bench.store.under_claim(&theirs).reserve_ports(&dnat(&[80], &[]), &[pool.to_vec()]).await?;
        let operation = bench.send(&theirs, "eip-1/tcp/1000", &release("eip-1")).await?;
        let port = keys(&bench.load(&theirs).await?).remove(0);
        let mine = bench.claimed(&ports(&[80], &[])).await?;
        let second = Duration::from_secs(1);
        let reached = [
            (
                "record_entry",
                bench
                    .store
                    .under_claim(&mine)
                    .record_entry(&port, &ForwardEntryId::new("fwd-9"))
                    .await,
            ),
            ("mark_foreign", bench.store.under_claim(&mine).mark_foreign(&span(&port)).await),
            ("start_cooldown", bench.store.under_claim(&mine).start_cooldown(&port, second).await),
            (
                "count_read_without_effect",
                bench.store.under_claim(&mine).count_read_without_effect(operation.id).await,
            ),
        ];
        for (name, result) in reached {
            assert!(matches!(result, Err(Error::ClaimLost)), "{name} gave {result:?}");
        }
        Ok(())
    })
    .await
}

/// Another transaction has locked the rows that the write needs. While the write waits, its expired
/// claim must not pass to another worker; if it does, the write is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_does_not_pass_on_under_a_write_that_waits_for_a_lock() -> Result<()> {
    in_database(async |bench: &Bench| {
        let pool = [bench.offer("eip-1", 1000, 1100).await?];
        for name in ["record_entry", "mark_foreign", "start_cooldown", "count_read_without_effect"]
        {
            let former = bench.claimed(&ports(&[80], &[])).await?;
            bench
                .store
                .under_claim(&former)
                .reserve_ports(&dnat(&[80], &[]), &[pool.to_vec()])
                .await?;
            let operation = bench.send(&former, name, &release("eip-1")).await?;
            let port = keys(&bench.load(&former).await?).remove(0);
            bench.pass(CLAIM).await?;
            let mut lock = bench.pool.begin().await?;
            sqlx::query("SELECT FROM port JOIN operation USING (lease_id) FOR UPDATE")
                .execute(&mut *lock)
                .await?;
            let store = bench.store.clone();
            let write = tokio::spawn(async move {
                let second = Duration::from_secs(1);
                match name {
                    "record_entry" => {
                        store
                            .under_claim(&former)
                            .record_entry(&port, &ForwardEntryId::new("fwd-9"))
                            .await
                    }
                    "mark_foreign" => store.under_claim(&former).mark_foreign(&span(&port)).await,
                    "start_cooldown" => {
                        store.under_claim(&former).start_cooldown(&port, second).await
                    }
                    _ => store.under_claim(&former).count_read_without_effect(operation.id).await,
                }
            });
            until_one_waits_for_a_lock(bench).await?;
            let passed = bench
                .store
                .claim_due_leases(bench.cluster, Uuid::new_v4(), 10, Duration::ZERO, CLAIM)
                .await?;
            lock.commit().await?;
            let written = write.await?.is_ok();
            assert!(
                !written || passed.is_empty(),
                "{name}: written by the former owner after another worker had claimed the lease"
            );
            assert!(written || !passed.is_empty(), "{name}: neither took effect");
            sqlx::query("DELETE FROM lease").execute(&bench.pool).await?;
        }
        Ok(())
    })
    .await
}

async fn until_one_waits_for_a_lock(bench: &Bench) -> Result<()> {
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&bench.pool).await? == 0 {
        anyhow::ensure!(tokio::time::Instant::now() < deadline, "no statement waits for a lock");
    }
    Ok(())
}
