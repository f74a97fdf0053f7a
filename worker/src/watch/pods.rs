//! Watches labelled pods and turns events into leases and wake-ups. Events release nothing: a
//! DELETED event, or the removal of the label, is a hint, and only a live read of the pod ends its
//! lease.
//!
//! ```text
//! watch ─▶ work queue (latest event of each pod) ─▶ writers ─▶ the lease store
//! ```

use super::work_queue::WorkQueue;
use super::{gates, resync};
use crate::context::Worker;
use crate::errors::Error;
use crate::objects::pod as pods;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Api, ResourceExt};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use waygate_core::annotations::POD_LABEL;
use waygate_serving::Check;
use waygate_store::PodObservation;

/// Pause between two attempts to record an event while the store is unreachable.
const RETRY: Duration = Duration::from_millis(500);

/// Pods whose events are recorded at the same time: the store answers within milliseconds, and its
/// connections are shared with the reconciled leases.
const WRITERS: usize = 8;

/// Latest state of a pod according to the watch.
enum PodEvent {
    /// Present, with this content.
    Present(Box<Pod>),
    /// Deleted.
    Absent,
    /// Left the watch while it was alive: deleted by force, or without the label from now on.
    LeftWatch(Box<Pod>),
}

/// Watches pods and records their events until `token` is cancelled. Sets the readiness check
/// `synced` once every pod of the initial list is recorded.
pub(crate) async fn watch_pods(
    worker: Arc<Worker>,
    synced: Check,
    token: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    let queue = WorkQueue::default();
    let writers = (0..WRITERS).map(|_| record_pod_events(&worker, &queue, &token));
    tokio::join!(
        queue_pod_events(&worker, &queue, &synced, &token),
        futures::future::join_all(writers)
    );
    Ok(())
}

/// Reads the watch and puts each pod's event into the work queue.
async fn queue_pod_events(
    worker: &Worker,
    queue: &WorkQueue<PodEvent>,
    synced: &Check,
    token: &CancellationToken,
) {
    let config = watcher::Config::default().labels(POD_LABEL);
    let mut events = watch(Api::<Pod>::all(worker.kube.clone()), config).default_backoff().boxed();
    while let Some(Some(event)) = token.run_until_cancelled(events.next()).await {
        let put = async {
            match event {
                Ok(Event::Apply(pod) | Event::InitApply(pod)) => {
                    queue_pod_event(queue, pod, |pod| PodEvent::Present(Box::new(pod))).await;
                }
                Ok(Event::Delete(pod)) if left_alive(&pod) => {
                    queue_pod_event(queue, pod, |pod| PodEvent::LeftWatch(Box::new(pod))).await;
                }
                Ok(Event::Delete(pod)) => queue_pod_event(queue, pod, |_| PodEvent::Absent).await,
                Ok(Event::Init) => {}
                Ok(Event::InitDone) => {
                    // Pods deleted while no watch was open send no event, so every lease is
                    // woken. The queue is emptied first: ready means every listed pod is recorded.
                    queue.wait_until_empty().await;
                    retry_until_recorded(token, "all pods", || wake_all_leases(worker)).await;
                    synced.set_passing(true);
                }
                Err(error) => tracing::warn!(
                    error = crate::errors::error_chain(&error),
                    "pod watch interrupted; restarting"
                ),
            }
        };
        token.run_until_cancelled(put).await;
    }
}

async fn queue_pod_event(
    queue: &WorkQueue<PodEvent>,
    mut pod: Pod,
    event: impl FnOnce(Pod) -> PodEvent,
) {
    // Managed fields are half of a pod's size, and the worker never reads them.
    pod.metadata.managed_fields = None;
    if let Some(uid) = pod_uid(&pod) {
        queue.put_event(uid, event(pod)).await;
    }
}

