//! Watches custom resources for their deletion: an operator deletes one to release a retained
//! address. As with pods, an event only wakes the lease.

use super::recorder::{EventRecorder, record_events};
use super::work_queue::WorkQueue;
use crate::context::Worker;
use crate::errors::{Error, error_chain};
use crate::metrics::ObjectLoop;
use crate::objects::custom_resource::CustomResource;
use crate::set_aside::SetAside;
use futures::{Stream, StreamExt as _};
use kube::api::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Api, Client, ResourceExt};
use std::convert::Infallible;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use waygate_core::ids::LeaseId;
use waygate_core::resources::LEASE_ANNOTATION;

/// Wakes the lease of each custom resource of type `K` that is being deleted, until `token` is
/// cancelled.
pub(crate) async fn watch_deletions<K: CustomResource>(
    worker: Arc<Worker>,
    token: CancellationToken,
) -> Result<(), Infallible> {
    let queue = WorkQueue::default();
    let (recorder, aside) =
        (DeletionRecorder(&worker), SetAside::new(ObjectLoop::CustomResources, &worker.metrics));
    tokio::join!(
        queue_deletions::<K>(&worker, &queue, &token),
        record_events(&recorder, &queue, &aside, &token)
    );
    Ok(())
}

/// Reads the watch and puts each deletion into the work queue.
async fn queue_deletions<K: CustomResource>(
    worker: &Worker,
    queue: &WorkQueue<LeaseId>,
    token: &CancellationToken,
) {
    let mut events = stream_metadata::<K>(worker.kube.clone()).boxed();
    while let Some(Some(event)) = token.run_until_cancelled(events.next()).await {
        match event {
            Ok(Event::Apply(object) | Event::InitApply(object)) => {
                if let Some((uid, lease)) = read_deletion(&object) {
                    token.run_until_cancelled(queue.put_event(uid, lease)).await;
                }
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(
                error = error_chain(&error),
                "custom resource watch interrupted; restarting"
            ),
        }
    }
}

/// UID of an object that is being deleted, and the lease named in its annotation. An annotation
/// that names none is another's business.
fn read_deletion<K: CustomResource>(object: &PartialObjectMeta<K>) -> Option<(Uuid, LeaseId)> {
    object.metadata.deletion_timestamp.as_ref()?;
    let lease = object.annotations().get(LEASE_ANNOTATION)?.parse().ok()?;
    Some((object.uid()?.parse().ok()?, LeaseId(lease)))
}

/// Wakes the leases of deleted custom resources.
struct DeletionRecorder<'a>(&'a Worker);

impl EventRecorder<LeaseId> for DeletionRecorder<'_> {
    async fn record_event(&self, _: Uuid, lease: &LeaseId) -> Result<(), Error> {
        self.0.store.wake_lease(*lease).await?;
        self.0.due.notify_one();
        Ok(())
    }

    /// The lease itself looks when it is due, and reports.
    async fn report_set_aside(&self, _: Uuid, lease: &LeaseId, error: &Error, _: bool) {
        tracing::error!(
            lease.id = %lease, error = error_chain(error),
            "waking the lease of a deleted custom resource failed; it looks when due"
        );
    }
}

/// Streams changes of custom resources as metadata alone: a spec that this version cannot decode,
/// written by another controller or under another definition, does not stop the watch.
fn stream_metadata<K: CustomResource>(
    kube: Client,
) -> impl Stream<Item = watcher::Result<Event<PartialObjectMeta<K>>>> {
    watch(Api::<PartialObjectMeta<K>>::all(kube), watcher::Config::default()).default_backoff()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use waygate_core::resources::{PodDNAT, PodEIP};

    /// Answers every list as an API server does: whole objects, or only their metadata where the
    /// request asks for that.
    async fn list(listener: TcpListener, objects: Value) -> std::io::Result<()> {
        loop {
            let (mut connection, _) = listener.accept().await?;
            let mut request = [0; 4096];
            let length = connection.read(&mut request).await?;
            let slim =
                String::from_utf8_lossy(&request[..length]).contains("as=PartialObjectMetadata");
            let mut items = objects.clone();
            items
                .as_array_mut()
                .into_iter()
                .flatten()
                .filter(|_| slim)
                .for_each(|object| *object = json!({"metadata": object["metadata"]}));
            let body = json!({"metadata": {"resourceVersion": "7"}, "items": items}).to_string();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
                 content-length: {}\r\nconnection: close",
                body.len()
            );
            connection.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await?;
        }
    }

    /// Names of the objects in the watch's initial list.
    async fn listed<K: CustomResource>(objects: &Value) -> Vec<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = kube::Config::new(
            format!("http://{}", listener.local_addr().unwrap()).parse().unwrap(),
        );
        let server = tokio::spawn(list(listener, objects.clone()));
        let mut events = stream_metadata::<K>(Client::try_from(config).unwrap()).boxed();
        let mut names = Vec::new();
        loop {
            match events.next().await.unwrap().unwrap() {
                Event::InitApply(object) => names.push(object.name_any()),
                Event::InitDone => break,
                _ => {}
            }
        }
        server.abort();
        names
    }

    #[tokio::test]
    async fn the_watch_goes_on_after_an_undecodable_custom_resource() {
        waygate_serving::tls::install_provider();
        let object =
            |name, spec| json!({"metadata": {"namespace": "ns", "name": name}, "spec": spec});
        let objects = json!([object("wrong", json!("none")), object("right", json!({}))]);
        assert_eq!(listed::<PodEIP>(&objects).await, ["wrong", "right"]);
        assert_eq!(listed::<PodDNAT>(&objects).await, ["wrong", "right"]);
    }
}
