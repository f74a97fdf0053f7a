//! A model of OpenKruiseGame: when it looks at a pod's address, what it reads, what it believes
//! then.
//!
//! ```text
//! pod made ─▶ its GameServer controller labels it ─▶ every further change of the object: a look at the custom resource at v1beta1
//!             (the first change: it waits)                 EIP: ready with eipAddress      NATGW: ready with an entry for each port
//! ```
//! OpenKruiseGame is an admission webhook for `pods`, not `pods/status`, so a condition wakes
//! nothing. The resource is found by the pod's name and no UIDs are compared: a read is right only
//! if the writer of the resource withdraws the address in time. A look also notes if it was right.

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt as _, watcher},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};
use testbed::{
    pods::{annotation_value, pod_ip_of},
    stand::Stand,
};
use tokio::task::JoinHandle;
use waygate_core::resources::{PodDNAT, PodEIP};

const PORTS: &str = "k8s.aliyun.com/pod-dnat-expose-port";

/// Which of its plugins a pod's network type names.
#[derive(Clone, Copy)]
pub(crate) enum Plugin {
    /// Network type `AlibabaCloud-EIP`.
    Eip,
    /// Network type `AlibabaCloud-NATGW`.
    NatGw,
}

/// A look at a pod: the addresses read, and the decision.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Look {
    /// UID of the pod.
    pub(crate) uid: String,
    /// Private addresses of the pod.
    pub(crate) internal: Vec<String>,
    /// The public ones, in the same order.
    pub(crate) external: Vec<String>,
    /// True if players are sent to the pod.
    pub(crate) ready: bool,
    /// True if the addresses led to this very pod. None if no address was read, or the pod was
    /// about to end.
    pub(crate) right: Option<bool>,
}

/// A model of OpenKruiseGame that watches a stand's namespace until it is dropped.
pub(crate) struct Kruise {
    looks: Arc<Mutex<Vec<Look>>>,
    task: JoinHandle<()>,
}

impl Drop for Kruise {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Kruise {
    pub(crate) fn watch_namespace(stand: &Stand, plugin: Plugin) -> Self {
        let looks = Arc::new(Mutex::default());
        let eyes = PodWatcher {
            plugin,
            client: stand.client.clone(),
            namespace: stand.namespace.clone(),
            cloud: stand.cloud.account.admin.clone(),
        };
        let task = tokio::spawn(eyes.keep_watching(Arc::clone(&looks)));
        Self { looks, task }
    }

    /// All looks at one pod.
    pub(crate) fn list_looks(&self, pod: &Pod) -> Vec<Look> {
        let looks = self.looks.lock();
        looks
            .iter()
            .filter(|look| Some(look.uid.as_str()) == pod.metadata.uid.as_deref())
            .cloned()
            .collect()
    }
}

struct PodWatcher {
    plugin: Plugin,
    client: Client,
    namespace: String,
    cloud: String,
}

impl PodWatcher {
    async fn keep_watching(self, looks: Arc<Mutex<Vec<Look>>>) {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut events =
            watcher(pods, watcher::Config::default()).default_backoff().applied_objects().boxed();
        let mut known: BTreeMap<String, (Value, NetworkStatus)> = BTreeMap::new();
        while let Some(event) = events.next().await {
            let Ok(pod) = event else { continue };
            let (uid, object) = (pod.uid().unwrap_or_default(), without_status(&pod));
            match known.get_mut(&uid) {
                None => {
                    known.insert(uid, (object, NetworkStatus::Uninitialised));
                    self.label_pod(&pod).await;
                }
                Some((former, _)) if *former == object => {}
                Some((former, waiting @ NetworkStatus::Uninitialised)) => {
                    (*former, *waiting) = (object, NetworkStatus::Initialised);
                }
                Some((former, NetworkStatus::Initialised)) => {
                    *former = object;
                    match self.read_address(&pod).await {
                        Ok(look) => looks.lock().push(look),
                        Err(error) => eprintln!("a look failed: {error:#}"),
                    }
                }
            }
        }
    }

    /// Writes the game server's state onto the pod, as the GameServer controller does.
    async fn label_pod(&self, pod: &Pod) {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let labels = json!({"metadata": {"uid": pod.uid(), "labels": {"game.kruise.io/gs-state": "Creating"}}});
        if let Err(error) =
            pods.patch(&pod.name_any(), &PatchParams::default(), &Patch::Merge(labels)).await
        {
            eprintln!("the pod is not labelled: {error}");
        }
    }

