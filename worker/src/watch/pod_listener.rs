//! Turns news of pods into leases and wake-ups, in the one worker that holds the lock on the
//! cluster's pod events. Events release nothing: a DELETED event, or the removal of the label, is a
//! hint, and only a live read of the pod ends its lease.
//!
//! ```text
//! watched pods ─▶ work queue (UIDs) ─▶ writers ─▶ the lease store, fenced by the lock
//!                                        └ nothing, if what is read of the pod is as recorded
//! ```
//! A term that begins goes through all pods, compares them with what the store says is recorded, and
//! wakes the leases whose pods are not there: whatever a former listener saw and did not record is
//! found again.

use super::pod_record::{ConfigDigest, KnownPods, PodRecord};
use super::recorder::{EventRecorder, record_events};
use super::watched_pods::{PodNews, Term};
use super::{gates, resync};
use crate::context::Worker;
use crate::errors::{Error, error_chain};
use crate::metrics::ObjectLoop;
use crate::objects::pod as pods;
use crate::set_aside::SetAside;
use k8s_openapi::api::core::v1::Pod;
use kube::{Resource as _, ResourceExt as _};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use waygate_store::{Error as StoreError, PodObservation, WorkerLock};

/// Pods whose events are recorded at the same time: the store answers within milliseconds, and its
/// connections are shared with the reconciled leases.
const WRITERS: usize = 8;

/// Pause between two attempts to read what is recorded, or to wake the leases whose pods are not
/// listed.
const RETRY: Duration = Duration::from_secs(1);

/// Records news of pods, and looks for pods that missed the webhook, until `token` is cancelled or
/// the lock is lost.
pub(crate) async fn listen_to_pods(
    worker: Arc<Worker>,
    lock: WorkerLock,
    token: CancellationToken,
) {
    let term = worker.watched_pods.begin_term(token.clone());
    let config = ConfigDigest::new(&worker.config);
    let known = KnownPods::default();
    let recorder = PodRecorder { worker: &worker, lock, config, known, token: &token };
    if token.run_until_cancelled(read_recorded(&recorder)).await.is_none() {
        return;
    }
    let aside = SetAside::new(ObjectLoop::PodEvents, &worker.metrics);
    let writers = (0..WRITERS).map(|_| record_events(&recorder, &term.queue, &aside, &token));
    tokio::join!(
        token.run_until_cancelled(go_through_all_pods(&worker, &term)),
        token.run_until_cancelled(wake_after_each_list(&recorder)),
        futures::future::join_all(writers),
        resync::resync_periodically(&worker, &token)
    );
    // The next listener counts for itself.
    aside.retain_existing(&HashSet::new());
}

/// Reads what former listeners have recorded.
async fn read_recorded(recorder: &PodRecorder<'_>) {
    let PodRecorder { worker, known, .. } = recorder;
    loop {
        match worker.store.read_pod_digests(worker.cluster).await {
            Ok(digests) => {
                tracing::info!(pods = digests.len(), "listener has read what is recorded of pods");
                known.remember_all(digests);
                break;
            }
            Err(error) => tracing::warn!(
                error = error_chain(&error),
                "reading what is recorded of pods failed; trying again"
            ),
        }
        tokio::time::sleep(RETRY).await;
    }
    for uid in worker.watched_pods.list_changed() {
        known.forget(uid);
    }
}

async fn go_through_all_pods(worker: &Worker, term: &Term) {
    let pods = worker.watched_pods.list_uids();
    for uid in &pods {
        term.queue.put_if_none(*uid, PodNews::Seen).await;
    }
    term.queue.wait_until_empty().await;
    tracing::info!(pods = pods.len(), "listener has gone through all pods");
}

/// Wakes the leases without a pod when all pods are known, and after each gap in the watch.
async fn wake_after_each_list(recorder: &PodRecorder<'_>) {
    let mut lists = recorder.worker.watched_pods.count_lists();
    let mut judged = 0;
    while let Ok(count) = lists.wait_for(|count| *count > judged).await.map(|count| *count) {
        judged = count;
        let present = recorder.worker.watched_pods.list_uids();
        recorder.known.retain(&present);
        wake_leases_without_pod(recorder, &present).await;
    }
}

/// Records pods' news in the store and answers their gates.
struct PodRecorder<'a> {
    worker: &'a Worker,
    lock: WorkerLock,
    config: ConfigDigest,
    known: KnownPods,
    /// Ends the term.
    token: &'a CancellationToken,
}

impl EventRecorder<PodNews> for PodRecorder<'_> {
    async fn record_event(&self, uid: Uuid, news: &PodNews) -> Result<(), Error> {
        let recorded = self.record_news(uid, news).await;
        if matches!(recorded, Err(Error::Store(StoreError::WorkerLockLost))) {
            // The next listener finds by itself what this one has not recorded.
            self.token.cancel();
            return Ok(());
        }
        recorded
    }

    async fn report_set_aside(&self, uid: Uuid, news: &PodNews, error: &Error, first: bool) {
        match (self.worker.watched_pods.find(uid), news) {
            (Some(pod), _) => {
                gates::report_failure(self.worker, &pod.to_pod(), error, first).await;
            }
            (None, PodNews::LeftAlive(pod)) if first => {
                let (pod, note) = (pod.to_pod(), error_chain(error));
                self.worker.events.write_warning(&pod, error.reason(), &note).await;
            }
            (None, _) => {}
        }
    }
}

