//! Addresses that outlive their pods.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    Api, Resource as _,
    api::{DeleteParams, ObjectMeta, PostParams},
};
use serde_json::json;
use testbed::{
    eip::{ADDRESS, GATE},
    nothing_left::{eips_of_ours, nothing_is_left},
    pods::{annotated, annotation},
    stand::{Options, Stand},
    wait::PATIENCE,
    workloads::{scale, stateful, successor},
};
use waygate_core::resources::{PodDNAT, PodEIP};

/// Waits until the only lease is in this phase.
async fn phase(stand: &Stand, wanted: &str) -> Result<()> {
    let probe = || async {
        let phase: Option<String> =
            sqlx::query_scalar("SELECT phase FROM lease").fetch_optional(&stand.database).await?;
        ensure!(phase.as_deref() == Some(wanted), "it is {phase:?}");
        Ok(Some(()))
    };
    stand.eventually(probe, &format!("the lease is {wanted}"), PATIENCE).await
}

#[tokio::test]
async fn a_stateful_pod_gets_its_eip_back_after_a_delete_and_time_ends_it() -> Result<()> {
    let stand = Stand::start().await?;
    stateful(
        &stand,
        &[
            ("k8s.aliyun.com/pod-with-eip", "true"),
            ("k8s.aliyun.com/pod-eip-release-strategy", "5s"),
        ],
    )
    .await?;
    let first = stand.condition("db-0", GATE, "True", PATIENCE).await?;
    stand.delete("db-0").await?;
    let second = successor(&stand, &first, GATE).await?;
    assert_eq!(annotation(&first, ADDRESS), annotation(&second, ADDRESS));
    assert_eq!(eips_of_ours(&stand).await?.len(), 1);
    let resource =
        Api::<PodEIP>::namespaced(stand.client.clone(), &stand.namespace).get("db-0").await?;
    let kept = resource.spec.allocation_type.context("an allocation type")?;
    assert_eq!(
        (kept.release_strategy.as_deref(), kept.release_after.as_deref()),
        (Some("TTL"), Some("5s"))
    );
    scale(&stand, 0).await?;
    phase(&stand, "kept").await?;
    assert_eq!(eips_of_ours(&stand).await?.len(), 1, "the EIP is retained for its five seconds");
    nothing_is_left(&stand).await
}

#[tokio::test]
async fn a_kept_eip_is_released_when_its_custom_resource_is_deleted() -> Result<()> {
    let stand = Stand::start().await?;
    stateful(
        &stand,
        &[
            ("k8s.aliyun.com/pod-with-eip", "true"),
            ("k8s.aliyun.com/pod-eip-release-strategy", "Never"),
        ],
    )
    .await?;
    let first = stand.condition("db-0", GATE, "True", PATIENCE).await?;
    scale(&stand, 0).await?;
    phase(&stand, "kept").await?;
    let resources = Api::<PodEIP>::namespaced(stand.client.clone(), &stand.namespace);
    let shown = resources.get("db-0").await?.status.unwrap_or_default();
    assert_eq!(shown.eip_address, None, "a retained EIP is no address in the status");
    assert_eq!(eips_of_ours(&stand).await?[0]["Status"], "Available");

    scale(&stand, 1).await?;
    let second = successor(&stand, &first, GATE).await?;
    assert_eq!(annotation(&first, ADDRESS), annotation(&second, ADDRESS));
    scale(&stand, 0).await?;
    phase(&stand, "kept").await?;
    resources.delete("db-0", &DeleteParams::default()).await?;
    nothing_is_left(&stand).await
}

