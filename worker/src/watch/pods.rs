//! Watches labelled pods and turns events into leases and wake-ups. Events release nothing: a
//! DELETED event, or the removal of the label, is a hint, and only a live read of the pod ends its
//! lease.
//!
//! ```text
//! watch ─▶ work queue (latest event of each pod) ─▶ writers ─▶ the lease store
//!                                                     └ nothing, if what is read of the pod is as before
//! ```

use super::pod_record::{KnownPods, PodRecord};
use super::recorder::{EventRecorder, record_events};
use super::slim_pod::SlimPod;
use super::work_queue::WorkQueue;
use super::{gates, resync};
use crate::context::Worker;
use crate::errors::{Error, error_chain};
use crate::metrics::ObjectLoop;
use crate::objects::pod as pods;
use crate::set_aside::SetAside;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Api, Resource, ResourceExt};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use waygate_core::annotations::POD_LABEL;
use waygate_serving::Check;
use waygate_store::PodObservation;

/// Pods whose events are recorded at the same time: the store answers within milliseconds, and its
/// connections are shared with the reconciled leases.
const WRITERS: usize = 8;

/// Pause between two attempts to wake the leases whose pods are not listed.
const RETRY: Duration = Duration::from_secs(1);

/// Pods per page of the list: of the largest that etcd keeps, 1.5 MB each, a page is 75 MB.
const PAGE_SIZE: u32 = 50;

/// Latest state of a pod according to the watch.
#[derive(Clone)]
enum PodEvent {
    /// Present, with this content.
    Present(Box<SlimPod>),
    /// Deleted.
    Absent,
    /// Left the watch while it was alive: deleted by force, or without the label from now on.
    LeftWatch(Box<SlimPod>),
}

/// Watches pods and records their events until `token` is cancelled. Sets the readiness check
/// `synced` once every pod of the initial list is recorded.
pub(crate) async fn watch_pods(
    worker: Arc<Worker>,
    synced: Check,
    token: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    let queue = WorkQueue::default();
    let recorder = PodRecorder { worker: &worker, known: KnownPods::default() };
    let aside = SetAside::new(ObjectLoop::PodEvents, &worker.metrics);
    let writers = (0..WRITERS).map(|_| record_events(&recorder, &queue, &aside, &token));
    tokio::join!(
        queue_pod_events(&recorder, &queue, &synced, &token),
        futures::future::join_all(writers)
    );
    Ok(())
}

/// Reads the watch and puts each pod's event into the work queue.
async fn queue_pod_events(
    recorder: &PodRecorder<'_>,
    queue: &WorkQueue<PodEvent>,
    synced: &Check,
    token: &CancellationToken,
) {
    let PodRecorder { worker, known } = recorder;
    let config = super::watch_config().labels(POD_LABEL).page_size(PAGE_SIZE);
    let mut events =
        watch(Api::<SlimPod>::all(worker.kube.clone()), config).default_backoff().boxed();
    // Pods of the list that is being read.
    let mut present = HashSet::new();
    while let Some(Some(event)) = token.run_until_cancelled(events.next()).await {
        match &event {
            Ok(Event::Init) => known.begin_list(),
            Ok(Event::InitApply(pod)) => {
                known.note_listed(pod_uid(pod));
                present.extend(pod_uid(pod));
            }
            _ => {}
        }
        let put = async {
            match event {
                Ok(Event::Apply(pod) | Event::InitApply(pod)) => {
                    queue_pod_event(queue, pod, |pod| PodEvent::Present(Box::new(pod))).await;
                }
                Ok(Event::Delete(pod)) if left_alive(&pod.to_pod()) => {
                    queue_pod_event(queue, pod, |pod| PodEvent::LeftWatch(Box::new(pod))).await;
                }
                Ok(Event::Delete(pod)) => queue_pod_event(queue, pod, |_| PodEvent::Absent).await,
                Ok(Event::Init) => present.clear(),
                Ok(Event::InitDone) => {
                    // The queue is emptied first: ready means every listed pod is recorded.
                    queue.wait_until_empty().await;
                    known.retain_listed();
                    let present = std::mem::take(&mut present);
                    Box::pin(wake_leases_without_pod(worker, &present, token)).await;
                    synced.set_passing(true);
                }
                Err(error) => {
                    tracing::warn!(
                        error = error_chain(&error),
                        "pod watch interrupted; restarting"
                    );
                }
            }
        };
        token.run_until_cancelled(put).await;
    }
}

