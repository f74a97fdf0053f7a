//! The gateway queue: changes of forward entries wait in a queue that all workers share, and a
//! single worker at a time sends them.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde_json::{Value, json};
use std::time::Duration;
use testbed::{
    dnat::{GATE, WITH_DNAT, ports_annotation, start_with_one_gateway},
    leftovers::wait_until_nothing_is_left,
    pods::{annotated_pod, condition_status, find_condition},
    stand::Stand,
    strict_gateways::{serve_crowd, wait_until_all_ready},
    wait::TIMEOUT,
};

/// A gateway so slow that pods wait in its queue also where the machine is slow to make them.
fn slow_gateway() -> Value {
    json!({"entryPending": [4000, 4000]})
}

async fn count_refusals(stand: &Stand, action: &str, code: &str) -> Result<u64> {
    Ok(stand.cloud.count_calls().await?["errors"][action][code].as_u64().unwrap_or_default())
}

/// Counts the changes in all gateways' queues.
async fn count_queued_changes(stand: &Stand) -> Result<i64> {
    Ok(sqlx::query_scalar("SELECT count(*) FROM operation WHERE queued")
        .fetch_one(&stand.database)
        .await?)
}

/// Waits until at least this number of changes is queued.
async fn wait_for_queue_length(stand: &Stand, least: i64) -> Result<()> {
    let probe = || async {
        let waiting = count_queued_changes(stand).await?;
        ensure!(waiting >= least, "{waiting} wait");
        Ok(Some(()))
    };
    stand
        .eventually(probe, &format!("{least} changes wait at the gateway"), Duration::from_secs(30))
        .await
}

/// Counts the operations that were settled as `outcome`.
async fn count_settled_operations(stand: &Stand, outcome: &str) -> Result<i64> {
    Ok(sqlx::query_scalar("SELECT count(*) FROM operation WHERE outcome = $1")
        .bind(outcome)
        .fetch_one(&stand.database)
        .await?)
}

#[tokio::test]
async fn two_workers_never_call_one_gateway_at_the_same_time_and_one_goes_on_where_the_other_ends()
-> Result<()> {
    let stand = start_with_one_gateway("--profile strict", 1, 600, 700).await?;
    let (one, other) = (stand.worker.nth(0)?, stand.worker.nth(1)?);
    // The first worker is to hold the gateway lock.
    other.stop().await?;
    let held = || async {
        let holders =
            "SELECT count(*) FROM worker_lock WHERE owner IS NOT NULL AND name LIKE 'ngw-%'";
        let holders: i64 = sqlx::query_scalar(holders).fetch_one(&stand.database).await?;
        Ok((holders == 1).then_some(()))
    };
    stand.eventually(held, "the first worker holds the gateway lock", TIMEOUT).await?;
    other.start().await?;
    for number in 0..12 {
        stand
            .create_pod(&annotated_pod(
                &format!("pod-{number}"),
                &[WITH_DNAT, ports_annotation("80")],
            ))
            .await?;
    }
    let some = |count: i64| {
        let stand = &stand;
        move || async move {
            Ok((count_settled_operations(stand, "done").await? >= count).then_some(()))
        }
    };
    stand.eventually(some(3), "three entries are made", Duration::from_secs(30)).await?;
    // A holder that ends in order releases the gateway lock, so the other worker need not wait for
    // its expiry.
    one.stop().await?;
    let made = count_settled_operations(&stand, "done").await?;
    stand
        .eventually(some(made + 2), "the other worker makes entries", Duration::from_secs(8))
        .await?;
    one.start().await?;
    other.kill().await?;
    wait_until_all_ready(&stand, Duration::from_secs(90)).await?;
    assert_eq!(
        count_refusals(&stand, "CreateForwardEntry", "OperationConflict").await?,
        0,
        "two calls at a time"
    );
    let learned =
        count_refusals(&stand, "CreateForwardEntry", "IncorretForwardEntryStatus").await?;
    assert!(
        learned <= 4,
        "each of three processes finds out once that entries must have settled, and is wrong about it once at most: {learned}"
    );
    for number in 0..12 {
        stand.delete_pod(&format!("pod-{number}")).await?;
    }
    wait_until_nothing_is_left(&stand).await
}

