//! Addresses that outlive their pods.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    Api, Resource as _,
    api::{DeleteParams, ObjectMeta, PostParams},
};
use serde_json::json;
use testbed::{
    eip::{ADDRESS_KEY, GATE},
    leftovers::{list_allocated_eips, wait_until_nothing_is_left},
    pods::{annotated_pod, annotation_value},
    stand::{Options, Stand},
    wait::TIMEOUT,
    workloads::{create_stateful_set, scale_stateful_set, wait_for_successor},
};
use waygate_core::resources::{PodDNAT, PodEIP};

/// Waits until the only lease is in this phase.
async fn wait_for_phase(stand: &Stand, wanted: &str) -> Result<()> {
    let probe = || async {
        let phase: Option<String> =
            sqlx::query_scalar("SELECT phase FROM lease").fetch_optional(&stand.database).await?;
        ensure!(phase.as_deref() == Some(wanted), "it is {phase:?}");
        Ok(Some(()))
    };
    stand.eventually(probe, &format!("the lease is {wanted}"), TIMEOUT).await
}

#[tokio::test]
async fn a_stateful_pod_gets_its_eip_back_after_a_delete_and_time_ends_it() -> Result<()> {
    let stand = Stand::start().await?;
    create_stateful_set(
        &stand,
        &[
            ("k8s.aliyun.com/pod-with-eip", "true"),
            ("k8s.aliyun.com/pod-eip-release-strategy", "5s"),
        ],
    )
    .await?;
    let first = stand.wait_for_condition("db-0", GATE, "True", TIMEOUT).await?;
    stand.delete_pod("db-0").await?;
    let second = wait_for_successor(&stand, &first, GATE).await?;
    assert_eq!(annotation_value(&first, ADDRESS_KEY), annotation_value(&second, ADDRESS_KEY));
    assert_eq!(list_allocated_eips(&stand).await?.len(), 1);
    let resource =
        Api::<PodEIP>::namespaced(stand.client.clone(), &stand.namespace).get("db-0").await?;
    let allocation_type = resource.spec.allocation_type.context("an allocation type")?;
    assert_eq!(
        (allocation_type.release_strategy.as_deref(), allocation_type.release_after.as_deref()),
        (Some("TTL"), Some("5s"))
    );
    scale_stateful_set(&stand, 0).await?;
    wait_for_phase(&stand, "retained").await?;
    assert_eq!(
        list_allocated_eips(&stand).await?.len(),
        1,
        "the EIP is retained for its five seconds"
    );
    wait_until_nothing_is_left(&stand).await
}

#[tokio::test]
async fn a_retained_eip_is_released_when_its_custom_resource_is_deleted() -> Result<()> {
    let stand = Stand::start().await?;
    create_stateful_set(
        &stand,
        &[
            ("k8s.aliyun.com/pod-with-eip", "true"),
            ("k8s.aliyun.com/pod-eip-release-strategy", "Never"),
        ],
    )
    .await?;
    let first = stand.wait_for_condition("db-0", GATE, "True", TIMEOUT).await?;
    scale_stateful_set(&stand, 0).await?;
    wait_for_phase(&stand, "retained").await?;
    let resources = Api::<PodEIP>::namespaced(stand.client.clone(), &stand.namespace);
    let shown = resources.get("db-0").await?.status.unwrap_or_default();
    assert_eq!(shown.eip_address, None, "a retained EIP is no address in the status");
    assert_eq!(list_allocated_eips(&stand).await?[0]["Status"], "Available");

    scale_stateful_set(&stand, 1).await?;
    let second = wait_for_successor(&stand, &first, GATE).await?;
    assert_eq!(annotation_value(&first, ADDRESS_KEY), annotation_value(&second, ADDRESS_KEY));
    scale_stateful_set(&stand, 0).await?;
    wait_for_phase(&stand, "retained").await?;
    resources.delete("db-0", &DeleteParams::default()).await?;
    wait_until_nothing_is_left(&stand).await
}

