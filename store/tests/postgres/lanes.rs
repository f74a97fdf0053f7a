//! One process at a time sends the changes queued at a gateway, in a fair order, and cancelled
//! changes are not sent.

use crate::database::{Bench, CLAIM, dnat, finish, in_database, keys, ports, target};
use anyhow::Result;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Barrier;
use uuid::Uuid;
use waygate_core::change::{Change, Forward};
use waygate_core::ids::{ForwardEntryId, ForwardTableId, LeaseId, NatGatewayId};
use waygate_core::lease::Constraint;
use waygate_core::operation::{Ask, Outcome, Refused, Sending};
use waygate_core::request::Protocol;
use waygate_core::retry::Patience;
use waygate_store::{Bringer, Claim, Error, Lane, Settlement, Sighting, Taken, Wanted};

const CALL: Duration = Duration::from_secs(10);
const FENCE: Duration = Duration::from_mins(1);
const LIFE: Duration = Duration::from_secs(15);

pub(crate) fn gateway() -> NatGatewayId {
    NatGatewayId::new("ngw-1")
}

/// The creation of an entry on this external port.
pub(crate) fn creation(number: u16) -> Ask {
    let forward = Forward {
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
    Ask { resource: format!("eip-1/tcp/{number}"), change: Change::CreateForwardEntry(forward) }
}

fn deletion(id: &str) -> Ask {
    let change = Change::DeleteForwardEntry {
        table_id: ForwardTableId::new("ftb-1"),
        entry_id: ForwardEntryId::new(id),
    };
    Ask { resource: id.to_owned(), change }
}

/// Acquires the gateway lock as a new process.
async fn lane(bench: &Bench) -> Result<Lane> {
    Ok(bench.store.take_lanes(Uuid::new_v4(), &[gateway()]).await?.remove(0))
}

async fn next(bench: &Bench, lane: &Lane) -> Result<Option<Taken>, Error> {
    bench.store.next_in_lane(lane, Wanted::Anything, CALL, FENCE).await
}

/// Dequeues changes until the queue is empty, and returns their resources in order.
async fn order(bench: &Bench, lane: &Lane) -> Result<Vec<String>> {
    let mut order = Vec::new();
    while let Some(taken) = next(bench, lane).await? {
        order.push(taken.operation.resource);
    }
    Ok(order)
}

/// Makes and claims a lease of a pod in this namespace.
async fn claimed_in(bench: &Bench, namespace: &str) -> Result<Claim> {
    let pod_uid = Uuid::new_v4();
    let (pod_name, request) = (pod_uid.to_string(), ports(&[80], &[]));
    let sighting = Sighting {
        namespace,
        pod_name: &pod_name,
        pod_uid,
        controller: None,
        pod_created_at: None,
        request: &request,
    };
    bench.store.sight(bench.cluster, &sighting).await?;
    bench.claim_one().await
}

async fn queue(bench: &Bench, claim: &Claim, ask: Ask) -> Result<()> {
    assert_eq!(bench.store.claimed(claim).queue(&gateway(), &[ask]).await?, 1);
    Ok(())
}

/// Moves the expiry of gateway locks closer by `time`.
async fn pass(bench: &Bench, time: Duration) -> Result<()> {
    sqlx::query("UPDATE lane SET until = until - make_interval(secs => $1)")
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
async fn namespaces_take_turns_and_each_has_its_oldest_first() -> Result<()> {
    in_database(async |bench: &Bench| {
        let lane = lane(bench).await?;
        for number in 1..=4 {
            queue(bench, &claimed_in(bench, "crowd").await?, creation(number)).await?;
        }
        let first = next(bench, &lane).await?.map(|taken| taken.operation.resource);
        assert_eq!(first.as_deref(), Some("eip-1/tcp/1"));
        // A newcomer behind a crowd waits for one of its changes, not for all.
        for number in 11..=12 {
            queue(bench, &claimed_in(bench, "single").await?, creation(number)).await?;
        }
        assert_eq!(
            order(bench, &lane).await?,
            ["eip-1/tcp/11", "eip-1/tcp/2", "eip-1/tcp/12", "eip-1/tcp/3", "eip-1/tcp/4"]
        );
        // The fair queue remembers a namespace after its queue is empty, and forgets it in time.
        queue(bench, &claimed_in(bench, "crowd").await?, creation(5)).await?;
        queue(bench, &claimed_in(bench, "single").await?, creation(13)).await?;
        assert_eq!(order(bench, &lane).await?, ["eip-1/tcp/13", "eip-1/tcp/5"]);
        assert_eq!(bench.store.prune_turns(Duration::ZERO).await?, 2);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_same_namespace_of_another_cluster_has_its_own_turn() -> Result<()> {
    in_database(async |bench: &Bench| {
        let lane = lane(bench).await?;
        for number in 1..=3 {
            queue(bench, &claimed_in(bench, "games").await?, creation(number)).await?;
        }
        let other = bench.store.register_cluster(Uuid::new_v4(), "c2").await?;
        let (pod_uid, request) = (Uuid::new_v4(), ports(&[80], &[]));
        let sighting = Sighting {
            namespace: "games",
            pod_name: "pod",
            pod_uid,
            controller: None,
            pod_created_at: None,
            request: &request,
        };
        bench.store.sight(other, &sighting).await?;
        let claim = bench.store.claim(other, Uuid::new_v4(), 1, CLAIM).await?.remove(0);
        queue(bench, &claim, creation(11)).await?;
        assert_eq!(
            order(bench, &lane).await?,
            ["eip-1/tcp/1", "eip-1/tcp/11", "eip-1/tcp/2", "eip-1/tcp/3"]
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_deletion_whose_address_is_at_another_pod_goes_before_everything() -> Result<()> {
    in_database(async |bench: &Bench| {
        let (lane, pool) = (lane(bench).await?, [vec![bench.offer("eip-1", 1000, 1100).await?]]);
        queue(bench, &claimed_in(bench, "crowd").await?, creation(1)).await?;
        let former = claimed_in(bench, "crowd").await?;
        bench.store.claimed(&former).reserve_ports(&dnat(&[80], &[]), &pool).await?;
        bench.store.claimed(&former).set_target(&target(7)).await?;
        bench.store.claimed(&former).queue(&gateway(), &[creation(2), deletion("fwd-2")]).await?;
        let waiting = claimed_in(bench, "crowd").await?;
        bench.store.claimed(&waiting).reserve_ports(&dnat(&[80], &[]), &pool).await?;
        let taken = bench.store.claimed(&waiting).set_target(&target(7)).await;
        assert_eq!(taken.err().as_ref().and_then(Error::conflict), Some(Constraint::ForwardedPort));
        assert_eq!(bench.store.hurry(waiting.lease_id, [10, 0, 0, 7].into()).await?, [gateway()]);
        assert!(
            bench.store.hurry(waiting.lease_id, [10, 0, 0, 7].into()).await?.is_empty(),
            "the second call changes nothing"
        );
        assert_eq!(order(bench, &lane).await?, ["fwd-2", "eip-1/tcp/1", "eip-1/tcp/2"]);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_holder_that_sleeps_is_woken_for_the_address_another_pod_has() -> Result<()> {
    in_database(async |bench: &Bench| {
        let pool = [vec![bench.offer("eip-1", 1000, 1100).await?]];
        let former = claimed_in(bench, "ns").await?;
        bench.store.claimed(&former).reserve_ports(&dnat(&[80], &[]), &pool).await?;
        bench.store.claimed(&former).set_target(&target(7)).await?;
        bench.store.claimed(&former).part().await?;
        let wake = bench.load(&former).await?.wake;
        bench.store.claimed(&former).finish(&finish(wake, Duration::from_mins(5))).await?;
        bench.store.hurry(LeaseId(Uuid::new_v4()), [10, 0, 0, 8].into()).await?;
        assert_eq!(bench.due().await?, 0, "another address");
        bench.store.hurry(former.lease_id, [10, 0, 0, 7].into()).await?;
        assert_eq!(bench.due().await?, 0, "a lease does not expedite its own removal");
        bench.store.hurry(LeaseId(Uuid::new_v4()), [10, 0, 0, 7].into()).await?;
        assert_eq!(bench.due().await?, 1);
        let parted = bench.load(&bench.claim_one().await?).await?.lease.parted_at;
        assert_eq!(parted, Some(jiff::Timestamp::UNIX_EPOCH), "the handover has ended");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_gateway_that_is_full_is_asked_for_everything_but_new_entries() -> Result<()> {
    in_database(async |bench: &Bench| {
        let (lane, claim) = (lane(bench).await?, claimed_in(bench, "ns").await?);
        queue(bench, &claim, creation(1)).await?;
        queue(bench, &claim, deletion("fwd-2")).await?;
        let wanted = Wanted::NoCreation;
        let taken = bench.store.next_in_lane(&lane, wanted, CALL, FENCE).await?;
        assert_eq!(taken.map(|taken| taken.operation.resource).as_deref(), Some("fwd-2"));
        assert!(bench.store.next_in_lane(&lane, wanted, CALL, FENCE).await?.is_none());
        bench
            .store
            .claimed(&claim)
            .finish(&finish(bench.load(&claim).await?.wake, Duration::from_mins(5)))
            .await?;
        bench.store.wake_queue(&gateway()).await?;
        assert_eq!(bench.due().await?, 1, "a lease with a queued creation is woken");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_is_queued_is_sent_once_and_is_under_way_until_its_answer() -> Result<()> {
    in_database(async |bench: &Bench| {
        let (lane, claim) = (lane(bench).await?, claimed_in(bench, "ns").await?);
        queue(bench, &claim, creation(1)).await?;
        assert_eq!(
            bench.store.claimed(&claim).queue(&gateway(), &[creation(1), creation(2)]).await?,
            1,
            "one of the changes is queued already"
        );
        let sending = async || {
            anyhow::Ok(
                bench.load(&claim).await?.operations.iter().map(|o| o.sending).collect::<Vec<_>>(),
            )
        };
        assert_eq!(sending().await?, [Sending::Queued, Sending::Queued]);
        assert_eq!(bench.store.waiting_in_lane(&gateway()).await?, 2);
        let taken = next(bench, &lane).await?.expect("a change is queued");
        assert_eq!(sending().await?, [Sending::Sent, Sending::Queued]);
        let again = bench.store.claimed(&claim).requeue(taken.operation.id).await;
        assert!(
            again.is_ok() && sending().await?[0] == Sending::Sent,
            "no change is sent twice while its answer may come"
        );
        pass(bench, CALL).await?;
        assert_eq!(sending().await?[0], Sending::Unanswered);
        bench.store.claimed(&claim).requeue(taken.operation.id).await?;
        let resent = next(bench, &lane).await?.expect("the change is queued again");
        assert_eq!(
            (resent.operation.id, resent.may_still_arrive),
            (taken.operation.id, true),
            "same token, same place in the queue"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_answer_lost_is_told_at_once() -> Result<()> {
    in_database(async |bench: &Bench| {
        let (lane, claim) = (lane(bench).await?, claimed_in(bench, "ns").await?);
        queue(bench, &claim, creation(1)).await?;
        let taken = next(bench, &lane).await?.expect("a change is queued");
        bench
            .store
            .claimed(&claim)
            .finish(&finish(bench.load(&claim).await?.wake, Duration::from_mins(5)))
            .await?;
        bench.store.lost(taken.operation.id).await?;
        let claim = bench.claim_one().await?;
        let loaded = bench.load(&claim).await?;
        assert_eq!(
            (loaded.operations[0].sending, loaded.operations[0].waits_out),
            (Sending::Unanswered, false)
        );
        bench.store.wait_out(taken.operation.id).await?;
        assert!(bench.load(&claim).await?.operations[0].waits_out);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_a_busy_gateway_refused_is_queued_anew_in_its_old_place() -> Result<()> {
    in_database(async |bench: &Bench| {
        let (lane, claim) = (lane(bench).await?, claimed_in(bench, "ns").await?);
        queue(bench, &claim, creation(1)).await?;
        queue(bench, &claim, creation(2)).await?;
        let first = next(bench, &lane).await?.expect("a change is queued");
        bench.store.again(&lane, &first, "busy").await?;
        let second = next(bench, &lane).await?.expect("the change is queued again");
        assert_eq!(second.operation.resource, first.operation.resource);
        assert_ne!(
            second.operation.id, first.operation.id,
            "a new token, because the first operation was refused"
        );
        assert_eq!((first.agains, second.agains, second.may_still_arrive), (0, 1, false));
        // With an earlier send unanswered, the operation stays the same.
        bench.store.lost(second.operation.id).await?;
        bench.store.claimed(&claim).requeue(second.operation.id).await?;
        let third = next(bench, &lane).await?.expect("the change is queued again");
        bench.store.again(&lane, &third, "busy").await?;
        let fourth = next(bench, &lane).await?.expect("the change is queued again");
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
async fn what_is_taken_back_is_not_sent_and_what_is_sent_is_not_taken_back() -> Result<()> {
    in_database(async |bench: &Bench| {
        let lane = lane(bench).await?;
        let (mut sent, mut void) = (0, 0);
        for number in 1..=40 {
            let claim = claimed_in(bench, "ns").await?;
            queue(bench, &claim, creation(number)).await?;
            let id = bench.load(&claim).await?.operations[0].id;
            let start = Arc::new(Barrier::new(2));
            let taking_back = tokio::spawn({
                let (store, start) = (bench.store.clone(), Arc::clone(&start));
                async move {
                    start.wait().await;
                    store.claimed(&claim).unqueue(id).await
                }
            });
            start.wait().await;
            let taken = next(bench, &lane).await?;
            taking_back.await??;
            let sending: Vec<_> = bench
                .load(&claim)
                .await?
                .operations
                .iter()
                .map(|operation| operation.sending)
                .collect();
            if taken.is_some() {
                sent += 1;
                assert_eq!(sending, [Sending::Sent]);
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
        println!("{sent} were sent, {void} taken back");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_was_sent_before_is_taken_back_only_from_the_queue() -> Result<()> {
    in_database(async |bench: &Bench| {
        let (lane, claim) = (lane(bench).await?, claimed_in(bench, "ns").await?);
        queue(bench, &claim, creation(1)).await?;
        let taken = next(bench, &lane).await?.expect("a change is queued");
        bench.store.lost(taken.operation.id).await?;
        bench.store.claimed(&claim).requeue(taken.operation.id).await?;
        bench.store.claimed(&claim).unqueue(taken.operation.id).await?;
        assert_eq!(
            bench.load(&claim).await?.operations[0].sending,
            Sending::Unanswered,
            "the first send may still take effect"
        );
        assert!(next(bench, &lane).await?.is_none());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_lane_has_one_holder_and_passes_on_when_it_lapses_or_is_given_back() -> Result<()> {
    in_database(async |bench: &Bench| {
        let (first, second) = (Uuid::new_v4(), Uuid::new_v4());
        let held = bench.store.take_lanes(first, &[gateway()]).await?;
        assert_eq!(held.len(), 1);
        assert!(bench.store.take_lanes(second, &[gateway()]).await?.is_empty());
        pass(bench, LIFE * 2 / 3).await?;
        assert_eq!(bench.store.renew_lanes(first, &[gateway()]).await?, held);
        pass(bench, LIFE * 2 / 3).await?;
        assert!(bench.store.take_lanes(second, &[gateway()]).await?.is_empty(), "renewed");
        pass(bench, LIFE).await?;
        let taken = bench.store.take_lanes(second, &[gateway()]).await?;
        assert_eq!(taken.len(), 1);
        assert!(
            bench.store.renew_lanes(first, &[gateway()]).await?.is_empty(),
            "an expired lock stays expired"
        );
        assert!(
            bench.store.renew_lanes(second, &[]).await?.is_empty(),
            "only locks of the given gateways"
        );
        bench.store.leave_lanes(first).await?;
        assert_eq!(
            bench.store.renew_lanes(second, &[gateway()]).await?,
            taken,
            "only locks of the owner are released"
        );
        bench.store.leave_lanes(second).await?;
        assert_eq!(bench.store.take_lanes(first, &[gateway()]).await?.len(), 1, "at once");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_former_holder_sends_nothing_any_more() -> Result<()> {
    in_database(async |bench: &Bench| {
        let (former, claim) = (lane(bench).await?, claimed_in(bench, "ns").await?);
        queue(bench, &claim, creation(1)).await?;
        queue(bench, &claim, creation(2)).await?;
        // However short the rest of the lock: the answer to what the holder sends now comes, or is
        // no longer awaited, while the lock still holds.
        pass(bench, LIFE.saturating_sub(Duration::from_secs(1))).await?;
        let taken = next(bench, &former).await?.expect("a change is queued");
        pass(bench, CALL).await?;
        assert!(
            bench.store.take_lanes(Uuid::new_v4(), &[gateway()]).await?.is_empty(),
            "the lock holds as long as a call may take"
        );
        bench
            .store
            .claimed(&claim)
            .finish(&finish(bench.load(&claim).await?.wake, Duration::from_mins(5)))
            .await?;
        pass(bench, LIFE).await?;
        for _ in 0..2 {
            let before = bench.contents().await?;
            assert!(matches!(next(bench, &former).await, Err(Error::LaneLost)));
            assert!(matches!(
                bench.store.again(&former, &taken, "busy").await,
                Err(Error::LaneLost)
            ));
            assert_eq!(before, bench.contents().await?);
            // Acquired anew, even by the same process.
            bench.store.take_lanes(owner(bench).await?, &[gateway()]).await?;
        }
        Ok(())
    })
    .await
}

async fn owner(bench: &Bench) -> Result<Uuid> {
    Ok(sqlx::query_scalar("SELECT owner FROM lane").fetch_one(&bench.pool).await?)
}

#[tokio::test]
async fn who_takes_a_lapsed_lane_wakes_those_whose_changes_were_under_way() -> Result<()> {
    in_database(async |bench: &Bench| {
        let lane = lane(bench).await?;
        let (sent, waits) = (claimed_in(bench, "ns").await?, claimed_in(bench, "ns").await?);
        queue(bench, &sent, creation(1)).await?;
        queue(bench, &waits, creation(2)).await?;
        next(bench, &lane).await?.expect("a change is queued");
        for claim in [&sent, &waits] {
            bench
                .store
                .claimed(claim)
                .finish(&finish(bench.load(claim).await?.wake, Duration::from_mins(5)))
                .await?;
        }
        pass(bench, LIFE).await?;
        self::lane(bench).await?;
        let claim = bench.claim_one().await?;
        assert_eq!(claim.lease_id, sent.lease_id);
        assert_eq!(bench.load(&claim).await?.operations[0].sending, Sending::Unanswered);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_gateway_in_nobodys_configuration_is_served_after_a_minute() -> Result<()> {
    in_database(async |bench: &Bench| {
        let claim = claimed_in(bench, "ns").await?;
        queue(bench, &claim, deletion("fwd-1")).await?;
        let others = || bench.store.take_lanes(Uuid::new_v4(), &[]);
        assert!(others().await?.is_empty());
        pass(bench, Duration::from_mins(1)).await?;
        assert!(
            others().await?.is_empty(),
            "a new change waits for a process that has the gateway in its configuration"
        );
        sqlx::query("UPDATE operation SET intended_at = intended_at - interval '1 minute'")
            .execute(&bench.pool)
            .await?;
        assert_eq!(others().await?.len(), 1);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn word_of_a_lane_is_heard_once_and_counted_until_something_is_done() -> Result<()> {
    in_database(async |bench: &Bench| {
        let (lane, claim) = (lane(bench).await?, claimed_in(bench, "ns").await?);
        let word = |message: &str| Refused {
            reason: "PermissionDenied".to_owned(),
            message: message.to_owned(),
            patience: Patience::Person,
            at_least_seconds: 0,
        };
        queue(bench, &claim, creation(1)).await?;
        let taken = next(bench, &lane).await?.expect("a change is queued");
        bench.store.leave_word(claim.lease_id, &word("no")).await?;
        bench
            .store
            .settle(Bringer::Lane(Duration::ZERO), &taken.operation, Settlement::rejected("no"))
            .await?;
        let loaded = bench.load(&claim).await?;
        assert_eq!((loaded.refused.as_ref(), loaded.refusals), (Some(&word("no")), 0));
        let heard = |wake| waygate_store::Finish {
            heard: loaded.refused.as_ref(),
            ..finish(wake, Duration::ZERO)
        };
        // Another rejection came meanwhile, which was not acknowledged.
        bench.store.leave_word(claim.lease_id, &word("never")).await?;
        bench.store.claimed(&claim).finish(&heard(loaded.wake)).await?;
        let claim = bench.claim_one().await?;
        assert_eq!(bench.load(&claim).await?.refused, Some(word("never")));
        bench.store.leave_word(claim.lease_id, &word("no")).await?;
        bench.store.claimed(&claim).finish(&heard(loaded.wake)).await?;
        let claim = bench.claim_one().await?;
        let loaded = bench.load(&claim).await?;
        assert_eq!((loaded.refused, loaded.refusals), (None, 2));
        queue(bench, &claim, creation(1)).await?;
        let taken = next(bench, &lane).await?.expect("a change is queued");
        bench
            .store
            .settle(
                Bringer::Lane(Duration::ZERO),
                &taken.operation,
                Settlement::observed(Outcome::Done, None),
            )
            .await?;
        assert_eq!(bench.load(&claim).await?.refusals, 0);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_came_to_rest_wakes_leases_that_wait_for_nothing_else() -> Result<()> {
    in_database(async |bench: &Bench| {
        let (lane, claim) = (lane(bench).await?, claimed_in(bench, "ns").await?);
        bench.store.claimed(&claim).queue(&gateway(), &[creation(1), creation(2)]).await?;
        bench
            .store
            .claimed(&claim)
            .finish(&finish(bench.load(&claim).await?.wake, Duration::from_mins(5)))
            .await?;
        for (left, due) in [(1, 0), (0, 1)] {
            let taken = next(bench, &lane).await?.expect("a change is queued");
            let by = Bringer::Lane(Duration::from_mins(1));
            bench
                .store
                .settle(by, &taken.operation, Settlement::observed(Outcome::Done, None))
                .await?;
            assert_eq!(bench.due().await?, 0, "its entry is still pending");
            bench.store.wake_rested(&[claim.lease_id]).await?;
            assert_eq!(
                (bench.store.waiting_in_lane(&gateway()).await?, bench.due().await?),
                (left, due)
            );
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_lease_with_something_queued_is_not_forgotten() -> Result<()> {
    in_database(async |bench: &Bench| {
        let claim = claimed_in(bench, "ns").await?;
        queue(bench, &claim, deletion("fwd-1")).await?;
        assert!(matches!(bench.store.claimed(&claim).forget().await, Err(Error::ClaimLost)));
        assert!(keys(&bench.load(&claim).await?).is_empty());
        let operation = bench.load(&claim).await?.operations[0].id;
        bench.store.claimed(&claim).unqueue(operation).await?;
        Ok(bench.store.claimed(&claim).forget().await?)
    })
    .await
}