    async fn read_address(&self, pod: &Pod) -> Result<Look> {
        let (internal, external, ready) = match self.plugin {
            Plugin::Eip => self.read_pod_eip(pod).await?,
            Plugin::NatGw => self.read_pod_dnat(pod).await?,
        };
        let leaving = pod.metadata.deletion_timestamp.is_some();
        let right = if external.is_empty() || leaving {
            None
        } else {
            self.leads_to_pod(pod, &internal, &external).await?
        };
        Ok(Look { uid: pod.uid().unwrap_or_default(), internal, external, ready, right })
    }

    async fn read_pod_eip(&self, pod: &Pod) -> Result<(Vec<String>, Vec<String>, bool)> {
        let resource = Api::<PodEIP>::namespaced(self.client.clone(), &self.namespace)
            .get_opt(&pod.name_any())
            .await?;
        let status = resource.and_then(|resource| resource.status).unwrap_or_default();
        let Some(address) = status.eip_address.filter(|address| !address.is_empty()) else {
            return Ok((Vec::new(), Vec::new(), false));
        };
        Ok((vec![status.private_ip_address.unwrap_or_default()], vec![address], true))
    }

    async fn read_pod_dnat(&self, pod: &Pod) -> Result<(Vec<String>, Vec<String>, bool)> {
        let resource = Api::<PodDNAT>::namespaced(self.client.clone(), &self.namespace)
            .get_opt(&pod.name_any())
            .await?;
        let Some(entries) =
            resource.and_then(|resource| resource.status).and_then(|status| status.entries)
        else {
            return Ok((Vec::new(), Vec::new(), false));
        };
        let ready =
            annotation_value(pod, PORTS).unwrap_or_default().split(',').count() == entries.len();
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        let internal = entries.iter().map(|it| {
            format!(
                "{}:{}/{}",
                text(&it.internal_ip),
                text(&it.internal_port),
                text(&it.ip_protocol)
            )
        });
        let external = entries.iter().map(|it| {
            format!(
                "{}:{}/{}",
                text(&it.external_ip),
                text(&it.external_port),
                text(&it.ip_protocol)
            )
        });
        Ok((internal.collect(), external.collect(), ready))
    }

    /// True if players who use these addresses now reach this pod. None if the pod is gone.
    async fn leads_to_pod(
        &self,
        pod: &Pod,
        internal: &[String],
        external: &[String],
    ) -> Result<Option<bool>> {
        let state: Value = reqwest::get(format!("{}/state", self.cloud)).await?.json().await?;
        let list = |name: &str| {
            state[name].as_array().cloned().with_context(|| format!("the state's {name}"))
        };
        let (eips, entries) = (list("eips")?, list("forwardEntries")?);
        let live = Api::<Pod>::namespaced(self.client.clone(), &self.namespace)
            .get_opt(&pod.name_any())
            .await?;
        let Some(live) = live.filter(|live| {
            live.metadata.uid == pod.metadata.uid && live.metadata.deletion_timestamp.is_none()
        }) else {
            return Ok(None);
        };
        let ip = pod_ip_of(&live);
        let bound = |address: &str| {
            eips.iter().any(|eip| {
                eip["IpAddress"] == address
                    && eip["PrivateIpAddress"] == ip
                    && eip["Status"] == "InUse"
            })
        };
        let forwards = |address: &str| {
            let works =
                |entry: &&Value| entry["InternalIp"] == ip && entry["Status"] == "Available";
            entries
                .iter()
                .filter(works)
                .any(|entry| address.starts_with(entry["ExternalIp"].as_str().unwrap_or("?")))
        };
        let leads = |address: &String| match self.plugin {
            Plugin::Eip => bound(address),
            Plugin::NatGw => forwards(address),
        };
        let to_it = |address: &String| address.split(':').next() == Some(ip);
        Ok(Some(external.iter().all(leads) && internal.iter().all(to_it)))
    }
}

/// State of a pod's network status, which the first change of the pod initialises.
#[derive(Clone, Copy)]
enum NetworkStatus {
    Uninitialised,
    Initialised,
}

/// The object as its admission sees it change: a status is written through `pods/status`.
fn without_status(pod: &Pod) -> Value {
    let mut metadata = pod.metadata.clone();
    metadata.resource_version = None;
    metadata.managed_fields = None;
    json!({"metadata": metadata, "spec": pod.spec})
}
