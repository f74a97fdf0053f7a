//! The worker is killed between the cloud's answer and its record.

use anyhow::Result;
use std::time::Duration;
use testbed::{
    answers::{held, hold},
    eip::GATE,
    nothing_left::{eips_of_ours, nothing_is_left},
    pods::annotated,
    stand::Stand,
};

const WITH_EIP: [(&str, &str); 1] = [("k8s.aliyun.com/pod-with-eip", "true")];
const WITH_DNAT: [(&str, &str); 2] =
    [("k8s.aliyun.com/pod-dnat", "true"), ("k8s.aliyun.com/pod-dnat-expose-port", "80")];

async fn kill_in_between(
    stand: &Stand,
    action: &str,
    go: impl AsyncFnOnce() -> Result<()>,
) -> Result<()> {
    let fault = hold(stand, action).await?;
    go().await?;
    held(stand).await?;
    stand.worker.kill().await?;
    stand.cloud.release(fault).await?;
    stand.worker.start().await
}

#[tokio::test]
async fn a_crash_after_the_allocation_leaks_no_eip() -> Result<()> {
    let stand = Stand::start().await?;
    kill_in_between(&stand, "AllocateEipAddress", async || {
        stand.create(&annotated("pod", &WITH_EIP)).await.map(drop)
    })
    .await?;
    stand.condition("pod", GATE, "True", Duration::from_secs(90)).await?;
    assert_eq!(eips_of_ours(&stand).await?.len(), 1, "one pod, one EIP");
    let allocations: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM operation WHERE change->>'action' = 'AllocateEipAddress'",
    )
    .fetch_one(&stand.database)
    .await?;
    assert_eq!(allocations, 1, "and one operation, settled once");
    stand.delete("pod").await?;
    nothing_is_left(&stand).await
}

#[tokio::test]
async fn a_crash_around_binding_unbinding_or_release_leaks_no_eip() -> Result<()> {
    let stand = Stand::start().await?;
    kill_in_between(&stand, "AssociateEipAddress", async || {
        stand.create(&annotated("pod", &WITH_EIP)).await.map(drop)
    })
    .await?;
    stand.condition("pod", GATE, "True", Duration::from_secs(90)).await?;
    assert_eq!(eips_of_ours(&stand).await?.len(), 1);
    kill_in_between(&stand, "UnassociateEipAddress", async || stand.delete("pod").await).await?;
    let release = hold(&stand, "ReleaseEipAddress").await?;
    held(&stand).await?;
    stand.worker.kill().await?;
    stand.cloud.release(release).await?;
    stand.worker.start().await?;
    let probe = || async { Ok(eips_of_ours(&stand).await?.is_empty().then_some(())) };
    stand.eventually(probe, "the EIP is released", Duration::from_secs(90)).await?;
    nothing_is_left(&stand).await
}

#[tokio::test]
async fn a_crash_around_a_forward_entry_leaks_none() -> Result<()> {
    let stand = Stand::start().await?;
    kill_in_between(&stand, "CreateForwardEntry", async || {
        stand.create(&annotated("pod", &WITH_DNAT)).await.map(drop)
    })
    .await?;
    stand.condition("pod", "k8s.aliyun.com/dnat", "True", Duration::from_secs(90)).await?;
    assert_eq!(stand.cloud.list("forwardEntries").await?.len(), 1);
    kill_in_between(&stand, "DeleteForwardEntry", async || stand.delete("pod").await).await?;
    let probe = || async { Ok(stand.cloud.list("forwardEntries").await?.is_empty().then_some(())) };
    stand.eventually(probe, "the entry is deleted", Duration::from_secs(90)).await?;
    nothing_is_left(&stand).await
}
