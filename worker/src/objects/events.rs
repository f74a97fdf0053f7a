//! Kubernetes events on pods: an address was published, an address was withdrawn, the pod's owner
//! or an operator must act.

use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::api::PartialObjectMeta;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};

/// A pod, or its metadata alone.
pub(crate) trait PodObject: Resource<DynamicType = ()> {}
impl PodObject for Pod {}
impl PodObject for PartialObjectMeta<Pod> {}

/// Writer of events. A failed write is only logged, since the pod's condition says the same.
pub(crate) struct Events(Recorder);

impl Events {
    /// Creates a writer that names `waygate-worker` as the reporting controller.
    pub(crate) fn new(client: Client) -> Self {
        Self(Recorder::new(
            client,
            Reporter { controller: "waygate-worker".to_owned(), instance: None },
        ))
    }

    /// Writes an event of type Normal.
    pub(crate) async fn write_normal(&self, pod: &Pod, reason: &str, note: &str) {
        self.write_event(EventType::Normal, pod, reason, note).await;
    }

    /// Writes an event of type Warning, which an operator or the pod's owner should read.
    pub(crate) async fn write_warning(&self, pod: &impl PodObject, reason: &str, note: &str) {
        self.write_event(EventType::Warning, pod, reason, note).await;
    }

    async fn write_event(&self, type_: EventType, pod: &impl PodObject, reason: &str, note: &str) {
        // The API refuses notes of more than 1024 bytes.
        let note: String = note.chars().take(300).collect();
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note),
            action: "PublicAddress".to_owned(),
            secondary: None,
        };
        let reference: ObjectReference = pod.object_ref(&());
        if let Err(error) = self.0.publish(&event, &reference).await {
            tracing::debug!(
                error = crate::errors::error_chain(&error),
                "writing a pod event failed"
            );
        }
    }
}
