//! `/mutate`: adds label and gate to pods that request an address, and removes forged addresses.
//! Writes nothing itself.
//!
//! Invariant: after its patch is applied, nothing is left to patch; `readinessGates` is only ever
//! appended to.

#[cfg(test)]
mod properties;

use crate::objects::{Map, Pod};
use crate::policy::AdmissionPolicy;
use crate::review::{Answer, Operation, Request};
use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation};
use serde_json::{Value, json};
use waygate_core::annotations::{
    POD_LABEL, ParsedAnnotations, is_allocated_key, readiness_gate_for, requested_kind,
};
use waygate_core::request::Kind;

pub(crate) fn mutate_pod(policy: &AdmissionPolicy, request: &Request<Pod>) -> Answer {
    let Some(pod) = request
        .object
        .as_ref()
        .filter(|pod| request.sub_resource.is_none() && !pod.is_untouchable())
    else {
        return Answer::default();
    };
    let parsed = policy.parse_pod(pod, &request.namespace, pod.owner());
    let mut patch = Vec::new();
    patch.extend(label_patch(pod, &parsed));
    let created = request.operation == Operation::Create;
    if created {
        patch.extend(gate_patch(policy, pod, &parsed));
    }
    // A new pod has no address yet, so even an authorized user who creates one only copies an
    // annotation of the template.
    if created || !policy.may_write_addresses(&request.user_info.username) {
        patch.extend(restore_addresses(pod, request.old_object.as_ref()));
    }
    Answer { patch: Patch(patch), ..Answer::default() }
}

/// Adds the label by which the worker's watch selects the pod. Pods with invalid annotations and
/// pods that only have one of Waygate's gates are labelled too, since the worker writes a condition
/// on each of them.
fn label_patch(pod: &Pod, parsed: &ParsedAnnotations) -> Option<PatchOperation> {
    let gated = || Kind::ALL.into_iter().find(|kind| pod.has_gate(kind.readiness_gate()));
    let kind = parsed
        .requests
        .kinds()
        .next()
        .or_else(|| requested_kind(pod.metadata.annotations()))
        .or_else(gated)?;
    match &pod.metadata.labels {
        None => Some(add_operation(["metadata", "labels"], json!({ POD_LABEL: kind.as_str() }))),
        Some(labels) if labels.get(POD_LABEL).is_some_and(|value| value == kind.as_str()) => None,
        Some(_) => Some(add_operation(["metadata", "labels", POD_LABEL], json!(kind.as_str()))),
    }
}

/// Adds the gate that the pod lacks for its request.
fn gate_patch(
    policy: &AdmissionPolicy,
    pod: &Pod,
    parsed: &ParsedAnnotations,
) -> Option<PatchOperation> {
    let stateful = policy.is_stateful(pod.owner());
    let mut kinds = parsed
        .requests
        .iter()
        .filter_map(|request| readiness_gate_for(request, parsed.gate, stateful));
    // A pod requests one address, so it gets at most one gate.
    let kind =
        kinds.find(|kind| !pod.has_gate(kind.readiness_gate()) && policy.serves_kind(*kind))?;
    let gate = json!({ "conditionType": kind.readiness_gate() });
    Some(match pod.spec.readiness_gates {
        Some(_) => add_operation(["spec", "readinessGates", "-"], gate),
        None => add_operation(["spec", "readinessGates"], json!([gate])),
    })
}

/// Restores the allocated addresses of the old object and removes all others: a forged address
/// would open a start barrier before the real one exists.
fn restore_addresses(pod: &Pod, old: Option<&Pod>) -> Vec<PatchOperation> {
    let new = pod.metadata.annotations();
    let old_addresses: Map =
        allocated_addresses(old.map(|old| old.metadata.annotations())).collect();
    // A JSON patch cannot add to a map that is absent.
    if pod.metadata.annotations.is_none() && !old_addresses.is_empty() {
        return vec![add_operation(["metadata", "annotations"], json!(old_addresses))];
    }
    let forged = allocated_addresses(Some(new)).filter(|(key, _)| !old_addresses.contains_key(key));
    let removed = forged.map(|(key, _)| remove_operation(["metadata", "annotations", &key]));
    let changed = old_addresses.iter().filter(|(key, value)| new.get(*key) != Some(value));
    let restored =
        changed.map(|(key, value)| add_operation(["metadata", "annotations", key], json!(value)));
    removed.chain(restored).collect()
}

fn allocated_addresses(annotations: Option<&Map>) -> impl Iterator<Item = (String, String)> {
    annotations
        .into_iter()
        .flatten()
        .filter(|(key, _)| is_allocated_key(key))
        .map(|(key, value)| (key.clone(), value.clone()))
}

fn add_operation<const DEPTH: usize>(path: [&str; DEPTH], value: Value) -> PatchOperation {
    PatchOperation::Add(AddOperation { path: PointerBuf::from_tokens(path), value })
}

fn remove_operation<const DEPTH: usize>(path: [&str; DEPTH]) -> PatchOperation {
    PatchOperation::Remove(RemoveOperation { path: PointerBuf::from_tokens(path) })
}
