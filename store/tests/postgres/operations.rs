//! Operations: intent first, one unresolved change per resource, every answer recorded once, by any
//! process.

use crate::database::{Bench, CLAIM, bought, dnat, finish, in_database, ports, release, target};
use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use waygate_core::change::{Answer, Change, ForwardEntrySpec};
use waygate_core::ids::{AllocationId, ForwardEntryId, ForwardTableId};
use waygate_core::lease::LeasedPort;
use waygate_core::operation::{Operation, Outcome, SendState};
use waygate_core::request::{EipSpec, Protocol};
use waygate_core::rules::response::LeaseEffect;
use waygate_store::{Claim, Error, SettledBy, Settlement};

const LATER: Duration = Duration::from_mins(5);

fn allocate() -> Change {
    Change::AllocateEipAddress {
        spec: EipSpec::default(),
        tags: [("waygate.dev/lease".to_owned(), "1".to_owned())].into(),
    }
}

fn eip(id: &str, last: u8) -> Answer {
    Answer {
        request_id: "r".to_owned(),
        allocation_id: Some(AllocationId::new(id)),
        ip_address: Some([198, 18, 0, last].into()),
        entry_id: None,
    }
}

async fn done(
    bench: &Bench,
    claim: &Claim,
    operation: &Operation,
    answer: Option<&Answer>,
) -> Result<(), Error> {
    bench
        .store
        .settle_operation(
            SettledBy::ClaimHolder(claim),
            operation,
            Settlement::from_read(Outcome::Done, answer),
        )
        .await
}