/// Takes pods from the work queue and records their events, until `token` is cancelled.
async fn record_pod_events(
    worker: &Worker,
    queue: &WorkQueue<PodEvent>,
    token: &CancellationToken,
) {
    while let Some(item) = token.run_until_cancelled(queue.take_item()).await {
        match &item.event {
            PodEvent::Present(pod) => {
                let name = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
                retry_until_recorded(token, &name, || record_present_pod(worker, pod)).await;
            }
            PodEvent::Absent => {
                retry_until_recorded(token, &item.pod.to_string(), || {
                    wake_leases_of_absent_pod(worker, item.pod)
                })
                .await;
            }
            PodEvent::LeftWatch(pod) => {
                retry_until_recorded(token, &item.pod.to_string(), async || {
                    wake_leases_of_absent_pod(worker, item.pod).await?;
                    resync::label_pod(worker, &pod.metadata).await.map(drop)
                })
                .await;
            }
        }
    }
}

/// Repeats `write` while Postgres is unreachable, so that no event is lost and the watch waits. An
/// event that fails for another reason is dropped, since other pods' events wait behind it.
async fn retry_until_recorded<F: Future<Output = Result<(), Error>>>(
    token: &CancellationToken,
    pod: &str,
    mut write: impl FnMut() -> F,
) {
    while let Err(error) = write().await {
        match error {
            Error::Store(error) if error.is_transient() => {
                tracing::warn!(
                    pod,
                    error = crate::errors::error_chain(&error),
                    "recording a pod event failed; retrying"
                );
                if token.run_until_cancelled(tokio::time::sleep(RETRY)).await.is_none() {
                    return;
                }
            }
            // The pod has changed since this event; its next event is on the way.
            Error::Changed => return,
            error => {
                return tracing::error!(
                    pod,
                    error = crate::errors::error_chain(&error),
                    "pod event dropped; a lease of the pod catches up when it is next due"
                );
            }
        }
    }
}

async fn record_present_pod(worker: &Worker, pod: &Pod) -> Result<(), Error> {
    let (Some(namespace), Some(uid)) = (pod.namespace(), pod_uid(pod)) else { return Ok(()) };
    if !worker.namespaces.serves_namespace(&namespace).await {
        return Ok(());
    }
    let parsed = pods::read_annotations(worker, pod);
    // A pod that has exited or is being deleted gets no new lease; the leases it has are woken.
    let leaving = pods::has_exited(pod) || pod.metadata.deletion_timestamp.is_some();
    let served: Vec<_> =
        parsed.requests.iter().filter(|request| worker.serves_kind(request.kind())).collect();
    for request in served.iter().filter(|_| !leaving) {
        let controller = pods::controller_name(pod);
        let (pod_name, controller) = (&pod.name_any(), controller.as_deref());
        let pod_created_at = pod.creation_timestamp().map(|at| at.0);
        let observation = PodObservation {
            namespace: &namespace,
            pod_name,
            pod_uid: uid,
            controller,
            pod_created_at,
            request,
        };
        worker.store.observe_pod(worker.cluster, &observation).await?;
    }
    // All leases of the pod are woken: one of a kind that it no longer requests is to be released.
    let leases = worker.store.wake_pod(worker.cluster, uid).await?;
    worker.due.notify_one();
    if leases.is_empty() || !served.is_empty() {
        let requested = served.iter().map(|request| request.kind());
        let answered_kinds =
            gates::list_answered_by_leases(leases, |kind| worker.serves_kind(kind), requested);
        gates::answer_gates(worker, pod, &answered_kinds, &parsed.problems).await?;
    }
    Ok(())
}

/// True if the pod left the watch without a sign of its end: it was deleted by force, or it runs on
/// and lost the label that the watch selects by.
fn left_alive(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && !pods::has_exited(pod)
}

async fn wake_leases_of_absent_pod(worker: &Worker, pod: Uuid) -> Result<(), Error> {
    if !worker.store.wake_pod(worker.cluster, pod).await?.is_empty() {
        worker.due.notify_one();
    }
    Ok(())
}

async fn wake_all_leases(worker: &Worker) -> Result<(), Error> {
    let woken = worker.store.wake_all_leases(worker.cluster).await?;
    tracing::info!(leases = woken, "pod watch synced; all leases woken");
    worker.due.notify_one();
    Ok(())
}

fn pod_uid(pod: &Pod) -> Option<Uuid> {
    pod.uid()?.parse().ok()
}
