//! Addresses of pods that controllers make and unmake.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment},
    batch::v1::Job,
    core::v1::{Node, Pod},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api,
    api::{DeleteParams, EvictParams, ListParams, PostParams},
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use testbed::{
    address_kinds::EIP,
    cluster,
    condition_reasons::wait_for_reason,
    eip::GATE,
    environment::Environment,
    leftovers::{list_allocated_eips, wait_until_nothing_is_left},
    pods::{annotation_value, ask, condition_status, pod_phase},
    stand::Stand,
    wait::TIMEOUT,
};

/// A template of pods `app: NAME` that ask for an EIP.
fn pod_template(app: &str, restart: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": app}, "annotations": {EIP.request[0].0: EIP.request[0].1}},
        "spec": {"restartPolicy": restart, "containers": [{"name": "main", "image": "example.com/main:1"}]},
    })
}

/// The live pods `app: NAME`.
async fn list_pods(stand: &Stand, app: &str) -> Result<Vec<Pod>> {
    let pods = stand.pods().list(&ListParams::default().labels(&format!("app={app}"))).await?.items;
    Ok(pods.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect())
}

fn pod_name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// Waits until there are `count` pods and every one is Ready, each with an address of its own.
async fn wait_until_all_ready(stand: &Stand, app: &str, count: usize) -> Result<Vec<Pod>> {
    let probe = || async {
        let pods = list_pods(stand, app).await?;
        let ready =
            pods.iter().filter(|pod| condition_status(pod, "Ready") == Some("True")).count();
        ensure!(pods.len() == count && ready == count, "{ready} of {} are Ready", pods.len());
        Ok(Some(pods))
    };
    let pods =
        stand.eventually(probe, &format!("{count} pods of {app} are Ready"), TIMEOUT).await?;
    let addresses: BTreeSet<_> =
        pods.iter().filter_map(|pod| annotation_value(pod, EIP.address_key)).collect();
    assert_eq!(addresses.len(), count, "each has an address of its own");
    Ok(pods)
}

async fn start_job(stand: &Stand) -> Result<Pod> {
    let jobs = Api::<Job>::namespaced(stand.client.clone(), &stand.namespace);
    let job: Job = serde_json::from_value(
        json!({"metadata": {"name": "batch"}, "spec": {"template": pod_template("batch", "Never")}}),
    )?;
    jobs.create(&PostParams::default(), &job).await?;
    let pod = || async { Ok(list_pods(stand, "batch").await?.pop()) };
    stand.eventually(pod, "the Job has its pod", TIMEOUT).await
}

/// Waits until the Job is complete, by one pod that has succeeded and is still to be seen.
async fn wait_for_job(stand: &Stand) -> Result<Pod> {
    let jobs = Api::<Job>::namespaced(stand.client.clone(), &stand.namespace);
    let probe = || async {
        let status = jobs.get("batch").await?.status.unwrap_or_default();
        let complete = status
            .conditions
            .iter()
            .flatten()
            .any(|condition| condition.type_ == "Complete" && condition.status == "True");
        ensure!(
            complete && status.succeeded == Some(1) && status.failed.is_none(),
            "its status is {}",
            json!(status)
        );
        Ok(Some(()))
    };
    stand.eventually(probe, "the Job is complete", TIMEOUT).await?;
    let pod = list_pods(stand, "batch").await?.pop().context("the pod stays")?;
    assert_eq!(pod_phase(&pod), "Succeeded");
    Ok(pod)
}

#[tokio::test]
async fn a_job_is_complete_and_its_pods_eip_given_back() -> Result<()> {
    let stand = Stand::start().await?;
    let pod = start_job(&stand).await?;
    stand.wait_for_condition(pod_name(&pod), "Ready", "True", TIMEOUT).await?;
    stand.annotate_pod(pod_name(&pod), json!({ask::STATE: "Succeeded"})).await?;
    let pod = wait_for_job(&stand).await?;
    assert_eq!(
        condition_status(&pod, GATE),
        Some("True"),
        "the gate stays True after the exit, as no controller reads it then"
    );
    wait_until_nothing_is_left(&stand).await
}

