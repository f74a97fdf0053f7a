//! A stand with a crowd of pods in one namespace and a few bystanders in another.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use std::fmt;
use std::time::{Duration, Instant};
use testbed::{
    address_kinds::EIP,
    dnat::{GATE as DNAT_GATE, WITH_DNAT, ports_annotation},
    nodes::OwnNode,
    pods::annotated_pod,
    stand::{Options, Stand},
};

/// Longer than any crowd here takes, also on a slow machine.
const TIMEOUT: Duration = Duration::from_mins(10);

/// Seconds until an address works, and until it is given back.
#[derive(Clone, Copy)]
pub(crate) struct Bystanders {
    pub up: f64,
    pub down: f64,
}

/// Changes asked of the cloud for each pod of the crowd.
pub(crate) struct ChangesPerPod {
    pub up: f64,
    pub down: f64,
}

impl fmt::Display for ChangesPerPod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(3);
        write!(f, "{:.digits$} up and {:.digits$} down", self.up, self.down)
    }
}

/// A crowd, with the stand that serves it.
pub(crate) struct Crowd {
    stand: Stand,
    node: OwnNode,
    pods: u32,
    namespace: String,
    others: String,
    bystanders: u32,
    calls_before: (u64, u64),
}

impl Crowd {
    /// Starts the stand and an empty crowd, at the published rates.
    pub(crate) async fn start(pods: u32, workers: usize) -> Result<Self> {
        let node = OwnNode::new("10.1.128.0/20").await?;
        let topology = node.topology.display().to_string();
        let simulator = ["--profile", "realistic", "--quota-eips", "600", "--topology", &topology];
        let simulator = simulator.map(str::to_owned).to_vec();
        let stand = Stand::start_with(Options { simulator, workers, ..Options::default() }).await?;
        node.create_node(&stand.client).await?;
        let (namespace, others) = (stand.namespace.clone(), format!("{}-others", stand.namespace));
        stand.installation.serve_namespace(&others).await?;
        let crowd =
            Self { stand, node, pods, namespace, others, bystanders: 0, calls_before: (0, 0) };
        let set: ReplicaSet = serde_json::from_value(json!({
            "metadata": {"name": "crowd"},
            "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "crowd"}}, "template": {
                "metadata": {"labels": {"app": "crowd"}, "annotations": {EIP.request[0].0: EIP.request[0].1}},
                "spec": {"nodeName": crowd.node.name, "containers": [{"name": "main", "image": "example.com/main:1"}]},
            }},
        }))?;
        crowd.sets().create(&PostParams::default(), &set).await?;
        Ok(crowd)
    }

    fn sets(&self) -> Api<ReplicaSet> {
        Api::namespaced(self.stand.client.clone(), &self.namespace)
    }

    /// One pod of the crowd by itself.
    pub(crate) async fn measure_one(&mut self) -> Result<Bystanders> {
        let began = self.scale(1).await?;
        let up = self.wait_for_ready(1, began).await?;
        let began = self.scale(0).await?;
        let down = self.wait_until_given_back(&self.namespace, began).await?;
        Ok(Bystanders { up, down })
    }

    /// Makes the whole crowd; returns when.
    pub(crate) async fn scale_up(&mut self) -> Result<Instant> {
        self.calls_before = self.count_calls().await?;
        self.scale(self.pods).await
    }

    /// Seconds from the crowd's creation until its last pod is Ready.
    pub(crate) async fn wait_until_ready(&self, began: Instant) -> Result<f64> {
        self.wait_for_ready(self.pods, began).await
    }

    /// Seconds from the crowd's deletion until its last EIP is given back.
    pub(crate) async fn scale_down(&self) -> Result<f64> {
        let began = self.scale(0).await?;
        self.wait_until_given_back(&self.namespace, began).await
    }

    async fn scale(&self, replicas: u32) -> Result<Instant> {
        let began = Instant::now();
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        self.sets().patch("crowd", &PatchParams::default(), &patch).await?;
        Ok(began)
    }

    async fn wait_for_ready(&self, pods: u32, began: Instant) -> Result<f64> {
        let ready = || async {
            let status = self.sets().get_status("crowd").await?.status;
            let ready = status.and_then(|status| status.ready_replicas).unwrap_or_default();
            ensure!(u32::try_from(ready)? == pods, "{ready} of {pods} are");
            Ok(Some(began.elapsed()))
        };
        let took = self.stand.eventually(ready, "all pods are Ready", TIMEOUT).await?;
        Ok(took.as_secs_f64())
    }

    /// By Postgres: on a small machine asking the cloud for hundreds of EIPs costs more.
    async fn wait_until_given_back(&self, namespace: &str, began: Instant) -> Result<f64> {
        let gone = || async {
            let held: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM lease WHERE namespace = $1 AND allocation_id IS NOT NULL",
            )
            .bind(namespace)
            .fetch_one(&self.stand.database)
            .await?;
            ensure!(held == 0, "{held} EIPs are held");
            Ok(Some(began.elapsed()))
        };
        let took = self.stand.eventually(gone, "every EIP is given back", TIMEOUT).await?;
        Ok(took.as_secs_f64())
    }

    /// A DNAT pod until it is Ready, and the deletion of an EIP pod, both in another namespace.
    pub(crate) async fn measure_bystanders(&mut self) -> Result<Bystanders> {
        self.stand.namespace.clone_from(&self.others);
        self.bystanders += 1;
        let (leaver, comer) =
            (format!("leaver-{}", self.bystanders), format!("comer-{}", self.bystanders));
        self.stand.create_pod(&annotated_pod(&leaver, EIP.request)).await?;
        self.stand.wait_for_condition(&leaver, EIP.gate, "True", TIMEOUT).await?;
        let began = Instant::now();
        self.stand.create_pod(&annotated_pod(&comer, &[WITH_DNAT, ports_annotation("80")])).await?;
        self.stand.wait_for_condition(&comer, DNAT_GATE, "True", TIMEOUT).await?;
        let up = began.elapsed().as_secs_f64();
        let began = Instant::now();
        self.stand.delete_pod(&leaver).await?;
        let down = self.wait_until_given_back(&self.others, began).await?;
        self.stand.delete_pod(&comer).await?;
        self.stand.namespace.clone_from(&self.namespace);
        Ok(Bystanders { up, down })
    }

    async fn count_calls(&self) -> Result<(u64, u64)> {
        let mut sums = (0, 0);
        for action in ["AllocateEipAddress", "AssociateEipAddress"] {
            sums.0 += self.stand.cloud.count_calls_of(action).await?;
        }
        for action in ["UnassociateEipAddress", "ReleaseEipAddress"] {
            sums.1 += self.stand.cloud.count_calls_of(action).await?;
        }
        Ok(sums)
    }

    /// Changes since the crowd was made, for each of its pods, those of the one bystander left out.
    pub(crate) async fn count_changes(&self) -> Result<ChangesPerPod> {
        let after = self.count_calls().await?;
        let others = if self.bystanders > 0 { 2 } else { 0 };
        let each = |before: u64, after: u64| -> Result<f64> {
            let calls = u32::try_from(after - before - others).context("a number of calls")?;
            Ok(f64::from(calls) / f64::from(self.pods))
        };
        Ok(ChangesPerPod {
            up: each(self.calls_before.0, after.0)?,
            down: each(self.calls_before.1, after.1)?,
        })
    }

    /// Ends the stand.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.node.delete_node(&self.stand.client).await?;
        self.stand.stop().await
    }
}
