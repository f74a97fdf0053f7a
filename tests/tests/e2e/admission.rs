//! Requests of the API server to the webhook before a pod is made.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use serde_json::json;
use std::process::Stdio;
use testbed::{
    eip::GATE,
    environment::Environment,
    pods::{annotated_pod, annotation_value},
    stand::Stand,
    wait::TIMEOUT,
};
use tokio::io::AsyncWriteExt as _;

const THREE_FAULTS: [(&str, &str); 3] = [
    ("k8s.aliyun.com/pod-with-eip", "yes"),
    ("k8s.aliyun.com/eip-bandwidth", "fast"),
    ("k8s.aliyun.com/eip-internet-charge-type", "PayByGuess"),
];

async fn run_kubectl(stand: &Stand, arguments: &[&str], input: &str) -> Result<String> {
    let mut child = tokio::process::Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(Environment::from_variables()?.kubeconfig)
        .args(["--namespace", &stand.namespace])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("an input")?.write_all(input.as_bytes()).await?;
    let output = child.wait_with_output().await?;
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(output.status.success(), "kubectl {arguments:?}: {text}");
    Ok(text)
}

async fn count_leases(stand: &Stand) -> Result<i64> {
    Ok(sqlx::query_scalar("SELECT count(*) FROM lease").fetch_one(&stand.database).await?)
}

#[tokio::test]
async fn a_pod_with_three_faults_gets_one_refusal_that_names_all_three() -> Result<()> {
    let stand = Stand::start().await?;
    let refused = stand
        .create_pod(&annotated_pod("wrong", &THREE_FAULTS))
        .await
        .err()
        .context("the pod is refused")?;
    let text = format!("{refused:#}");
    for (key, value) in THREE_FAULTS {
        assert!(text.contains(key) && text.contains(value), "{key} is not named in: {text}");
    }
    assert_eq!(count_leases(&stand).await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_deployment_with_a_wrong_template_is_applied_with_a_warning() -> Result<()> {
    let stand = Stand::start().await?;
    let annotations: serde_json::Map<_, _> =
        THREE_FAULTS.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "wrong"},
        "spec": {"selector": {"matchLabels": {"app": "wrong"}}, "template": {
            "metadata": {"labels": {"app": "wrong"}, "annotations": annotations},
            "spec": {"containers": [{"name": "main", "image": "example.com/main:1"}]},
        }},
    });
    let said = run_kubectl(&stand, &["apply", "-f", "-"], &deployment.to_string()).await?;
    assert!(said.contains("created"), "{said}");
    for (key, _) in THREE_FAULTS {
        assert!(said.contains("Warning") && said.contains(key), "{key} is not named in: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn a_dry_run_shows_the_gate_and_writes_no_row() -> Result<()> {
    let stand = Stand::start().await?;
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let pod: Pod = stand
        .pods()
        .create(&dry, &annotated_pod("dry", &[("k8s.aliyun.com/pod-with-eip", "true")]))
        .await?;
    let gates = pod.spec.and_then(|spec| spec.readiness_gates).unwrap_or_default();
    assert_eq!(gates.iter().map(|gate| gate.condition_type.as_str()).collect::<Vec<_>>(), [GATE]);
    assert_eq!(count_leases(&stand).await?, 0);
    Ok(())
}

#[tokio::test]
async fn admission_announces_the_pod_under_its_uid() -> Result<()> {
    let stand = Stand::start().await?;
    // With the worker stopped, only the webhook can have written the row.
    stand.worker.stop().await?;
    let pod = stand
        .create_pod(&annotated_pod("early", &[("k8s.aliyun.com/pod-with-eip", "true")]))
        .await?;
    // Admission waits a third of a second for the row and no longer: on a busy machine it stands a
    // moment after the pod.
    let row = || async {
        Ok(sqlx::query_as::<_, (uuid::Uuid, String)>("SELECT pod_uid, phase FROM lease")
            .fetch_optional(&stand.database)
            .await?)
    };
    let (uid, phase) = stand.eventually(row, "the announcement is written", TIMEOUT).await?;
    assert_eq!(Some(uid.to_string()), pod.metadata.uid);
    assert_eq!(phase, "announced");
    stand.worker.start().await?;
    stand.wait_for_condition("early", GATE, "True", TIMEOUT).await?;
    Ok(())
}

#[tokio::test]
async fn a_forged_address_is_removed() -> Result<()> {
    let stand = Stand::start().await?;
    let forged = [
        ("k8s.aliyun.com/pod-with-eip", "true"),
        ("k8s.aliyun.com/allocated-eipAddress", "203.0.113.9"),
    ];
    let pod = stand.create_pod(&annotated_pod("forger", &forged)).await?;
    assert_eq!(annotation_value(&pod, "k8s.aliyun.com/allocated-eipAddress"), None);
    let pod = stand.wait_for_condition("forger", GATE, "True", TIMEOUT).await?;
    assert_ne!(
        annotation_value(&pod, "k8s.aliyun.com/allocated-eipAddress").context("an address")?,
        "203.0.113.9"
    );
    Ok(())
}

#[tokio::test]
async fn pods_without_a_request_are_not_changed() -> Result<()> {
    let stand = Stand::start().await?;
    let pod = stand.create_pod(&annotated_pod("plain", &[])).await?;
    assert!(pod.spec.and_then(|spec| spec.readiness_gates).is_none());
    assert!(!pod.metadata.labels.unwrap_or_default().contains_key("waygate.dev/pod"));
    stand.wait_for_condition("plain", "Ready", "True", TIMEOUT).await?;
    assert_eq!(count_leases(&stand).await?, 0);
    Ok(())
}
