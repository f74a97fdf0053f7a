//! Periodic work that no event triggers: labels annotated pods that missed the webhook, and prunes
//! old operations, former addresses and fair queue entries.

use crate::context::Worker;
use crate::errors::{Error, error_chain};
use crate::metrics::ObjectLoop;
use crate::set_aside::SetAside;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, PartialObjectMeta, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use std::collections::HashSet;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use waygate_core::annotations::{POD_LABEL, requests_address};

/// Pods per page of a list: the metadata of each may be half a megabyte.
const PAGE_SIZE: u32 = 100;
/// Age after which a namespace's fair queue entry at a gateway is deleted; the namespace is then
/// served first, as one that never queued a change there.
const FAIR_QUEUE_RETENTION: Duration = Duration::from_hours(1);
/// Age after which settled operations are deleted; until then an operator can look them up.
const OPERATION_RETENTION: Duration = Duration::from_hours(7 * 24);

/// Runs the resync at once and then periodically, until `token` is cancelled. For the listener, so
/// that one process of a cluster does it.
pub(super) async fn resync_periodically(worker: &Worker, token: &CancellationToken) {
    let aside = SetAside::new(ObjectLoop::MissedPods, &worker.metrics);
    while !token.is_cancelled() {
        match token.run_until_cancelled(label_missed_pods(worker, &aside)).await {
            Some(Ok(0)) | None => {}
            Some(Ok(count)) => {
                tracing::warn!(
                    pods = count,
                    "annotated pods had missed the webhook and are labelled now; is the webhook up?"
                );
            }
            Some(Err(error)) => tracing::warn!(
                error = error_chain(&error),
                "search for pods that missed the webhook failed"
            ),
        }
        if let Err(error) = worker.store.prune_operations(OPERATION_RETENTION).await {
            tracing::warn!(error = error_chain(&error), "pruning old operations failed");
        }
        if let Err(error) = worker.store.prune_former_addresses().await {
            tracing::warn!(error = error_chain(&error), "pruning former addresses failed");
        }
        if let Err(error) = worker.store.prune_fair_queue(FAIR_QUEUE_RETENTION).await {
            tracing::warn!(error = error_chain(&error), "pruning fair queue entries failed");
        }
        token.run_until_cancelled(tokio::time::sleep(worker.resync_period)).await;
    }
    aside.retain_existing(&HashSet::new());
}

/// Labels annotated pods that lack the label, so that the watch sees them, and returns their
/// number. A pod that the API server refuses to label is set aside; the others are labelled all the
/// same.
async fn label_missed_pods(worker: &Worker, aside: &SetAside<String>) -> Result<usize, Error> {
    let api = Api::<Pod>::all(worker.kube.clone());
    let mut labelled = Labelled::default();
    // Of the newest version: the API server sends a list of any version in one page.
    let first = ListParams::default().labels(&format!("!{POD_LABEL}")).limit(PAGE_SIZE);
    let mut page = first.clone();
    loop {
        let list = api.list_metadata(&page).await?;
        for (pod, error) in label_each_pod(
            &list.items,
            aside,
            full_name,
            |pod| label_pod(worker, &pod.metadata),
            &mut labelled,
        )
        .await
        {
            put_pod_aside(worker, aside, pod, &error).await;
        }
        let Some(next) = list.metadata.continue_.filter(|token| !token.is_empty()) else { break };
        page = first.clone().continue_token(&next);
    }
    aside.retain_existing(&labelled.failing);
    Ok(labelled.count)
}

/// `namespace/name` of a pod.
fn full_name(pod: &PartialObjectMeta<Pod>) -> String {
    format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any())
}

