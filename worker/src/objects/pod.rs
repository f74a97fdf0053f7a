//! How a pod is read (what it asks for, what it was told), and how it is told: each write holds
//! only for the pod as it was read.

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

/// The annotation that tells a pod its address.
pub(crate) fn announcement(kind: Kind) -> &'static str {
    match kind {
        Kind::Eip => ALLOCATED_EIP,
        Kind::Dnat => ALLOCATED_DNAT,
    }
}

/// `Kind/name` of the pod's controller. Not its UID: a StatefulSet that is made anew under its name
/// is the same to its pods.
pub(crate) fn controller(pod: &Pod) -> Option<String> {
    let owner = pod.owner_references().iter().find(|owner| owner.controller == Some(true))?;
    Some(format!("{}/{}", owner.kind, owner.name))
}

/// The pod as a successor of one that is gone; none while it asks for nothing of the kind, or is on
/// its own way out.
pub(crate) fn successor(worker: &Worker, pod: &Pod, kind: Kind) -> Option<Successor> {
    let Asks::For(request) = asks(worker, pod, kind) else { return None };
    let leaving = exited(pod) || pod.metadata.deletion_timestamp.is_some();
    let uid = PodUid::new(pod.metadata.uid.clone()?);
    (!leaving).then(|| Successor { uid, controller: controller(pod), request: *request })
}

/// Judges a pod's annotations as admission does: admission can be bypassed, so its word is not
/// taken.
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

/// What a pod asks for of one kind, served or not.
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

/// Phase `Succeeded` or `Failed`. Terminated containers alone prove nothing: they crash, and start
/// again.
pub(crate) fn exited(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether the pod has the readiness gate of a kind.
pub(crate) fn gated(pod: &Pod, kind: Kind) -> bool {
    let gates =
        pod.spec.as_ref().and_then(|spec| spec.readiness_gates.as_deref()).unwrap_or_default();
    gates.iter().any(|gate| gate.condition_type == kind.gate())
}

/// Our condition of a kind.
pub(crate) fn condition(pod: &Pod, kind: Kind) -> Option<&PodCondition> {
    pod.status
        .as_ref()?
        .conditions
        .as_ref()?
        .iter()
        .find(|condition| condition.type_ == kind.gate())
}

/// The pod as the plan sees it.
pub(crate) fn here(worker: &Worker, pod: &Pod, kind: Kind) -> PodHere {
    let status = pod.status.as_ref();
    let verdict = condition(pod, kind).map(|condition| Verdict {
        status: condition.status == "True",
        reason: condition.reason.clone().unwrap_or_default(),
        message: condition.message.clone().unwrap_or_default(),
    });
    PodHere {
        // The first IPv4 of a dual-stack pod; EIPs and forward entries know no IPv6.
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

/// Writes, or with `None` removes, the annotation that tells the pod its address; gives the pod as
/// it is then.
pub(crate) async fn write_announcement(
    worker: &Worker,
    pod: &Pod,
    kind: Kind,
    value: Option<&str>,
) -> Result<Box<Pod>, Error> {
    let patch = json!({ "metadata": {
        "uid": pod.uid(), "resourceVersion": pod.resource_version(), "annotations": { announcement(kind): value },
    }});
    let api = worker.pods(&pod.namespace().unwrap_or_default());
    Ok(Box::new(api.patch(&pod.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?))
}

/// Writes one condition by strategic merge, so that no other controller's is touched.
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

/// The condition to write: its transition time moves only with its status.
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
        "type": kind.gate(), "status": status, "reason": verdict.reason, "message": verdict.message, "lastTransitionTime": moved,
    })
}
