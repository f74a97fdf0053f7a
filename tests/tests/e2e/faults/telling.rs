//! Conditions and annotations that Waygate writes onto pods, and when.

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::{Pod, PodReadinessGate};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use testbed::{
    answers::{held, hold, holds},
    nothing_left::nothing_is_left,
    pods::{annotated, annotation, condition},
    stand::Stand,
    wait::PATIENCE,
};
use waygate_core::resources::{PodDNAT, PodEIP};

use super::KINDS;

const OTHER_GATE: &str = "example.com/other";

/// A pod with another controller's gate.
fn with_another_gate(name: &str, annotations: &[(&str, &str)]) -> Pod {
    let mut pod = annotated(name, annotations);
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
        stand.create(&with_another_gate(kind.name, kind.asks)).await?;
        let theirs = json!({"status": {"conditions": [{"type": OTHER_GATE, "status": "True", "reason": "Theirs", "message": "as they said"}]}});
        stand
            .pods()
            .patch_status(kind.name, &PatchParams::default(), &Patch::Strategic(theirs))
            .await?;
        stand.worker.start().await?;
        let pod = stand.condition(kind.name, kind.gate, "True", PATIENCE).await?;
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
        stand.condition(kind.name, "Ready", "True", PATIENCE).await?;
    }
    Ok(())
}

#[tokio::test]
async fn update_conflicts_on_annotations_lose_nobodys_write() -> Result<()> {
    const THEIRS: &str = "example.com/theirs";
    /// A single entry, so that the first read after its creation is published.
    const ONE_PORT: (&str, &str) = ("k8s.aliyun.com/pod-dnat-expose-port", "80");
    let stand = Stand::start().await?;
    for kind in &KINDS {
        let programming = hold(&stand, kind.programmed_by).await?;
        stand
            .create(&annotated(kind.name, &[kind.asks, &[ONE_PORT, (THEIRS, "before")]].concat()))
            .await?;
        held(&stand).await?;
        // The worker reads the pod, then the cloud, and is stopped there, so it does not know of
        // the write that follows.
        let proving = hold(&stand, kind.proven_by).await?;
        stand.cloud.release(programming).await?;
        holds(&stand, proving).await?;
        stand.annotate(kind.name, json!({THEIRS: "meanwhile"})).await?;
        stand.cloud.release(proving).await?;
        let pod = stand.condition(kind.name, kind.gate, "True", PATIENCE).await?;
        assert_eq!(annotation(&pod, THEIRS), Some("meanwhile"));
        assert!(annotation(&pod, kind.told).is_some());
    }
    Ok(())
}

#[tokio::test]
async fn same_named_pods_are_not_taken_for_one() -> Result<()> {
    let stand = Stand::start().await?;
    let mut first = Vec::new();
    for kind in &KINDS {
        stand.create(&annotated(kind.name, kind.asks)).await?;
        first.push(stand.condition(kind.name, kind.gate, "True", PATIENCE).await?);
    }
    stand.worker.stop().await?;
    for kind in &KINDS {
        stand.delete(kind.name).await?;
        stand.gone(kind.name, PATIENCE).await?;
        stand.create(&annotated(kind.name, kind.asks)).await?;
    }
    stand.worker.start().await?;
    for (kind, first) in KINDS.iter().zip(first) {
        let second = stand.condition(kind.name, kind.gate, "True", PATIENCE).await?;
        assert_ne!(first.metadata.uid, second.metadata.uid);
        assert_ne!(
            annotation(&first, kind.told),
            annotation(&second, kind.told),
            "the first one's address is not the second one's"
        );
        stand.delete(kind.name).await?;
    }
    nothing_is_left(&stand).await
}

#[tokio::test]
async fn a_pod_recreated_at_once_is_served_all_the_same() -> Result<()> {
    let stand = Stand::start().await?;
    for kind in &KINDS {
        let mut uids = Vec::new();
        for _ in 0..3 {
            let created = stand.create(&annotated(kind.name, kind.asks)).await?;
            assert!(
                created
                    .spec
                    .and_then(|spec| spec.readiness_gates)
                    .is_some_and(|gates| gates.len() == 1)
            );
            let pod = stand.condition(kind.name, kind.gate, "True", PATIENCE).await?;
            assert!(
                annotation(&pod, kind.told).is_some() && pod.metadata.uid == created.metadata.uid
            );
            uids.push(pod.metadata.uid);
            stand.pods().delete(kind.name, &DeleteParams::default().grace_period(0)).await?;
        }
    }
    nothing_is_left(&stand).await
}

#[tokio::test]
async fn the_finalizer_stands_before_anything_is_programmed() -> Result<()> {
    let stand = Stand::start().await?;
    for kind in &KINDS {
        let fault = hold(&stand, kind.programmed_by).await?;
        stand.create(&annotated(kind.name, kind.asks)).await?;
        held(&stand).await?;
        let eip = Api::<PodEIP>::namespaced(stand.client.clone(), &stand.namespace)
            .get_opt(kind.name)
            .await?;
        let dnat = Api::<PodDNAT>::namespaced(stand.client.clone(), &stand.namespace)
            .get_opt(kind.name)
            .await?;
        let finalizers =
            eip.map(|it| it.finalizers().to_vec()).or(dnat.map(|it| it.finalizers().to_vec()));
        let finalizers = finalizers.with_context(|| {
            format!("{} was called and there is no custom resource", kind.programmed_by)
        })?;
        let ours = finalizers.first().context("the custom resource has no finalizer")?;
        assert!(
            ["podeip-controller.alibabacloud.com/finalizer", "natgw-controller"]
                .contains(&ours.as_str()),
            "{ours}"
        );
        let pod = stand.pods().get(kind.name).await?;
        assert!(
            condition(&pod, kind.gate) != Some("True") && annotation(&pod, kind.told).is_none(),
            "the address was published before it works"
        );
        stand.cloud.release(fault).await?;
        stand.condition(kind.name, kind.gate, "True", PATIENCE).await?;
    }
    Ok(())
}