#[tokio::test]
async fn a_pod_of_another_owner_does_not_get_a_kept_eip() -> Result<()> {
    let stand = Stand::start().await?;
    stateful(
        &stand,
        &[
            ("k8s.aliyun.com/pod-with-eip", "true"),
            ("k8s.aliyun.com/pod-eip-release-strategy", "Never"),
        ],
    )
    .await?;
    let first = stand.condition("db-0", GATE, "True", PATIENCE).await?;
    scale(&stand, 0).await?;
    phase(&stand, "kept").await?;
    stand.create(&annotated("db-0", &[("k8s.aliyun.com/pod-with-eip", "true")])).await?;
    let probe = || async {
        let told = serde_json::to_string(&stand.pods().get("db-0").await?.status)?;
        ensure!(told.contains("CustomResourceTaken"), "the condition says {told}");
        Ok(Some(()))
    };
    stand.eventually(probe, "the other owner's pod says why it waits", PATIENCE).await?;
    let stranger = stand.pods().get("db-0").await?;
    assert_ne!(stranger.metadata.uid, first.metadata.uid);
    assert!(annotation(&stranger, ADDRESS).is_none());
    Ok(())
}

#[tokio::test]
async fn a_bandwidth_changed_on_a_running_pod_is_changed_on_its_eip() -> Result<()> {
    let stand = Stand::start().await?;
    stand.create(&annotated("fast", &[("k8s.aliyun.com/pod-with-eip", "true")])).await?;
    let before = stand.condition("fast", GATE, "True", PATIENCE).await?;
    stand.annotate("fast", json!({"k8s.aliyun.com/eip-bandwidth": "42"})).await?;
    let resources = Api::<PodEIP>::namespaced(stand.client.clone(), &stand.namespace);
    let probe = || async {
        let (eips, shown) = (
            eips_of_ours(&stand).await?,
            resources.get("fast").await?.status.and_then(|status| status.bandwidth),
        );
        ensure!(
            eips[0]["Bandwidth"] == "42" && shown.as_deref() == Some("42"),
            "{} in the cloud, {shown:?} shown",
            eips[0]["Bandwidth"]
        );
        Ok(Some(()))
    };
    stand.eventually(probe, "the EIP has the new bandwidth", PATIENCE).await?;
    let after = stand.pods().get("fast").await?;
    assert_eq!(annotation(&before, ADDRESS), annotation(&after, ADDRESS));
    Ok(())
}

#[tokio::test]
async fn a_pod_whose_bandwidth_may_not_be_changed_is_told_and_stays_ready() -> Result<()> {
    let stand = Stand::start().await?;
    stand.create(&annotated("slow", &[("k8s.aliyun.com/pod-with-eip", "true")])).await?;
    stand.condition("slow", GATE, "True", PATIENCE).await?;
    stand.cloud.console("policy", json!({"denied": ["vpc:ModifyEipAddressAttribute"]})).await?;
    stand.annotate("slow", json!({"k8s.aliyun.com/eip-bandwidth": "42"})).await?;
    stand.warned("slow", "PermissionDenied", PATIENCE).await?;
    assert_eq!(
        testbed::pods::condition(&stand.pods().get("slow").await?, GATE),
        Some("True"),
        "its address works all the same"
    );
    Ok(())
}

#[tokio::test]
async fn ports_fixed_on_a_running_pod_stay_over_its_delete() -> Result<()> {
    const TOLD: &str = "k8s.aliyun.com/allocated-dnat";
    let stand = Stand::start().await?;
    stateful(
        &stand,
        &[("k8s.aliyun.com/pod-dnat", "true"), ("k8s.aliyun.com/pod-dnat-expose-port", "80")],
    )
    .await?;
    let first = stand.condition("db-0", "k8s.aliyun.com/dnat", "True", PATIENCE).await?;
    stand.annotate("db-0", json!({"k8s.aliyun.com/pod-dnat-fixed": "true"})).await?;
    let probe = || async {
        let keeps: Option<bool> =
            sqlx::query_scalar("SELECT keeps FROM lease").fetch_optional(&stand.database).await?;
        ensure!(keeps == Some(true), "its lease keeps: {keeps:?}");
        Ok(Some(()))
    };
    stand.eventually(probe, "its lease is to be retained", PATIENCE).await?;
    // The garbage collector deletes the custom resource, which the pod owns, with it.
    scale(&stand, 0).await?;
    phase(&stand, "kept").await?;
    let resources = Api::<PodDNAT>::namespaced(stand.client.clone(), &stand.namespace);
    let probe = || async {
        let metadata = resources.get("db-0").await?.metadata;
        ensure!(
            metadata.owner_references.is_none() && metadata.deletion_timestamp.is_none(),
            "it is still the pod's: {metadata:?}"
        );
        Ok(Some(()))
    };
    stand
        .eventually(probe, "a custom resource of its own shows the retained ports", PATIENCE)
        .await?;
    scale(&stand, 1).await?;
    let second = successor(&stand, &first, "k8s.aliyun.com/dnat").await?;
    assert_eq!(annotation(&first, TOLD), annotation(&second, TOLD));
    Ok(())
}

