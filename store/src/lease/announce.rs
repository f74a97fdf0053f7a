//! How a lease begins: announced at admission, sighted by the watch. Whichever comes first makes
//! the row.

use crate::cluster::Cluster;
use crate::columns::{keeps, to_json};
use crate::error::Error;
use crate::store::Store;
use jiff::Timestamp;
use uuid::Uuid;
use waygate_core::request::{Kind, Request};
use waygate_core::rules::timing::HEAD_START;

/// A job that admission hands over: a head start, never the truth.
#[derive(Clone, Copy, Debug)]
pub struct HandOff<'a> {
    /// `clusterID` of the configuration.
    pub cluster_name: &'a str,
    /// EIP or DNAT.
    pub kind: Kind,
    /// The pod's namespace.
    pub namespace: &'a str,
    /// The pod's name.
    pub pod_name: &'a str,
    /// The pod's UID, which it keeps once it is stored.
    pub pod_uid: Uuid,
    /// `Kind/name` of its controller.
    pub controller: Option<&'a str>,
    /// What it asks for.
    pub request: &'a Request,
}

/// A pod that the watch saw, asking.
#[derive(Clone, Copy, Debug)]
pub struct Sighting<'a> {
    /// The pod's namespace.
    pub namespace: &'a str,
    /// Its name.
    pub pod_name: &'a str,
    /// Its UID.
    pub pod_uid: Uuid,
    /// `Kind/name` of its controller.
    pub controller: Option<&'a str>,
    /// When the API server made it; none where that is not known.
    pub pod_created_at: Option<Timestamp>,
    /// What it asks for.
    pub request: &'a Request,
}

impl Store {
    /// Announces a pod. Repeating it changes nothing. A pod for which a lease is kept needs no
    /// announcement: that lease becomes its own.
    pub async fn hand_off(&self, job: &HandOff<'_>) -> Result<(), Error> {
        let cluster =
            sqlx::query_scalar!("SELECT cluster_id FROM cluster WHERE name = $1", job.cluster_name)
                .fetch_optional(&self.pool)
                .await?
                .ok_or_else(|| Error::UnknownCluster { name: job.cluster_name.to_owned() })?;
        sqlx::query_file!(
            "src/queries/announce_pod.sql",
            cluster,
            job.kind.as_str(),
            job.namespace,
            job.pod_name,
            job.pod_uid,
            to_json(job.request)?,
            keeps(job.request),
            job.controller,
            HEAD_START.as_secs_f64(),
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Makes sure that the pod has a lease, and wakes it: its own, a new one, or the one kept for
    /// it.
    pub async fn sight(&self, cluster: Cluster, pod: &Sighting<'_>) -> Result<(), Error> {
        let kind = pod.request.kind().as_str();
        let sighted = sqlx::query_file!(
            "src/queries/observe_pod.sql",
            cluster.id,
            kind,
            pod.namespace,
            pod.pod_name,
            pod.pod_uid,
            to_json(pod.request)?,
            keeps(pod.request),
            pod.controller,
            pod.pod_created_at.map(|at| at.as_duration().as_secs_f64()),
        )
        .execute(&self.pool)
        .await
        .map_err(Error::from);
        // A lease is kept for it, whatever the pod asks for itself: that one is woken.
        let kept = match sighted {
            Ok(done) => done.rows_affected() == 0,
            Err(Error::Conflict(_)) => true,
            Err(error) => return Err(error),
        };
        if kept {
            sqlx::query_file!(
                "src/queries/wake_kept.sql",
                cluster.id,
                kind,
                pod.namespace,
                pod.pod_name,
                pod.pod_uid,
            )
            .execute(&self.pool)
            .await?;
        }
        Ok(())
    }
}
