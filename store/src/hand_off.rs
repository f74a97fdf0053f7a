//! How a lease begins: announced at admission, sighted by the watch. Whichever comes first makes the row.

use crate::{Cluster, Error, Store};
use jiff::Timestamp;
use uuid::Uuid;
use waygate_core::ids::LeaseId;
use waygate_core::request::{Keep, Kind, Request};

/// How long a head start waits for its pod. The watch sees a pod within a second of its admission; quota and AlreadyExists come after us.
const HEADSTART_SECONDS: f64 = 30.0;

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
    /// Announces a pod. Repeating it changes nothing. A pod for which a lease is kept needs no announcement: that lease becomes its own.
    pub async fn hand_off(&self, job: &HandOff<'_>) -> Result<(), Error> {
        let cluster = sqlx::query_scalar!("SELECT cluster_id FROM cluster WHERE name = $1", job.cluster_name)
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
            HEADSTART_SECONDS,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Makes sure that the pod has a lease, and wakes it: its own, a new one, or the one kept for it.
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
            Err(Error::Taken { .. }) => true,
            Err(error) => return Err(error),
        };
        if kept {
            sqlx::query_file!("src/queries/wake_kept.sql", cluster.id, kind, pod.namespace, pod.pod_name, pod.pod_uid,)
                .execute(&self.pool)
                .await?;
        }
        Ok(())
    }

    /// There is news of one lease.
    pub async fn wake_lease(&self, lease: LeaseId) -> Result<(), Error> {
        sqlx::query!(
            "UPDATE lease SET wake = wake + 1, due_at = CASE WHEN owner IS NULL THEN now() ELSE due_at END WHERE lease_id = $1",
            lease.0,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// There is news of a pod: its leases are due. Says of which kinds they are.
    pub async fn wake_pod(&self, cluster: Cluster, pod_uid: Uuid) -> Result<Vec<Kind>, Error> {
        let kinds = sqlx::query_scalar!(
            "UPDATE lease SET wake = wake + 1, due_at = CASE WHEN owner IS NULL THEN now() ELSE due_at END
             WHERE cluster_id = $1 AND pod_uid = $2 RETURNING kind",
            cluster.id,
            pod_uid,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(kinds.iter().map(|kind| if kind == Kind::Eip.as_str() { Kind::Eip } else { Kind::Dnat }).collect())
    }

    /// Every lease of the cluster is due, those at work once they are done: after a start or a gap in the watch nobody knows what was missed.
    pub async fn wake_all(&self, cluster: Cluster) -> Result<u64, Error> {
        let done = sqlx::query!(
            "UPDATE lease SET wake = wake + 1, due_at = CASE WHEN owner IS NULL THEN now() ELSE due_at END
             WHERE cluster_id = $1 AND phase <> 'headstart'",
            cluster.id,
        )
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
    }
}

/// Whether a successor of the same name may come for it.
pub(crate) fn keeps(request: &Request) -> bool {
    request.keep() != Keep::Not
}

pub(crate) fn to_json(request: &Request) -> Result<serde_json::Value, Error> {
    serde_json::to_value(request).map_err(Error::corrupt)
}