#[tokio::test]
async fn a_pod_of_another_owner_does_not_get_a_retained_eip() -> Result<()> {
    let stand = Stand::start().await?;
    create_stateful_set(
        &stand,
        &[
            ("k8s.aliyun.com/pod-with-eip", "true"),
            ("k8s.aliyun.com/pod-eip-release-strategy", "Never"),
        ],
    )
    .await?;
    let first = stand.wait_for_condition("db-0", GATE, "True", TIMEOUT).await?;
    scale_stateful_set(&stand, 0).await?;
    wait_for_phase(&stand, "retained").await?;
    stand.create_pod(&annotated_pod("db-0", &[("k8s.aliyun.com/pod-with-eip", "true")])).await?;
    let probe = || async {
        let status = serde_json::to_string(&stand.pods().get("db-0").await?.status)?;
        ensure!(status.contains("CustomResourceTaken"), "the condition says {status}");
        Ok(Some(()))
    };
    stand.eventually(probe, "the other owner's pod says why it waits", TIMEOUT).await?;
    let other_pod = stand.pods().get("db-0").await?;
    assert_ne!(other_pod.metadata.uid, first.metadata.uid);
    assert!(annotation_value(&other_pod, ADDRESS_KEY).is_none());
    Ok(())
}

#[tokio::test]
async fn a_bandwidth_changed_on_a_running_pod_is_changed_on_its_eip() -> Result<()> {
    let stand = Stand::start().await?;
    stand.create_pod(&annotated_pod("fast", &[("k8s.aliyun.com/pod-with-eip", "true")])).await?;
    let before = stand.wait_for_condition("fast", GATE, "True", TIMEOUT).await?;
    stand.annotate_pod("fast", json!({"k8s.aliyun.com/eip-bandwidth": "42"})).await?;
    let resources = Api::<PodEIP>::namespaced(stand.client.clone(), &stand.namespace);
    let probe = || async {
        let (eips, shown) = (
            list_allocated_eips(&stand).await?,
            resources.get("fast").await?.status.and_then(|status| status.bandwidth),
        );
        ensure!(
            eips[0]["Bandwidth"] == "42" && shown.as_deref() == Some("42"),
            "{} in the cloud, {shown:?} shown",
            eips[0]["Bandwidth"]
        );
        Ok(Some(()))
    };
    stand.eventually(probe, "the EIP has the new bandwidth", TIMEOUT).await?;
    let after = stand.pods().get("fast").await?;
    assert_eq!(annotation_value(&before, ADDRESS_KEY), annotation_value(&after, ADDRESS_KEY));
    Ok(())
}

#[tokio::test]
async fn a_pod_whose_bandwidth_may_not_be_changed_gets_an_event_and_stays_ready() -> Result<()> {
    let stand = Stand::start().await?;
    stand.create_pod(&annotated_pod("slow", &[("k8s.aliyun.com/pod-with-eip", "true")])).await?;
    stand.wait_for_condition("slow", GATE, "True", TIMEOUT).await?;
    stand
        .cloud
        .change_at_console("policy", json!({"denied": ["vpc:ModifyEipAddressAttribute"]}))
        .await?;
    stand.annotate_pod("slow", json!({"k8s.aliyun.com/eip-bandwidth": "42"})).await?;
    stand.wait_for_warning("slow", "PermissionDenied", TIMEOUT).await?;
    assert_eq!(
        testbed::pods::condition_status(&stand.pods().get("slow").await?, GATE),
        Some("True"),
        "its address works all the same"
    );
    Ok(())
}

