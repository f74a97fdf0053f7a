//! Watches pods by label and turns what it sees into leases and wake-ups. It decides nothing on
//! what it sees: a DELETED event is a hint (so is the removal of the label), and only the plan's
//! live read ends a lease.

use super::gates;
use super::work_queue::Inbox;
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
use waygate_core::annotations::LABEL;
use waygate_serving::Check;
use waygate_store::Sighting;

/// Between two attempts to write down what was seen.
const RETRY: Duration = Duration::from_millis(500);

/// How many write down what was seen at a time: the store answers within milliseconds, and its
/// connections are shared with the leases at work.
const WRITERS: usize = 8;

/// What an event says of a pod.
enum News {
    /// It is there, like this.
    Seen(Box<Pod>),
    /// It is not there, or has lost its label.
    Gone,
}

/// Runs until `token` is cancelled. `synced` says whether every pod has been seen once.
pub(crate) async fn run(
    worker: Arc<Worker>,
    synced: Check,
    token: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    let inbox = Inbox::default();
    let writers = (0..WRITERS).map(|_| write_down(&worker, &inbox, &token));
    tokio::join!(listen(&worker, &inbox, &synced, &token), futures::future::join_all(writers));
    Ok(())
}

/// Puts what the watch hears into the inbox.
async fn listen(worker: &Worker, inbox: &Inbox<News>, synced: &Check, token: &CancellationToken) {
    let config = watcher::Config::default().labels(LABEL);
    let mut events = watch(Api::<Pod>::all(worker.kube.clone()), config).default_backoff().boxed();
    while let Some(Some(event)) = token.run_until_cancelled(events.next()).await {
        let put = async {
            match event {
                Ok(Event::Apply(pod) | Event::InitApply(pod)) => {
                    put(inbox, pod, |pod| News::Seen(Box::new(pod))).await;
                }
                Ok(Event::Delete(pod)) => put(inbox, pod, |_| News::Gone).await,
                Ok(Event::Init) => {}
                Ok(Event::InitDone) => {
                    // Whatever was deleted while nobody watched sends no event: every lease looks
                    // for itself.
                    inbox.emptied().await;
                    until_written(token, "all pods", || wake_all(worker)).await;
                    synced.set(true);
                }
                Err(error) => tracing::warn!(
                    error = crate::errors::chain(&error),
                    "the watch of pods is interrupted; it starts again"
                ),
            }
        };
        token.run_until_cancelled(put).await;
    }
}

async fn put(inbox: &Inbox<News>, mut pod: Pod, news: impl FnOnce(Pod) -> News) {
    // Half of a pod's size, and nothing here reads it.
    pod.metadata.managed_fields = None;
    if let Some(uid) = uid(&pod) {
        inbox.put(uid, news(pod)).await;
    }
}

/// Writes down what is in the inbox, pod by pod.
async fn write_down(worker: &Worker, inbox: &Inbox<News>, token: &CancellationToken) {
    while let Some(taken) = token.run_until_cancelled(inbox.take()).await {
        match &taken.news {
            News::Seen(pod) => {
                let name = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
                until_written(token, &name, || seen(worker, pod)).await;
            }
            News::Gone => {
                until_written(token, &taken.pod.to_string(), || gone(worker, taken.pod)).await;
            }
        }
    }
}

/// What was seen is not dropped because Postgres is away: the watch waits, and resumes where it
/// was. What cannot be written at all is: the other pods' events come after it.
async fn until_written<F: Future<Output = Result<(), Error>>>(
    token: &CancellationToken,
    pod: &str,
    mut write: impl FnMut() -> F,
) {
    while let Err(error) = write().await {
        match error {
            Error::Store(error) if error.is_transient() => {
                tracing::warn!(
                    pod,
                    error = crate::errors::chain(&error),
                    "a pod's event cannot be written down yet"
                );
                if token.run_until_cancelled(tokio::time::sleep(RETRY)).await.is_none() {
                    return;
                }
            }
            // The pod has moved on, and its next event comes.
            Error::Changed => return,
            error => {
                return tracing::error!(
                    pod,
                    error = crate::errors::chain(&error),
                    "a pod's event is left; if it has a lease, the next look at that makes up for it"
                );
            }
        }
    }
}

async fn seen(worker: &Worker, pod: &Pod) -> Result<(), Error> {
    let (Some(namespace), Some(uid)) = (pod.namespace(), uid(pod)) else { return Ok(()) };
    if !worker.namespaces.serves(&namespace).await {
        return Ok(());
    }
    let reading = pods::read(worker, pod);
    // A pod that has exited, or is on its way, gets nothing new; what it has is looked at.
    let on_its_way = pods::exited(pod) || pod.metadata.deletion_timestamp.is_some();
    let served: Vec<_> =
        reading.requests.iter().filter(|request| worker.serves(request.kind())).collect();
    for request in served.iter().filter(|_| !on_its_way) {
        let controller = pods::controller(pod);
        let (pod_name, controller) = (&pod.name_any(), controller.as_deref());
        let pod_created_at = pod.creation_timestamp().map(|at| at.0);
        let sighting = Sighting {
            namespace: &namespace,
            pod_name,
            pod_uid: uid,
            controller,
            pod_created_at,
            request,
        };
        worker.store.sight(worker.cluster, &sighting).await?;
    }
    // A pod that asked for another kind before has a lease of it to end.
    let leases = worker.store.wake_pod(worker.cluster, uid).await?;
    worker.due.notify_one();
    if leases.is_empty() || !served.is_empty() {
        let asked = served.iter().map(|request| request.kind());
        let spoken_for = gates::list_spoken_for(leases, |kind| worker.serves(kind), asked);
        gates::answer_gates(worker, pod, &spoken_for, &reading.problems).await?;
    }
    Ok(())
}

async fn gone(worker: &Worker, pod: Uuid) -> Result<(), Error> {
    if !worker.store.wake_pod(worker.cluster, pod).await?.is_empty() {
        worker.due.notify_one();
    }
    Ok(())
}

async fn wake_all(worker: &Worker) -> Result<(), Error> {
    let woken = worker.store.wake_all(worker.cluster).await?;
    tracing::info!(leases = woken, "all pods have been seen; every lease is looked at");
    worker.due.notify_one();
    Ok(())
}

fn uid(pod: &Pod) -> Option<Uuid> {
    pod.uid()?.parse().ok()
}
