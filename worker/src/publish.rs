//! What a pod is told: annotation and condition, each write holding only for the pod as it was read.

use crate::errors::Error;
use crate::pods;
use crate::worker::Worker;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use waygate_core::condition::Verdict;
use waygate_core::request::Kind;

/// Writes, or with `None` removes, the annotation that tells the pod its address; gives the pod as it is then.
pub(crate) async fn announce(worker: &Worker, pod: &Pod, kind: Kind, value: Option<&str>) -> Result<Box<Pod>, Error> {
    let key = pods::announcement(kind);
    if pod.annotations().get(key).map(String::as_str) == value {
        return Ok(Box::new(pod.clone()));
    }
    let patch = json!({ "metadata": {
        "uid": pod.uid(), "resourceVersion": pod.resource_version(), "annotations": { key: value },
    }});
    let api = worker.pods(&pod.namespace().unwrap_or_default());
    Ok(Box::new(api.patch(&pod.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?))
}

/// Writes one condition by strategic merge, so that nobody else's is touched. Nothing is written where it stands already.
pub(crate) async fn condition(worker: &Worker, pod: &Pod, kind: Kind, verdict: &Verdict) -> Result<(), Error> {
    let stands = pods::condition(pod, kind).is_some_and(|condition| {
        (condition.status == "True") == verdict.status
            && condition.reason.as_deref() == Some(&verdict.reason)
            && condition.message.as_deref() == Some(&verdict.message)
    });
    if stands {
        return Ok(());
    }
    let patch = json!({
        "metadata": { "uid": pod.uid(), "resourceVersion": pod.resource_version() },
        "status": { "conditions": [pods::new_condition(pod, kind, verdict, Timestamp::now())] },
    });
    let api = worker.pods(&pod.namespace().unwrap_or_default());
    api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(patch)).await?;
    Ok(())
}
