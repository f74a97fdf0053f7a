//! What the listener to a cluster's pods writes and reads; each write is fenced by its lock.

use crate::cluster::Cluster;
use crate::columns::parse_kind;
use crate::error::Error;
use crate::lease::wake::wake_leases;
use crate::store::Store;
use crate::worker_lock::WorkerLock;
use std::collections::{HashMap, HashSet};
use uuid::Uuid;
use waygate_core::request::Kind;

impl Store {
    /// Wakes the leases of a pod and returns their kinds. `digest` is of what is recorded of the pod,
    /// none while something is left to do for it. [`Error::WorkerLockLost`]: the listener's lock has
    /// expired or passed to another process, and nothing is woken.
    pub async fn wake_pod(
        &self,
        lock: &WorkerLock,
        cluster: Cluster,
        pod_uid: Uuid,
        digest: Option<i64>,
    ) -> Result<Vec<Kind>, Error> {
        let woken = wake_leases!(
            set = "pod_digest = $6",
            "cluster_id = $1 AND pod_uid = $2
                AND EXISTS (SELECT FROM worker_lock WHERE name = $3 AND owner = $4 AND epoch = $5 AND held_until > now())
             RETURNING kind",
            cluster.id,
            pod_uid,
            lock.work.name(),
            lock.owner,
            lock.epoch,
            digest
        )
        .fetch_all(&self.pool)
        .await?;
        // A lock that is lost stays lost, so it may be looked at later.
        if woken.is_empty() && !self.holds_worker_lock(lock).await? {
            return Err(Error::WorkerLockLost);
        }
        Ok(woken.iter().map(|lease| parse_kind(&lease.kind)).collect())
    }

    /// Digests of the cluster's pods as they were recorded with all their leases, read a thousand
    /// leases at a time.
    pub async fn read_pod_digests(&self, cluster: Cluster) -> Result<HashMap<Uuid, i64>, Error> {
        let (mut digests, mut last) = (HashMap::new(), Uuid::nil());
        loop {
            let page = sqlx::query!(
                "SELECT pod_uid, pod_digest FROM lease WHERE cluster_id = $1 AND pod_uid > $2
                 ORDER BY pod_uid FETCH FIRST 1000 ROWS WITH TIES",
                cluster.id,
                last
            )
            .fetch_all(&self.pool)
            .await?;
            let Some(end) = page.last() else { break };
            last = end.pod_uid;
            for lease in page {
                let recorded = digests.entry(lease.pod_uid).or_insert(lease.pod_digest);
                // A lease that was made since has none, and its pod is recorded anew.
                *recorded = recorded.filter(|digest| lease.pod_digest == Some(*digest));
            }
        }
        Ok(digests.into_iter().filter_map(|(pod, digest)| Some((pod, digest?))).collect())
    }

    /// Wakes the leases of the cluster, except announced ones, whose pods are not `present`, a
    /// thousand at a time, and returns how many. After a start, or a gap in the watch, it is unknown
    /// which pods' ends were missed. No effect once the listener's lock has expired or passed to
    /// another process.
    pub async fn wake_leases_without_pod(
        &self,
        lock: &WorkerLock,
        cluster: Cluster,
        present: &HashSet<Uuid>,
    ) -> Result<u64, Error> {
        let (mut woken, mut last) = (0, Uuid::nil());
        loop {
            let page = sqlx::query!(
                "SELECT lease_id, pod_uid FROM lease WHERE cluster_id = $1 AND pod_uid > $2
                 ORDER BY pod_uid FETCH FIRST 1000 ROWS WITH TIES",
                cluster.id,
                last
            )
            .fetch_all(&self.pool)
            .await?;
            let Some(end) = page.last() else { return Ok(woken) };
            last = end.pod_uid;
            let absent: Vec<_> = page
                .iter()
                .filter(|lease| !present.contains(&lease.pod_uid))
                .map(|lease| lease.lease_id)
                .collect();
            if absent.is_empty() {
                continue;
            }
            let done = wake_leases!(
                "lease_id = ANY($1) AND phase <> 'announced'
                    AND EXISTS (SELECT FROM worker_lock WHERE name = $2 AND owner = $3 AND epoch = $4 AND held_until > now())",
                &absent,
                lock.work.name(),
                lock.owner,
                lock.epoch
            )
            .execute(&self.pool)
            .await?;
            woken += done.rows_affected();
        }
    }
}
