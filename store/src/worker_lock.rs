//! Locks on what one worker at a time does: a gateway's changes and lists, the list of the
//! account's EIPs, the events of a cluster's pods.
//!
//! ```text
//! free ─ acquire ─▶ held ─ renew ─▶ held … ─ release, or expiry ─▶ free
//! ```
//!
//! A lock expires like a claim. The next holder of a gateway's lock sends nothing before every send
//! of the former holder has been answered or its answer is no longer awaited: marking a change as
//! sent extends the lock beyond the time for which the answer is awaited.

use crate::error::Error;
use crate::lease::wake::wake_leases;
use crate::store::Store;
use std::time::Duration;
use uuid::Uuid;
use waygate_core::ids::NatGatewayId;
use waygate_core::rules::timing::WORKER_LOCK;

/// Name of the lock on the list of the account's EIPs; gateways' IDs begin with `ngw-`.
const EIPS: &str = "eips";
/// Beginning of the name of the lock on a cluster's pod events; the cluster's UID follows.
const PODS: &str = "pods:";

/// The work that a lock is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Sends a gateway's changes, and lists its entries.
    Gateway(NatGatewayId),
    /// Lists the account's EIPs.
    EipList,
    /// Records the events of the pods of the cluster with this UID.
    PodEvents(Uuid),
}

impl Work {
    fn from_name(name: String) -> Self {
        let cluster = name.strip_prefix(PODS).and_then(|uid| uid.parse().ok());
        match cluster {
            Some(cluster) => Self::PodEvents(cluster),
            None if name == EIPS => Self::EipList,
            None => Self::Gateway(NatGatewayId::new(name)),
        }
    }

    /// The lock's name in the store, for logs.
    pub fn name(&self) -> String {
        match self {
            Self::Gateway(gateway) => gateway.as_str().to_owned(),
            Self::EipList => EIPS.to_owned(),
            Self::PodEvents(cluster) => format!("{PODS}{cluster}"),
        }
    }
}

/// The right of one process to do some work, until the lock expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerLock {
    /// The work that the lock is for. Every write under the lock compares owner and epoch.
    pub work: Work,
    pub(crate) owner: Uuid,
    pub(crate) epoch: i64,
}

impl WorkerLock {
    fn new(name: String, owner: Uuid, epoch: i64) -> Self {
        Self { work: Work::from_name(name), owner, epoch }
    }

    /// The same lock, where it is one of a gateway.
    pub fn gateway_lock(&self) -> Option<GatewayLock> {
        let Work::Gateway(gateway_id) = self.work.clone() else { return None };
        Some(GatewayLock { gateway_id, owner: self.owner, epoch: self.epoch })
    }
}

/// The right of one process to send changes to a gateway, until the lock expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayLock {
    /// The gateway that the lock is for. Every write under the lock compares owner and epoch.
    pub gateway_id: NatGatewayId,
    pub(crate) owner: Uuid,
    pub(crate) epoch: i64,
}

/// What becomes of queues at gateways that no configuration has any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnconfiguredQueues {
    /// They are served: their entries must still be removed.
    Serve,
    /// They stay as they are: forward entries are switched off.
    Leave,
}

/// Time for which the queue of a gateway waits for a process that has the gateway in its
/// configuration, before any process may serve it.
const UNCONFIGURED_GRACE: Duration = Duration::from_mins(1);

impl Store {
    /// Acquires the free locks on these works, and, where `unconfigured` says so, on gateways with a
    /// queue that no process has served for a minute: they are in no configuration any longer. Wakes
    /// leases whose changes were unanswered when a lock expired.
    pub async fn acquire_worker_locks(
        &self,
        owner: Uuid,
        works: &[Work],
        unconfigured: UnconfiguredQueues,
    ) -> Result<Vec<WorkerLock>, Error> {
        let names: Vec<_> = works.iter().map(Work::name).collect();
        sqlx::query!(
            "INSERT INTO worker_lock (name) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING",
            &names
        )
        .execute(&self.pool)
        .await?;
        let rows = sqlx::query_file!(
            "src/queries/acquire_worker_locks.sql",
            owner,
            &names,
            WORKER_LOCK.as_secs_f64(),
            UNCONFIGURED_GRACE.as_secs_f64(),
            unconfigured == UnconfiguredQueues::Serve,
        )
        .fetch_all(&self.pool)
        .await?;
        let acquired: Vec<_> = rows.iter().map(|row| row.name.clone()).collect();
        // The former holder may be dead, with answers that no process will record.
        wake_leases!("lease_id IN (SELECT lease_id FROM operation WHERE gateway_id = ANY($1) AND outcome IS NULL AND NOT queued)", &acquired)
            .execute(&self.pool)
            .await?;
        Ok(rows.into_iter().map(|row| WorkerLock::new(row.name, owner, row.epoch)).collect())
    }

    /// Extends those of the owner's locks on these works that still hold, and returns them. Expired
    /// locks stay expired.
    pub async fn renew_worker_locks(
        &self,
        owner: Uuid,
        works: &[Work],
    ) -> Result<Vec<WorkerLock>, Error> {
        let names: Vec<_> = works.iter().map(Work::name).collect();
        let rows = sqlx::query!(
            "UPDATE worker_lock SET held_until = now() + make_interval(secs => $2) WHERE owner = $1 AND held_until > now() AND name = ANY($3)
             RETURNING name, epoch",
            owner,
            WORKER_LOCK.as_secs_f64(),
            &names,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|row| WorkerLock::new(row.name, owner, row.epoch)).collect())
    }

    /// Releases locks, so that the next process need not wait until they expire. One that has passed
    /// to another process, or was acquired anew, stays as it is.
    pub async fn release_worker_locks(&self, locks: &[WorkerLock]) -> Result<(), Error> {
        let names: Vec<_> = locks.iter().map(|lock| lock.work.name()).collect();
        let owners: Vec<_> = locks.iter().map(|lock| lock.owner).collect();
        let epochs: Vec<_> = locks.iter().map(|lock| lock.epoch).collect();
        sqlx::query!(
            "UPDATE worker_lock l SET owner = NULL, held_until = now()
             FROM unnest($1::text[], $2::uuid[], $3::bigint[]) AS released (name, owner, epoch)
             WHERE l.name = released.name AND l.owner = released.owner AND l.epoch = released.epoch",
            &names,
            &owners,
            &epochs
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// True while the lock has not expired or passed to another process.
    pub(crate) async fn holds_worker_lock(&self, lock: &WorkerLock) -> Result<bool, Error> {
        let held = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT FROM worker_lock WHERE name = $1 AND owner = $2 AND epoch = $3 AND held_until > now()) AS "held!""#,
            lock.work.name(),
            lock.owner,
            lock.epoch
        );
        Ok(held.fetch_one(&self.pool).await?)
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
