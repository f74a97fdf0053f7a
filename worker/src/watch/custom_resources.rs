//! Watches custom resources for their deletion, by which an operator releases a retained address, and
//! for writes of others than Waygate. As with pods, an event only wakes the lease.

use super::recorder::{EventRecorder, record_events};
use super::work_queue::WorkQueue;
use crate::context::Worker;
use crate::errors::{Error, error_chain};
use crate::metrics::ObjectLoop;
use crate::objects::custom_resource::{CustomResource, FIELD_MANAGER};
use crate::set_aside::SetAside;
use futures::{Stream, StreamExt as _};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::api::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Api, Client, ResourceExt};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use waygate_core::ids::LeaseId;
use waygate_core::resources::LEASE_ANNOTATION;

/// Wakes the lease of each custom resource of type `K` that is being deleted, is gone, or was written
/// by another than Waygate, until `token` is cancelled.
pub(crate) async fn watch_custom_resources<K: CustomResource>(
    worker: Arc<Worker>,
    token: CancellationToken,
) -> Result<(), Infallible> {
    let queue = WorkQueue::default();
    let (recorder, aside) =
        (ResourceRecorder(&worker), SetAside::new(ObjectLoop::CustomResources, &worker.metrics));
    tokio::join!(
        queue_wakeups::<K>(&worker, &queue, &token),
        record_events(&recorder, &queue, &aside, &token)
    );
    Ok(())
}

/// Reads the watch and puts what wakes a lease into the work queue.
async fn queue_wakeups<K: CustomResource>(
    worker: &Worker,
    queue: &WorkQueue<LeaseId>,
    token: &CancellationToken,
) {
    let mut events = stream_metadata::<K>(worker.kube.clone()).boxed();
    let mut edits = ForeignEdits::default();
    while let Some(Some(event)) = token.run_until_cancelled(events.next()).await {
        match event {
            Ok(event) => {
                if let Some((uid, lease)) = edits.read_wakeup(&event) {
                    token.run_until_cancelled(queue.put_event(uid, lease)).await;
                }
            }
            Err(error) => tracing::warn!(
                error = error_chain(&error),
                "custom resource watch interrupted; restarting"
            ),
        }
    }
}

/// The last writes of others than Waygate, by the object's UID; most objects have none.
#[derive(Default)]
struct ForeignEdits(HashMap<Uuid, Vec<ManagedFieldsEntry>>);

impl ForeignEdits {
    /// UID and lease of an object whose event must wake the lease: it is being deleted, is gone, or
    /// others have written it since its last event.
    fn read_wakeup<K: CustomResource>(
        &mut self,
        event: &Event<PartialObjectMeta<K>>,
    ) -> Option<(Uuid, LeaseId)> {
        let (object, gone) = match event {
            Event::Apply(object) | Event::InitApply(object) => (object, false),
            Event::Delete(object) => (object, true),
            Event::Init | Event::InitDone => return None,
        };
        let (uid, lease) = read_owner(object)?;
        let edited = self.note_writes(uid, object);
        if gone {
            self.0.remove(&uid);
        }
        (gone || edited || object.metadata.deletion_timestamp.is_some()).then_some((uid, lease))
    }

    /// True if others have written the object since its last event.
    fn note_writes<K: CustomResource>(&mut self, uid: Uuid, object: &PartialObjectMeta<K>) -> bool {
        let written = object.managed_fields().iter();
        let others = written.filter(|entry| entry.manager.as_deref() != Some(FIELD_MANAGER));
        let writes: Vec<_> = others.cloned().collect();
        if writes.is_empty() {
            self.0.remove(&uid);
            return false;
        }
        self.0.insert(uid, writes.clone()).is_none_or(|before| before != writes)
    }
}

/// UID of an object, and the lease named in its annotation. An annotation that names none is
/// another's business.
fn read_owner<K: CustomResource>(object: &PartialObjectMeta<K>) -> Option<(Uuid, LeaseId)> {
    let lease = object.annotations().get(LEASE_ANNOTATION)?.parse().ok()?;
    Some((object.uid()?.parse().ok()?, LeaseId(lease)))
}

/// Wakes the leases of custom resources.
struct ResourceRecorder<'a>(&'a Worker);

impl EventRecorder<LeaseId> for ResourceRecorder<'_> {
    async fn record_event(&self, _: Uuid, lease: &LeaseId) -> Result<(), Error> {
        self.0.store.wake_lease(*lease).await?;
        self.0.due.notify_one();
        Ok(())
    }

    /// The event is tried again.
    async fn report_set_aside(&self, _: Uuid, lease: &LeaseId, error: &Error, _: bool) {
        tracing::error!(
            lease.id = %lease, error = error_chain(error),
            "waking the lease of a custom resource failed; tried again"
        );
    }
}

/// Streams changes of custom resources as metadata alone: a spec that this version cannot decode,
/// written by another controller or under another definition, does not stop the watch.
fn stream_metadata<K: CustomResource>(
    kube: Client,
) -> impl Stream<Item = watcher::Result<Event<PartialObjectMeta<K>>>> {
    watch(Api::<PartialObjectMeta<K>>::all(kube), super::watch_config()).default_backoff()
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

    /// An object of lease 7, last written by these managers.
    fn written_by(managers: &[(&str, &str)]) -> PartialObjectMeta<PodEIP> {
        let fields = managers.iter().map(
            |(manager, time)| json!({"manager": manager, "operation": "Update", "time": time}),
        );
        serde_json::from_value(json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
            "metadata": {
                "name": "pod", "uid": Uuid::from_u128(1), "annotations": {LEASE_ANNOTATION: Uuid::from_u128(7)},
                "managedFields": fields.collect::<Vec<_>>(),
            },
        }))
        .unwrap()
    }

    #[test]
    fn writes_of_others_and_ends_wake_the_lease_and_own_writes_do_not() {
        const OWN: (&str, &str) = (FIELD_MANAGER, "2026-01-01T00:00:00Z");
        const LATER: &str = "2026-01-01T00:00:09Z";
        let mut edits = ForeignEdits::default();
        let mut wakes =
            |event: Event<PartialObjectMeta<PodEIP>>| edits.read_wakeup(&event).is_some();
        assert!(!wakes(Event::InitApply(written_by(&[OWN]))));
        assert!(!wakes(Event::Apply(written_by(&[(FIELD_MANAGER, LATER)]))));
        assert!(wakes(Event::Apply(written_by(&[OWN, ("kubectl-edit", OWN.1)]))));
        assert!(!wakes(Event::Apply(written_by(&[OWN, ("kubectl-edit", OWN.1)]))), "seen");
        assert!(!wakes(Event::Apply(written_by(&[
            (FIELD_MANAGER, LATER),
            ("kubectl-edit", OWN.1)
        ]))));
        assert!(wakes(Event::Apply(written_by(&[OWN, ("kubectl-edit", LATER)]))));
        assert!(wakes(Event::Delete(written_by(&[OWN]))), "gone, its finalizer taken off");
        assert!(edits.0.is_empty());
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
