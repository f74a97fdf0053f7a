//! `/mutate`: adds label and gate to pods that request an address, and removes forged addresses.
//! Writes nothing itself.
//!
//! Invariant: after its patch is applied, nothing is left to patch; `readinessGates` is only ever
//! appended to.

#[cfg(test)]
mod properties;

use crate::judge::Judge;
use crate::objects::{Map, Pod};
use crate::review::{Answer, Operation, Request};
use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation};
use serde_json::{Value, json};
use waygate_core::annotations::{LABEL, Reading, gate_for, is_allocated, wanted_kind};
use waygate_core::request::Kind;

pub(crate) fn answer(judge: &Judge, request: &Request<Pod>) -> Answer {
    let Some(pod) = request
        .object
        .as_ref()
        .filter(|pod| request.sub_resource.is_none() && !pod.is_untouchable())
    else {
        return Answer::default();
    };
    let reading = judge.read(pod, &request.namespace, pod.controller_kind());
    let mut patch = Vec::new();
    patch.extend(label(pod, &reading));
    let created = request.operation == Operation::Create;
    if created {
        patch.extend(gates(judge, pod, &reading));
    }
    // A new pod has no address yet, so even an authorized user who creates one only copies an
    // annotation of the template.
    if created || !judge.may_write_addresses(&request.user_info.username) {
        patch.extend(guarded_addresses(pod, request.old_object.as_ref()));
    }
    Answer { patch: Patch(patch), ..Answer::default() }
}

/// Adds the label by which the worker's watch selects the pod. Pods with invalid annotations and
/// pods that only have one of our gates are labelled too, since the worker writes a condition on
/// each of them.
fn label(pod: &Pod, reading: &Reading) -> Option<PatchOperation> {
    let gated = || Kind::ALL.into_iter().find(|kind| pod.has_gate(kind.gate()));
    let kind = reading
        .requests
        .kinds()
        .next()
        .or_else(|| wanted_kind(pod.metadata.annotations()))
        .or_else(gated)?;
    match &pod.metadata.labels {
        None => Some(add(["metadata", "labels"], json!({ LABEL: kind.as_str() }))),
        Some(labels) if labels.get(LABEL).is_some_and(|value| value == kind.as_str()) => None,
        Some(_) => Some(add(["metadata", "labels", LABEL], json!(kind.as_str()))),
    }
}

/// Adds the gate that the pod lacks for its request.
fn gates(judge: &Judge, pod: &Pod, reading: &Reading) -> Option<PatchOperation> {
    let stateful = judge.is_stateful(pod.controller_kind());
    let mut kinds =
        reading.requests.iter().filter_map(|request| gate_for(request, reading.gate, stateful));
    // A pod requests one address, so it gets at most one gate.
    let kind = kinds.find(|kind| !pod.has_gate(kind.gate()) && judge.serves(*kind))?;
    let gate = json!({ "conditionType": kind.gate() });
    Some(match pod.spec.readiness_gates {
        Some(_) => add(["spec", "readinessGates", "-"], gate),
        None => add(["spec", "readinessGates"], json!([gate])),
    })
}

/// Restores the allocated addresses of the old object and removes all others: a forged address
/// would open a start barrier before the real one exists.
fn guarded_addresses(pod: &Pod, old: Option<&Pod>) -> Vec<PatchOperation> {
    let new = pod.metadata.annotations();
    let held: Map = allocated(old.map(|old| old.metadata.annotations())).collect();
    // A JSON patch cannot add to a map that is absent.
    if pod.metadata.annotations.is_none() && !held.is_empty() {
        return vec![add(["metadata", "annotations"], json!(held))];
    }
    let forged = allocated(Some(new)).filter(|(key, _)| !held.contains_key(key));
    let removed = forged.map(|(key, _)| remove(["metadata", "annotations", &key]));
    let changed = held.iter().filter(|(key, value)| new.get(*key) != Some(value));
    let restored = changed.map(|(key, value)| add(["metadata", "annotations", key], json!(value)));
    removed.chain(restored).collect()
}

fn allocated(annotations: Option<&Map>) -> impl Iterator<Item = (String, String)> {
    annotations
        .into_iter()
        .flatten()
        .filter(|(key, _)| is_allocated(key))
        .map(|(key, value)| (key.clone(), value.clone()))
}

fn add<const DEPTH: usize>(path: [&str; DEPTH], value: Value) -> PatchOperation {
    PatchOperation::Add(AddOperation { path: PointerBuf::from_tokens(path), value })
}

fn remove<const DEPTH: usize>(path: [&str; DEPTH]) -> PatchOperation {
    PatchOperation::Remove(RemoveOperation { path: PointerBuf::from_tokens(path) })
}