impl PodRecorder<'_> {
    async fn record_news(&self, uid: Uuid, news: &PodNews) -> Result<(), Error> {
        if let Some(pod) = self.worker.watched_pods.find(uid) {
            return self.record_seen(uid, &pod.to_pod()).await;
        }
        self.known.forget(uid);
        self.wake_leases_of_pod(uid).await?;
        match news {
            PodNews::Seen => Ok(()),
            PodNews::LeftAlive(pod) => {
                let labelled = resync::label_pod(self.worker, pod.meta());
                self.token.run_until_cancelled(labelled).await.unwrap_or(Ok(false)).map(drop)
            }
        }
    }

    async fn record_seen(&self, uid: Uuid, pod: &Pod) -> Result<(), Error> {
        let record = PodRecord::read(&self.worker.config, pod).digest(self.config);
        if self.known.is_known(uid, record) {
            return Ok(());
        }
        // Whatever comes of it, leases may act on this record, so a return to the former one is news.
        self.known.forget(uid);
        // Remembered only once nothing of it is left to do.
        if self.record_present_pod(uid, pod, record).await? {
            self.known.remember(uid, record);
        }
        Ok(())
    }

    /// Records a pod as it is now, with the digest of its record. False if the same event may have
    /// more to say later.
    async fn record_present_pod(&self, uid: Uuid, pod: &Pod, record: i64) -> Result<bool, Error> {
        let worker = self.worker;
        let Some(namespace) = pod.namespace() else { return Ok(false) };
        if !worker.namespaces.serves_namespace(&namespace).await? {
            // It gets nothing new; a lease from before the selector was narrowed still hears of its
            // pod.
            self.wake_leases_of_pod(uid).await?;
            return Ok(false);
        }
        let parsed = pods::read_annotations(&worker.config, pod);
        // A pod that has exited or is being deleted gets no new lease; the leases it has are woken.
        let leaving = pods::has_exited(pod) || pod.metadata.deletion_timestamp.is_some();
        let served: Vec<_> =
            parsed.requests.iter().filter(|request| worker.serves_kind(request.kind())).collect();
        for request in served.iter().filter(|_| !leaving) {
            let controller = pods::controller_name(pod);
            let observation = PodObservation {
                namespace: &namespace,
                pod_name: &pod.name_any(),
                pod_uid: uid,
                controller: controller.as_deref(),
                pod_created_at: pod.creation_timestamp().map(|at| at.0),
                request,
            };
            worker.store.observe_watched_pod(&self.lock, worker.cluster, &observation).await?;
        }
        let requested: Vec<_> = served.iter().map(|request| request.kind()).collect();
        // Recorded with the leases only if nothing follows that a listener may not live to do.
        let rests = served.is_empty() || gates::are_answered(pod, &requested, &parsed.problems);
        let digest = rests.then_some(record);
        // All leases of the pod are woken: one of a kind that it no longer requests is to be
        // released.
        let leases = worker.store.wake_pod(&self.lock, worker.cluster, uid, digest).await?;
        worker.due.notify_one();
        if leases.is_empty() || !served.is_empty() {
            let answered_kinds =
                gates::list_answered_by_leases(leases, |kind| worker.serves_kind(kind), requested);
            // Not to the end of a stalled request: the next listener does it.
            let answered = gates::answer_gates(worker, pod, &answered_kinds, &parsed.problems);
            return self.token.run_until_cancelled(answered).await.unwrap_or(Ok(false));
        }
        Ok(true)
    }

    async fn wake_leases_of_pod(&self, pod: Uuid) -> Result<(), Error> {
        let Worker { store, cluster, due, .. } = self.worker;
        if !store.wake_pod(&self.lock, *cluster, pod, None).await?.is_empty() {
            due.notify_one();
        }
        Ok(())
    }
}

/// Wakes the leases of pods that the watch's list does not have: a pod deleted while no watch was
/// open sends no event. The leases of listed pods are woken when the pods are recorded. Repeated
/// until it is done, because no lease looks by itself.
async fn wake_leases_without_pod(recorder: &PodRecorder<'_>, present: &HashSet<Uuid>) {
    let PodRecorder { worker, lock, .. } = recorder;
    loop {
        match worker.store.wake_leases_without_pod(lock, worker.cluster, present).await {
            Ok(woken) => {
                tracing::info!(
                    pods = present.len(),
                    leases = woken,
                    "pods listed; leases without a pod woken"
                );
                worker.due.notify_one();
                return;
            }
            Err(error) => tracing::warn!(
                error = error_chain(&error),
                "waking leases without a pod failed; trying again"
            ),
        }
        tokio::time::sleep(RETRY).await;
    }
}