#[tokio::test]
async fn a_job_that_is_done_before_its_eip_works_is_complete_all_the_same() -> Result<()> {
    let stand = Stand::start().await?;
    stand
        .cloud
        .set_fault(
            json!({"action": "AssociateEipAddress", "kind": "error", "code": "TaskConflict"}),
        )
        .await?;
    let pod = start_job(&stand).await?;
    stand.wait_for_condition(pod_name(&pod), GATE, "False", TIMEOUT).await?;
    stand.annotate_pod(pod_name(&pod), json!({ask::STATE: "Succeeded"})).await?;
    let pod = wait_for_job(&stand).await?;
    assert_eq!(condition_status(&pod, GATE), Some("False"));
    wait_until_nothing_is_left(&stand).await
}

#[tokio::test]
async fn a_daemon_set_has_an_address_on_every_node() -> Result<()> {
    let stand = Stand::start().await?;
    let nodes = Api::<Node>::all(stand.client.clone()).list(&ListParams::default()).await?;
    let open = nodes
        .iter()
        .filter(|node| {
            node.spec.as_ref().is_none_or(|spec| spec.taints.as_ref().is_none_or(Vec::is_empty))
        })
        .count();
    let sets = Api::<DaemonSet>::namespaced(stand.client.clone(), &stand.namespace);
    let set: DaemonSet = serde_json::from_value(json!({
        "metadata": {"name": "agent"},
        "spec": {"selector": {"matchLabels": {"app": "agent"}}, "template": pod_template("agent", "Always")},
    }))?;
    sets.create(&PostParams::default(), &set).await?;
    let before = wait_until_all_ready(&stand, "agent", open).await?;
    // The successor has another name and another address.
    let first = pod_name(&before[0]);
    stand.delete_pod(first).await?;
    stand.wait_until_gone(first, TIMEOUT).await?;
    wait_until_all_ready(&stand, "agent", open).await?;
    sets.delete("agent", &DeleteParams::background()).await?;
    wait_until_nothing_is_left(&stand).await
}

#[tokio::test]
async fn a_drain_waits_for_the_address_of_the_pod_that_takes_over() -> Result<()> {
    let stand = Stand::start().await?;
    let deployment: Deployment = serde_json::from_value(json!({
        "metadata": {"name": "web"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": pod_template("web", "Always")},
    }))?;
    let deployments = Api::<Deployment>::namespaced(stand.client.clone(), &stand.namespace);
    deployments.create(&PostParams::default(), &deployment).await?;
    let budget: PodDisruptionBudget = serde_json::from_value(json!({
        "metadata": {"name": "web"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}},
    }))?;
    Api::<PodDisruptionBudget>::namespaced(stand.client.clone(), &stand.namespace)
        .create(&PostParams::default(), &budget)
        .await?;
    let pods = wait_until_all_ready(&stand, "web", 2).await?;

    stand
        .cloud
        .set_fault(
            json!({"action": "AssociateEipAddress", "kind": "error", "code": "TaskConflict"}),
        )
        .await?;
    let impatient: Api<Pod> = Api::namespaced(
        cluster::connect_without_retries(&Environment::from_variables()?.kubeconfig).await?,
        &stand.namespace,
    );
    let evict = async |pod: &Pod| impatient.evict(pod_name(pod), &EvictParams::default()).await;
    let first = || async { Ok(Some(evict(&pods[0]).await?)) };
    stand.eventually(first, "the first pod may go", TIMEOUT).await?;
    stand.wait_until_gone(pod_name(&pods[0]), TIMEOUT).await?;
    let next = || async {
        Ok(list_pods(&stand, "web")
            .await?
            .into_iter()
            .find(|pod| pod_name(pod) != pod_name(&pods[1])))
    };
    let next = stand.eventually(next, "it has a successor", TIMEOUT).await?;
    wait_for_reason(&stand, pod_name(&next), GATE, "OperationConflict", &[]).await?;
    let refused = evict(&pods[1])
        .await
        .err()
        .context("the second is not let go while the first's successor has no address")?;
    ensure!(matches!(&refused, kube::Error::Api(status) if status.code == 429), "{refused}");

    stand.cloud.clear_faults().await?;
    let second = || async { Ok(Some(evict(&pods[1]).await?)) };
    stand.eventually(second, "the second pod may go", TIMEOUT).await?;
    wait_until_all_ready(&stand, "web", 2).await?;
    assert!(list_allocated_eips(&stand).await?.len() <= 4);
    deployments.delete("web", &DeleteParams::background()).await?;
    wait_until_nothing_is_left(&stand).await
}
