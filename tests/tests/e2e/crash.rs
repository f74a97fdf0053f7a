//! The worker is killed between the cloud's answer and its record.

use anyhow::Result;
use std::time::Duration;
use testbed::{
    eip::GATE,
    held_answers::{hold_answer, wait_for_held_answer},
    leftovers::{list_allocated_eips, wait_until_nothing_is_left},
    pods::annotated_pod,
    stand::Stand,
};

const WITH_EIP: [(&str, &str); 1] = [("k8s.aliyun.com/pod-with-eip", "true")];
const WITH_DNAT: [(&str, &str); 2] =
    [("k8s.aliyun.com/pod-dnat", "true"), ("k8s.aliyun.com/pod-dnat-expose-port", "80")];

async fn kill_between_call_and_record(
    stand: &Stand,
    action: &str,
    go: impl AsyncFnOnce() -> Result<()>,
) -> Result<()> {
    let fault = hold_answer(stand, action).await?;
    go().await?;
    wait_for_held_answer(stand).await?;
    stand.worker.kill().await?;
    stand.cloud.release_fault(fault).await?;
    stand.worker.start().await
}

#[tokio::test]
async fn a_crash_after_the_allocation_leaks_no_eip() -> Result<()> {
    let stand = Stand::start().await?;
    kill_between_call_and_record(&stand, "AllocateEipAddress", async || {
        stand.create_pod(&annotated_pod("pod", &WITH_EIP)).await.map(drop)
    })
    .await?;
    stand.wait_for_condition("pod", GATE, "True", Duration::from_secs(90)).await?;
    assert_eq!(list_allocated_eips(&stand).await?.len(), 1, "one pod, one EIP");
    let allocations: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM operation WHERE change->>'action' = 'AllocateEipAddress'",
    )
    .fetch_one(&stand.database)
    .await?;
    assert_eq!(allocations, 1, "and one operation, settled once");
    stand.delete_pod("pod").await?;
    wait_until_nothing_is_left(&stand).await
}

#[tokio::test]
async fn a_crash_around_binding_unbinding_or_release_leaks_no_eip() -> Result<()> {
    let stand = Stand::start().await?;
    kill_between_call_and_record(&stand, "AssociateEipAddress", async || {
        stand.create_pod(&annotated_pod("pod", &WITH_EIP)).await.map(drop)
    })
    .await?;
    stand.wait_for_condition("pod", GATE, "True", Duration::from_secs(90)).await?;
    assert_eq!(list_allocated_eips(&stand).await?.len(), 1);
    kill_between_call_and_record(&stand, "UnassociateEipAddress", async || {
        stand.delete_pod("pod").await
    })
    .await?;
    let release = hold_answer(&stand, "ReleaseEipAddress").await?;
    wait_for_held_answer(&stand).await?;
    stand.worker.kill().await?;
    stand.cloud.release_fault(release).await?;
    stand.worker.start().await?;
    let probe = || async { Ok(list_allocated_eips(&stand).await?.is_empty().then_some(())) };
    stand.eventually(probe, "the EIP is released", Duration::from_secs(90)).await?;
    wait_until_nothing_is_left(&stand).await
}

#[tokio::test]
async fn a_crash_around_a_forward_entry_leaks_none() -> Result<()> {
    let stand = Stand::start().await?;
    kill_between_call_and_record(&stand, "CreateForwardEntry", async || {
        stand.create_pod(&annotated_pod("pod", &WITH_DNAT)).await.map(drop)
    })
    .await?;
    stand.wait_for_condition("pod", "k8s.aliyun.com/dnat", "True", Duration::from_secs(90)).await?;
    assert_eq!(stand.cloud.list_resources("forwardEntries").await?.len(), 1);
    kill_between_call_and_record(&stand, "DeleteForwardEntry", async || {
        stand.delete_pod("pod").await
    })
    .await?;
    let probe = || async {
        Ok(stand.cloud.list_resources("forwardEntries").await?.is_empty().then_some(()))
    };
    stand.eventually(probe, "the entry is deleted", Duration::from_secs(90)).await?;
    wait_until_nothing_is_left(&stand).await
}
