use super::*;
use crate::watch::pod_record::PodRecord;
use kube::core::{ObjectList, WatchEvent};
use serde_json::{Value, json};
use waygate_core::config::Config;

const CONFIG: &str = r"
clusterID: c1
regionID: cn-hangzhou
vpcID: vpc-1
enableControllers: [eip, natgw]
networkController:
  natGwPool: [{natgwId: ngw-1, zoneId: cn-hangzhou-j, portRangeStart: 512, portRangeEnd: 1024}]
";

/// A pod with all that the API server may show, and that the worker reads, beside what it does not.
fn full_pod() -> Value {
    let filler = "x".repeat(10_000);
    let gates = Kind::ALL.map(|kind| json!({"conditionType": kind.readiness_gate()}));
    let conditions: Vec<_> = Kind::ALL
        .iter()
        .map(|kind| kind.readiness_gate())
        .chain(["Ready"])
        .map(|gate| {
            json!({"type": gate, "status": "True", "reason": "R", "message": "m",
                   "lastTransitionTime": "2026-11-28T12:00:03Z"})
        })
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "namespace": "games", "name": "web-0", "uid": "u-1", "resourceVersion": "7",
            "creationTimestamp": "2026-11-28T12:00:00Z", "deletionTimestamp": null,
            "labels": {"waygate.dev/pod": "eip", "app": filler},
            "annotations": {
                "k8s.aliyun.com/pod-with-eip": "true", "network.alibabacloud.com/eip-name": "n",
                "waygate.dev/eip-pool": "", "k8s.aliyun.com/allocated-eipAddress": "47.0.0.1",
                "k8s.aliyun.com/allocated-dnat": "[]", "example.com/large": filler,
                "k8s.aliyun.com/of-another-component": filler,
            },
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": "o"},
                {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "u", "controller": true},
            ],
            "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:status": filler}}],
            "finalizers": ["example.com/f"],
        },
        "spec": {
            "nodeName": "node-1", "hostNetwork": false, "readinessGates": gates,
            "containers": [{"name": "c", "image": "i", "env": [{"name": "E", "value": filler}]}],
            "volumes": [{"name": "v", "emptyDir": {}}],
        },
        "status": {
            "phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
            "conditions": conditions,
            "containerStatuses": [{"name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 3}],
        },
    })
}

/// The pod, each time with one value more missing.
fn pods_with_parts_missing() -> Vec<Value> {
    let mut pods = vec![full_pod()];
    for (part, names) in [
        ("/metadata", vec!["labels", "ownerReferences", "creationTimestamp", "annotations"]),
        ("/spec", vec!["nodeName", "readinessGates", "hostNetwork"]),
        ("/status", vec!["podIP", "podIPs", "conditions", "phase"]),
        ("", vec!["status", "spec"]),
    ] {
        for name in names {
            let mut pod = pods.last().unwrap().clone();
            pod.pointer_mut(part).unwrap().as_object_mut().unwrap().remove(name).unwrap();
            pods.push(pod);
        }
    }
    let replaced = [
        ("/metadata/deletionTimestamp", json!("2026-11-28T12:00:01Z")),
        ("/metadata/annotations/network.alibabacloud.com~1eip-name", json!("x".repeat(200))),
        ("/spec/hostNetwork", json!(true)),
        ("/status/phase", json!("Failed")),
        ("/status/podIP", json!("10.0.0.9")),
    ];
    for (pointer, value) in replaced {
        let mut pod = full_pod();
        *pod.pointer_mut(pointer).unwrap() = value;
        pods.push(pod);
    }
    pods
}

#[test]
fn what_the_worker_reads_of_a_slim_pod_is_what_it_reads_of_the_whole() {
    let config = Config::from_yaml(CONFIG).unwrap().0;
    let pods = pods_with_parts_missing();
    assert!(pods.len() > 15);
    for value in pods {
        let whole: Pod = serde_json::from_value(value.clone()).unwrap();
        let slim: SlimPod = serde_json::from_str(&value.to_string()).unwrap();
        let record = |pod| format!("{:?}", PodRecord::read(&config, pod));
        assert_eq!(record(&whole), record(&slim.to_pod()));
        assert_eq!(whole.object_ref(&()), slim.to_pod().object_ref(&()));
        let find = |pod: &Pod, kind| crate::objects::pod::find_condition(pod, kind).cloned();
        for kind in Kind::ALL {
            assert_eq!(find(&whole, kind), find(&slim.to_pod(), kind), "with its time");
        }
    }
}

#[test]
fn nothing_else_of_a_pod_is_kept() {
    let slim: SlimPod = serde_json::from_value(full_pod()).unwrap();
    let kept = serde_json::to_string(&slim.to_pod()).unwrap();
    assert!(kept.len() < 2_000, "{kept}");
}

#[test]
fn slim_pods_are_read_from_lists_and_watches() {
    let list =
        json!({"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": [full_pod()]});
    let list: ObjectList<SlimPod> = serde_json::from_str(&list.to_string()).unwrap();
    assert_eq!(list.items[0].meta().uid.as_deref(), Some("u-1"));
    let event = json!({"type": "ADDED", "object": full_pod()}).to_string();
    let event: WatchEvent<SlimPod> = serde_json::from_str(&event).unwrap();
    assert!(matches!(event, WatchEvent::Added(pod) if pod.meta().uid.as_deref() == Some("u-1")));
}
