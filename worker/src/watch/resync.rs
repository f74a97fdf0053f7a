//! Periodic work that no event triggers: labels annotated pods that missed the webhook, and prunes
//! old operations, former addresses and fair queue entries.

use crate::context::Worker;
use crate::errors::Error;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use waygate_core::annotations::{POD_LABEL, requests_address};

/// Pods per page of a list; the metadata of each is a few hundred bytes.
const PAGE_SIZE: u32 = 500;
/// Age after which a namespace's fair queue entry at a gateway is deleted; the namespace is then
/// served first, as one that never queued a change there.
const FAIR_QUEUE_RETENTION: Duration = Duration::from_hours(1);
/// Age after which settled operations are deleted; until then an operator can look them up.
const OPERATION_RETENTION: Duration = Duration::from_hours(7 * 24);

/// Runs the resync at once and then every `period`, until `token` is cancelled.
pub(crate) async fn resync_periodically(
    worker: Arc<Worker>,
    period: Duration,
    token: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    while !token.is_cancelled() {
        match token.run_until_cancelled(label_missed_pods(&worker)).await {
            Some(Ok(0)) | None => {}
            Some(Ok(count)) => {
                tracing::warn!(
                    pods = count,
                    "annotated pods had missed the webhook and are labelled now; is the webhook up?"
                );
            }
            Some(Err(error)) => tracing::warn!(
                error = crate::errors::error_chain(&error),
                "search for pods that missed the webhook failed"
            ),
        }
        if let Err(error) = worker.store.prune_operations(OPERATION_RETENTION).await {
            tracing::warn!(
                error = crate::errors::error_chain(&error),
                "pruning old operations failed"
            );
        }
        if let Err(error) = worker.store.prune_former_addresses().await {
            tracing::warn!(
                error = crate::errors::error_chain(&error),
                "pruning former addresses failed"
            );
        }
        if let Err(error) = worker.store.prune_fair_queue(FAIR_QUEUE_RETENTION).await {
            tracing::warn!(
                error = crate::errors::error_chain(&error),
                "pruning fair queue entries failed"
            );
        }
        token.run_until_cancelled(tokio::time::sleep(period)).await;
    }
    Ok(())
}

/// Labels annotated pods that lack the label, so that the watch sees them, and returns their
/// number. A pod that the API server refuses to label is logged by name; the others are labelled
/// all the same.
async fn label_missed_pods(worker: &Worker) -> Result<usize, Error> {
    let api = Api::<Pod>::all(worker.kube.clone());
    let mut labelled = 0;
    let mut page =
        ListParams::default().labels(&format!("!{POD_LABEL}")).limit(PAGE_SIZE).match_any();
    loop {
        let list = api.list_metadata(&page).await?;
        let Labelled { count, failures } =
            label_each_pod(&list.items, |pod| label_pod(worker, &pod.metadata)).await;
        labelled += count;
        for (pod, error) in failures {
            let name = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
            tracing::warn!(
                pod = name,
                error = crate::errors::error_chain(&error),
                "labelling a pod that missed the webhook failed; it is not served"
            );
        }
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            // Without `match_any`: the API server refuses a continue token beside a resource
            // version.
            Some(next) => {
                page = ListParams::default()
                    .labels(&format!("!{POD_LABEL}"))
                    .limit(PAGE_SIZE)
                    .continue_token(&next);
            }
            None => return Ok(labelled),
        }
    }
}

/// Result of labelling one page of pods.
struct Labelled<'a, P> {
    count: usize,
    failures: Vec<(&'a P, Error)>,
}

/// Labels one pod after the other and collects the failures instead of stopping at the first.
async fn label_each_pod<'a, P, F: Future<Output = Result<bool, Error>>>(
    pods: &'a [P],
    label: impl Fn(&'a P) -> F,
) -> Labelled<'a, P> {
    let mut labelled = Labelled { count: 0, failures: Vec::new() };
    for pod in pods {
        match label(pod).await {
            Ok(done) => labelled.count += usize::from(done),
            Err(error) => labelled.failures.push((pod, error)),
        }
    }
    labelled
}

/// Gives a pod that requests an address the label that the watch selects by. False if the pod needs
/// none, or has changed or gone meanwhile.
pub(super) async fn label_pod(worker: &Worker, pod: &ObjectMeta) -> Result<bool, Error> {
    let (Some(namespace), Some(name)) = (&pod.namespace, &pod.name) else { return Ok(false) };
    if pod.deletion_timestamp.is_some()
        || !pod.annotations.as_ref().is_some_and(requests_address)
        || !worker.namespaces.serves_namespace(namespace).await
    {
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
    use kube::core::Status;

    #[tokio::test]
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
        let labelled =
            label_each_pod(&["frozen-1", "one", "changed", "frozen-2", "two"], label).await;
        assert_eq!(labelled.count, 2);
        let failures: Vec<_> = labelled
            .failures
            .iter()
            .map(|(pod, error)| (**pod, crate::errors::error_chain(error)))
            .collect();
        assert_eq!(
            failures.iter().map(|(pod, _)| *pod).collect::<Vec<_>>(),
            ["frozen-1", "frozen-2"]
        );
        assert!(failures.iter().all(|(_, why)| why.contains("a policy denies it")), "{failures:?}");
    }
}
