//! Outages of Postgres, webhook or single pods, and the work that goes on meanwhile.

use anyhow::{Result, ensure};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use testbed::{
    eip::GATE,
    leftovers::wait_until_nothing_is_left,
    manifests::STAND_LABEL,
    pods::annotated_pod,
    stand::{Options, Stand},
    wait::TIMEOUT,
};

const WITH_EIP: [(&str, &str); 1] = [("k8s.aliyun.com/pod-with-eip", "true")];

#[tokio::test]
async fn with_postgres_away_pods_are_admitted_and_get_their_address_when_it_is_back() -> Result<()>
{
    let stand = Stand::start_with_links().await?;
    stand.links.cut_databases().await?;
    stand.create_pod(&annotated_pod("plain", &[])).await?;
    let pod = stand.create_pod(&annotated_pod("patient", &WITH_EIP)).await?;
    assert!(pod.spec.and_then(|spec| spec.readiness_gates).is_some());
    stand.wait_for_condition("plain", "Ready", "True", TIMEOUT).await?;
    stand.wait_for_condition("patient", "ContainersReady", "True", TIMEOUT).await?;
    stand.links.restore_databases().await?;
    stand.wait_for_condition("patient", GATE, "True", TIMEOUT).await?;
    stand.delete_pod("patient").await?;
    wait_until_nothing_is_left(&stand).await
}

#[tokio::test]
async fn with_the_webhook_away_the_policy_gates_a_pod_and_the_worker_serves_it() -> Result<()> {
    let stand = Stand::start().await?;
    stand.webhook.stop().await?;
    let pod = stand.create_pod(&annotated_pod("unheard", &WITH_EIP)).await?;
    let gates = pod.spec.and_then(|spec| spec.readiness_gates).unwrap_or_default();
    assert_eq!(gates.iter().map(|gate| gate.condition_type.as_str()).collect::<Vec<_>>(), [GATE]);
    stand.wait_for_condition("unheard", "Ready", "True", TIMEOUT).await?;
    Ok(())
}

/// Forbids every user to label the pod `frozen` of the stand's namespaces, and waits until the API
/// server enforces that.
async fn forbid_labelling(stand: &Stand) -> Result<()> {
    let name = format!("frozen-{}", stand.id);
    let policy: ValidatingAdmissionPolicy = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["UPDATE"]}]},
            "matchConditions": [{"name": "is-frozen", "expression": "object.metadata.name == 'frozen'"}],
            "validations": [{"expression": "!('waygate.dev/pod' in object.metadata.?labels.orValue({}))"}],
        },
    }))?;
    Api::all(stand.client.clone()).create(&PostParams::default(), &policy).await?;
    let binding: ValidatingAdmissionPolicyBinding = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "policyName": name,
            "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": {"matchLabels": {STAND_LABEL: stand.id}}},
        },
    }))?;
    Api::all(stand.client.clone()).create(&PostParams::default(), &binding).await?;
    let (pods, dry) = (stand.pods(), PatchParams { dry_run: true, ..PatchParams::default() });
    let label = Patch::Merge(json!({"metadata": {"labels": {"waygate.dev/pod": "missed"}}}));
    let probe = || async { Ok(pods.patch("frozen", &dry, &label).await.is_err().then_some(())) };
    stand.eventually(probe, "no user may label the pod", TIMEOUT).await
}

#[tokio::test]
async fn a_pod_that_cannot_be_labelled_delays_no_later_namespace() -> Result<()> {
    let worker = ["--cooldown-seconds", "0", "--resync-seconds", "1"].map(str::to_owned).to_vec();
    let stand = Stand::start_with(Options { worker, ..Options::default() }).await?;
    let later = format!("zzz-{}", stand.id);
    stand.installation.serve_namespace(&later).await?;
    stand.webhook.stop().await?;
    // The policy labels pods when they are made, and these ask later.
    let (here, there) = (stand.pods(), Api::<Pod>::namespaced(stand.client.clone(), &later));
    here.create(&PostParams::default(), &annotated_pod("frozen", &[])).await?;
    there.create(&PostParams::default(), &annotated_pod("missed", &[])).await?;
    forbid_labelling(&stand).await?;
    let asks =
        Patch::Merge(json!({"metadata": {"annotations": {"k8s.aliyun.com/pod-with-eip": "true"}}}));
    here.patch("frozen", &PatchParams::default(), &asks).await?;
    there.patch("missed", &PatchParams::default(), &asks).await?;
    let served = || async {
        let pod = there.get("missed").await?;
        Ok(testbed::pods::annotation_value(&pod, "k8s.aliyun.com/allocated-eipAddress").map(drop))
    };
    stand.eventually(served, "the pod of the later namespace has its address", TIMEOUT).await?;
    ensure!(
        !here
            .get("frozen")
            .await?
            .metadata
            .labels
            .unwrap_or_default()
            .contains_key("waygate.dev/pod"),
        "the policy lets it be labelled"
    );
    let named = format!("{}/frozen", stand.namespace);
    let named_in_log = || async { Ok(stand.worker.read_logs()?.contains(&named).then_some(())) };
    stand.eventually(named_in_log, "the worker's log names the frozen pod", TIMEOUT).await?;
    there.delete("missed", &kube::api::DeleteParams::default()).await?;
    wait_until_nothing_is_left(&stand).await
}
