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

use super::text::{ADDRESS_KEYS, GREEN, YELLOW, colour_text, readable_address};
use crate::{pods::annotation_value, stand::Stand};

/// Short enough to see every state that lasts as long as a person would notice.
const INTERVAL: Duration = Duration::from_millis(150);

/// Prints until dropped.
pub(super) struct ChangePrinter {
    is_printing: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl ChangePrinter {
    /// Begins to watch the stand's namespace.
    pub(super) fn start(stand: &Stand) -> Self {
        let is_printing = Arc::new(AtomicBool::new(true));
        let story = WatchedState {
            pods: stand.pods(),
            slices: Api::namespaced(stand.client.clone(), &stand.namespace),
            began: Instant::now(),
            printed: BTreeMap::new(),
        };
        Self { task: tokio::spawn(story.print_changes(Arc::clone(&is_printing))), is_printing }
    }

    /// Lets the last changes be printed, then is silent.
    pub(super) async fn pause(&self) {
        tokio::time::sleep(INTERVAL * 3).await;
        self.is_printing.store(false, Ordering::Release);
    }

    /// Prints again after a pause.
    pub(super) fn resume(&self) {
        self.is_printing.store(true, Ordering::Release);
    }
}

impl Drop for ChangePrinter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct WatchedState {
    pods: Api<Pod>,
    slices: Api<EndpointSlice>,
    began: Instant,
    /// The last printed line, by pod or Service.
    printed: BTreeMap<String, String>,
}

impl WatchedState {
    async fn print_changes(mut self, speaks: Arc<AtomicBool>) {
        loop {
            if speaks.load(Ordering::Acquire) {
                self.read_changes().await;
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Prints what changed. A read that fails prints nothing; the next one does.
    async fn read_changes(&mut self) {
        let Ok(pods) = self.pods.list(&ListParams::default()).await else { return };
        for pod in &pods {
            self.print_pod(pod);
        }
        let gone: Vec<_> = self
            .printed
            .keys()
            .filter_map(|key| key.strip_prefix("pod "))
            .filter(|name| !pods.iter().any(|pod| pod.name_any() == **name))
            .map(str::to_owned)
            .collect();
        for name in gone {
            self.printed.retain(|key, _| !key.ends_with(&format!(" {name}")));
            self.print_line(&name, "gone");
        }
        let Ok(slices) = self.slices.list(&ListParams::default()).await else { return };
        for slice in &slices {
            self.print_endpoints(slice);
        }
    }

    fn print_pod(&mut self, pod: &Pod) {
        let name = pod.name_any();
        let status = pod.status.as_ref();
        let life =
            if pod.metadata.deletion_timestamp.is_some() { "terminating" } else { "created" };
        self.print_if_changed("pod", &name, life.to_owned());
        if let Some(ip) = status.and_then(|status| status.pod_ip.as_deref()) {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("?");
            self.print_if_changed("ip", &name, format!("runs on {node} with IP {ip}"));
        }
        for key in ADDRESS_KEYS {
            if let Some(value) = annotation_value(pod, key) {
                self.print_if_changed(key, &name, format!("address  {}", readable_address(value)));
            }
        }
        let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        for condition in
            conditions.iter().filter(|condition| condition.type_.starts_with("k8s.aliyun.com/"))
        {
            self.print_if_changed("gate", &name, describe_gate(condition));
        }
    }

    fn print_endpoints(&mut self, slice: &EndpointSlice) {
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
        self.print_if_changed("service", service, line);
    }

    fn print_if_changed(&mut self, what: &str, name: &str, line: String) {
        let key = format!("{what} {name}");
        if self.printed.get(&key) != Some(&line) {
            self.print_line(name, &line);
            self.printed.insert(key, line);
        }
    }

    fn print_line(&self, name: &str, line: &str) {
        println!("  {:>5.1} s  {name:<22} {line}", self.began.elapsed().as_secs_f64());
    }
}

fn describe_gate(condition: &PodCondition) -> String {
    let kind = condition.type_.trim_start_matches("k8s.aliyun.com/");
    let (reason, message) = (
        condition.reason.as_deref().unwrap_or_default(),
        condition.message.as_deref().unwrap_or_default(),
    );
    let colour = if condition.status == "True" { GREEN } else { YELLOW };
    format!("gate {kind} {}  {reason}: {message}", colour_text(colour, &condition.status))
}
