//! Hands jobs to the worker through the store, without ever standing in a pod's way.
//!
//! A job is a head start, never the truth: one that fails is counted, and the worker's watch finds
//! the pod.

use crate::metrics::{Metrics, Outcome};
use crate::objects::Metadata;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use uuid::Uuid;
use waygate_core::error::chain;
use waygate_core::request::Request;
use waygate_core::text::find_control;
use waygate_store::{HandOff, Store};

/// What a pod waits for its job to be written: a tenth of the API server's deadline of 3 s, a
/// hundred times what it takes.
const DEADLINE: Duration = Duration::from_millis(300);
/// Jobs under way at most. While Postgres hangs they pile up to here; from then on reviews are
/// answered at once.
const AT_ONCE: usize = 256;

/// A pod to announce.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) namespace: String,
    pub(crate) pod_name: String,
    pub(crate) pod_uid: Uuid,
    /// `Kind/name` of its controller.
    pub(crate) controller: Option<String>,
    pub(crate) request: Request,
}

impl Job {
    /// The job of a pod; none if the pod has no name or UID yet, by which its job would be found,
    /// or is named as no object can be: the API server checks the names of pods and namespaces, and
    /// not those of owners.
    pub(crate) fn of(namespace: &str, metadata: &Metadata, request: Request) -> Option<Self> {
        let pod_name = metadata.name.clone()?;
        let pod_uid = Uuid::try_parse(metadata.uid.as_deref()?).ok()?;
        let controller =
            metadata.controller().map(|owner| format!("{}/{}", owner.kind, owner.name));
        let names = [Some(namespace), Some(pod_name.as_str()), controller.as_deref()];
        if names.into_iter().flatten().any(|name| find_control(name).is_some()) {
            return None;
        }
        Some(Self { namespace: namespace.to_owned(), pod_name, pod_uid, controller, request })
    }
}

/// Writes jobs into the store; clones share its limits.
#[derive(Clone, Debug)]
pub struct HandOffs {
    store: Store,
    cluster_name: Arc<str>,
    slots: Arc<Semaphore>,
    metrics: Metrics,
}

impl HandOffs {
    /// Jobs for the cluster of this name.
    pub fn new(store: Store, cluster_name: String, metrics: Metrics) -> Self {
        Self {
            store,
            cluster_name: cluster_name.into(),
            slots: Arc::new(Semaphore::new(AT_ONCE)),
            metrics,
        }
    }

    /// Writes a job, and waits for it, but not for long.
    ///
    /// The write runs in a task of its own, which ends by the store's own deadlines: cancelling it
    /// half-way would leave a connection in an unknown state.
    pub(crate) async fn hand_off(&self, job: Job) {
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            self.metrics.handed_off(Outcome::Busy);
            return;
        };
        let this = self.clone();
        let writing = tokio::spawn(async move {
            let outcome = this.write(&job).await;
            drop(slot);
            outcome
        });
        let outcome = match tokio::time::timeout(DEADLINE, writing).await {
            Ok(written) => written.unwrap_or(Outcome::Failed),
            Err(_) => Outcome::Late,
        };
        self.metrics.handed_off(outcome);
    }

    async fn write(&self, job: &Job) -> Outcome {
        let Job { namespace, pod_name, pod_uid, controller, request } = job;
        let (cluster_name, kind, controller) =
            (&*self.cluster_name, request.kind(), controller.as_deref());
        let row = HandOff {
            cluster_name,
            kind,
            namespace,
            pod_name,
            pod_uid: *pod_uid,
            controller,
            request,
        };
        match self.store.hand_off(&row).await {
            Ok(()) => Outcome::Done,
            Err(error) => {
                tracing::warn!(
                    pod.namespace = namespace,
                    pod.name = pod_name,
                    error = chain(&error),
                    "job not handed off"
                );
                Outcome::Failed
            }
        }
    }
}
