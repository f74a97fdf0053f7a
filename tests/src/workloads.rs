//! Services and the StatefulSet `db` of one pod, beside which tests look at pods.

use anyhow::{Result, ensure};
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{Pod, Service},
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::{pods::condition_status, stand::Stand, wait::TIMEOUT};

/// Creates a Service for the pods `app: NAME`.
pub async fn create_service(stand: &Stand, app: &str) -> Result<()> {
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": app}, "spec": {"selector": {"app": app}, "ports": [{"port": 80}]},
    }))?;
    Api::<Service>::namespaced(stand.client.clone(), &stand.namespace)
        .create(&PostParams::default(), &service)
        .await?;
    Ok(())
}

/// Creates the StatefulSet, whose pod has these annotations.
pub async fn create_stateful_set(stand: &Stand, annotations: &[(&str, &str)]) -> Result<()> {
    let annotations: serde_json::Map<_, _> =
        annotations.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    let set: StatefulSet = serde_json::from_value(json!({
        "metadata": {"name": "db"},
        "spec": {"replicas": 1, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}}, "template": {
            "metadata": {"labels": {"app": "db"}, "annotations": annotations},
            "spec": {"containers": [{"name": "main", "image": "example.com/db:1"}]},
        }},
    }))?;
    Api::<StatefulSet>::namespaced(stand.client.clone(), &stand.namespace)
        .create(&PostParams::default(), &set)
        .await?;
    Ok(())
}

/// Sets how many pods the StatefulSet has.
pub async fn scale_stateful_set(stand: &Stand, replicas: u32) -> Result<()> {
    let sets = Api::<StatefulSet>::namespaced(stand.client.clone(), &stand.namespace);
    sets.patch(
        "db",
        &PatchParams::default(),
        &Patch::Merge(json!({"spec": {"replicas": replicas}})),
    )
    .await?;
    Ok(())
}

/// Waits until `db-0` is another pod than `before`, and its gate is True.
pub async fn wait_for_successor(stand: &Stand, before: &Pod, gate: &str) -> Result<Pod> {
    let probe = || async {
        let pod = stand.pods().get("db-0").await?;
        let ready = condition_status(&pod, gate) == Some("True");
        ensure!(
            pod.metadata.uid != before.metadata.uid && ready,
            "it is not there, or its gate is not True"
        );
        Ok(Some(pod))
    };
    stand.eventually(probe, "the successor has its address", TIMEOUT).await
}
