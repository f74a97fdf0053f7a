//! The cluster's nodes: the ones of the simulator's topology, so that the cloud knows every pod's
//! address.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::layout;

/// Addresses of a node that are never used at the same time: kwok hands out addresses in order and
/// loses one now and then, and must not run past the end of the node's podCIDR.
const SPARE_ADDRESSES: u32 = 56;

/// The index of a test's own node. Tests read no node's address, so the number only has to be free.
const OWN_NODE_INDEX: usize = 100;

/// The part of `simulator --print-topology` that nodes are made from.
#[derive(Debug, Deserialize)]
pub struct Topology {
    region: String,
    nodes: Vec<TopologyNode>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TopologyNode {
    name: String,
    instance_id: String,
    zone: String,
    #[serde(rename = "podCIDR")]
    pod_cidr: String,
}

impl Topology {
    /// The topology of the simulator, the built-in one unless a file describes another.
    pub async fn from_simulator(file: Option<&Path>) -> Result<Self> {
        serde_json::from_value(print_topology(file).await?).context("the simulator's topology")
    }

    /// Makes the nodes; kwok plays their kubelets.
    pub async fn create_nodes(&self, client: &Client) -> Result<()> {
        let nodes: Api<Node> = Api::all(client.clone());
        let manager = PatchParams::apply("testbed").force();
        for (index, node) in self.nodes.iter().enumerate() {
            let object = node.node_object(&self.region, index)?;
            nodes.patch(&node.name, &manager, &Patch::Apply(&object)).await?;
            nodes.patch_status(&node.name, &manager, &Patch::Apply(&object)).await?;
        }
        Ok(())
    }
}

impl TopologyNode {
    fn node_object(&self, region: &str, index: usize) -> Result<Value> {
        let bits: u32 = self
            .pod_cidr
            .rsplit('/')
            .next()
            .and_then(|bits| bits.parse().ok())
            .context("a node's podCIDR")?;
        let pods = 2_u32.pow(32_u32.saturating_sub(bits)).saturating_sub(SPARE_ADDRESSES).max(1);
        let resources = json!({"cpu": "1000", "memory": "4Ti", "pods": pods.to_string()});
        // Outside every podCIDR of the built-in topology: a node is no pod.
        let address = format!("10.0.0.{}", index + 10);
        Ok(json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": self.name,
                "annotations": {"kwok.x-k8s.io/node": "fake"},
                "labels": {
                    "kubernetes.io/hostname": self.name,
                    "kubernetes.io/os": "linux",
                    "topology.kubernetes.io/region": region,
                    "topology.kubernetes.io/zone": self.zone,
                },
            },
            "spec": {"podCIDR": self.pod_cidr, "podCIDRs": [self.pod_cidr], "providerID": format!("{region}.{}", self.instance_id)},
            "status": {
                "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": self.name}],
                "capacity": resources,
                "allocatable": resources,
            },
        }))
    }
}

/// Runs `simulator --print-topology` and returns its JSON.
async fn print_topology(file: Option<&Path>) -> Result<Value> {
    let mut command = Command::new(layout::program_path("simulator")?);
    command.arg("--print-topology");
    if let Some(file) = file {
        command.arg("--topology").arg(file);
    }
    let output = command.output().await.context("the simulator does not start")?;
    ensure!(
        output.status.success(),
        "simulator --print-topology: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).context("the simulator's topology")
}

/// A node that only one test uses: the node may hold more pods than the others, and may go. Nothing
/// is scheduled there; pods name the node.
#[derive(Debug)]
pub struct OwnNode {
    /// Value of `spec.nodeName` in its pods.
    pub name: String,
    /// The built-in network with this node, for the test's simulator.
    pub topology: PathBuf,
    object: Value,
}

impl OwnNode {
    /// Describes a node in the first vSwitch, which has a `/16`; none of the other nodes has
    /// addresses of `pod_cidr`.
    pub async fn new(pod_cidr: &str) -> Result<Self> {
        let mut topology = print_topology(None).await?;
        let name = format!("own-{}", uuid::Uuid::new_v4().simple());
        let nodes = topology["nodes"].as_array_mut().context("nodes")?;
        let mut node = nodes.first().context("a node")?.clone();
        node["name"] = json!(name);
        node["instanceId"] = json!(format!("i-{name}"));
        node["podCIDR"] = json!(pod_cidr);
        nodes.push(node.clone());
        let region = topology["region"].as_str().context("a region")?;
        let mut object =
            serde_json::from_value::<TopologyNode>(node)?.node_object(region, OWN_NODE_INDEX)?;
        object["spec"]["taints"] =
            json!([{"key": "testbed.waygate.dev/own", "value": name, "effect": "NoSchedule"}]);
        let file = layout::scratch_folder().join(format!("{name}.json"));
        std::fs::write(&file, topology.to_string())?;
        Ok(Self { name, topology: file, object })
    }

    /// Makes it; kwok plays its kubelet.
    pub async fn create_node(&self, client: &Client) -> Result<()> {
        let nodes: Api<Node> = Api::all(client.clone());
        nodes.create(&PostParams::default(), &serde_json::from_value(self.object.clone())?).await?;
        nodes
            .patch_status(
                &self.name,
                &PatchParams::apply("testbed").force(),
                &Patch::Apply(&self.object),
            )
            .await?;
        Ok(())
    }

    /// Deletes the node. The control plane then collects its pods.
    pub async fn delete_node(&self, client: &Client) -> Result<()> {
        Api::<Node>::all(client.clone()).delete(&self.name, &DeleteParams::default()).await?;
        Ok(())
    }
}

impl Drop for OwnNode {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.topology));
    }
}
