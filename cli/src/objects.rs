//! Pods in a manifest: pods themselves, and the pod templates of workloads.

use serde_json::Value;
use std::collections::BTreeMap;

/// A pod, or the pod template of a workload.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PodLike {
    /// Kind and name of the object that contains the pod.
    pub(crate) name: String,
    /// Annotations of the pod or of its template.
    pub(crate) annotations: BTreeMap<String, String>,
    /// True if the pod uses its node's network.
    pub(crate) host_network: bool,
    /// True if the pod keeps its name over restarts.
    pub(crate) stateful: bool,
}

/// The annotated pods of a document; of a List, those of all items.
pub(crate) fn pods_in_document(document: &Value) -> Vec<PodLike> {
    if let Some(items) = document["items"].as_array() {
        return items.iter().flat_map(pods_in_document).collect();
    }
    let kind = document["kind"].as_str().unwrap_or_default();
    let template = match kind {
        "Pod" => document,
        "CronJob" => &document["spec"]["jobTemplate"]["spec"]["template"],
        _ => &document["spec"]["template"],
    };
    let Some(annotations) = template["metadata"]["annotations"].as_object() else {
        return Vec::new();
    };
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    vec![PodLike {
        name: format!(
            "{kind} {}",
            document["metadata"]["name"].as_str().unwrap_or("without a name")
        ),
        annotations: annotations.iter().map(|(key, value)| (key.clone(), text(value))).collect(),
        host_network: template["spec"]["hostNetwork"].as_bool().unwrap_or(false),
        stateful: kind == "StatefulSet",
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pods_and_templates_are_found_wherever_they_stand() {
        let annotated = json!({"metadata": {"annotations": {"k8s.aliyun.com/pod-with-eip": "true"}}, "spec": {"hostNetwork": true}});
        let list = json!({"kind": "List", "items": [
            {"kind": "Pod", "metadata": {"name": "a", "annotations": {"k": "v"}}, "spec": {}},
            {"kind": "StatefulSet", "metadata": {"name": "b"}, "spec": {"template": annotated}},
            {"kind": "CronJob", "metadata": {"name": "c"}, "spec": {"jobTemplate": {"spec": {"template": annotated}}}},
            {"kind": "Service", "metadata": {"name": "d"}, "spec": {}},
        ]});
        let found = pods_in_document(&list);
        assert_eq!(
            found.iter().map(|pod| pod.name.as_str()).collect::<Vec<_>>(),
            ["Pod a", "StatefulSet b", "CronJob c"]
        );
        assert!(found[1].stateful && found[1].host_network && !found[2].stateful);
    }
}
