//! Looks now and then for what events miss: annotated pods that missed the webhook and have no
//! label, and history that is old enough to go.

use crate::context::Worker;
use crate::errors::Error;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, PartialObjectMeta, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use waygate_core::annotations::{LABEL, wants_address};

/// Pods listed in one page: metadata of a few hundred bytes each.
const PAGE: u32 = 500;
/// A namespace that has asked nothing of a gateway for so long comes first, as one that never has.
const TURNS: Duration = Duration::from_hours(1);
/// How long settled operations are kept for those who ask what happened.
const HISTORY: Duration = Duration::from_hours(7 * 24);

/// Runs until `token` is cancelled, at once and then every `period`.
pub(crate) async fn run(
    worker: Arc<Worker>,
    period: Duration,
    token: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    while !token.is_cancelled() {
        match token.run_until_cancelled(label_missed(&worker)).await {
            Some(Ok(0)) | None => {}
            Some(Ok(count)) => {
                tracing::warn!(
                    pods = count,
                    "annotated pods had missed the webhook and are served from now on; is it running?"
                );
            }
            Some(Err(error)) => tracing::warn!(
                error = crate::errors::chain(&error),
                "the search for pods that missed the webhook failed"
            ),
        }
        if let Err(error) = worker.store.prune_operations(HISTORY).await {
            tracing::warn!(error = crate::errors::chain(&error), "old operations were not pruned");
        }
        if let Err(error) = worker.store.prune_former().await {
            tracing::warn!(
                error = crate::errors::chain(&error),
                "former addresses were not pruned"
            );
        }
        if let Err(error) = worker.store.prune_turns(TURNS).await {
            tracing::warn!(error = crate::errors::chain(&error), "old turns were not pruned");
        }
        token.run_until_cancelled(tokio::time::sleep(period)).await;
    }
    Ok(())
}

/// Labels annotated pods without the label, so that the watch sees them; says how many there were.
/// A pod that refuses it is named, and holds up none of the others.
async fn label_missed(worker: &Worker) -> Result<usize, Error> {
    let api = Api::<Pod>::all(worker.kube.clone());
    let mut labelled = 0;
    let mut page = ListParams::default().labels(&format!("!{LABEL}")).limit(PAGE).match_any();
    loop {
        let list = api.list_metadata(&page).await?;
        let Labelled { count, refused } = label_each(&list.items, |pod| label(worker, pod)).await;
        labelled += count;
        for (pod, error) in refused {
            let name = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
            tracing::warn!(
                pod = name,
                error = crate::errors::chain(&error),
                "a pod that missed the webhook cannot be labelled, and is not served"
            );
        }
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            // A continued list may name no resource version.
            Some(next) => {
                page = ListParams::default()
                    .labels(&format!("!{LABEL}"))
                    .limit(PAGE)
                    .continue_token(&next);
            }
            None => return Ok(labelled),
        }
    }
}

/// What came of a page.
struct Labelled<'a, P> {
    count: usize,
    refused: Vec<(&'a P, Error)>,
}

/// Labels one pod after the other, whatever comes of each.
async fn label_each<'a, P, F: Future<Output = Result<bool, Error>>>(
    pods: &'a [P],
    label: impl Fn(&'a P) -> F,
) -> Labelled<'a, P> {
    let mut labelled = Labelled { count: 0, refused: Vec::new() };
    for pod in pods {
        match label(pod).await {
            Ok(done) => labelled.count += usize::from(done),
            Err(error) => labelled.refused.push((pod, error)),
        }
    }
    labelled
}

async fn label(worker: &Worker, pod: &PartialObjectMeta<Pod>) -> Result<bool, Error> {
    let Some(namespace) = pod.namespace() else { return Ok(false) };
    if pod.metadata.deletion_timestamp.is_some()
        || !wants_address(pod.annotations())
        || !worker.namespaces.serves(&namespace).await
    {
        return Ok(false);
    }
    let patch = json!({ "metadata": { "uid": pod.uid(), "labels": { LABEL: "missed" } } });
    match worker
        .pods(&namespace)
        .patch_metadata(&pod.name_any(), &PatchParams::default(), &Patch::Merge(patch))
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
    async fn a_pod_that_refuses_its_label_is_named_and_holds_up_no_other() {
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
        let labelled = label_each(&["frozen-1", "one", "changed", "frozen-2", "two"], label).await;
        assert_eq!(labelled.count, 2);
        let refused: Vec<_> = labelled
            .refused
            .iter()
            .map(|(pod, error)| (**pod, crate::errors::chain(error)))
            .collect();
        assert_eq!(
            refused.iter().map(|(pod, _)| *pod).collect::<Vec<_>>(),
            ["frozen-1", "frozen-2"]
        );
        assert!(refused.iter().all(|(_, why)| why.contains("a policy denies it")), "{refused:?}");
    }
}
