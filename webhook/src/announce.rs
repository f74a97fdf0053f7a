//! Announces admitted pods to the worker through the store, without delaying a pod's admission.
//!
//! An announcement only saves time: a failed one is counted, and the worker's watch finds the pod.

use crate::metrics::{AnnouncementOutcome, Metrics};
use crate::objects::Metadata;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use uuid::Uuid;
use waygate_core::error::error_chain;
use waygate_core::request::Request;
use waygate_core::text::Text;
use waygate_store::{PodAnnouncement, Store};

/// Limit of the delay that an announcement adds to a pod's admission: a tenth of the API server's
/// deadline of 3 s, a hundred times the usual duration.
const ANNOUNCE_DEADLINE: Duration = Duration::from_millis(300);
/// Announcements in progress at most. While Postgres hangs they accumulate up to this number; from
/// then on reviews are answered without one.
const MAX_IN_PROGRESS: usize = 256;

/// An admitted pod and its request, to be announced.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AdmittedPod {
    pub(crate) namespace: String,
    pub(crate) pod_name: String,
    pub(crate) pod_uid: Uuid,
    /// Kind and name of the pod's controller, `Kind/name`.
    pub(crate) controller: Option<String>,
    pub(crate) request: Request,
}

impl AdmittedPod {
    /// The announcement of a pod whose names were checked. None without a namespace, name and UID,
    /// by which the worker finds the row.
    pub(crate) fn from_metadata(
        namespace: &str,
        metadata: &Metadata,
        request: Request,
    ) -> Option<Self> {
        let pod_name = metadata.name.clone().filter(|name| Text::PodName.allows(name))?;
        let pod_uid = Uuid::try_parse(metadata.uid.as_deref()?).ok()?;
        if !Text::ReviewNamespace.allows(namespace) {
            return None;
        }
        let controller =
            metadata.controller().map(|owner| format!("{}/{}", owner.kind, owner.name));
        Some(Self { namespace: namespace.to_owned(), pod_name, pod_uid, controller, request })
    }
}

/// Writes announcements into the store; clones share the limit.
#[derive(Clone, Debug)]
pub struct Announcer {
    store: Store,
    cluster_name: Arc<str>,
    permits: Arc<Semaphore>,
    metrics: Metrics,
}

impl Announcer {
    /// Writes announcements for the cluster of this name.
    pub fn new(store: Store, cluster_name: String, metrics: Metrics) -> Self {
        Self {
            store,
            cluster_name: cluster_name.into(),
            permits: Arc::new(Semaphore::new(MAX_IN_PROGRESS)),
            metrics,
        }
    }

    /// Writes an announcement and waits for it, but at most 300 ms.
    ///
    /// The write runs in a task of its own, which ends by the store's own deadlines: cancelling it
    /// half-way would leave a connection in an unknown state.
    pub(crate) async fn announce_admitted_pod(&self, admitted: AdmittedPod) {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            self.metrics.count_announcement(AnnouncementOutcome::Busy);
            return;
        };
        let this = self.clone();
        let writing = tokio::spawn(async move {
            let outcome = this.write_admitted_pod(&admitted).await;
            // Only now: a write that its caller no longer waits for still occupies a connection.
            drop(permit);
            outcome
        });
        let outcome = match tokio::time::timeout(ANNOUNCE_DEADLINE, writing).await {
            Ok(written) => written.unwrap_or(AnnouncementOutcome::Failed),
            Err(_) => AnnouncementOutcome::Late,
        };
        self.metrics.count_announcement(outcome);
    }

    async fn write_admitted_pod(&self, admitted: &AdmittedPod) -> AnnouncementOutcome {
        let AdmittedPod { namespace, pod_name, pod_uid, controller, request } = admitted;
        let (cluster_name, kind, controller) =
            (&*self.cluster_name, request.kind(), controller.as_deref());
        let announcement = PodAnnouncement {
            cluster_name,
            kind,
            namespace,
            pod_name,
            pod_uid: *pod_uid,
            controller,
            request,
        };
        match self.store.announce_pod(&announcement).await {
            Ok(()) => AnnouncementOutcome::Done,
            Err(error) => {
                tracing::warn!(
                    pod.namespace = namespace,
                    pod.name = pod_name,
                    error = error_chain(&error),
                    "announcing a pod failed; the worker's watch finds it"
                );
                AnnouncementOutcome::Failed
            }
        }
    }
}
