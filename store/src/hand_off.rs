//! How a lease begins: announced at admission, sighted by the watch. Whichever comes first makes the row.

use crate::{Cluster, Error, Store};
use uuid::Uuid;
use waygate_core::request::{Kind, Request};

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
    /// What it asks for.
    pub request: &'a Request,
}

impl Store {
    /// Announces a pod. Repeating it changes nothing.
    pub async fn hand_off(&self, job: &HandOff<'_>) -> Result<(), Error> {
        let request = to_json(job.request)?;
        let done = sqlx::query!(
            "INSERT INTO lease (cluster_id, kind, namespace, pod_name, pod_uid, request, phase, due_at)
             SELECT cluster_id, $2, $3, $4, $5, $6, 'headstart', now() + make_interval(secs => $7) FROM cluster WHERE name = $1
             ON CONFLICT (cluster_id, kind, pod_uid) WHERE phase <> 'ending' DO UPDATE SET wake = lease.wake",
            job.cluster_name,
            job.kind.as_str(),
            job.namespace,
            job.pod_name,
            job.pod_uid,
            request,
            HEADSTART_SECONDS,
        )
        .execute(&self.pool)
        .await?;
        match done.rows_affected() {
            0 => Err(Error::UnknownCluster { name: job.cluster_name.to_owned() }),
            _ => Ok(()),
        }
    }

    /// Makes sure that the pod has a lease, and wakes it.
    pub async fn sight(&self, cluster: Cluster, pod: &Sighting<'_>) -> Result<(), Error> {
        sqlx::query!(
            "INSERT INTO lease (cluster_id, kind, namespace, pod_name, pod_uid, request, phase)
             VALUES ($1, $2, $3, $4, $5, $6, 'wanted')
             ON CONFLICT (cluster_id, kind, pod_uid) WHERE phase <> 'ending' DO UPDATE SET
               phase  = CASE WHEN lease.phase = 'headstart' THEN 'wanted' ELSE lease.phase END,
               wake   = lease.wake + 1,
               due_at = CASE WHEN lease.owner IS NULL THEN now() ELSE lease.due_at END",
            cluster.id,
            pod.request.kind().as_str(),
            pod.namespace,
            pod.pod_name,
            pod.pod_uid,
            to_json(pod.request)?,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// There is news of a pod: its leases are due. Says how many it has.
    pub async fn wake_pod(&self, cluster: Cluster, pod_uid: Uuid) -> Result<u64, Error> {
        let done = sqlx::query!(
            "UPDATE lease SET wake = wake + 1, due_at = CASE WHEN owner IS NULL THEN now() ELSE due_at END
             WHERE cluster_id = $1 AND pod_uid = $2",
            cluster.id,
            pod_uid,
        )
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
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

fn to_json(request: &Request) -> Result<serde_json::Value, Error> {
    serde_json::to_value(request).map_err(Error::corrupt)
}
