//! What still works while a part of us does not.

use anyhow::Result;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use testbed::{pods::annotated, stand::Stand};

use crate::eip::{GATE, PATIENCE};
use crate::nothing_left::nothing_is_left;

const WITH_EIP: [(&str, &str); 1] = [("k8s.aliyun.com/pod-with-eip", "true")];

#[tokio::test]
async fn with_postgres_away_pods_are_admitted_and_get_their_address_when_it_is_back() -> Result<()> {
    let stand = Stand::start().await?;
    stand.database_link.cut().await?;
    stand.create(&annotated("plain", &[])).await?;
    let pod = stand.create(&annotated("patient", &WITH_EIP)).await?;
    assert!(pod.spec.and_then(|spec| spec.readiness_gates).is_some());
    stand.condition("plain", "Ready", "True", PATIENCE).await?;
    stand.condition("patient", "ContainersReady", "True", PATIENCE).await?;
    stand.database_link.restore().await?;
    stand.condition("patient", GATE, "True", PATIENCE).await?;
    stand.delete("patient").await?;
    nothing_is_left(&stand).await
}

#[tokio::test]
async fn with_the_webhook_away_the_policy_gates_a_pod_and_the_worker_serves_it() -> Result<()> {
    let stand = Stand::start().await?;
    stand.webhook.stop().await?;
    let pod = stand.create(&annotated("unheard", &WITH_EIP)).await?;
    let gates = pod.spec.and_then(|spec| spec.readiness_gates).unwrap_or_default();
    assert_eq!(gates.iter().map(|gate| gate.condition_type.as_str()).collect::<Vec<_>>(), [GATE]);
    stand.condition("unheard", "Ready", "True", PATIENCE).await?;
    Ok(())
}

/// More pods than events are written down at a time, each with what Postgres takes for no text: the API server lets an owner have any name.
#[tokio::test]
async fn pods_that_postgres_refuses_hold_up_no_other() -> Result<()> {
    let stand = Stand::start().await?;
    for number in 0..9 {
        let mut pod = annotated(&format!("refused-{number}"), &WITH_EIP);
        let owner = OwnerReference {
            api_version: "apps/v1".to_owned(),
            kind: "StatefulSet".to_owned(),
            name: "a\0b".to_owned(),
            uid: uuid::Uuid::new_v4().to_string(),
            controller: Some(true),
            ..OwnerReference::default()
        };
        pod.metadata.owner_references = Some(vec![owner]);
        stand.create(&pod).await?;
    }
    stand.create(&annotated("right", &WITH_EIP)).await?;
    stand.condition("right", GATE, "True", PATIENCE).await?;
    stand.delete("right").await?;
    nothing_is_left(&stand).await
}
