//! One process at a time sends the changes queued at a gateway, in a fair order, and cancelled
//! changes are not sent.

use crate::database::{Bench, CLAIM, dnat, finish, in_database, keys, ports, target, vpc};
use anyhow::{Context as _, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Barrier;
use uuid::Uuid;
use waygate_core::change::{Change, ForwardEntrySpec};
use waygate_core::ids::{ForwardEntryId, ForwardTableId, LeaseId, NatGatewayId};
use waygate_core::lease::Constraint;
use waygate_core::operation::{ChangeRequest, Outcome, Rejection, SendState};
use waygate_core::request::Protocol;
use waygate_core::retry::RetryPolicy;
use waygate_store::{
    Claim, DequeuedChange, Error, GatewayLock, PodObservation, QueueFilter, RefusalHistory,
    SettledBy, Settlement, UnconfiguredQueues, Work, WorkerLock,
};

const CALL: Duration = Duration::from_secs(10);
const FENCE: Duration = Duration::from_mins(1);
const LIFE: Duration = Duration::from_secs(15);

pub(crate) fn gateway() -> NatGatewayId {
    NatGatewayId::new("ngw-1")
}

/// The creation of an entry on this external port.
pub(crate) fn creation(number: u16) -> ChangeRequest {
    let forward = ForwardEntrySpec {
        table_id: ForwardTableId::new("ftb-1"),
        name: "wg2".to_owned(),
        external_ip: [198, 18, 0, 1].into(),
        external_port: number,
        internal_ip: [10, 0, 0, 1].into(),
        internal_port: 80,
        ports: 1,
        protocol: Protocol::Tcp,
        port_break: false,
    };
    ChangeRequest {
        resource: format!("eip-1/tcp/{number}"),
        change: Change::CreateForwardEntry(forward),
    }
}

fn deletion(id: &str) -> ChangeRequest {
    let change = Change::DeleteForwardEntry {
        table_id: ForwardTableId::new("ftb-1"),
        entry_id: ForwardEntryId::new(id),
    };
    ChangeRequest { resource: id.to_owned(), change }
}

fn work() -> Work {
    Work::Gateway(gateway())
}

/// Acquires the gateway lock as a new process.
async fn acquire_lock(bench: &Bench) -> Result<GatewayLock> {
    let locks = bench
        .store
        .acquire_worker_locks(Uuid::new_v4(), &[work()], UnconfiguredQueues::Serve)
        .await?;
    locks.first().and_then(WorkerLock::gateway_lock).context("the lock is held")
}

async fn next(bench: &Bench, lock: &GatewayLock) -> Result<Option<DequeuedChange>, Error> {
    bench.store.dequeue_change(lock, QueueFilter::All, CALL, FENCE).await
}

/// Dequeues changes until the queue is empty, and returns their resources in order.
async fn order(bench: &Bench, lock: &GatewayLock) -> Result<Vec<String>> {
    let mut order = Vec::new();
    while let Some(dequeued) = next(bench, lock).await? {
        order.push(dequeued.operation.resource);
    }
    Ok(order)
}

/// Makes and claims a lease of a pod in this namespace.
async fn claimed_in(bench: &Bench, namespace: &str) -> Result<Claim> {
    let pod_uid = Uuid::new_v4();
    let (pod_name, request) = (pod_uid.to_string(), ports(&[80], &[]));
    let observation = PodObservation {
        namespace,
        pod_name: &pod_name,
        pod_uid,
        controller: None,
        pod_created_at: None,
        request: &request,
    };
    bench.store.observe_pod(bench.cluster, &observation).await?;
    bench.claim_one().await
}

async fn queue(bench: &Bench, claim: &Claim, request: ChangeRequest) -> Result<()> {
    assert_eq!(bench.store.under_claim(claim).queue_changes(&gateway(), &[request]).await?, 1);
    Ok(())
}

/// Moves the expiry of gateway locks closer by `time`.
async fn pass(bench: &Bench, time: Duration) -> Result<()> {
    sqlx::query("UPDATE worker_lock SET held_until = held_until - make_interval(secs => $1)")
        .bind(time.as_secs_f64())
        .execute(&bench.pool)
        .await?;
    let answers = "UPDATE operation SET answer_by = answer_by - make_interval(secs => $1)";
    sqlx::query(answers).bind(time.as_secs_f64()).execute(&bench.pool).await?;
    Ok(())
}

async fn outcome(bench: &Bench, resource: &str) -> Result<Option<String>> {
    let outcome =
        "SELECT outcome FROM operation WHERE resource = $1 ORDER BY settled_at NULLS LAST LIMIT 1";
    Ok(sqlx::query_scalar(outcome).bind(resource).fetch_one(&bench.pool).await?)
}

#[tokio::test]
async fn the_queue_is_fair_between_namespaces_and_oldest_first_within() -> Result<()> {
    in_database(async |bench: &Bench| {
        let lock = acquire_lock(bench).await?;
        for number in 1..=4 {
            queue(bench, &claimed_in(bench, "crowd").await?, creation(number)).await?;
        }
        let first = next(bench, &lock).await?.map(|dequeued| dequeued.operation.resource);
        assert_eq!(first.as_deref(), Some("eip-1/tcp/1"));
        // A newcomer behind a crowd waits for one of its changes, not for all.
        for number in 11..=12 {
            queue(bench, &claimed_in(bench, "single").await?, creation(number)).await?;
        }
        assert_eq!(
            order(bench, &lock).await?,
            ["eip-1/tcp/11", "eip-1/tcp/2", "eip-1/tcp/12", "eip-1/tcp/3", "eip-1/tcp/4"]
        );
        // The fair queue remembers a namespace after its queue is empty, and forgets it in time.
        queue(bench, &claimed_in(bench, "crowd").await?, creation(5)).await?;
        queue(bench, &claimed_in(bench, "single").await?, creation(13)).await?;
        assert_eq!(order(bench, &lock).await?, ["eip-1/tcp/13", "eip-1/tcp/5"]);
        assert_eq!(bench.store.prune_fair_queue(Duration::ZERO).await?, 2);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_creation_refused_by_a_busy_gateway_keeps_its_namespaces_place() -> Result<()> {
    in_database(async |bench: &Bench| {
        let lock = acquire_lock(bench).await?;
        for number in 1..=3 {
            queue(bench, &claimed_in(bench, "crowd").await?, creation(number)).await?;
        }
        let _served = next(bench, &lock).await?;
        queue(bench, &claimed_in(bench, "single").await?, creation(11)).await?;
        for _ in 0..2 {
            let single = next(bench, &lock).await?.expect("a change");
            assert_eq!(single.operation.resource, "eip-1/tcp/11");
            bench.store.requeue_busy_change(&lock, &single, "busy").await?;
        }
        assert_eq!(order(bench, &lock).await?, ["eip-1/tcp/11", "eip-1/tcp/2", "eip-1/tcp/3"]);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_same_namespace_of_another_cluster_is_served_separately() -> Result<()> {
    in_database(async |bench: &Bench| {
        let lock = acquire_lock(bench).await?;
        for number in 1..=3 {
            queue(bench, &claimed_in(bench, "games").await?, creation(number)).await?;
        }
        let other = bench.store.register_cluster(Uuid::new_v4(), "c2").await?;
        let (pod_uid, request) = (Uuid::new_v4(), ports(&[80], &[]));
        let observation = PodObservation {
            namespace: "games",
            pod_name: "pod",
            pod_uid,
            controller: None,
            pod_created_at: None,
            request: &request,
        };
        bench.store.observe_pod(other, &observation).await?;
        let claim = bench
            .store
            .claim_due_leases(other, Uuid::new_v4(), 1, Duration::ZERO, CLAIM)
            .await?
            .remove(0);
        queue(bench, &claim, creation(11)).await?;
        assert_eq!(
            order(bench, &lock).await?,
            ["eip-1/tcp/1", "eip-1/tcp/11", "eip-1/tcp/2", "eip-1/tcp/3"]
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_deletion_whose_address_is_at_another_pod_goes_before_everything() -> Result<()> {
    in_database(async |bench: &Bench| {
        let (lock, pool) =
            (acquire_lock(bench).await?, [vec![bench.offer("eip-1", 1000, 1100).await?]]);
        queue(bench, &claimed_in(bench, "crowd").await?, creation(1)).await?;
        let former = claimed_in(bench, "crowd").await?;
        bench.store.under_claim(&former).reserve_ports(&dnat(&[80], &[]), &pool).await?;
        bench.store.under_claim(&former).set_target(&target(7)).await?;
        bench
            .store
            .under_claim(&former)
            .queue_changes(&gateway(), &[creation(2), deletion("fwd-2")])
            .await?;
        let waiting = claimed_in(bench, "crowd").await?;
        bench.store.under_claim(&waiting).reserve_ports(&dnat(&[80], &[]), &pool).await?;
        let conflicting = bench.store.under_claim(&waiting).set_target(&target(7)).await;
        assert_eq!(
            conflicting.err().as_ref().and_then(Error::violated_constraint),
            Some(Constraint::ForwardedPort)
        );
        assert_eq!(
            bench.store.expedite_removals(waiting.lease_id, &vpc(), [10, 0, 0, 7].into()).await?,
            [gateway()]
        );
        assert!(
            bench
                .store
                .expedite_removals(waiting.lease_id, &vpc(), [10, 0, 0, 7].into())
                .await?
                .is_empty(),
            "the second call changes nothing"
        );
        assert_eq!(order(bench, &lock).await?, ["fwd-2", "eip-1/tcp/1", "eip-1/tcp/2"]);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_holder_that_sleeps_is_woken_for_the_address_another_pod_has() -> Result<()> {
    in_database(async |bench: &Bench| {
        let pool = [vec![bench.offer("eip-1", 1000, 1100).await?]];
        let former = claimed_in(bench, "ns").await?;
        bench.store.under_claim(&former).reserve_ports(&dnat(&[80], &[]), &pool).await?;
        bench.store.under_claim(&former).set_target(&target(7)).await?;
        bench.store.under_claim(&former).begin_handover().await?;
        let wake = bench.load(&former).await?.wake;
        bench
            .store
            .under_claim(&former)
            .finish_claim(&finish(wake, Duration::from_mins(5)))
            .await?;
        bench
            .store
            .expedite_removals(LeaseId(Uuid::new_v4()), &vpc(), [10, 0, 0, 8].into())
            .await?;
        assert_eq!(bench.due().await?, 0, "another address");
        bench.store.expedite_removals(former.lease_id, &vpc(), [10, 0, 0, 7].into()).await?;
        assert_eq!(bench.due().await?, 0, "a lease does not expedite its own removal");
        bench
            .store
            .expedite_removals(LeaseId(Uuid::new_v4()), &vpc(), [10, 0, 0, 7].into())
            .await?;
        assert_eq!(bench.due().await?, 1);
        let handed_over = bench.load(&bench.claim_one().await?).await?.lease.handover_since;
        assert_eq!(handed_over, Some(jiff::Timestamp::UNIX_EPOCH), "the handover has ended");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_gateway_that_is_full_is_asked_for_everything_but_new_entries() -> Result<()> {
    in_database(async |bench: &Bench| {
        let (lock, claim) = (acquire_lock(bench).await?, claimed_in(bench, "ns").await?);
        queue(bench, &claim, creation(1)).await?;
        queue(bench, &claim, deletion("fwd-2")).await?;
        let wanted = QueueFilter::ExceptCreations;
        let dequeued = bench.store.dequeue_change(&lock, wanted, CALL, FENCE).await?;
        assert_eq!(dequeued.map(|dequeued| dequeued.operation.resource).as_deref(), Some("fwd-2"));
        assert!(bench.store.dequeue_change(&lock, wanted, CALL, FENCE).await?.is_none());
        bench
            .store
            .under_claim(&claim)
            .finish_claim(&finish(bench.load(&claim).await?.wake, Duration::from_mins(5)))
            .await?;
        bench.store.wake_queued_creations(&gateway()).await?;
        assert_eq!(bench.due().await?, 1, "a lease with a queued creation is woken");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_is_queued_is_sent_once_and_is_under_way_until_its_answer() -> Result<()> {
    in_database(async |bench: &Bench| {
        let (lock, claim) = (acquire_lock(bench).await?, claimed_in(bench, "ns").await?);
        queue(bench, &claim, creation(1)).await?;
        assert_eq!(
            bench
                .store
                .under_claim(&claim)
                .queue_changes(&gateway(), &[creation(1), creation(2)])
                .await?,
            1,
            "one of the changes is queued already"
        );
        let sending = async || {
            anyhow::Ok(
                bench
                    .load(&claim)
                    .await?
                    .operations
                    .iter()
                    .map(|o| o.send_state)
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(sending().await?, [SendState::Queued, SendState::Queued]);
        assert_eq!(bench.store.count_queued_changes(&gateway()).await?, 2);
        let dequeued = next(bench, &lock).await?.expect("a change is queued");
        assert!(matches!(sending().await?[..], [SendState::Sent { .. }, SendState::Queued]));
        let again = bench.store.under_claim(&claim).requeue_unanswered(dequeued.operation.id).await;
        assert!(
            again.is_ok() && matches!(sending().await?[0], SendState::Sent { .. }),
            "no change is sent twice while its answer may come"
        );
        pass(bench, CALL).await?;
        assert_eq!(sending().await?[0], SendState::Unanswered);
        bench.store.under_claim(&claim).requeue_unanswered(dequeued.operation.id).await?;
        let resent = next(bench, &lock).await?.expect("the change is queued again");
        assert_eq!(
            (resent.operation.id, resent.may_still_arrive),
            (dequeued.operation.id, true),
            "same token, same place in the queue"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_lost_answer_wakes_the_lease_at_once() -> Result<()> {
    in_database(async |bench: &Bench| {
        let (lock, claim) = (acquire_lock(bench).await?, claimed_in(bench, "ns").await?);
        queue(bench, &claim, creation(1)).await?;
        let dequeued = next(bench, &lock).await?.expect("a change is queued");
        bench
            .store
            .under_claim(&claim)
            .finish_claim(&finish(bench.load(&claim).await?.wake, Duration::from_mins(5)))
            .await?;
        bench.store.mark_unanswered(dequeued.operation.id).await?;
        let claim = bench.claim_one().await?;
        let loaded = bench.load(&claim).await?;
        assert_eq!(
            (loaded.operations[0].send_state, loaded.operations[0].awaits_fence),
            (SendState::Unanswered, false)
        );
        bench.store.await_fence(dequeued.operation.id).await?;
        assert!(bench.load(&claim).await?.operations[0].awaits_fence);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_change_refused_as_busy_is_queued_anew_in_its_old_place() -> Result<()> {
    in_database(async |bench: &Bench| {
        let (lock, claim) = (acquire_lock(bench).await?, claimed_in(bench, "ns").await?);
        queue(bench, &claim, creation(1)).await?;
        queue(bench, &claim, creation(2)).await?;
        let first = next(bench, &lock).await?.expect("a change is queued");
        bench.store.requeue_busy_change(&lock, &first, "busy").await?;
        let second = next(bench, &lock).await?.expect("the change is queued again");
        assert_eq!(second.operation.resource, first.operation.resource);
        assert_ne!(
            second.operation.id, first.operation.id,
            "a new token, because the first operation was refused"
        );
        assert_eq!(
            (first.busy_retries, second.busy_retries, second.may_still_arrive),
            (0, 1, false)
        );
        // With an earlier send unanswered, the operation stays the same.
        bench.store.mark_unanswered(second.operation.id).await?;
        bench.store.under_claim(&claim).requeue_unanswered(second.operation.id).await?;
        let third = next(bench, &lock).await?.expect("the change is queued again");
        bench.store.requeue_busy_change(&lock, &third, "busy").await?;
        let fourth = next(bench, &lock).await?.expect("the change is queued again");
        assert_eq!(
            (third.operation.id, fourth.operation.id),
            (second.operation.id, second.operation.id)
        );
        Ok(())
    })
    .await
}

/// A lease cancels a change that the gateway sender is about to send: one of them gets it, and both
/// know which.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_either_cancelled_or_sent() -> Result<()> {
    in_database(async |bench: &Bench| {
        let lock = acquire_lock(bench).await?;
        let (mut sent, mut void) = (0, 0);
        for number in 1..=40 {
            let claim = claimed_in(bench, "ns").await?;
            queue(bench, &claim, creation(number)).await?;
            let id = bench.load(&claim).await?.operations[0].id;
            let start = Arc::new(Barrier::new(2));
            let cancelling = tokio::spawn({
                let (store, start) = (bench.store.clone(), Arc::clone(&start));
                async move {
                    start.wait().await;
                    store.under_claim(&claim).cancel_queued_change(id).await
                }
            });
            start.wait().await;
            let dequeued = next(bench, &lock).await?;
            cancelling.await??;
            let sending: Vec<_> = bench
                .load(&claim)
                .await?
                .operations
                .iter()
                .map(|operation| operation.send_state)
                .collect();
            if dequeued.is_some() {
                sent += 1;
                assert!(matches!(sending[..], [SendState::Sent { .. }]), "{sending:?}");
            } else {
                void += 1;
                assert_eq!(
                    (
                        sending.len(),
                        outcome(bench, &format!("eip-1/tcp/{number}")).await?.as_deref()
                    ),
                    (0, Some("void"))
                );
            }
        }
        println!("{sent} were sent, {void} cancelled");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn cancelling_a_resend_leaves_the_first_send_unresolved() -> Result<()> {
    in_database(async |bench: &Bench| {
        let (lock, claim) = (acquire_lock(bench).await?, claimed_in(bench, "ns").await?);
        queue(bench, &claim, creation(1)).await?;
        let dequeued = next(bench, &lock).await?.expect("a change is queued");
        bench.store.mark_unanswered(dequeued.operation.id).await?;
        bench.store.under_claim(&claim).requeue_unanswered(dequeued.operation.id).await?;
        bench.store.under_claim(&claim).cancel_queued_change(dequeued.operation.id).await?;
        assert_eq!(
            bench.load(&claim).await?.operations[0].send_state,
            SendState::Unanswered,
            "the first send may still take effect"
        );
        assert!(next(bench, &lock).await?.is_none());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_gateway_lock_has_one_holder_until_it_expires_or_is_released() -> Result<()> {
    in_database(async |bench: &Bench| {
        let (first, second) = (Uuid::new_v4(), Uuid::new_v4());
        let held =
            bench.store.acquire_worker_locks(first, &[work()], UnconfiguredQueues::Serve).await?;
        assert_eq!(held.len(), 1);
        assert!(
            bench
                .store
                .acquire_worker_locks(second, &[work()], UnconfiguredQueues::Serve)
                .await?
                .is_empty()
        );
        pass(bench, LIFE * 2 / 3).await?;
        assert_eq!(bench.store.renew_worker_locks(first, &[work()]).await?, held);
        pass(bench, LIFE * 2 / 3).await?;
        assert!(
            bench
                .store
                .acquire_worker_locks(second, &[work()], UnconfiguredQueues::Serve)
                .await?
                .is_empty(),
            "renewed"
        );
        pass(bench, LIFE).await?;
        let acquired =
            bench.store.acquire_worker_locks(second, &[work()], UnconfiguredQueues::Serve).await?;
        assert_eq!(acquired.len(), 1);
        assert!(
            bench.store.renew_worker_locks(first, &[work()]).await?.is_empty(),
            "an expired lock stays expired"
        );
        assert!(
            bench.store.renew_worker_locks(second, &[]).await?.is_empty(),
            "only locks of the given gateways"
        );
        bench.store.release_worker_locks(&held).await?;
        assert_eq!(
            bench.store.renew_worker_locks(second, &[work()]).await?,
            acquired,
            "only locks of the owner are released"
        );
        bench.store.release_worker_locks(&acquired).await?;
        assert_eq!(
            bench
                .store
                .acquire_worker_locks(first, &[work()], UnconfiguredQueues::Serve)
                .await?
                .len(),
            1,
            "at once"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_former_holder_sends_nothing_any_more() -> Result<()> {
    in_database(async |bench: &Bench| {
        let (former, claim) = (acquire_lock(bench).await?, claimed_in(bench, "ns").await?);
        queue(bench, &claim, creation(1)).await?;
        queue(bench, &claim, creation(2)).await?;
        // However short the rest of the lock: the answer to what the holder sends now comes, or is
        // no longer awaited, while the lock still holds.
        pass(bench, LIFE.saturating_sub(Duration::from_secs(1))).await?;
        let dequeued = next(bench, &former).await?.expect("a change is queued");
        pass(bench, CALL).await?;
        assert!(
            bench
                .store
                .acquire_worker_locks(Uuid::new_v4(), &[work()], UnconfiguredQueues::Serve)
                .await?
                .is_empty(),
            "the lock holds as long as a call may take"
        );
        bench
            .store
            .under_claim(&claim)
            .finish_claim(&finish(bench.load(&claim).await?.wake, Duration::from_mins(5)))
            .await?;
        pass(bench, LIFE).await?;
        for _ in 0..2 {
            let before = bench.contents().await?;
            assert!(matches!(next(bench, &former).await, Err(Error::GatewayLockLost)));
            assert!(matches!(
                bench.store.requeue_busy_change(&former, &dequeued, "busy").await,
                Err(Error::GatewayLockLost)
            ));
            assert_eq!(before, bench.contents().await?);
            // Acquired anew, even by the same process.
            bench
                .store
                .acquire_worker_locks(owner(bench).await?, &[work()], UnconfiguredQueues::Serve)
                .await?;
        }
        Ok(())
    })
    .await
}

async fn owner(bench: &Bench) -> Result<Uuid> {
    Ok(sqlx::query_scalar("SELECT owner FROM worker_lock").fetch_one(&bench.pool).await?)
}

#[tokio::test]
async fn acquiring_an_expired_lock_wakes_leases_with_unanswered_changes() -> Result<()> {
    in_database(async |bench: &Bench| {
        let lock = acquire_lock(bench).await?;
        let (sent, waits) = (claimed_in(bench, "ns").await?, claimed_in(bench, "ns").await?);
        queue(bench, &sent, creation(1)).await?;
        queue(bench, &waits, creation(2)).await?;
        next(bench, &lock).await?.expect("a change is queued");
        for claim in [&sent, &waits] {
            bench
                .store
                .under_claim(claim)
                .finish_claim(&finish(bench.load(claim).await?.wake, Duration::from_mins(5)))
                .await?;
        }
        pass(bench, LIFE).await?;
        acquire_lock(bench).await?;
        let claim = bench.claim_one().await?;
        assert_eq!(claim.lease_id, sent.lease_id);
        assert_eq!(bench.load(&claim).await?.operations[0].send_state, SendState::Unanswered);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_unconfigured_gateway_is_served_after_a_minute() -> Result<()> {
    in_database(async |bench: &Bench| {
        let claim = claimed_in(bench, "ns").await?;
        queue(bench, &claim, deletion("fwd-1")).await?;
        let acquire =
            |unconfigured| bench.store.acquire_worker_locks(Uuid::new_v4(), &[], unconfigured);
        let others = || acquire(UnconfiguredQueues::Serve);
        assert!(others().await?.is_empty());
        pass(bench, Duration::from_mins(1)).await?;
        assert!(
            others().await?.is_empty(),
            "a new change waits for a process that has the gateway in its configuration"
        );
        sqlx::query("UPDATE operation SET intended_at = intended_at - interval '1 minute'")
            .execute(&bench.pool)
            .await?;
        assert!(
            acquire(UnconfiguredQueues::Leave).await?.is_empty(),
            "a process without forward entries leaves it"
        );
        assert_eq!(others().await?.len(), 1);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_rejection_is_acknowledged_once_and_counted_until_a_success() -> Result<()> {
    in_database(async |bench: &Bench| {
        let (lock, claim) = (acquire_lock(bench).await?, claimed_in(bench, "ns").await?);
        let rejection = |message: &str| Rejection {
            change: creation(1).change,
            reason: "PermissionDenied".to_owned(),
            message: message.to_owned(),
            retry_policy: RetryPolicy::Person,
            min_wait_seconds: 0,
        };
        queue(bench, &claim, creation(1)).await?;
        let dequeued = next(bench, &lock).await?.expect("a change is queued");
        bench.store.record_rejection(claim.lease_id, &rejection("no")).await?;
        bench
            .store
            .settle_operation(
                SettledBy::Sender(Duration::ZERO),
                &dequeued.operation,
                Settlement::from_refusal("no"),
            )
            .await?;
        let loaded = bench.load(&claim).await?;
        assert_eq!((loaded.rejection.as_ref(), loaded.rejections), (Some(&rejection("no")), 0));
        let acknowledging = |wake| waygate_store::Finish {
            looked_at: None,
            history: RefusalHistory::Acknowledged {
                rejection: loaded.rejection.as_ref().expect("a rejection"),
                starts_anew: false,
            },
            ..finish(wake, Duration::ZERO)
        };
        // Another rejection came meanwhile, which was not acknowledged.
        bench.store.record_rejection(claim.lease_id, &rejection("never")).await?;
        bench.store.under_claim(&claim).finish_claim(&acknowledging(loaded.wake)).await?;
        let claim = bench.claim_one().await?;
        assert_eq!(bench.load(&claim).await?.rejection, Some(rejection("never")));
        bench.store.record_rejection(claim.lease_id, &rejection("no")).await?;
        bench.store.under_claim(&claim).finish_claim(&acknowledging(loaded.wake)).await?;
        let claim = bench.claim_one().await?;
        let loaded = bench.load(&claim).await?;
        assert_eq!((loaded.rejection, loaded.rejections), (None, 2));
        queue(bench, &claim, creation(1)).await?;
        let dequeued = next(bench, &lock).await?.expect("a change is queued");
        bench
            .store
            .settle_operation(
                SettledBy::Sender(Duration::ZERO),
                &dequeued.operation,
                Settlement::from_read(Outcome::Done, None),
            )
            .await?;
        assert_eq!(bench.load(&claim).await?.rejections, 0);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn settled_entries_wake_leases_with_nothing_queued() -> Result<()> {
    in_database(async |bench: &Bench| {
        let (lock, claim) = (acquire_lock(bench).await?, claimed_in(bench, "ns").await?);
        bench
            .store
            .under_claim(&claim)
            .queue_changes(&gateway(), &[creation(1), creation(2)])
            .await?;
        bench
            .store
            .under_claim(&claim)
            .finish_claim(&finish(bench.load(&claim).await?.wake, Duration::from_mins(5)))
            .await?;
        for (left, due) in [(1, 0), (0, 1)] {
            let dequeued = next(bench, &lock).await?.expect("a change is queued");
            let by = SettledBy::Sender(Duration::from_mins(1));
            bench
                .store
                .settle_operation(
                    by,
                    &dequeued.operation,
                    Settlement::from_read(Outcome::Done, None),
                )
                .await?;
            assert_eq!(bench.due().await?, 0, "its entry is still pending");
            bench.store.wake_settled(&[claim.lease_id]).await?;
            assert_eq!(
                (bench.store.count_queued_changes(&gateway()).await?, bench.due().await?),
                (left, due)
            );
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_lease_with_a_queued_change_is_not_deleted() -> Result<()> {
    in_database(async |bench: &Bench| {
        let claim = claimed_in(bench, "ns").await?;
        queue(bench, &claim, deletion("fwd-1")).await?;
        assert!(matches!(
            bench.store.under_claim(&claim).delete_empty_lease().await,
            Err(Error::ClaimLost)
        ));
        assert!(keys(&bench.load(&claim).await?).is_empty());
        let operation = bench.load(&claim).await?.operations[0].id;
        bench.store.under_claim(&claim).cancel_queued_change(operation).await?;
        Ok(bench.store.under_claim(&claim).delete_empty_lease().await?)
    })
    .await
}