/// Records that a pod cannot be labelled; an event tells its owner once.
async fn put_pod_aside(
    worker: &Worker,
    aside: &SetAside<String>,
    pod: &PartialObjectMeta<Pod>,
    error: &Error,
) {
    let (name, message) = (full_name(pod), error_chain(error));
    tracing::warn!(
        pod = name,
        error = message,
        "labelling a pod that missed the webhook failed; it is not served"
    );
    if aside.record_failure(&name, error).newly_set_aside {
        let note = format!(
            "the label {POD_LABEL} cannot be written, without which the pod gets no address: {message}"
        );
        worker.events.write_warning(pod, error.reason(), &note).await;
    }
}

/// Result of labelling pods.
#[derive(Default)]
struct Labelled {
    count: usize,
    /// Names of the pods that could not be labelled, now or before.
    failing: HashSet<String>,
}

/// Labels one pod after the other but those whose pause is not over, and returns the failures
/// instead of stopping at the first.
async fn label_each_pod<'a, P, F: Future<Output = Result<bool, Error>>>(
    pods: &'a [P],
    aside: &SetAside<String>,
    name: impl Fn(&P) -> String,
    label: impl Fn(&'a P) -> F,
    labelled: &mut Labelled,
) -> Vec<(&'a P, Error)> {
    let mut failures = Vec::new();
    for pod in pods {
        let name = name(pod);
        if !aside.may_try(&name) {
            labelled.failing.insert(name);
            continue;
        }
        match label(pod).await {
            Ok(done) => {
                labelled.count += usize::from(done);
                aside.forget(&name);
            }
            Err(error) => {
                labelled.failing.insert(name);
                failures.push((pod, error));
            }
        }
    }
    failures
}

/// Gives a pod that requests an address the label that the watch selects by. False if the pod needs
/// none, or has changed or gone meanwhile.
pub(super) async fn label_pod(worker: &Worker, pod: &ObjectMeta) -> Result<bool, Error> {
    let (Some(namespace), Some(name)) = (&pod.namespace, &pod.name) else { return Ok(false) };
    if pod.deletion_timestamp.is_some() || !pod.annotations.as_ref().is_some_and(requests_address) {
        return Ok(false);
    }
    if !worker.namespaces.serves_namespace(namespace).await? {
        return Ok(false);
    }
    let patch = json!({ "metadata": { "uid": pod.uid, "labels": { POD_LABEL: "missed" } } });
    match worker
        .pod_api(namespace)
        .patch_metadata(name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .map_err(Error::from)
    {
        Ok(_) => Ok(true),
        Err(Error::Changed) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use kube::core::Status;
    use prometheus_client::registry::Registry;

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_cannot_be_labelled_is_named_and_delays_no_other() {
        let denied = || {
            kube::Error::Api(
                Status::failure("a policy denies it", "Invalid").with_code(422).boxed(),
            )
        };
        let label = |pod: &&str| {
            std::future::ready(if pod.starts_with("frozen") {
                Err(denied().into())
            } else {
                Ok(*pod != "changed")
            })
        };
        let aside = SetAside::new(ObjectLoop::MissedPods, &Metrics::new(&mut Registry::default()));
        let pods = ["frozen-1", "one", "changed", "frozen-2", "two"];
        let name = |pod: &&str| (*pod).to_owned();
        let mut labelled = Labelled::default();
        let failures = label_each_pod(&pods, &aside, name, label, &mut labelled).await;
        assert_eq!(labelled.count, 2);
        assert_eq!(
            failures.iter().map(|(pod, _)| **pod).collect::<Vec<_>>(),
            ["frozen-1", "frozen-2"]
        );
        for (pod, error) in failures {
            assert!(error_chain(&error).contains("a policy denies it"), "{error}");
            assert!(aside.record_failure(&name(pod), &error).newly_set_aside);
        }
        assert_eq!(label_each_pod(&pods, &aside, name, label, &mut labelled).await.len(), 0);
        assert_eq!((labelled.count, labelled.failing.len()), (4, 2), "the others go on");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(label_each_pod(&pods, &aside, name, label, &mut labelled).await.len(), 2);
    }
}
