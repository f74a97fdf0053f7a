use super::*;
use serde_json::{Value, json};

const CONFIG: &str = r"
clusterID: c1
regionID: cn-hangzhou
vpcID: vpc-1
enableControllers: [eip, natgw]
networkController:
  natGwPool: [{natgwId: ngw-1, zoneId: cn-hangzhou-j, portRangeStart: 512, portRangeEnd: 1024}]
";

fn config() -> Config {
    Config::from_yaml(CONFIG).unwrap().0
}

/// A running pod with both gates, as the API server shows it.
fn pod() -> Value {
    let gates = Kind::ALL.map(|kind| json!({"conditionType": kind.readiness_gate()}));
    json!({
        "metadata": {
            "namespace": "games", "name": "web-0", "uid": Uuid::from_u128(7), "resourceVersion": "1",
            "creationTimestamp": "2026-11-28T12:00:00Z", "labels": {"waygate.dev/pod": "eip"},
            "annotations": {"k8s.aliyun.com/pod-with-eip": "true"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "u", "controller": true}],
        },
        "spec": {"containers": [], "nodeName": "node-1", "readinessGates": gates},
        "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]},
    })
}

fn of_config() -> ConfigDigest {
    ConfigDigest::new(&config())
}

fn record(pod: &Value) -> PodRecord {
    PodRecord::read(&config(), &serde_json::from_value(pod.clone()).unwrap())
}

/// The pod with the value at a JSON pointer replaced; the last part of the pointer may be new.
fn changed(pointer: &str, value: Value) -> Value {
    let mut pod = pod();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    pod.pointer_mut(parent).unwrap()[key.replace("~1", "/")] = value;
    pod
}

fn shown_condition(reason: &str, message: &str, status: &str) -> Value {
    let gate = Kind::Eip.readiness_gate();
    json!([{"type": gate, "status": status, "reason": reason, "message": message}])
}

/// Changes of the pod, each with the field of the plan's view that it changes.
fn changes_the_plan_reads() -> Vec<(&'static str, Value)> {
    vec![
        ("ip", changed("/status/podIP", json!("10.0.0.2"))),
        ("node", changed("/spec/nodeName", json!("node-2"))),
        ("exited", changed("/status/phase", json!("Failed"))),
        ("terminating", changed("/metadata/deletionTimestamp", json!("2026-11-28T12:00:01Z"))),
        ("has_gate", changed("/spec/readinessGates", json!([]))),
        ("desired", changed("/metadata/annotations/k8s.aliyun.com~1pod-with-eip", json!("false"))),
        ("desired", changed("/metadata/annotations/k8s.aliyun.com~1eip-bandwidth", json!("7"))),
        (
            "desired",
            changed("/metadata/annotations/network.alibabacloud.com~1eip-name", json!("n")),
        ),
        ("desired", changed("/metadata/annotations/k8s.aliyun.com~1eip-bandwidth", json!("x"))),
        ("desired", changed("/metadata/annotations/waygate.dev~1eip-pool", json!("p"))),
        ("condition", changed("/status/conditions", shown_condition("A", "m", "True"))),
        (
            "annotation",
            changed(
                "/metadata/annotations/k8s.aliyun.com~1allocated-eipAddress",
                json!("47.0.0.1"),
            ),
        ),
        (
            "annotation",
            changed("/metadata/annotations/k8s.aliyun.com~1allocated-dnat", json!("[]")),
        ),
    ]
}

/// The text of each field of the view. A new field must be named here, and the test below asks for a
/// change of it.
fn fields(view: &PodView) -> Vec<(&'static str, String)> {
    let PodView { ip, node, exited, terminating, has_gate, desired, condition, annotation } = view;
    vec![
        ("ip", format!("{ip:?}")),
        ("node", format!("{node:?}")),
        ("exited", format!("{exited:?}")),
        ("terminating", format!("{terminating:?}")),
        ("has_gate", format!("{has_gate:?}")),
        ("desired", format!("{desired:?}")),
        ("condition", format!("{condition:?}")),
        ("annotation", format!("{annotation:?}")),
    ]
}

#[test]
fn every_field_that_the_plan_reads_changes_the_record() {
    let before = record(&pod());
    let mut seen = HashSet::new();
    for (field, changed) in changes_the_plan_reads() {
        let after = record(&changed);
        let differs = (0..2)
            .flat_map(|kind| {
                fields(&before.views[kind]).into_iter().zip(fields(&after.views[kind]))
            })
            .any(|(before, after)| before.0 == field && before != after);
        assert!(differs, "{field} does not change: {changed}");
        assert_ne!(before.digest(of_config()), after.digest(of_config()), "{field}");
        seen.insert(field);
    }
    for (field, _) in fields(&before.views[0]) {
        assert!(seen.contains(field), "no change of {field} is tested");
    }
}

#[test]
fn what_the_watch_reads_changes_the_record() {
    let before = record(&pod()).digest(of_config());
    let condition = |reason, message, status| {
        record(&changed("/status/conditions", shown_condition(reason, message, status)))
            .digest(of_config())
    };
    for other in [
        changed("/metadata/labels/waygate.dev~1pod", json!("dnat")),
        changed("/metadata/ownerReferences", json!([])),
        changed("/metadata/name", json!("web-1")),
        changed("/metadata/uid", json!(Uuid::from_u128(8))),
    ] {
        assert_ne!(before, record(&other).digest(of_config()), "{other}");
    }
    let states = [("A", "m", "True"), ("B", "m", "True"), ("A", "n", "True"), ("A", "m", "False")];
    let digests: HashSet<_> = states.map(|(r, m, s)| condition(r, m, s)).into_iter().collect();
    assert_eq!(digests.len(), states.len());
}

#[test]
fn what_others_write_changes_nothing() {
    let before = record(&pod()).digest(of_config());
    let ready =
        json!([{"type": "Ready", "status": "True", "lastProbeTime": "2026-11-28T12:00:00Z"}]);
    for other in [
        changed("/metadata/annotations/game.kruise.io~1network-trigger-time", json!("12:00:05")),
        changed("/metadata/labels/app", json!("web")),
        changed("/metadata/resourceVersion", json!("2")),
        changed("/metadata/managedFields", json!([{"manager": "kubelet"}])),
        changed("/status/conditions", ready),
        changed(
            "/status/containerStatuses",
            json!([{"name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 3}]),
        ),
    ] {
        assert_eq!(before, record(&other).digest(of_config()), "{other}");
    }
}

#[test]
fn pods_that_are_gone_after_a_gap_are_forgotten_and_the_others_are_not() {
    let known = KnownPods::default();
    let (stays, gone) = (Uuid::from_u128(1), Uuid::from_u128(2));
    for pod in [stays, gone] {
        known.remember(pod, 1);
    }
    known.retain(&HashSet::from([stays]));
    assert!(known.is_known(stays, 1) && !known.is_known(stays, 2), "a changed pod is recorded");
    assert!(!known.is_known(gone, 1));
    assert_eq!(known.0.lock().len(), 1);
    known.forget(stays);
    assert!(!known.is_known(stays, 1));
}

#[test]
fn another_configuration_knows_no_pod() {
    let digest = |config: &Config| record(&pod()).digest(ConfigDigest::new(config));
    let read = |text: &str| Config::from_yaml(text).unwrap().0;
    assert_eq!(digest(&config()), digest(&config()), "the same in each process");
    for other in [
        CONFIG.replace("[eip, natgw]", "[eip]"),
        CONFIG.replace("portRangeEnd: 1024", "portRangeEnd: 1025"),
    ] {
        assert_ne!(digest(&config()), digest(&read(&other)), "{other}");
    }
}