#[tokio::test]
async fn a_resource_has_one_unresolved_operation() -> Result<()> {
    in_database(async |bench: &Bench| {
        let (one, other) = (bench.claimed(&bought()).await?, bench.claimed(&bought()).await?);
        let first = bench.send(&one, "eip-1", &release("eip-1")).await?;
        for claim in [&one, &other] {
            assert!(!bench.queue(claim, "eip-1", &release("eip-1")).await?);
        }
        bench.send(&one, "eip-2", &release("eip-2")).await?;
        done(bench, &one, &first, None).await?;
        bench.send(&other, "eip-1", &release("eip-1")).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_operation_is_read_back_as_it_was_intended() -> Result<()> {
    in_database(async |bench: &Bench| {
        let claim = bench.claimed(&bought()).await?;
        let intended = bench.send(&claim, "lease/1/eip", &allocate()).await?;
        let loaded = bench.load(&claim).await?;
        let send_state = loaded.operations[0].send_state;
        assert!(matches!(send_state, SendState::Sent { .. }), "{send_state:?}");
        assert_eq!(loaded.operations, [Operation { send_state, ..intended }]);
        assert_eq!(loaded.operations[0].change, allocate());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn reads_that_show_no_effect_count_half_a_minute_apart() -> Result<()> {
    in_database(async |bench: &Bench| {
        let claim = bench.claimed(&bought()).await?;
        let operation = bench.send(&claim, "lease/1/eip", &allocate()).await?;
        bench.pass(Duration::from_mins(1)).await?;
        let claim = bench.claim_one().await?;
        bench.store.under_claim(&claim).count_read_without_effect(operation.id).await?;
        let loaded = bench.load(&claim).await?;
        let apart = loaded.operations[0].fence_until.duration_since(loaded.now);
        assert!((28..=30).contains(&apart.as_secs()), "{apart}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_resend_keeps_token_and_parameters_and_moves_the_fence() -> Result<()> {
    in_database(async |bench: &Bench| {
        let claim = bench.claimed(&bought()).await?;
        let first = bench.send(&claim, "lease/1/eip", &allocate()).await?;
        let claimed = bench.store.under_claim(&claim);
        claimed.requeue_unanswered(first.id).await?;
        let awaited = bench.load(&claim).await?.operations.remove(0);
        assert!(matches!(awaited.send_state, SendState::Sent { .. }), "its answer may still come");
        bench.store.mark_unanswered(first.id).await?;
        claimed.count_read_without_effect(first.id).await?;
        bench.pass_fence(Duration::from_secs(30)).await?;
        let waiting = bench.load(&claim).await?.operations.remove(0);
        assert_eq!((waiting.send_state, waiting.reads_without_effect), (SendState::Unanswered, 1));
        claimed.requeue_unanswered(first.id).await?;
        let again = bench.dequeue(&allocate()).await?;
        assert_eq!(
            (again.operation.id, &again.operation.resource, &again.operation.change),
            (first.id, &first.resource, &first.change)
        );
        assert!(again.may_still_arrive, "the first send's fence has not passed");
        let loaded = bench.load(&claim).await?.operations.remove(0);
        assert_eq!((loaded.sends, loaded.reads_without_effect), (2, 0));
        assert!(loaded.fence_until > waiting.fence_until);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_fence_is_in_postgres_time() -> Result<()> {
    in_database(async |bench: &Bench| {
        let claim = bench.claimed(&bought()).await?;
        let operation = bench.send(&claim, "eip-1", &release("eip-1")).await?;
        let left = |now: Timestamp| operation.fence_until.duration_since(now);
        let now = bench.load(&claim).await?.now;
        assert!(
            left(now) > SignedDuration::from_secs(30) && left(now) <= SignedDuration::from_secs(60),
            "{}",
            left(now)
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_settled_operation_is_settled_once() -> Result<()> {
    in_database(async |bench: &Bench| {
        let claim = bench.claimed(&bought()).await?;
        let operation = bench.send(&claim, "lease/1/eip", &allocate()).await?;
        done(bench, &claim, &operation, Some(&eip("eip-1", 1))).await?;
        let before = bench.contents().await?;
        let later = eip("eip-2", 2);
        let late = [
            Settlement::from_success(&later),
            Settlement::from_absence("late", LeaseEffect::EipGone),
            Settlement::from_refusal("late"),
            Settlement::without_effect(),
        ];
        for settlement in late {
            bench
                .store
                .settle_operation(SettledBy::ClaimHolder(&claim), &operation, settlement)
                .await?;
        }
        assert_eq!(bench.contents().await?, before, "the second answer changed something");
        assert!(matches!(
            bench.store.under_claim(&claim).count_read_without_effect(operation.id).await,
            Err(Error::ClaimLost)
        ));
        bench.store.under_claim(&claim).requeue_unanswered(operation.id).await?;
        bench.store.requeue_unsent(&operation).await?;
        bench.store.requeue_throttled(&operation, 120, Duration::ZERO).await?;
        assert!(bench.load(&claim).await?.operations.is_empty(), "it is not sent again");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_answers_at_once_one_counts() -> Result<()> {
    in_database(async |bench: &Bench| {
        let claim = bench.claimed(&bought()).await?;
        let operation = bench.send(&claim, "lease/1/eip", &allocate()).await?;
        let start = Arc::new(Barrier::new(16));
        let mut tasks = JoinSet::new();
        for last in 1..=16 {
            let (store, operation, start) =
                (bench.store.clone(), operation.clone(), Arc::clone(&start));
            tasks.spawn(async move {
                start.wait().await;
                let answer = eip(&format!("eip-{last}"), last);
                store
                    .settle_operation(
                        SettledBy::ClaimHolder(&claim),
                        &operation,
                        Settlement::from_success(&answer),
                    )
                    .await
            });
        }
        while let Some(settled) = tasks.join_next().await {
            settled??;
        }
        let answered: String =
            sqlx::query_scalar("SELECT answer ->> 'allocation_id' FROM operation")
                .fetch_one(&bench.pool)
                .await?;
        let leased = bench.load(&claim).await?.lease.eip.map(|eip| eip.allocation_id);
        assert_eq!(leased, Some(AllocationId::new(answered)), "the lease and the operation agree");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_answer_is_recorded_though_the_claim_was_lost_and_wakes_the_new_holder() -> Result<()> {
    in_database(async |bench: &Bench| {
        let former = bench.claimed(&bought()).await?;
        let operation = bench.send(&former, "lease/1/eip", &allocate()).await?;
        bench.pass(CLAIM).await?;
        let holder = bench.claim_one().await?;
        let wake = bench.load(&holder).await?.wake;
        done(bench, &former, &operation, Some(&eip("eip-1", 1))).await?;
        assert_eq!(bench.due().await?, 0, "the claim holder keeps its claim");
        bench.store.under_claim(&holder).finish_claim(&finish(wake, LATER)).await?;
        let loaded = bench.load(&bench.claim_one().await?).await?;
        let eip = loaded.lease.eip.expect("the answer's EIP");
        assert_eq!((eip.allocation_id, eip.managed), (AllocationId::new("eip-1"), true));
        assert!(loaded.operations.is_empty());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_unawaited_answer_makes_the_lease_due() -> Result<()> {
    in_database(async |bench: &Bench| {
        let former = bench.claimed(&bought()).await?;
        let operation = bench.send(&former, "lease/1/eip", &allocate()).await?;
        bench
            .store
            .under_claim(&former)
            .finish_claim(&finish(bench.load(&former).await?.wake, LATER))
            .await?;
        done(bench, &former, &operation, Some(&eip("eip-1", 1))).await?;
        assert_eq!(bench.due().await?, 1);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_claim_holder_that_settles_is_not_woken() -> Result<()> {
    in_database(async |bench: &Bench| {
        let claim = bench.claimed(&bought()).await?;
        let operation = bench.send(&claim, "lease/1/eip", &allocate()).await?;
        let wake = bench.load(&claim).await?.wake;
        done(bench, &claim, &operation, Some(&eip("eip-1", 1))).await?;
        assert_eq!(bench.load(&claim).await?.wake, wake);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_operation_not_done_leaves_the_lease_unchanged() -> Result<()> {
    in_database(async |bench: &Bench| {
        let claim = bench.claimed(&bought()).await?;
        for settlement in [Settlement::from_refusal("no"), Settlement::without_effect()] {
            let operation = bench.send(&claim, "lease/1/eip", &allocate()).await?;
            bench
                .store
                .settle_operation(SettledBy::ClaimHolder(&claim), &operation, settlement)
                .await?;
            let loaded = bench.load(&claim).await?;
            assert_eq!((loaded.lease.eip, loaded.operations.len()), (None, 0), "{settlement:?}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_eip_that_the_cloud_denies_leaves_the_lease() -> Result<()> {
    in_database(async |bench: &Bench| {
        let claim = bench.claimed(&bought()).await?;
        let bought = bench.send(&claim, "lease/1/eip", &allocate()).await?;
        done(bench, &claim, &bought, Some(&eip("eip-1", 1))).await?;
        let given_back = bench.send(&claim, "eip-1", &release("eip-1")).await?;
        bench
            .store
            .settle_operation(
                SettledBy::ClaimHolder(&claim),
                &given_back,
                Settlement::from_absence("NotFound", LeaseEffect::EipGone),
            )
            .await?;
        assert_eq!(bench.load(&claim).await?.lease.eip, None);
        bench.store.under_claim(&claim).delete_empty_lease().await?;
        Ok(())
    })
    .await
}

fn forward(port: &LeasedPort) -> ForwardEntrySpec {
    ForwardEntrySpec {
        table_id: ForwardTableId::new("ftb-1"),
        name: "wg2".to_owned(),
        external_ip: port.external_ip,
        external_port: port.external_port,
        internal_ip: [10, 0, 0, 1].into(),
        internal_port: port.exposed.port,
        ports: 1,
        protocol: port.protocol(),
        port_break: false,
    }
}

#[tokio::test]
async fn an_entry_is_noted_on_its_own_port_and_protocol_and_its_deletion_too() -> Result<()> {
    in_database(async |bench: &Bench| {
        // Two external ports with the same number: only the protocol distinguishes the rows.
        let pool = [bench.offer("eip-1", 1000, 1000).await?];
        let claim = bench.claimed(&ports(&[80], &[80])).await?;
        bench
            .store
            .under_claim(&claim)
            .reserve_ports(&dnat(&[80], &[80]), &[pool.to_vec()])
            .await?;
        bench.store.under_claim(&claim).set_target(&target(1)).await?;
        let leased = bench.load(&claim).await?.lease.ports;
        let udp = leased.iter().find(|port| port.protocol() == Protocol::Udp).expect("a UDP port");
        let create =
            bench.send(&claim, "eip-1/udp/1000", &Change::CreateForwardEntry(forward(udp))).await?;
        let entry_id = ForwardEntryId::new("fwd-1");
        done(
            bench,
            &claim,
            &create,
            Some(&Answer { entry_id: Some(entry_id.clone()), ..Answer::default() }),
        )
        .await?;
        let noted: Vec<_> = bench
            .load(&claim)
            .await?
            .lease
            .ports
            .into_iter()
            .map(|p| (p.protocol(), p.entry_id, p.deleted))
            .collect();
        assert_eq!(
            noted,
            [(Protocol::Tcp, None, false), (Protocol::Udp, Some(entry_id.clone()), false)]
        );

        let change =
            Change::DeleteForwardEntry { table_id: ForwardTableId::new("ftb-1"), entry_id };
        let delete = bench.send(&claim, "fwd-1", &change).await?;
        done(bench, &claim, &delete, None).await?;
        assert_eq!(
            bench.load(&claim).await?.lease.ports.iter().map(|p| p.deleted).collect::<Vec<_>>(),
            [false, true]
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn history_is_pruned_and_the_unresolved_stays() -> Result<()> {
    in_database(async |bench: &Bench| {
        let claim = bench.claimed(&bought()).await?;
        let settled = bench.send(&claim, "eip-1", &release("eip-1")).await?;
        done(bench, &claim, &settled, None).await?;
        let open = bench.send(&claim, "eip-1", &release("eip-1")).await?;
        assert_eq!(bench.store.prune_operations(Duration::from_hours(1)).await?, 0);
        assert_eq!(bench.store.prune_operations(Duration::ZERO).await?, 1);
        let left = bench.load(&claim).await?.operations;
        assert_eq!(left.iter().map(|operation| operation.id).collect::<Vec<_>>(), [open.id]);
        Ok(())
    })
    .await
}