async fn queue_pod_event(
    queue: &WorkQueue<PodEvent>,
    pod: SlimPod,
    event: impl FnOnce(SlimPod) -> PodEvent,
) {
    if let Some(uid) = pod_uid(&pod) {
        queue.put_event(uid, event(pod)).await;
    }
}

/// Records pods' events in the store and answers their gates.
struct PodRecorder<'a> {
    worker: &'a Worker,
    known: KnownPods,
}

impl EventRecorder<PodEvent> for PodRecorder<'_> {
    async fn record_event(&self, uid: Uuid, event: &PodEvent) -> Result<(), Error> {
        match event {
            PodEvent::Present(pod) => {
                let pod = pod.to_pod();
                let record = PodRecord::read(&self.worker.config, &pod).digest();
                if self.known.is_known(uid, record) {
                    return Ok(());
                }
                // Remembered only once nothing of it is left to do.
                if record_present_pod(self.worker, &pod).await? {
                    self.known.remember(uid, record);
                }
                Ok(())
            }
            PodEvent::Absent => {
                self.known.forget(uid);
                wake_leases_of_pod(self.worker, uid).await
            }
            PodEvent::LeftWatch(pod) => {
                self.known.forget(uid);
                wake_leases_of_pod(self.worker, uid).await?;
                resync::label_pod(self.worker, pod.meta()).await.map(drop)
            }
        }
    }

    async fn report_set_aside(&self, _: Uuid, event: &PodEvent, error: &Error, first: bool) {
        match event {
            PodEvent::Present(pod) => {
                gates::report_failure(self.worker, &pod.to_pod(), error, first).await;
            }
            PodEvent::LeftWatch(pod) if first => {
                self.worker
                    .events
                    .write_warning(&pod.to_pod(), error.reason(), &error_chain(error))
                    .await;
            }
            PodEvent::LeftWatch(_) | PodEvent::Absent => {}
        }
    }
}

/// Records a pod as it is now. False if the same event may have more to say later.
async fn record_present_pod(worker: &Worker, pod: &Pod) -> Result<bool, Error> {
    let (Some(namespace), Some(uid)) = (pod.namespace(), pod_uid(pod)) else { return Ok(false) };
    if !worker.namespaces.serves_namespace(&namespace).await? {
        // It gets nothing new; a lease from before the selector was narrowed still hears of its pod.
        wake_leases_of_pod(worker, uid).await?;
        return Ok(false);
    }
    let parsed = pods::read_annotations(&worker.config, pod);
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
        return gates::answer_gates(worker, pod, &answered_kinds, &parsed.problems).await;
    }
    Ok(true)
}

/// True if the pod left the watch without a sign of its end: it was deleted by force, or it runs on
/// and lost the label that the watch selects by.
fn left_alive(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && !pods::has_exited(pod)
}

async fn wake_leases_of_pod(worker: &Worker, pod: Uuid) -> Result<(), Error> {
    if !worker.store.wake_pod(worker.cluster, pod).await?.is_empty() {
        worker.due.notify_one();
    }
    Ok(())
}

/// Wakes the leases of pods that the watch's list does not have: a pod deleted while no watch was
/// open sends no event. The leases of listed pods were woken when the pods were recorded. Repeated
/// until it is done, because no lease looks by itself.
async fn wake_leases_without_pod(
    worker: &Worker,
    present: &HashSet<Uuid>,
    token: &CancellationToken,
) {
    while !token.is_cancelled() {
        match worker.store.wake_leases_without_pod(worker.cluster, present).await {
            Ok(woken) => {
                tracing::info!(
                    pods = present.len(),
                    leases = woken,
                    "pod watch synced; leases without a pod woken"
                );
                worker.due.notify_one();
                return;
            }
            Err(error) => tracing::warn!(
                error = error_chain(&error),
                "waking leases without a pod failed; trying again"
            ),
        }
        token.run_until_cancelled(tokio::time::sleep(RETRY)).await;
    }
}

fn pod_uid(pod: &impl ResourceExt) -> Option<Uuid> {
    pod.uid()?.parse().ok()
}
