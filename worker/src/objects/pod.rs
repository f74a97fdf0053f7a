//! Reads a pod's request and state, and writes its annotation and condition; each write is
//! conditional on the pod as it was read.

use crate::context::Worker;
use crate::errors::Error;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use waygate_core::annotations::{ALLOCATED_DNAT, ALLOCATED_EIP, Reading};
use waygate_core::condition::Verdict;
use waygate_core::ids::PodUid;
use waygate_core::plan::{Asks, PodHere, Successor};
use waygate_core::request::Kind;

/// Key of the annotation that publishes the address of a kind on its pod.
pub(crate) fn announcement(kind: Kind) -> &'static str {
    match kind {
        Kind::Eip => ALLOCATED_EIP,
        Kind::Dnat => ALLOCATED_DNAT,
    }
}

/// `Kind/name` of the pod's controller. Not its UID: pods of a StatefulSet that an operator deletes
/// and creates again under the same name are successors all the same.
pub(crate) fn controller(pod: &Pod) -> Option<String> {
    let owner = pod.owner_references().iter().find(|owner| owner.controller == Some(true))?;
    Some(format!("{}/{}", owner.kind, owner.name))
}

/// Reads the pod as the successor of an absent one; none while the pod requests nothing of the
/// kind, has exited or is being deleted.
pub(crate) fn successor(worker: &Worker, pod: &Pod, kind: Kind) -> Option<Successor> {
    let Asks::For(request) = asks(worker, pod, kind) else { return None };
    let leaving = exited(pod) || pod.metadata.deletion_timestamp.is_some();
    let uid = PodUid::new(pod.metadata.uid.clone()?);
    (!leaving).then(|| Successor { uid, controller: controller(pod), request: *request })
}

/// Reads a pod's annotations by the same rules as the webhook. Admission can be bypassed, so its
/// result is not relied on.
pub(crate) fn read(worker: &Worker, pod: &Pod) -> Reading {
    let controller = pod.owner_references().iter().find(|owner| owner.controller == Some(true));
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let host_network = pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false);
    worker.config.read_annotations(
        pod.annotations(),
        namespace,
        controller.map(|owner| owner.kind.as_str()),
        host_network,
    )
}

/// Request of a pod for one kind of address, whether or not the configuration serves that kind.
pub(crate) fn asks(worker: &Worker, pod: &Pod, kind: Kind) -> Asks {
    let reading = read(worker, pod);
    match reading.requests.of_kind(kind) {
        Some(request) => Asks::For(Box::new(request.clone())),
        None if reading.problems.is_empty() => Asks::Nothing,
        None => {
            let problems: Vec<_> = reading.problems.iter().map(ToString::to_string).collect();
            Asks::Wrong(problems.join("; "))
        }
    }
}

/// True in phase `Succeeded` or `Failed`. Terminated containers alone prove nothing: a container
/// may crash and start again.
pub(crate) fn exited(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// True if the pod has the readiness gate of this kind.
pub(crate) fn gated(pod: &Pod, kind: Kind) -> bool {
    let gates =
        pod.spec.as_ref().and_then(|spec| spec.readiness_gates.as_deref()).unwrap_or_default();
    gates.iter().any(|gate| gate.condition_type == kind.gate())
}

/// The condition that answers the readiness gate of this kind, if the pod has one.
pub(crate) fn condition(pod: &Pod, kind: Kind) -> Option<&PodCondition> {
    pod.status
        .as_ref()?
        .conditions
        .as_ref()?
        .iter()
        .find(|condition| condition.type_ == kind.gate())
}

/// Reads the pod into the form that the plan takes as input.
pub(crate) fn here(worker: &Worker, pod: &Pod, kind: Kind) -> PodHere {
    let status = pod.status.as_ref();
    let verdict = condition(pod, kind).map(|condition| Verdict {
        status: condition.status == "True",
        reason: condition.reason.clone().unwrap_or_default(),
        message: condition.message.clone().unwrap_or_default(),
    });
    PodHere {
        // The first IPv4 address of a dual-stack pod; EIPs and forward entries take no IPv6.
        ip: status
            .into_iter()
            .flat_map(|status| {
                status.pod_ip.iter().chain(status.pod_ips.iter().flatten().map(|ip| &ip.ip))
            })
            .find_map(|ip| ip.parse().ok()),
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        exited: exited(pod),
        terminating: pod.metadata.deletion_timestamp.is_some(),
        gated: gated(pod, kind),
        asks: asks(worker, pod, kind),
        verdict,
        announced: pod.annotations().get(announcement(kind)).cloned(),
    }
}

/// Writes, or with `None` removes, the annotation that publishes the address, and returns the pod
/// with its new resource version.
pub(crate) async fn write_announcement(
    worker: &Worker,
    pod: &Pod,
    kind: Kind,
    value: Option<&str>,
) -> Result<Box<Pod>, Error> {
    let patch = json!({ "metadata": {
        "uid": pod.uid(), "resourceVersion": pod.resource_version(),
        "annotations": { announcement(kind): value },
    }});
    let api = worker.pods(&pod.namespace().unwrap_or_default());
    Ok(Box::new(api.patch(&pod.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?))
}

/// Writes one condition by strategic merge, which leaves other controllers' conditions alone.
pub(crate) async fn write_condition(
    worker: &Worker,
    pod: &Pod,
    kind: Kind,
    verdict: &Verdict,
) -> Result<(), Error> {
    let patch = json!({
        "metadata": { "uid": pod.uid(), "resourceVersion": pod.resource_version() },
        "status": { "conditions": [new_condition(pod, kind, verdict, Timestamp::now())] },
    });
    let api = worker.pods(&pod.namespace().unwrap_or_default());
    api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(patch)).await?;
    Ok(())
}

/// Builds the condition to write. As Kubernetes defines it, the transition time changes only with
/// the status.
fn new_condition(pod: &Pod, kind: Kind, verdict: &Verdict, now: Timestamp) -> serde_json::Value {
    let status = if verdict.status { "True" } else { "False" };
    let former = condition(pod, kind)
        .filter(|former| former.status == status)
        .and_then(|former| former.last_transition_time.as_ref());
    let moved = former.map_or_else(
        || now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        |time| time.0.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    );
    json!({
        "type": kind.gate(), "status": status, "reason": verdict.reason,
        "message": verdict.message, "lastTransitionTime": moved,
    })
}
