//! Properties that hold for the patch of any pod.

use super::*;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::Value;
use waygate_core::config::Config;

const CONFIG: &str = "{clusterID: a, regionID: cn-hangzhou, vpcID: vpc-1, enableControllers: [eip, natgw], networkController: {natGwPool: \
                      [{natgwId: ngw-1, zoneId: cn-hangzhou-j, portRangeStart: 1, portRangeEnd: 9}]}}";

fn arbitrary_map() -> impl Strategy<Value = Option<Map>> {
    let key = prop_oneof![
        Just("k8s.aliyun.com/pod-with-eip"),
        Just("k8s.aliyun.com/pod-dnat"),
        Just("k8s.aliyun.com/pod-dnat-expose-port"),
        Just("k8s.aliyun.com/pod-eip-instanceid"),
        Just("k8s.aliyun.com/allocated-eipAddress"),
        Just("network.alibabacloud.com/allocated-dnat"),
        Just("k8s.aliyun.com/allocated-~0/odd"),
        Just("waygate.dev/readiness-gate"),
        Just("waygate.dev/pod"),
        Just("example.com/a~b"),
    ];
    let value =
        prop_oneof![Just("true"), Just(""), Just("80"), Just("eip-1"), Just("false"), Just("dnat")];
    option::of(btree_map(key.prop_map(str::to_owned), value.prop_map(str::to_owned), 0..5))
}

fn arbitrary_pod() -> impl Strategy<Value = Value> {
    let gate = prop_oneof![
        Just("k8s.aliyun.com/eip"),
        Just("k8s.aliyun.com/dnat"),
        Just("example.com/other")
    ];
    (arbitrary_map(), arbitrary_map(), option::of(vec(gate, 0..3)), any::<bool>()).prop_map(|(annotations, labels, gates, stateful)| {
        let gates = gates.map(|gates| gates.into_iter().map(|gate| json!({ "conditionType": gate })).collect::<Vec<_>>());
        let kind = if stateful { "StatefulSet" } else { "ReplicaSet" };
        let mut pod = json!({
            "metadata": {"name": "a", "ownerReferences": [{"kind": kind, "controller": true}], "annotations": annotations, "labels": labels},
            "spec": {"containers": [], "readinessGates": gates},
        });
        // The API server omits absent fields; other servers may send null.
        if stateful {
            for part in ["metadata", "spec"] {
                if let Some(fields) = pod[part].as_object_mut() {
                    fields.retain(|_, value| !value.is_null());
                }
            }
        }
        pod
    })
}

fn pod_review(operation: &str, object: &Value, old: &Value) -> Request<Pod> {
    let review = json!({"uid": "u", "operation": operation, "object": object, "oldObject": old, "userInfo": {"username": "alice"}});
    serde_json::from_value(review).unwrap()
}

proptest! {
    #[test]
    fn a_patch_applies_leaves_nothing_to_patch_and_only_appends(object in arbitrary_pod(), old in arbitrary_pod(), create in any::<bool>()) {
        let policy = AdmissionPolicy::new(Config::from_yaml(CONFIG).unwrap().0, Vec::new());
        let (operation, old) = if create { ("CREATE", Value::Null) } else { ("UPDATE", old) };
        let patch = mutate_pod(&policy, &pod_review(operation, &object, &old)).patch;
        let mut patched = object.clone();
        json_patch::patch(&mut patched, &patch).unwrap();

        prop_assert_eq!(mutate_pod(&policy, &pod_review(operation, &patched, &old)).patch, Patch::default());
        let gates = |pod: &Value| pod["spec"]["readinessGates"].as_array().cloned().unwrap_or_default();
        prop_assert!(gates(&patched).starts_with(&gates(&object)));
        let added = gates(&patched).len() - gates(&object).len();
        prop_assert!(added <= usize::from(create));
        let addresses = |pod: &Value| -> Map {
            let pod: Pod = serde_json::from_value(pod.clone()).unwrap_or_default();
            allocated_addresses(Some(pod.metadata.annotations())).collect()
        };
        prop_assert_eq!(addresses(&patched), addresses(&old));
    }
}
