//! Checks that registrations and policy say in CEL what the code says in Rust. End-to-end tests
//! check that the API server accepts them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use waygate_core::annotations::{
    ORIGINAL_PREFIXES, POD_LABEL, WAYGATE_PREFIX, is_waygate_key, requests_address,
};
use waygate_core::request::Kind;

/// The shipped objects of some kinds.
fn shipped(kinds: &[&str]) -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/waygate.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    objects.retain(|object| kinds.iter().any(|kind| object["kind"] == *kind));
    assert!(!objects.is_empty(), "{kinds:?}");
    objects
}

fn registrations() -> Vec<Value> {
    shipped(&["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"])
}

fn policy() -> Value {
    shipped(&["MutatingAdmissionPolicy"]).remove(0)
}

/// All texts in single quotes that are keys under the original's prefixes.
fn quoted_keys(text: &str) -> BTreeSet<&str> {
    text.split('\'')
        .filter(|word| ORIGINAL_PREFIXES.iter().any(|prefix| word.starts_with(prefix)))
        .collect()
}

/// The namespaces that are never reviewed: Waygate's own, and kube-system.
fn excluded(selector: &Value) -> &Value {
    let namespaces = &selector["matchExpressions"][0];
    assert_eq!(
        (&namespaces["key"], &namespaces["operator"]),
        (&"kubernetes.io/metadata.name".into(), &"NotIn".into())
    );
    &namespaces["values"]
}

#[test]
fn no_registration_can_deadlock_our_own_pods() {
    let registrations = registrations();
    let webhooks =
        registrations.iter().flat_map(|document| document["webhooks"].as_array().unwrap());
    let binding = shipped(&["MutatingAdmissionPolicyBinding"]).remove(0);
    let mut selectors: Vec<_> = webhooks.map(|webhook| &webhook["namespaceSelector"]).collect();
    selectors.push(&binding["spec"]["matchResources"]["namespaceSelector"]);
    assert_eq!(selectors.len(), 4);
    for selector in selectors {
        assert_eq!(excluded(selector), &serde_json::json!(["kube-system", "waygate-system"]));
    }
    let programs = shipped(&["Job", "Deployment", "Service", "PodDisruptionBudget"]);
    let namespaces =
        programs.iter().filter_map(|document| document["metadata"]["namespace"].as_str());
    assert_eq!(namespaces.collect::<BTreeSet<_>>(), BTreeSet::from(["waygate-system"]));
}

/// The API server calls registrations in the order of their names, and Waygate's must see what
/// OpenKruiseGame writes onto a pod.
#[test]
fn our_webhooks_are_called_after_openkruisegames() {
    let registrations = registrations();
    let names: Vec<_> =
        registrations.iter().filter_map(|document| document["metadata"]["name"].as_str()).collect();
    assert_eq!(names.len(), 3);
    assert!(names.iter().all(|name| *name > "kruise-game-mutating-webhook"), "{names:?}");
}

#[test]
fn webhook_timeouts_do_not_block_scheduling() {
    let registrations = registrations();
    let mut paths = Vec::new();
    for document in &registrations {
        assert!(document["metadata"]["name"].as_str().unwrap().starts_with("zz-waygate"));
        for webhook in document["webhooks"].as_array().unwrap() {
            assert_eq!(
                (&webhook["failurePolicy"], &webhook["timeoutSeconds"]),
                (&"Ignore".into(), &3.into())
            );
            assert_eq!(webhook["matchPolicy"], "Equivalent");
            paths.push(webhook["clientConfig"]["service"]["path"].as_str().unwrap());
        }
    }
    assert_eq!(paths, ["/mutate", "/validate", "/warn"]);
    assert_eq!(policy()["spec"]["failurePolicy"], "Ignore");
}

#[test]
fn conditions_guard_every_look_up_and_know_our_prefixes_and_gates() {
    let registrations = registrations();
    for condition in registrations
        .iter()
        .flat_map(|document| document["webhooks"][0]["matchConditions"].as_array().unwrap())
    {
        let expression = condition["expression"].as_str().unwrap();
        assert!(
            !expression.contains("metadata.annotations")
                && !expression.contains("spec.readinessGates"),
            "{expression}"
        );
    }
    let text = serde_json::to_string(&registrations).unwrap();
    for prefix in ORIGINAL_PREFIXES.into_iter().chain([WAYGATE_PREFIX]) {
        let pattern = prefix.trim_end_matches('/').replace('.', "[.]");
        assert_eq!(
            text.matches("key.matches('").count(),
            text.matches(&pattern).count(),
            "{prefix}"
        );
    }
    for kind in Kind::ALL {
        assert!(text.contains(kind.readiness_gate()));
    }
}

#[test]
fn the_policy_knows_every_key_that_switches_an_address_on() {
    let policy = policy();
    let conditions = policy["spec"]["matchConditions"].to_string();
    let switches: BTreeSet<&str> = quoted_keys(&conditions);
    assert_eq!(switches.len(), 10);
    for key in &switches {
        let annotations = BTreeMap::from([((*key).to_owned(), "true".to_owned())]);
        assert!(is_waygate_key(key) && requests_address(&annotations), "{key}");
    }
    let variables = policy["spec"]["variables"].to_string();
    let read: BTreeSet<&str> =
        quoted_keys(&variables).into_iter().filter(|key| is_waygate_key(key)).collect();
    assert_eq!(read, switches);
    assert!(policy.to_string().contains(&format!("escapeKey('{POD_LABEL}')")));
}

/// OpenKruiseGame's webhook adds the annotations only after the policy's conditions were evaluated,
/// and the API server does not evaluate failed conditions again.
#[test]
fn the_policy_matches_openkruisegames_pods_before_they_carry_our_keys() {
    let policy = policy();
    let conditions = policy["spec"]["matchConditions"].as_array().unwrap();
    let switches =
        conditions.iter().find(|condition| condition["name"] == "switches-an-address-on").unwrap();
    assert!(
        switches["expression"].as_str().unwrap().contains("'game.kruise.io/network-type'"),
        "{switches}"
    );
}

/// The instructions of the final image, after those of the build stage.
fn image() -> Vec<String> {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Dockerfile")).unwrap();
    let (_, last) = text.rsplit_once("\nFROM ").unwrap();
    last.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

#[test]
fn the_image_trusts_public_authorities() {
    let installed =
        image().into_iter().find(|line| line.starts_with("RUN apt-get")).unwrap_or_default();
    assert!(
        installed.split(' ').any(|word| word == "ca-certificates"),
        "the worker's calls to the cloud are https: {installed:?}"
    );
}

#[test]
fn image_and_manifests_run_everything_as_one_user_that_is_not_root() {
    let image = image();
    let user = image.iter().find_map(|line| line.strip_prefix("USER ")).unwrap_or("root");
    let user: u32 = user.split(':').next().unwrap().parse().unwrap();
    assert_ne!(user, 0);
    let programs = shipped(&["Job", "Deployment"]);
    let pods: Vec<_> =
        programs.iter().filter_map(|document| document.pointer("/spec/template/spec")).collect();
    assert_eq!(pods.len(), 3);
    for pod in pods {
        let context = &pod["securityContext"];
        assert_eq!(
            (&context["runAsUser"], &context["runAsNonRoot"]),
            (&user.into(), &true.into()),
            "{pod}"
        );
        for container in pod["containers"].as_array().unwrap() {
            assert_eq!(
                container["securityContext"]["allowPrivilegeEscalation"], false,
                "{container}"
            );
            assert_eq!(
                container["securityContext"]["runAsUser"],
                Value::Null,
                "the pod's own holds: {container}"
            );
        }
    }
}
