//! Wakes leases: due at once, or, while a worker has the lease, as soon as its claim is finished.

use crate::error::Error;
use crate::store::Store;
use waygate_core::ids::{LeaseId, NatGatewayId};

/// The statement that wakes the leases for which a condition holds. A claimed lease becomes due
/// when its claim is finished, because `wake` has grown. `after` is a CTE that writes something
/// else first, in the same statement; `set` adds columns.
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
    /// Wakes one lease, for example after its custom resource changed.
    pub async fn wake_lease(&self, lease: LeaseId) -> Result<(), Error> {
        wake_leases!("lease_id = $1", lease.0).execute(&self.pool).await?;
        Ok(())
    }

    /// Ends the wait of the lease that the cloud refused for this reason, the oldest of all clusters:
    /// what it waits for has come free once. False if no lease waits for that.
    pub async fn wake_refused(&self, reason: &str) -> Result<bool, Error> {
        let woken = wake_leases!(
            set = "refused_until = now(), refused_for = NULL",
            "lease_id = (SELECT lease_id FROM lease WHERE refused_for = $1
                ORDER BY created_at LIMIT 1 FOR UPDATE SKIP LOCKED)",
            reason
        )
        .execute(&self.pool)
        .await?;
        Ok(woken.rows_affected() > 0)
    }

    /// Wakes the leases with queued creations at a gateway that has no room for more entries.
    pub async fn wake_queued_creations(&self, gateway: &NatGatewayId) -> Result<(), Error> {
        wake_leases!(
            "lease_id IN (SELECT lease_id FROM operation
                WHERE gateway_id = $1 AND queued AND action = 'CreateForwardEntry')",
            gateway.as_str()
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Wakes those of these leases that have no queued operation left.
    pub async fn wake_settled(&self, leases: &[LeaseId]) -> Result<(), Error> {
        let ids: Vec<_> = leases.iter().map(|lease| lease.0).collect();
        wake_leases!(
            "lease_id = ANY($1)
                AND NOT EXISTS (SELECT FROM operation o WHERE o.lease_id = lease.lease_id AND o.settled_at IS NULL AND o.queued)",
            &ids
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}
