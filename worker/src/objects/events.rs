//! Events on pods, for people: what was given, what was taken back, what somebody must do.

use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};

/// Writes events. Their loss is no fault: conditions say the same.
pub(crate) struct Events(Recorder);

impl Events {
    /// Events of this worker.
    pub(crate) fn new(client: Client) -> Self {
        Self(Recorder::new(
            client,
            Reporter { controller: "waygate-worker".to_owned(), instance: None },
        ))
    }

    /// Something went as it should.
    pub(crate) async fn normal(&self, pod: &Pod, reason: &str, note: &str) {
        self.write(EventType::Normal, pod, reason, note).await;
    }

    /// Something a person should look at.
    pub(crate) async fn warning(&self, pod: &Pod, reason: &str, note: &str) {
        self.write(EventType::Warning, pod, reason, note).await;
    }

    async fn write(&self, type_: EventType, pod: &Pod, reason: &str, note: &str) {
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
            tracing::debug!(error = crate::errors::chain(&error), "an event was not written");
        }
    }
}
