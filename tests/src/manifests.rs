//! The project's manifests, read as they are shipped, and the few changes that let several
//! installations live side by side.
//!
//! A stand's installation differs from a real one in names alone: objects that live in no namespace
//! get a suffix, our namespace another name, the webhooks a URL on this machine, and registrations
//! and policy serve only the stand's namespaces.

use anyhow::{Context as _, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::layout;

/// The namespace that the manifests name.
pub const NAMESPACE: &str = "waygate-system";

/// The label by which a stand's namespaces are selected.
pub const STAND_LABEL: &str = "waygate.dev/testbed";

/// Address of a webhook on this machine.
#[derive(Clone, Debug)]
pub struct WebhookAddress {
    /// `https://127.0.0.1:PORT`.
    pub url: String,
    /// Certificate authority that signed the webhook's certificate.
    pub ca_pem: String,
}

/// All objects of one file of `manifests/`.
pub fn read_manifest(file: &str) -> Result<Vec<Value>> {
    let path = layout::project_folder().join("manifests").join(file);
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("reading manifests/{file}"))?;
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&text).with_context(|| format!("manifests/{file}"))?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// Makes an object one of a stand's own.
pub fn adapt_to_stand(stand: &str, document: &mut Value) {
    let lives_in_no_namespace =
        document.pointer("/metadata/namespace").is_none() && document["kind"] != "Namespace";
    if lives_in_no_namespace {
        append_suffix(document, "/metadata/name", stand);
    }
    if document.pointer("/roleRef/kind").is_some_and(|kind| kind == "ClusterRole") {
        append_suffix(document, "/roleRef/name", stand);
    }
    append_suffix(document, "/spec/policyName", stand);
    rename_namespace(document, &stand_namespace(stand));

    let narrow =
        |holder: &mut Value| holder["namespaceSelector"]["matchLabels"][STAND_LABEL] = json!(stand);
    list_webhooks(document).for_each(narrow);
    document.pointer_mut("/spec/matchResources").into_iter().for_each(narrow);
}

/// Name of a stand's namespace in place of `waygate-system`.
#[must_use]
pub fn stand_namespace(stand: &str) -> String {
    format!("{NAMESPACE}-{stand}")
}

/// Lets a registration call a webhook on this machine instead of a Service.
pub fn point_at_webhook(webhook: &WebhookAddress, document: &mut Value) {
    for registration in list_webhooks(document) {
        let path =
            registration["clientConfig"]["service"]["path"].as_str().unwrap_or("/").to_owned();
        registration["clientConfig"] = json!({"url": format!("{}{path}", webhook.url), "caBundle": STANDARD.encode(&webhook.ca_pem)});
    }
}

/// Lists the single webhooks of a registration; any other object has none.
fn list_webhooks(document: &mut Value) -> impl Iterator<Item = &mut Value> {
    document.get_mut("webhooks").and_then(Value::as_array_mut).into_iter().flatten()
}

fn append_suffix(document: &mut Value, name: &str, stand: &str) {
    if let Some(Value::String(name)) = document.pointer_mut(name) {
        name.push('-');
        name.push_str(stand);
    }
}

/// Replaces our namespace's name wherever it stands, also inside users' names and conditions.
fn rename_namespace(value: &mut Value, namespace: &str) {
    match value {
        Value::String(text) if text.contains(NAMESPACE) => {
            *text = text.replace(NAMESPACE, namespace);
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename_namespace(item, namespace)),
        Value::Object(fields) => {
            fields.values_mut().for_each(|field| rename_namespace(field, namespace));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapted(mut document: Value) -> Value {
        adapt_to_stand("x1", &mut document);
        document
    }

    #[test]
    fn only_cluster_scoped_objects_get_a_suffix() {
        let role = adapted(
            json!({"kind": "Role", "metadata": {"name": "waygate", "namespace": NAMESPACE}}),
        );
        assert_eq!(role["metadata"], json!({"name": "waygate", "namespace": "waygate-system-x1"}));
        let cluster_role = adapted(json!({"kind": "ClusterRole", "metadata": {"name": "waygate"}}));
        assert_eq!(
            cluster_role,
            json!({"kind": "ClusterRole", "metadata": {"name": "waygate-x1"}})
        );
    }

    /// The API server calls registrations in the order of their names, and Waygate's must see what
    /// OpenKruiseGame writes onto a pod.
    #[test]
    fn our_webhooks_are_called_after_openkruisegames() {
        let documents = read_manifest("webhook.yaml").unwrap();
        let names: Vec<_> =
            documents.iter().filter_map(|document| document["metadata"]["name"].as_str()).collect();
        assert_eq!(names.len(), 3);
        assert!(names.iter().all(|name| *name > "kruise-game-mutating-webhook"), "{names:?}");
    }

    #[test]
    fn bindings_follow_the_names_of_their_targets() {
        let binding = |kind: &str| json!({"metadata": {"name": "b", "namespace": "n"}, "roleRef": {"kind": kind, "name": "waygate"}});
        assert_eq!(adapted(binding("Role"))["roleRef"]["name"], "waygate");
        assert_eq!(adapted(binding("ClusterRole"))["roleRef"]["name"], "waygate-x1");
        let policy = adapted(
            json!({"metadata": {"name": "b"}, "spec": {"policyName": "zz-waygate", "matchResources": {}}}),
        );
        assert_eq!(policy["spec"]["policyName"], "zz-waygate-x1");
        assert_eq!(
            policy["spec"]["matchResources"]["namespaceSelector"]["matchLabels"][STAND_LABEL],
            "x1"
        );
    }

    #[test]
    fn our_namespace_is_renamed_inside_texts_as_well() {
        let condition = adapted(
            json!({"metadata": {"name": "c"}, "text": "user == 'system:serviceaccount:waygate-system:waygate-worker'"}),
        );
        assert_eq!(
            condition["text"],
            "user == 'system:serviceaccount:waygate-system-x1:waygate-worker'"
        );
    }

    #[test]
    fn a_registration_keeps_its_path_and_its_own_selector() {
        let mut registration = adapted(json!({"metadata": {"name": "r"}, "webhooks": [{
            "clientConfig": {"service": {"name": "waygate-webhook", "path": "/mutate"}},
            "namespaceSelector": {"matchExpressions": [{"key": "k", "operator": "Exists"}]},
        }]}));
        point_at_webhook(
            &WebhookAddress { url: "https://127.0.0.1:1".to_owned(), ca_pem: "ca".to_owned() },
            &mut registration,
        );
        let webhook = &registration["webhooks"][0];
        assert_eq!(
            webhook["clientConfig"],
            json!({"url": "https://127.0.0.1:1/mutate", "caBundle": "Y2E="})
        );
        assert_eq!(webhook["namespaceSelector"]["matchExpressions"][0]["key"], "k");
        assert_eq!(webhook["namespaceSelector"]["matchLabels"][STAND_LABEL], "x1");
    }
}
