//! The testbed's own nodes, on whose behaviour every other test relies.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Container, Node, Pod, PodReadinessGate};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use testbed::{
    cluster,
    environment::Environment,
    installation::Installation,
    manifests::Rendering,
    pods::{self, ask, condition_status, pod_phase},
    wait::eventually,
};

const TIMEOUT: Duration = Duration::from_secs(30);
const GATE: &str = "example.com/gate";

/// A namespace with nothing of Waygate's in it.
struct PlainNamespace {
    client: Client,
    pods: Api<Pod>,
}

impl PlainNamespace {
    async fn new() -> Result<Self> {
        let client = cluster::connect_cluster(&Environment::from_variables()?.kubeconfig).await?;
        let name = format!("kubelet-{}", uuid::Uuid::new_v4().simple());
        let none = Rendering::default();
        Installation::new(client.clone(), Some("none"), String::new(), none)
            .serve_namespace(&name)
            .await?;
        Ok(Self { pods: Api::namespaced(client.clone(), &name), client })
    }

    async fn create_pod(&self, pod: &Pod) -> Result<Pod> {
        Ok(self.pods.create(&PostParams::default(), pod).await?)
    }

    async fn annotate_pod(&self, name: &str, key: &str, value: Option<&str>) -> Result<()> {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {key: value}}}));
        self.pods.patch(name, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    async fn set_gate(&self, name: &str, status: &str) -> Result<()> {
        let patch =
            Patch::Strategic(json!({"status": {"conditions": [{"type": GATE, "status": status}]}}));
        self.pods.patch_status(name, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Waits until the pod is as the probe wants it.
    async fn wait_for_pod(
        &self,
        name: &str,
        awaited: &str,
        is_so: impl Fn(&Pod) -> bool,
    ) -> Result<Pod> {
        let probe = || async {
            let pod = self.pods.get(name).await?;
            ensure!(
                is_so(&pod),
                "its status is {}",
                serde_json::to_value(&pod.status).unwrap_or(Value::Null)
            );
            Ok(Some(pod))
        };
        eventually(probe, awaited, TIMEOUT).await
    }
}

fn gated_pod(name: &str) -> Pod {
    let mut pod = pods::annotated_pod(name, &[]);
    if let Some(spec) = &mut pod.spec {
        spec.readiness_gates = Some(vec![PodReadinessGate { condition_type: GATE.to_owned() }]);
    }
    pod
}

fn has_condition(pod: &Pod, kind: &str, status: &str) -> bool {
    condition_status(pod, kind) == Some(status)
}

fn pod_address(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.pod_ip.as_deref()
}

#[tokio::test]
async fn a_pod_without_gates_is_ready_once_it_runs() -> Result<()> {
    let playground = PlainNamespace::new().await?;
    playground.create_pod(&pods::annotated_pod("plain", &[])).await?;
    playground
        .wait_for_pod("plain", "it runs and is ready", |pod| {
            pod_phase(pod) == "Running" && has_condition(pod, "Ready", "True")
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_gated_pod_follows_its_gate_in_both_directions() -> Result<()> {
    let playground = PlainNamespace::new().await?;
    playground.create_pod(&gated_pod("gated")).await?;
    let running =
        |pod: &Pod| pod_phase(pod) == "Running" && has_condition(pod, "ContainersReady", "True");
    let pod = playground.wait_for_pod("gated", "it runs", running).await?;
    assert!(has_condition(&pod, "Ready", "False"));
    playground.set_gate("gated", "True").await?;
    playground
        .wait_for_pod("gated", "it is ready", |pod| has_condition(pod, "Ready", "True"))
        .await?;
    playground.set_gate("gated", "False").await?;
    playground
        .wait_for_pod("gated", "it is not ready any more", |pod| {
            has_condition(pod, "Ready", "False")
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn an_init_container_that_does_not_end_holds_a_pod_that_has_its_address() -> Result<()> {
    let playground = PlainNamespace::new().await?;
    let mut pod = pods::annotated_pod("slow", &[(ask::STATE, "Initializing")]);
    pod.spec.as_mut().context("a spec")?.init_containers = Some(vec![Container {
        name: "init".to_owned(),
        image: Some("example.com/init:1".to_owned()),
        ..Container::default()
    }]);
    playground.create_pod(&pod).await?;
    let pod = playground
        .wait_for_pod("slow", "it has an address", |pod| pod_address(pod).is_some())
        .await?;
    assert_eq!(pod_phase(&pod), "Pending");
    assert!(has_condition(&pod, "Initialized", "False"));
    playground.annotate_pod("slow", ask::STATE, None).await?;
    playground
        .wait_for_pod("slow", "it is ready", |pod| {
            has_condition(pod, "Initialized", "True") && has_condition(pod, "Ready", "True")
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_new_sandbox_changes_the_address_and_neither_the_uid_nor_a_gate() -> Result<()> {
    let playground = PlainNamespace::new().await?;
    playground.create_pod(&gated_pod("moving")).await?;
    playground.set_gate("moving", "True").await?;
    let before = playground
        .wait_for_pod("moving", "it is ready", |pod| has_condition(pod, "Ready", "True"))
        .await?;
    playground.annotate_pod("moving", ask::SANDBOX, Some("1")).await?;
    let after = playground
        .wait_for_pod("moving", "it has another address", |pod| {
            pod_address(pod) != pod_address(&before)
        })
        .await?;
    assert_eq!(after.metadata.uid, before.metadata.uid);
    assert!(has_condition(&after, GATE, "True"));
    assert_eq!(
        after.status.and_then(|status| status.pod_ips).map(|addresses| addresses.len()),
        Some(1)
    );
    Ok(())
}

#[tokio::test]
async fn a_crash_loop_leaves_the_phase_and_takes_the_readiness() -> Result<()> {
    let playground = PlainNamespace::new().await?;
    playground.create_pod(&pods::annotated_pod("crashing", &[])).await?;
    playground
        .wait_for_pod("crashing", "it is ready", |pod| has_condition(pod, "Ready", "True"))
        .await?;
    playground.annotate_pod("crashing", ask::STATE, Some("CrashLoop")).await?;
    let pod = playground
        .wait_for_pod("crashing", "it is not ready", |pod| has_condition(pod, "Ready", "False"))
        .await?;
    assert_eq!(pod_phase(&pod), "Running");
    playground.annotate_pod("crashing", ask::STATE, None).await?;
    playground
        .wait_for_pod("crashing", "it is ready again", |pod| has_condition(pod, "Ready", "True"))
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_pod_ends_as_it_is_asked_to() -> Result<()> {
    let playground = PlainNamespace::new().await?;
    for outcome in ["Succeeded", "Failed"] {
        let name = outcome.to_lowercase();
        playground.create_pod(&pods::annotated_pod(&name, &[(ask::STATE, outcome)])).await?;
        playground
            .wait_for_pod(&name, outcome, |pod| {
                pod_phase(pod) == outcome && has_condition(pod, "Ready", "False")
            })
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_deleted_pod_ends_first_and_then_goes() -> Result<()> {
    let playground = PlainNamespace::new().await?;
    playground.create_pod(&pods::annotated_pod("leaving", &[(ask::STOP_AFTER, "1s")])).await?;
    playground
        .wait_for_pod("leaving", "it is ready", |pod| has_condition(pod, "Ready", "True"))
        .await?;
    playground.pods.delete("leaving", &DeleteParams::default()).await?;
    let pod = playground.pods.get("leaving").await?;
    assert!(pod.metadata.deletion_timestamp.is_some() && pod_phase(&pod) == "Running");
    let probe = || async { Ok(playground.pods.get_opt("leaving").await?.is_none().then_some(())) };
    eventually(probe, "it is gone", TIMEOUT).await
}

#[tokio::test]
async fn pods_have_addresses_of_their_own_out_of_their_nodes_range() -> Result<()> {
    let playground = PlainNamespace::new().await?;
    let mut seen = std::collections::BTreeSet::new();
    for index in 0..8 {
        let name = format!("pod-{index}");
        playground.create_pod(&pods::annotated_pod(&name, &[])).await?;
        let pod = playground
            .wait_for_pod(&name, "it has an address", |pod| pod_address(pod).is_some())
            .await?;
        let address: Ipv4Addr = pod_address(&pod).context("an address")?.parse()?;
        assert!(seen.insert(address), "{address} is there twice");
        let nodes: Api<Node> = Api::all(playground.client.clone());
        let node = nodes.get(&pod.spec.and_then(|spec| spec.node_name).context("a node")?).await?;
        let pod_cidr = node.spec.and_then(|spec| spec.pod_cidr).context("a podCIDR")?;
        let network: Ipv4Addr = pod_cidr.split('/').next().context("a network")?.parse()?;
        assert_eq!(address.octets()[..3], network.octets()[..3], "{address} is not in {pod_cidr}");
    }
    Ok(())
}