#[tokio::test]
async fn ports_fixed_on_a_running_pod_stay_over_its_delete() -> Result<()> {
    const TOLD: &str = "k8s.aliyun.com/allocated-dnat";
    let stand = Stand::start().await?;
    create_stateful_set(
        &stand,
        &[("k8s.aliyun.com/pod-dnat", "true"), ("k8s.aliyun.com/pod-dnat-expose-port", "80")],
    )
    .await?;
    let first = stand.wait_for_condition("db-0", "k8s.aliyun.com/dnat", "True", TIMEOUT).await?;
    stand.annotate_pod("db-0", json!({"k8s.aliyun.com/pod-dnat-fixed": "true"})).await?;
    let probe = || async {
        let keeps: Option<bool> =
            sqlx::query_scalar("SELECT retains FROM lease").fetch_optional(&stand.database).await?;
        ensure!(keeps == Some(true), "its lease keeps: {keeps:?}");
        Ok(Some(()))
    };
    stand.eventually(probe, "its lease is to be retained", TIMEOUT).await?;
    // The garbage collector deletes the custom resource, which the pod owns, with it.
    scale_stateful_set(&stand, 0).await?;
    wait_for_phase(&stand, "retained").await?;
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
        .eventually(probe, "a custom resource of its own shows the retained ports", TIMEOUT)
        .await?;
    scale_stateful_set(&stand, 1).await?;
    let second = wait_for_successor(&stand, &first, "k8s.aliyun.com/dnat").await?;
    assert_eq!(annotation_value(&first, TOLD), annotation_value(&second, TOLD));
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
    create_stateful_set(&stand, &asked).await?;
    let first = stand.wait_for_condition("db-0", "k8s.aliyun.com/dnat", "True", TIMEOUT).await?;
    stand.delete_pod("db-0").await?;
    let second = wait_for_successor(&stand, &first, "k8s.aliyun.com/dnat").await?;
    assert_eq!(annotation_value(&first, TOLD), annotation_value(&second, TOLD));
    let calls = (
        stand.cloud.count_calls_of("ModifyForwardEntry").await?,
        stand.cloud.count_calls_of("DeleteForwardEntry").await?,
    );
    let ip = |pod: &Pod| pod.status.as_ref().and_then(|status| status.pod_ip.clone());
    let needed = if ip(&first) == ip(&second) { 0 } else { 2 };
    assert_eq!(calls, (needed, 0), "the entries were pointed at the successor as they stood");
    scale_stateful_set(&stand, 0).await?;
    wait_for_phase(&stand, "retained").await?;
    assert!(
        stand.cloud.list_resources("forwardEntries").await?.is_empty(),
        "nothing forwards to a pod that is gone"
    );
    let resources = Api::<PodDNAT>::namespaced(stand.client.clone(), &stand.namespace);
    resources.delete("db-0", &DeleteParams::default()).await?;
    wait_until_nothing_is_left(&stand).await
}

#[tokio::test]
async fn pods_of_a_configured_stateful_kind_keep_their_eip() -> Result<()> {
    let config = json!({"networkController": {"customStatefulWorkloadKinds": ["ConfigMap"]}});
    let stand = Stand::start_with(Options { config, ..Options::default() }).await?;
    let owner = ConfigMap {
        metadata: ObjectMeta { name: Some("games".to_owned()), ..ObjectMeta::default() },
        ..ConfigMap::default()
    };
    let owner = Api::<ConfigMap>::namespaced(stand.client.clone(), &stand.namespace)
        .create(&PostParams::default(), &owner)
        .await?;
    let mut pod = annotated_pod(
        "game-7",
        &[
            ("k8s.aliyun.com/pod-with-eip", "true"),
            ("k8s.aliyun.com/pod-eip-release-strategy", "10m"),
        ],
    );
    pod.metadata.owner_references =
        Some(vec![owner.controller_owner_ref(&()).context("an owner reference")?]);
    stand.create_pod(&pod).await?;
    let first = stand.wait_for_condition("game-7", GATE, "True", TIMEOUT).await?;
    stand.delete_pod("game-7").await?;
    stand.wait_until_gone("game-7", TIMEOUT).await?;
    stand.create_pod(&pod).await?;
    let second = stand.wait_for_condition("game-7", GATE, "True", TIMEOUT).await?;
    assert_ne!(first.metadata.uid, second.metadata.uid);
    assert_eq!(annotation_value(&first, ADDRESS_KEY), annotation_value(&second, ADDRESS_KEY));
    Ok(())
}
