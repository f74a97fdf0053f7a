//! The beginning of a lease: announced by the webhook at admission, or made when the watch observes
//! the pod. The earlier of the two inserts the row.

use crate::cluster::Cluster;
use crate::columns::{outlives_pod, request_to_json};
use crate::error::Error;
use crate::store::Store;
use crate::worker_lock::WorkerLock;
use jiff::Timestamp;
use uuid::Uuid;
use waygate_core::request::{Kind, Request};
use waygate_core::rules::timing::ANNOUNCEMENT_LIFETIME;

/// The webhook's notice of an admitted pod. The pod may never be created: only an observation
/// proves that it exists.
#[derive(Clone, Copy, Debug)]
pub struct PodAnnouncement<'a> {
    /// `clusterID` of the webhook's configuration; the worker must have registered it.
    pub cluster_name: &'a str,
    /// Kind of the lease: EIP or DNAT.
    pub kind: Kind,
    /// Namespace of the pod.
    pub namespace: &'a str,
    /// Name of the pod; the custom resource gets the same name.
    pub pod_name: &'a str,
    /// UID from the admission request, which the pod keeps when it is stored.
    pub pod_uid: Uuid,
    /// `Kind/name` of the pod's controller: only its pods are successors of this one.
    pub controller: Option<&'a str>,
    /// The resources that the pod's annotations ask for.
    pub request: &'a Request,
}

/// A pod that the watch has seen and that asks for an address or ports.
#[derive(Clone, Copy, Debug)]
pub struct PodObservation<'a> {
    /// Namespace of the pod.
    pub namespace: &'a str,
    /// Name of the pod; the custom resource gets the same name.
    pub pod_name: &'a str,
    /// `metadata.uid` of the pod.
    pub pod_uid: Uuid,
    /// `Kind/name` of the pod's controller: only its pods are successors of this one.
    pub controller: Option<&'a str>,
    /// `metadata.creationTimestamp`; none if the API server did not say.
    pub pod_created_at: Option<Timestamp>,
    /// The resources that the pod's annotations ask for.
    pub request: &'a Request,
}

impl Store {
    /// Writes the announcement of a pod as a lease in phase announced. Repeating it changes
    /// nothing. A pod for which a lease is retained needs no announcement: that lease becomes the
    /// pod's own. [`Error::UnknownCluster`]: no worker has registered the cluster yet.
    pub async fn announce_pod(&self, announcement: &PodAnnouncement<'_>) -> Result<(), Error> {
        let cluster = sqlx::query_scalar!(
            "SELECT cluster_id FROM cluster WHERE name = $1",
            announcement.cluster_name
        )
        .fetch_optional(&self.pool)
        .await?
        .ok_or_else(|| Error::UnknownCluster { name: announcement.cluster_name.to_owned() })?;
        sqlx::query_file!(
            "src/queries/announce_pod.sql",
            cluster,
            announcement.kind.as_str(),
            announcement.namespace,
            announcement.pod_name,
            announcement.pod_uid,
            request_to_json(announcement.request)?,
            outlives_pod(announcement.request),
            announcement.controller,
            ANNOUNCEMENT_LIFETIME.as_secs_f64(),
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Makes sure that the pod has a lease, and wakes it: its own, a new one, or the one retained
    /// for it. For claim holders that have read the pod.
    pub async fn observe_pod(
        &self,
        cluster: Cluster,
        pod: &PodObservation<'_>,
    ) -> Result<(), Error> {
        self.record_observation(cluster, pod, None).await
    }

    /// Does the same for the listener to the cluster's pods: without effect once its lock has expired
    /// or passed to another process.
    pub async fn observe_watched_pod(
        &self,
        lock: &WorkerLock,
        cluster: Cluster,
        pod: &PodObservation<'_>,
    ) -> Result<(), Error> {
        self.record_observation(cluster, pod, Some(lock)).await
    }

    async fn record_observation(
        &self,
        cluster: Cluster,
        pod: &PodObservation<'_>,
        lock: Option<&WorkerLock>,
    ) -> Result<(), Error> {
        let name = lock.map(|lock| lock.work.name());
        let (owner, epoch) = (lock.map(|lock| lock.owner), lock.map(|lock| lock.epoch));
        let kind = pod.request.kind().as_str();
        let observed = sqlx::query_file!(
            "src/queries/observe_pod.sql",
            cluster.id,
            kind,
            pod.namespace,
            pod.pod_name,
            pod.pod_uid,
            request_to_json(pod.request)?,
            outlives_pod(pod.request),
            pod.controller,
            pod.pod_created_at.map(|at| at.as_duration().as_secs_f64()),
            name,
            owner,
            epoch,
        )
        .execute(&self.pool)
        .await
        .map_err(Error::from);
        // A lease is retained for this pod, even if the pod itself asks for something else: wake
        // that one.
        let retained_for_pod = match observed {
            Ok(done) => done.rows_affected() == 0,
            Err(Error::Conflict(_)) => true,
            Err(error) => return Err(error),
        };
        if retained_for_pod {
            sqlx::query_file!(
                "src/queries/wake_retained.sql",
                cluster.id,
                kind,
                pod.namespace,
                pod.pod_name,
                pod.pod_uid,
                name,
                owner,
                epoch,
            )
            .execute(&self.pool)
            .await?;
        }
        Ok(())
    }
}
