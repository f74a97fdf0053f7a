//! Prints each change of a namespace's pods and of its Services' endpoints as a line, with the
//! seconds since the start.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::{
    core::v1::{Pod, PodCondition},
    discovery::v1::EndpointSlice,
};
use kube::{Api, ResourceExt as _, api::ListParams};
use tokio::{task::JoinHandle, time::Instant};

use super::text::{ADDRESSES, GREEN, YELLOW, paint, readable};
use crate::{pods::annotation, stand::Stand};

/// Short enough to see every state that lasts as long as a person would notice.
const LOOK: Duration = Duration::from_millis(150);

/// Prints until dropped.
pub(super) struct Narrator {
    speaks: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Narrator {
    /// Begins to watch the stand's namespace.
    pub(super) fn start(stand: &Stand) -> Self {
        let speaks = Arc::new(AtomicBool::new(true));
        let story = Story {
            pods: stand.pods(),
            slices: Api::namespaced(stand.client.clone(), &stand.namespace),
            began: Instant::now(),
            told: BTreeMap::new(),
        };
        Self { task: tokio::spawn(story.tell(Arc::clone(&speaks))), speaks }
    }

    /// Lets the last changes be printed, then is silent.
    pub(super) async fn pause(&self) {
        tokio::time::sleep(LOOK * 3).await;
        self.speaks.store(false, Ordering::Release);
    }

    /// Prints again after a pause.
    pub(super) fn resume(&self) {
        self.speaks.store(true, Ordering::Release);
    }
}

impl Drop for Narrator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Story {
    pods: Api<Pod>,
    slices: Api<EndpointSlice>,
    began: Instant,
    /// The last printed line, by pod or Service.
    told: BTreeMap<String, String>,
}

impl Story {
    async fn tell(mut self, speaks: Arc<AtomicBool>) {
        loop {
            if speaks.load(Ordering::Acquire) {
                self.look().await;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Prints what changed. A read that fails prints nothing; the next one does.
    async fn look(&mut self) {
        let Ok(pods) = self.pods.list(&ListParams::default()).await else { return };
        for pod in &pods {
            self.pod(pod);
        }
        let gone: Vec<_> = self
            .told
            .keys()
            .filter_map(|key| key.strip_prefix("pod "))
            .filter(|name| !pods.iter().any(|pod| pod.name_any() == **name))
            .map(str::to_owned)
            .collect();
        for name in gone {
            self.told.retain(|key, _| !key.ends_with(&format!(" {name}")));
            self.say(&name, "gone");
        }
        let Ok(slices) = self.slices.list(&ListParams::default()).await else { return };
        for slice in &slices {
            self.endpoints(slice);
        }
    }

    fn pod(&mut self, pod: &Pod) {
        let name = pod.name_any();
        let status = pod.status.as_ref();
        let life =
            if pod.metadata.deletion_timestamp.is_some() { "terminating" } else { "created" };
        self.changed("pod", &name, life.to_owned());
        if let Some(ip) = status.and_then(|status| status.pod_ip.as_deref()) {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("?");
            self.changed("ip", &name, format!("runs on {node} with IP {ip}"));
        }
        for key in ADDRESSES {
            if let Some(value) = annotation(pod, key) {
                self.changed(key, &name, format!("address  {}", readable(value)));
            }
        }
        let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        for condition in
            conditions.iter().filter(|condition| condition.type_.starts_with("k8s.aliyun.com/"))
        {
            self.changed("gate", &name, gate(condition));
        }
    }

    fn endpoints(&mut self, slice: &EndpointSlice) {
        let Some(service) = slice.labels().get("kubernetes.io/service-name") else { return };
        let ready = |ready: bool| {
            slice
                .endpoints
                .iter()
                .filter(|e| e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(false) == ready)
                .count()
        };
        let line = format!(
            "service {service}: {} endpoints take traffic, {} wait",
            ready(true),
            ready(false)
        );
        self.changed("service", service, line);
    }

    fn changed(&mut self, what: &str, name: &str, line: String) {
        let key = format!("{what} {name}");
        if self.told.get(&key) != Some(&line) {
            self.say(name, &line);
            self.told.insert(key, line);
        }
    }

    fn say(&self, name: &str, line: &str) {
        println!("  {:>5.1} s  {name:<22} {line}", self.began.elapsed().as_secs_f64());
    }
}

fn gate(condition: &PodCondition) -> String {
    let kind = condition.type_.trim_start_matches("k8s.aliyun.com/");
    let (reason, message) = (
        condition.reason.as_deref().unwrap_or_default(),
        condition.message.as_deref().unwrap_or_default(),
    );
    let colour = if condition.status == "True" { GREEN } else { YELLOW };
    format!("gate {kind} {}  {reason}: {message}", paint(colour, &condition.status))
}
