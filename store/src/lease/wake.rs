//! News: a lease for which there is some is due at once, or once its claim holder is done with it.

use crate::cluster::Cluster;
use crate::columns::kind;
use crate::error::Error;
use crate::store::Store;
use uuid::Uuid;
use waygate_core::ids::{LeaseId, NatGatewayId};
use waygate_core::request::Kind;

/// The statement that wakes the leases of which a condition holds. One that is at work is due as
/// soon as it is done, since its `wake` has grown. What `after` says is written in the same
/// statement, before; `set` adds columns.
macro_rules! wake_leases {
    ($(after = $first:literal,)? $(set = $more:literal,)? $which:literal, $($argument:expr),+ $(,)?) => {
        sqlx::query!(
            $($first +)? "UPDATE lease SET wake = wake + 1, due_at = CASE WHEN owner IS NULL THEN now() ELSE due_at END"
                $(+ ", " + $more)? + " WHERE " + $which,
            $($argument),+
        )
    };
}
pub(crate) use wake_leases;

impl Store {
    /// There is news of one lease.
    pub async fn wake_lease(&self, lease: LeaseId) -> Result<(), Error> {
        wake_leases!("lease_id = $1", lease.0).execute(&self.pool).await?;
        Ok(())
    }

    /// There is news of a pod: its leases are due. Says of which kinds they are.
    pub async fn wake_pod(&self, cluster: Cluster, pod_uid: Uuid) -> Result<Vec<Kind>, Error> {
        let woken =
            wake_leases!("cluster_id = $1 AND pod_uid = $2 RETURNING kind", cluster.id, pod_uid)
                .fetch_all(&self.pool)
                .await?;
        Ok(woken.iter().map(|lease| kind(&lease.kind)).collect())
    }

    /// Every lease of the cluster is due, those at work once they are done: after a start or a gap
    /// in the watch nobody knows what was missed.
    pub async fn wake_all(&self, cluster: Cluster) -> Result<u64, Error> {
        let done = wake_leases!("cluster_id = $1 AND phase <> 'headstart'", cluster.id)
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected())
    }

    /// The gateway takes no more entries: leases that wait to make some there look for themselves.
    pub async fn wake_queue(&self, gateway: &NatGatewayId) -> Result<(), Error> {
        wake_leases!(
            "lease_id IN (SELECT lease_id FROM operation
                WHERE lane = $1 AND queued AND change ->> 'action' = 'CreateForwardEntry')",
            gateway.as_str()
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// What these leases asked for has come to rest; those that wait for nothing else look.
    pub async fn wake_rested(&self, leases: &[LeaseId]) -> Result<(), Error> {
        let ids: Vec<_> = leases.iter().map(|lease| lease.0).collect();
        wake_leases!(
            "lease_id = ANY($1)
                AND NOT EXISTS (SELECT FROM operation o WHERE o.lease_id = lease.lease_id AND o.queued)",
            &ids
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}
