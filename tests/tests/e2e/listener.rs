//! One worker of a cluster records pod events: its end, its pause, and what a restart costs.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use testbed::{
    address_kinds::{ADDRESS_KINDS, EIP},
    leftovers::wait_until_nothing_is_left,
    pods::annotated_pod,
    service::Service,
    stand::Stand,
    wait::TIMEOUT,
};

/// A lock expires within 15 s, and the others look for free ones once a second; the rest is for a
/// busy machine.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(25);
/// A released lock is acquired within a second: well before it would expire.
const HANDED_OVER_WITHIN: Duration = Duration::from_secs(8);

/// The worker that acquired the lock on pod events last. Only the tests' own workers are started.
fn find_listener(stand: &Stand) -> Result<&Service> {
    let mut listeners = Vec::new();
    for worker in stand.worker.iter() {
        if std::fs::read_to_string(worker.log_path())?.contains("pods:") {
            listeners.push(worker);
        }
    }
    ensure!(listeners.len() == 1, "{} workers have listened", listeners.len());
    listeners.pop().context("a listener")
}

/// Creates a pod, and waits until a worker has recorded that it exists.
async fn create_recorded_pod(stand: &Stand, name: &str, within: Duration) -> Result<()> {
    stand.create_pod(&annotated_pod(name, EIP.request)).await?;
    let recorded = || async {
        let phase = "SELECT phase <> 'announced' FROM lease WHERE pod_name = $1";
        let recorded: Option<bool> =
            sqlx::query_scalar(phase).bind(name).fetch_optional(&stand.database).await?;
        Ok(recorded.unwrap_or(false).then_some(()))
    };
    stand.eventually(recorded, "the pod is recorded", within).await
}

async fn serve_and_end_pod(stand: &Stand, name: &str) -> Result<()> {
    stand.wait_for_condition(name, EIP.gate, "True", TIMEOUT).await?;
    stand.delete_pod(name).await?;
    wait_until_nothing_is_left(stand).await
}

#[tokio::test]
async fn another_worker_listens_when_the_listener_is_killed() -> Result<()> {
    let stand = Stand::start().await?;
    find_listener(&stand)?.kill().await?;
    create_recorded_pod(&stand, "after-kill", TAKEN_OVER_WITHIN).await?;
    serve_and_end_pod(&stand, "after-kill").await
}

#[tokio::test]
async fn a_listener_that_is_stopped_hands_over_at_once() -> Result<()> {
    let stand = Stand::start().await?;
    find_listener(&stand)?.stop().await?;
    create_recorded_pod(&stand, "after-stop", HANDED_OVER_WITHIN).await?;
    serve_and_end_pod(&stand, "after-stop").await
}

#[tokio::test]
async fn a_frozen_listener_is_replaced_and_loses_nothing_when_it_goes_on() -> Result<()> {
    let stand = Stand::start().await?;
    let frozen = find_listener(&stand)?;
    frozen.pause().await?;
    create_recorded_pod(&stand, "meanwhile", TAKEN_OVER_WITHIN).await?;
    frozen.resume().await?;
    create_recorded_pod(&stand, "afterwards", HANDED_OVER_WITHIN).await?;
    stand.wait_for_condition("afterwards", EIP.gate, "True", TIMEOUT).await?;
    stand.delete_pod("afterwards").await?;
    serve_and_end_pod(&stand, "meanwhile").await
}

/// What shows that a lease was woken or looked at.
async fn read_looks(stand: &Stand) -> Result<Vec<(String, i64, i64, String)>> {
    let looks =
        "SELECT pod_name, wake, epoch, coalesce(looked_at::text, '') FROM lease ORDER BY pod_name";
    Ok(sqlx::query_as(looks).fetch_all(&stand.database).await?)
}

fn count_rounds(stand: &Stand) -> Result<usize> {
    Ok(stand.worker.read_logs()?.matches("listener has gone through all pods").count())
}

#[tokio::test]
async fn a_restart_looks_at_no_lease_whose_pod_is_as_it_was() -> Result<()> {
    let stand = Stand::start().await?;
    for kind in &ADDRESS_KINDS {
        stand.create_pod(&annotated_pod(kind.pod, kind.request)).await?;
    }
    for kind in &ADDRESS_KINDS {
        stand.wait_for_condition(kind.pod, "Ready", "True", TIMEOUT).await?;
    }
    stand.wait_until_leases_rest().await?;
    let before = read_looks(&stand).await?;
    stand.worker.stop().await?;
    let rounds = count_rounds(&stand)?;
    stand.worker.start().await?;
    let compared = || async { Ok((count_rounds(&stand)? > rounds).then_some(())) };
    stand.eventually(compared, "a listener goes through all pods", TIMEOUT).await?;
    // Longer than a lease that was woken takes until it is claimed.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(before, read_looks(&stand).await?);

    stand.worker.stop().await?;
    stand.delete_pod(ADDRESS_KINDS[0].pod).await?;
    stand.worker.start().await?;
    let gone = || async { Ok((read_looks(&stand).await?.len() == 1).then_some(())) };
    stand.eventually(gone, "what ended meanwhile is found", TIMEOUT).await
}
