//! Watches labelled pods, in every worker. The worker that listens turns the events into leases and
//! wake-ups (`pod_listener`).

use super::slim_pod::SlimPod;
use super::watched_pods::WatchedPods;
use crate::context::Worker;
use crate::errors::error_chain;
use crate::objects::pod as pods;
use futures::StreamExt as _;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Api, ResourceExt};
use std::convert::Infallible;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use waygate_core::annotations::POD_LABEL;
use waygate_serving::Check;

/// Pods per page of the list: of the largest that etcd keeps, 1.5 MB each, a page is 75 MB.
const PAGE_SIZE: u32 = 50;

/// Watches pods until `token` is cancelled. Sets the readiness check `synced` once all are known.
pub(crate) async fn watch_pods(
    worker: Arc<Worker>,
    synced: Check,
    token: CancellationToken,
) -> Result<(), Infallible> {
    let config = super::watch_config().labels(POD_LABEL).page_size(PAGE_SIZE);
    let mut events =
        watch(Api::<SlimPod>::all(worker.kube.clone()), config).default_backoff().boxed();
    while let Some(Some(event)) = token.run_until_cancelled(events.next()).await {
        let done = matches!(event, Ok(Event::InitDone));
        match event {
            Ok(event) => {
                token.run_until_cancelled(store_event(&worker.watched_pods, event)).await;
            }
            Err(error) => {
                worker.watched_pods.note_failure();
                tracing::warn!(error = error_chain(&error), "pod watch interrupted; restarting");
            }
        }
        if done {
            synced.set_passing(true);
        }
    }
    Ok(())
}

async fn store_event(pods: &WatchedPods, event: Event<SlimPod>) {
    match event {
        // The list is yet to be read.
        Event::Init => pods.begin_list(),
        Event::InitApply(pod) => {
            if let Some(uid) = pod_uid(&pod) {
                pods.store_listed(uid, pod).await;
            }
        }
        Event::InitDone => pods.complete_list(),
        Event::Apply(pod) => {
            pods.note_answer();
            if let Some(uid) = pod_uid(&pod) {
                pods.store(uid, pod).await;
            }
        }
        Event::Delete(pod) => {
            pods.note_answer();
            if let Some(uid) = pod_uid(&pod) {
                let left_alive = left_alive(&pod).then_some(pod);
                pods.remove(uid, left_alive).await;
            }
        }
    }
}

/// True if the pod left the watch without a sign of its end: it was deleted by force, or it runs on
/// and lost the label that the watch selects by.
fn left_alive(pod: &SlimPod) -> bool {
    let pod = pod.to_pod();
    pod.metadata.deletion_timestamp.is_none() && !pods::has_exited(&pod)
}

fn pod_uid(pod: &SlimPod) -> Option<Uuid> {
    pod.uid()?.parse().ok()
}
