//! Workloads that the demo applies.

use anyhow::Result;
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::{Pod, Service},
};
use serde_json::json;

use crate::pods::annotated_pod;

/// Two pods with an EIP each.
pub(super) fn web_deployment() -> Result<Deployment> {
    Ok(serde_json::from_value(json!({
        "metadata": {"name": "web"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}, "annotations": {
                "k8s.aliyun.com/pod-with-eip": "true",
                "k8s.aliyun.com/eip-bandwidth": "10",
            }},
            "spec": {"containers": [{"name": "main", "image": "example.com/web:1"}]},
        }},
    }))?)
}

/// A database whose EIP outlives its pod.
pub(super) fn db_stateful_set() -> Result<StatefulSet> {
    Ok(serde_json::from_value(json!({
        "metadata": {"name": "db"},
        "spec": {"replicas": 1, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}}, "template": {
            "metadata": {"labels": {"app": "db"}, "annotations": {
                "k8s.aliyun.com/pod-with-eip": "true",
                "k8s.aliyun.com/pod-eip-release-strategy": "3s",
            }},
            "spec": {"containers": [{"name": "main", "image": "example.com/db:1"}]},
        }},
    }))?)
}

/// Two game servers with two ports each on a NAT gateway, which stay theirs until their PodDNAT is
/// deleted.
pub(super) fn game_stateful_set() -> Result<StatefulSet> {
    Ok(serde_json::from_value(json!({
        "metadata": {"name": "game"},
        "spec": {"replicas": 2, "serviceName": "game", "podManagementPolicy": "Parallel", "selector": {"matchLabels": {"app": "game"}}, "template": {
            "metadata": {"labels": {"app": "game"}, "annotations": {
                "k8s.aliyun.com/pod-dnat": "true",
                "k8s.aliyun.com/pod-dnat-expose-port": "80,7777/udp",
                "k8s.aliyun.com/pod-dnat-fixed": "true",
            }},
            "spec": {"containers": [{"name": "main", "image": "example.com/game:1"}]},
        }},
    }))?)
}

/// A Service for each, whose endpoints are ready when the pods are.
pub(super) fn workload_services() -> Result<Vec<Service>> {
    let service = |name: &str| {
        serde_json::from_value(
            json!({"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": [{"port": 80}]}}),
        )
    };
    Ok(vec![service("web")?, service("game")?])
}

/// A pod with three faults.
pub(super) fn wrong_pod() -> Pod {
    annotated_pod(
        "wrong",
        &[
            ("k8s.aliyun.com/pod-with-eip", "true"),
            ("k8s.aliyun.com/eip-bandwidth", "fast"),
            ("k8s.aliyun.com/eip-internet-charge-type", "PayByGuess"),
            ("k8s.aliyun.com/pod-eip-release-strategy", "Sometimes"),
        ],
    )
}