#[tokio::test]
async fn a_single_pod_does_not_wait_behind_another_namespaces_crowd() -> Result<()> {
    let stand = start_with_one_gateway("--profile strict", 1, 600, 700).await?;
    stand.cloud.change_at_console("pace", slow_gateway()).await?;
    for number in 0..30 {
        stand
            .create_pod(&annotated_pod(
                &format!("crowd-{number}"),
                &[WITH_DNAT, ports_annotation("80")],
            ))
            .await?;
    }
    wait_for_queue_length(&stand, 20).await?;
    let quiet = format!("{}-quiet", stand.namespace);
    stand.installation.serve_namespace(&quiet).await?;
    let pods: Api<Pod> = Api::namespaced(stand.client.clone(), &quiet);
    pods.create(
        &PostParams::default(),
        &annotated_pod("single", &[WITH_DNAT, ports_annotation("80")]),
    )
    .await?;
    let probe = || async {
        Ok((condition_status(&pods.get("single").await?, GATE) == Some("True")).then_some(()))
    };
    stand.eventually(probe, "the single pod has its port", Duration::from_secs(30)).await?;
    let before: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM operation c JOIN operation s ON s.namespace = $1
         WHERE c.namespace = $2 AND c.outcome = 'done' AND c.settled_at BETWEEN s.intended_at AND s.settled_at",
    )
    .bind(&quiet)
    .bind(&stand.namespace)
    .fetch_one(&stand.database)
    .await?;
    assert!(before <= 2, "{before} of the crowd's entries were made while the single one waited");
    assert!(count_queued_changes(&stand).await? > 0, "the crowd waits on");
    Ok(())
}

#[tokio::test]
async fn a_pod_that_waits_in_the_gateway_queue_says_so() -> Result<()> {
    let stand = start_with_one_gateway("--profile strict", 1, 600, 700).await?;
    stand.cloud.change_at_console("pace", slow_gateway()).await?;
    for number in 0..3 {
        stand
            .create_pod(&annotated_pod(
                &format!("pod-{number}"),
                &[WITH_DNAT, ports_annotation("80")],
            ))
            .await?;
    }
    // Which pod is last is the workers' to choose.
    let gateway = stand.cloud.account.nat_gateways[0].nat_gateway_id.as_str();
    let probe = || async {
        let pods = stand.pods().list(&ListParams::default()).await?;
        let says_so = pods.iter().filter_map(|pod| find_condition(pod, GATE)).any(|condition| {
            condition.reason.as_deref() == Some("WaitingForGateway")
                && condition.message.as_deref().is_some_and(|message| message.contains(gateway))
        });
        Ok(says_so.then_some(()))
    };
    stand.eventually(probe, "a pod says that it waits for the gateway", TIMEOUT).await?;
    wait_until_all_ready(&stand, Duration::from_mins(1)).await
}

#[tokio::test]
async fn a_queued_change_that_is_no_longer_needed_is_not_sent() -> Result<()> {
    let stand = start_with_one_gateway("--profile strict", 1, 600, 700).await?;
    stand.cloud.change_at_console("pace", slow_gateway()).await?;
    for number in 0..10 {
        stand
            .create_pod(&annotated_pod(
                &format!("pod-{number}"),
                &[WITH_DNAT, ports_annotation("80")],
            ))
            .await?;
    }
    wait_for_queue_length(&stand, 6).await?;
    for number in 0..10 {
        stand.delete_pod(&format!("pod-{number}")).await?;
    }
    wait_until_nothing_is_left(&stand).await?;
    let made = stand.cloud.count_calls_of("CreateForwardEntry").await?;
    assert!(made <= 6, "{made} entries were asked for, for pods that were gone");
    Ok(())
}

/// 40 entries of pods with two ports that are not adjacent, ten at each of four gateways that take one
/// entry after the other. `make bench` has ten times as many, and compares times.
#[tokio::test]
async fn a_crowd_on_four_strict_gateways_wastes_hardly_a_call() -> Result<()> {
    let run = serve_crowd(20).await?;
    // At each gateway two more teach how it takes them, once for each of two workers at most.
    assert!((run.calls - 8) * 10 <= run.entries * 11, "{run:?}");
    assert_eq!(run.paces.len(), 4, "each gateway made entries");
    Ok(())
}
