//! Gateway locks: one process at a time changes a gateway's entries.
//!
//! ```text
//! free ─ acquire ─▶ held ─ renew ─▶ held … ─ release, or expiry ─▶ free
//! ```
//!
//! A gateway lock expires like a claim. The next holder sends nothing before every send of the
//! former holder has been answered or its answer is no longer awaited: marking a change as sent
//! extends the lock beyond the time for which the answer is awaited.

use crate::error::Error;
use crate::lease::wake::wake_leases;
use crate::store::Store;
use std::time::Duration;
use uuid::Uuid;
use waygate_core::ids::NatGatewayId;
use waygate_core::rules::timing::GATEWAY_LOCK;

/// The right of one process to send changes to a gateway, until the lock expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayLock {
    /// The gateway that the lock is for. Every write under the lock compares owner and epoch.
    pub gateway_id: NatGatewayId,
    pub(crate) owner: Uuid,
    pub(crate) epoch: i64,
}

impl GatewayLock {
    fn new(gateway_id: String, owner: Uuid, epoch: i64) -> Self {
        Self { gateway_id: NatGatewayId::new(gateway_id), owner, epoch }
    }
}

/// Time for which the queue of a gateway waits for a process that has the gateway in its
/// configuration, before any process may serve it.
const UNCONFIGURED_GRACE: Duration = Duration::from_mins(1);

impl Store {
    /// Acquires the free locks of these gateways, and of gateways with a queue that no process has
    /// served for a minute: they are in no configuration any longer, and their entries must still
    /// be removed. Wakes leases whose changes were unanswered when a lock expired.
    pub async fn acquire_gateway_locks(
        &self,
        owner: Uuid,
        gateways: &[NatGatewayId],
    ) -> Result<Vec<GatewayLock>, Error> {
        let configured: Vec<_> =
            gateways.iter().map(|gateway| gateway.as_str().to_owned()).collect();
        sqlx::query!(
            "INSERT INTO gateway_lock (gateway_id) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING",
            &configured
        )
        .execute(&self.pool)
        .await?;
        let rows = sqlx::query_file!(
            "src/queries/acquire_gateway_locks.sql",
            owner,
            &configured,
            GATEWAY_LOCK.as_secs_f64(),
            UNCONFIGURED_GRACE.as_secs_f64(),
        )
        .fetch_all(&self.pool)
        .await?;
        let acquired: Vec<_> = rows.iter().map(|row| row.gateway_id.clone()).collect();
        // The former holder may be dead, with answers that no process will record.
        wake_leases!("lease_id IN (SELECT lease_id FROM operation WHERE gateway_id = ANY($1) AND outcome IS NULL AND NOT queued)", &acquired)
            .execute(&self.pool)
            .await?;
        Ok(rows.into_iter().map(|row| GatewayLock::new(row.gateway_id, owner, row.epoch)).collect())
    }

    /// Extends those of the owner's locks on these gateways that still hold, and returns them.
    /// Expired locks stay expired.
    pub async fn renew_gateway_locks(
        &self,
        owner: Uuid,
        gateways: &[NatGatewayId],
    ) -> Result<Vec<GatewayLock>, Error> {
        let served: Vec<_> = gateways.iter().map(|gateway| gateway.as_str().to_owned()).collect();
        let rows = sqlx::query!(
            "UPDATE gateway_lock SET held_until = now() + make_interval(secs => $2) WHERE owner = $1 AND held_until > now() AND gateway_id = ANY($3)
             RETURNING gateway_id, epoch",
            owner,
            GATEWAY_LOCK.as_secs_f64(),
            &served,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|row| GatewayLock::new(row.gateway_id, owner, row.epoch)).collect())
    }

    /// Releases all gateway locks of the owner, so that the next process need not wait until they
    /// expire.
    pub async fn release_gateway_locks(&self, owner: Uuid) -> Result<(), Error> {
        sqlx::query!(
            "UPDATE gateway_lock SET owner = NULL, held_until = now() WHERE owner = $1",
            owner
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Deletes fair queue entries last served longer ago than `age`. A namespace without one comes
    /// first.
    pub async fn prune_fair_queue(&self, age: Duration) -> Result<u64, Error> {
        let done = sqlx::query!(
            "DELETE FROM fair_queue WHERE last_served_at < now() - make_interval(secs => $1)",
            age.as_secs_f64()
        )
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
    }
}
