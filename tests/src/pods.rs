//! Pods as tests write them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodCondition, PodSpec};
use kube::api::ObjectMeta;

/// The testbed's own annotations, by which a test directs the node's treatment of a pod.
/// `controlplane/stages.yaml` explains them.
pub mod ask {
    /// `Initializing`, `CrashLoop`, `Succeeded` or `Failed`; absent: it runs.
    pub const STATE: &str = "testbed.waygate.dev/state";
    /// A number above the containers' restart count: a new sandbox, a new IP, the same UID.
    pub const SANDBOX: &str = "testbed.waygate.dev/sandbox";
    /// Time until the pod has an IP, such as `30s`.
    pub const START_AFTER: &str = "testbed.waygate.dev/start-after";
    /// Time that the pod takes to end after its deletion is requested, such as `30s`.
    pub const STOP_AFTER: &str = "testbed.waygate.dev/stop-after";
}

/// A pod with one container and these annotations, labelled `app: NAME`.
#[must_use]
pub fn annotated_pod(name: &str, annotations: &[(&str, &str)]) -> Pod {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    Pod {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(BTreeMap::from([owned(&("app", name))])),
            annotations: Some(annotations.iter().map(owned).collect()),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec { containers: vec![test_container()], ..PodSpec::default() }),
        ..Pod::default()
    }
}

/// A container for every test pod; nothing runs, so its image is never pulled.
#[must_use]
pub fn test_container() -> Container {
    Container {
        name: "main".to_owned(),
        image: Some("example.com/main:1".to_owned()),
        ..Container::default()
    }
}

/// Finds a pod's condition of this type.
#[must_use]
pub fn find_condition<'pod>(pod: &'pod Pod, kind: &str) -> Option<&'pod PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

/// Its status: `True`, `False`, or nothing.
#[must_use]
pub fn condition_status<'pod>(pod: &'pod Pod, kind: &str) -> Option<&'pod str> {
    find_condition(pod, kind).map(|condition| condition.status.as_str())
}

/// Describes a pod's phase, IP and condition, for the error of a wait that timed out.
#[must_use]
pub fn describe_pod(pod: &Pod, kind: &str) -> String {
    let found = find_condition(pod, kind).map(|condition| {
        let (reason, message) = (
            condition.reason.as_deref().unwrap_or_default(),
            condition.message.as_deref().unwrap_or_default(),
        );
        format!("{} ({reason}: {message})", condition.status)
    });
    let ip = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()).unwrap_or("no IP");
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("no node");
    format!("it is {}, with {ip} on {node}", found.unwrap_or_else(|| "not there".to_owned()))
}

/// Finds a pod's annotation of this key.
#[must_use]
pub fn annotation_value<'pod>(pod: &'pod Pod, key: &str) -> Option<&'pod str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// A pod's IP, if it has one.
#[must_use]
pub fn pod_ip_of(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()).unwrap_or_default()
}

/// Returns the pod's phase, empty if unset.
#[must_use]
pub fn pod_phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}
