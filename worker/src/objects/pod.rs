//! Reads a pod's request and state, and writes its annotation and condition; each write is
//! conditional on the pod as it was read.

use crate::context::Worker;
use crate::errors::Error;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use waygate_core::annotations::{ALLOCATED_DNAT, ALLOCATED_EIP, Owner, ParsedAnnotations};
use waygate_core::condition::ConditionState;
use waygate_core::config::Config;
use waygate_core::ids::PodUid;
use waygate_core::plan::{Desired, PodView, Successor};
use waygate_core::request::Kind;
use waygate_core::text::Text;

/// Key of the annotation that publishes the address of a kind on its pod.
pub(crate) fn address_annotation(kind: Kind) -> &'static str {
    match kind {
        Kind::Eip => ALLOCATED_EIP,
        Kind::Dnat => ALLOCATED_DNAT,
    }
}

/// `Kind/name` of the pod's controller. Not its UID: pods of a StatefulSet that an operator deletes
/// and creates again under the same name are successors all the same.
pub(crate) fn controller_name(pod: &Pod) -> Option<String> {
    let owner = pod.owner_references().iter().find(|owner| owner.controller == Some(true))?;
    Some(format!("{}/{}", owner.kind, owner.name))
}

/// Reads the pod as the successor of an absent one; none while the pod requests nothing of the
/// kind, has exited or is being deleted.
pub(crate) fn read_successor(config: &Config, pod: &Pod, kind: Kind) -> Option<Successor> {
    let Desired::Request(request) = read_request(config, pod, kind) else { return None };
    let leaving = has_exited(pod) || pod.metadata.deletion_timestamp.is_some();
    let uid = PodUid::new(pod.metadata.uid.clone()?);
    (!leaving).then(|| Successor { uid, controller: controller_name(pod), request: *request })
}

/// Reads a pod's annotations by the same rules as the webhook. Admission can be bypassed, so its
/// result is not relied on.
pub(crate) fn read_annotations(config: &Config, pod: &Pod) -> ParsedAnnotations {
    let controller = pod.owner_references().iter().find(|owner| owner.controller == Some(true));
    let owner = controller.map(|owner| Owner { kind: &owner.kind, name: &owner.name });
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let host_network = pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false);
    config.read_annotations(pod.annotations(), namespace, owner, host_network)
}

/// Request of a pod for one kind of address, whether or not the configuration serves that kind.
pub(crate) fn read_request(config: &Config, pod: &Pod, kind: Kind) -> Desired {
    let parsed = read_annotations(config, pod);
    match parsed.requests.of_kind(kind) {
        Some(request) => Desired::Request(Box::new(request.clone())),
        None if parsed.problems.is_empty() => Desired::Nothing,
        None => {
            let problems: Vec<_> = parsed.problems.iter().map(ToString::to_string).collect();
            Desired::Invalid(problems.join("; "))
        }
    }
}

/// True in phase `Succeeded` or `Failed`. Terminated containers alone prove nothing: a container
/// may crash and start again.
pub(crate) fn has_exited(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// True if the pod has the readiness gate of this kind.
pub(crate) fn has_readiness_gate(pod: &Pod, kind: Kind) -> bool {
    let gates =
        pod.spec.as_ref().and_then(|spec| spec.readiness_gates.as_deref()).unwrap_or_default();
    gates.iter().any(|gate| gate.condition_type == kind.readiness_gate())
}

/// The condition that answers the readiness gate of this kind, if the pod has one.
pub(crate) fn find_condition(pod: &Pod, kind: Kind) -> Option<&PodCondition> {
    pod.status
        .as_ref()?
        .conditions
        .as_ref()?
        .iter()
        .find(|condition| condition.type_ == kind.readiness_gate())
}

/// Reads the pod into the form that the plan takes as input.
pub(crate) fn pod_view(config: &Config, pod: &Pod, kind: Kind) -> PodView {
    let status = pod.status.as_ref();
    let condition = find_condition(pod, kind).map(|condition| ConditionState {
        status: condition.status == "True",
        reason: condition.reason.clone().unwrap_or_default(),
        message: condition.message.clone().unwrap_or_default(),
    });
    PodView {
        // The first IPv4 address of a dual-stack pod; EIPs and forward entries take no IPv6.
        ip: status
            .into_iter()
            .flat_map(|status| {
                status.pod_ip.iter().chain(status.pod_ips.iter().flatten().map(|ip| &ip.ip))
            })
            .find_map(|ip| ip.parse().ok()),
        node: pod
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.as_deref())
            .map(|node| Text::NodeName.clean(node)),
        exited: has_exited(pod),
        terminating: pod.metadata.deletion_timestamp.is_some(),
        has_gate: has_readiness_gate(pod, kind),
        desired: read_request(config, pod, kind),
        condition,
        annotation: pod.annotations().get(address_annotation(kind)).cloned(),
    }
}

/// Writes, or with `None` removes, the annotation that publishes the address, and returns the pod
/// with its new resource version.
pub(crate) async fn write_address_annotation(
    worker: &Worker,
    pod: &Pod,
    kind: Kind,
    value: Option<&str>,
) -> Result<Box<Pod>, Error> {
    let patch = json!({ "metadata": {
        "uid": pod.uid(), "resourceVersion": pod.resource_version(),
        "annotations": { address_annotation(kind): value },
    }});
    let api = worker.pod_api(&pod.namespace().unwrap_or_default());
    Ok(Box::new(api.patch(&pod.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?))
}

/// Writes one condition by strategic merge, which leaves other controllers' conditions alone.
pub(crate) async fn write_condition(
    worker: &Worker,
    pod: &Pod,
    kind: Kind,
    condition: &ConditionState,
) -> Result<(), Error> {
    let patch = json!({
        "metadata": { "uid": pod.uid(), "resourceVersion": pod.resource_version() },
        "status": { "conditions": [new_condition(pod, kind, condition, Timestamp::now())] },
    });
    let api = worker.pod_api(&pod.namespace().unwrap_or_default());
    api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(patch)).await?;
    Ok(())
}

/// Builds the condition to write. As Kubernetes defines it, the transition time changes only with
/// the status.
fn new_condition(
    pod: &Pod,
    kind: Kind,
    condition: &ConditionState,
    now: Timestamp,
) -> serde_json::Value {
    let status = if condition.status { "True" } else { "False" };
    let former = find_condition(pod, kind)
        .filter(|former| former.status == status)
        .and_then(|former| former.last_transition_time.as_ref());
    let transition_time = former.map_or_else(
        || now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        |time| time.0.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    );
    json!({
        "type": kind.readiness_gate(), "status": status, "reason": condition.reason,
        "message": condition.message, "lastTransitionTime": transition_time,
    })
}