#[tokio::test]
async fn fixed_ports_stay_over_a_delete() -> Result<()> {
    const TOLD: &str = "k8s.aliyun.com/allocated-dnat";
    let stand = Stand::start().await?;
    let asked = [
        ("k8s.aliyun.com/pod-dnat", "true"),
        ("k8s.aliyun.com/pod-dnat-expose-port", "80,443"),
        ("k8s.aliyun.com/pod-dnat-fixed", "true"),
    ];
    stateful(&stand, &asked).await?;
    let first = stand.condition("db-0", "k8s.aliyun.com/dnat", "True", PATIENCE).await?;
    stand.delete("db-0").await?;
    let second = successor(&stand, &first, "k8s.aliyun.com/dnat").await?;
    assert_eq!(annotation(&first, TOLD), annotation(&second, TOLD));
    let calls = (
        stand.cloud.calls_of("ModifyForwardEntry").await?,
        stand.cloud.calls_of("DeleteForwardEntry").await?,
    );
    let ip = |pod: &Pod| pod.status.as_ref().and_then(|status| status.pod_ip.clone());
    let needed = if ip(&first) == ip(&second) { 0 } else { 2 };
    assert_eq!(calls, (needed, 0), "the entries were pointed at the successor as they stood");
    scale(&stand, 0).await?;
    phase(&stand, "kept").await?;
    assert!(
        stand.cloud.list("forwardEntries").await?.is_empty(),
        "nothing forwards to a pod that is gone"
    );
    let resources = Api::<PodDNAT>::namespaced(stand.client.clone(), &stand.namespace);
    resources.delete("db-0", &DeleteParams::default()).await?;
    nothing_is_left(&stand).await
}

#[tokio::test]
async fn pods_of_a_configured_kind_keep_their_eip_as_those_of_a_stateful_set_do() -> Result<()> {
    let config = json!({"networkController": {"customStatefulWorkloadKinds": ["ConfigMap"]}});
    let stand = Stand::start_with(Options { config, ..Options::default() }).await?;
    let owner = ConfigMap {
        metadata: ObjectMeta { name: Some("games".to_owned()), ..ObjectMeta::default() },
        ..ConfigMap::default()
    };
    let owner = Api::<ConfigMap>::namespaced(stand.client.clone(), &stand.namespace)
        .create(&PostParams::default(), &owner)
        .await?;
    let mut pod = annotated(
        "game-7",
        &[
            ("k8s.aliyun.com/pod-with-eip", "true"),
            ("k8s.aliyun.com/pod-eip-release-strategy", "10m"),
        ],
    );
    pod.metadata.owner_references =
        Some(vec![owner.controller_owner_ref(&()).context("an owner reference")?]);
    stand.create(&pod).await?;
    let first = stand.condition("game-7", GATE, "True", PATIENCE).await?;
    stand.delete("game-7").await?;
    stand.gone("game-7", PATIENCE).await?;
    stand.create(&pod).await?;
    let second = stand.condition("game-7", GATE, "True", PATIENCE).await?;
    assert_ne!(first.metadata.uid, second.metadata.uid);
    assert_eq!(annotation(&first, ADDRESS), annotation(&second, ADDRESS));
    Ok(())
}
