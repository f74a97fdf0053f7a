//! Conditions and annotations that Waygate writes onto pods, and when.

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::{Pod, PodReadinessGate};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use testbed::{
    held_answers::{hold_answer, wait_for_held_answer, wait_until_fault_holds},
    leftovers::wait_until_nothing_is_left,
    pods::{annotated_pod, annotation_value, condition_status},
    stand::Stand,
    wait::TIMEOUT,
};
use waygate_core::resources::{PodDNAT, PodEIP};

use super::KINDS;

const OTHER_GATE: &str = "example.com/other";

/// A pod with another controller's gate.
fn with_another_gate(name: &str, annotations: &[(&str, &str)]) -> Pod {
    let mut pod = annotated_pod(name, annotations);
    if let Some(spec) = &mut pod.spec {
        spec.readiness_gates =
            Some(vec![PodReadinessGate { condition_type: OTHER_GATE.to_owned() }]);
    }
    pod
}

#[tokio::test]
async fn one_conditions_update_overwrites_no_other() -> Result<()> {
    let stand = Stand::start().await?;
    for kind in &KINDS {
        stand.worker.stop().await?;
        stand.create_pod(&with_another_gate(kind.name, kind.request)).await?;
        let theirs = json!({"status": {"conditions": [{"type": OTHER_GATE, "status": "True", "reason": "Theirs", "message": "as they said"}]}});
        stand
            .pods()
            .patch_status(kind.name, &PatchParams::default(), &Patch::Strategic(theirs))
            .await?;
        stand.worker.start().await?;
        let pod = stand.wait_for_condition(kind.name, kind.gate, "True", TIMEOUT).await?;
        let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
        let other = conditions
            .iter()
            .find(|condition| condition.type_ == OTHER_GATE)
            .context("the other controller's condition is gone")?;
        assert_eq!(
            (other.status.as_str(), other.message.as_deref()),
            ("True", Some("as they said"))
        );
        assert!(
            conditions.iter().any(|condition| condition.type_ == "PodScheduled"),
            "the scheduler's is gone: {conditions:?}"
        );
        stand.wait_for_condition(kind.name, "Ready", "True", TIMEOUT).await?;
    }
    Ok(())
}

#[tokio::test]
async fn update_conflicts_on_annotations_lose_no_write() -> Result<()> {
    const THEIRS: &str = "example.com/theirs";
    /// A single entry, so that the first read after its creation is published.
    const ONE_PORT: (&str, &str) = ("k8s.aliyun.com/pod-dnat-expose-port", "80");
    let stand = Stand::start().await?;
    for kind in &KINDS {
        let programming = hold_answer(&stand, kind.programming_action).await?;
        stand
            .create_pod(&annotated_pod(
                kind.name,
                &[kind.request, &[ONE_PORT, (THEIRS, "before")]].concat(),
            ))
            .await?;
        wait_for_held_answer(&stand).await?;
        // The worker reads the pod, then the cloud, and is stopped there, so it does not know of
        // the write that follows.
        let proving = hold_answer(&stand, kind.proving_action).await?;
        stand.cloud.release_fault(programming).await?;
        wait_until_fault_holds(&stand, proving).await?;
        stand.annotate_pod(kind.name, json!({THEIRS: "meanwhile"})).await?;
        stand.cloud.release_fault(proving).await?;
        let pod = stand.wait_for_condition(kind.name, kind.gate, "True", TIMEOUT).await?;
        assert_eq!(annotation_value(&pod, THEIRS), Some("meanwhile"));
        assert!(annotation_value(&pod, kind.address_key).is_some());
    }
    Ok(())
}

#[tokio::test]
async fn same_named_pods_are_not_taken_for_one() -> Result<()> {
    let stand = Stand::start().await?;
    let mut first = Vec::new();
    for kind in &KINDS {
        stand.create_pod(&annotated_pod(kind.name, kind.request)).await?;
        first.push(stand.wait_for_condition(kind.name, kind.gate, "True", TIMEOUT).await?);
    }
    stand.worker.stop().await?;
    for kind in &KINDS {
        stand.delete_pod(kind.name).await?;
        stand.wait_until_gone(kind.name, TIMEOUT).await?;
        stand.create_pod(&annotated_pod(kind.name, kind.request)).await?;
    }
    stand.worker.start().await?;
    for (kind, first) in KINDS.iter().zip(first) {
        let second = stand.wait_for_condition(kind.name, kind.gate, "True", TIMEOUT).await?;
        assert_ne!(first.metadata.uid, second.metadata.uid);
        assert_ne!(
            annotation_value(&first, kind.address_key),
            annotation_value(&second, kind.address_key),
            "the first one's address is not the second one's"
        );
        stand.delete_pod(kind.name).await?;
    }
    wait_until_nothing_is_left(&stand).await
}

#[tokio::test]
async fn a_pod_recreated_at_once_is_served_all_the_same() -> Result<()> {
    let stand = Stand::start().await?;
    for kind in &KINDS {
        let mut uids = Vec::new();
        for _ in 0..3 {
            let created = stand.create_pod(&annotated_pod(kind.name, kind.request)).await?;
            assert!(
                created
                    .spec
                    .and_then(|spec| spec.readiness_gates)
                    .is_some_and(|gates| gates.len() == 1)
            );
            let pod = stand.wait_for_condition(kind.name, kind.gate, "True", TIMEOUT).await?;
            assert!(
                annotation_value(&pod, kind.address_key).is_some()
                    && pod.metadata.uid == created.metadata.uid
            );
            uids.push(pod.metadata.uid);
            stand.pods().delete(kind.name, &DeleteParams::default().grace_period(0)).await?;
        }
    }
    wait_until_nothing_is_left(&stand).await
}

#[tokio::test]
async fn the_finalizer_stands_before_anything_is_programmed() -> Result<()> {
    let stand = Stand::start().await?;
    for kind in &KINDS {
        let fault = hold_answer(&stand, kind.programming_action).await?;
        stand.create_pod(&annotated_pod(kind.name, kind.request)).await?;
        wait_for_held_answer(&stand).await?;
        let eip = Api::<PodEIP>::namespaced(stand.client.clone(), &stand.namespace)
            .get_opt(kind.name)
            .await?;
        let dnat = Api::<PodDNAT>::namespaced(stand.client.clone(), &stand.namespace)
            .get_opt(kind.name)
            .await?;
        let finalizers =
            eip.map(|it| it.finalizers().to_vec()).or(dnat.map(|it| it.finalizers().to_vec()));
        let finalizers = finalizers.with_context(|| {
            format!("{} was called and there is no custom resource", kind.programming_action)
        })?;
        let finalizer = finalizers.first().context("the custom resource has no finalizer")?;
        assert!(
            ["podeip-controller.alibabacloud.com/finalizer", "natgw-controller"]
                .contains(&finalizer.as_str()),
            "{finalizer}"
        );
        let pod = stand.pods().get(kind.name).await?;
        assert!(
            condition_status(&pod, kind.gate) != Some("True")
                && annotation_value(&pod, kind.address_key).is_none(),
            "the address was published before it works"
        );
        stand.cloud.release_fault(fault).await?;
        stand.wait_for_condition(kind.name, kind.gate, "True", TIMEOUT).await?;
    }
    Ok(())
}
