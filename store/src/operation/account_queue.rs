//! The account's queues: changes of EIPs wait for a call slot of their action, and a free slot picks
//! its change. The rules are in `migrations/0002_account_queues.sql`.
//!
//! ```text
//! queue_eip_change ─▶ queued ─ dequeue ─▶ sent (a slot is booked) ─ settle ─▶ the slot is free a
//!                       ▲                   │                                 minute later
//!                       └─ throttled, or not written
//! ```

use crate::claimed::{Claimed, ensure_claim_held};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::operation::queue::{DequeuedChange, SentColumns};
use crate::store::Store;
use std::time::Duration;
use waygate_core::operation::{ChangeRequest, Operation, Priority};
use waygate_core::rules::timing::{CALL_TIMEOUT, FENCE, LOOK_AGE};

/// The queue of one action of the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountQueue {
    /// API action whose changes wait in it.
    pub action: &'static str,
    /// Calls a minute that the account may make.
    pub rate: u32,
    /// True if the action gives something: then a change is sent only after a recent look at its
    /// lease.
    pub gives: bool,
}

/// Changes marked as sent, and what is left of the queue.
#[derive(Debug)]
pub struct AccountBatch {
    /// The changes, each to be sent at once.
    pub changes: Vec<DequeuedChange>,
    /// Time until it is worth asking again; none if nothing of the cluster waits.
    pub retry_in: Option<Duration>,
    /// Leases woken for the look that their changes need.
    pub woken: u32,
}

impl Store {
    /// Marks changes of the cluster as sent, up to `limit`, as far as the action has free call slots.
    pub async fn dequeue_account_changes(
        &self,
        cluster: Cluster,
        queue: AccountQueue,
        limit: usize,
    ) -> Result<AccountBatch, Error> {
        let rows = sqlx::query_file!(
            "src/queries/dequeue_account_changes.sql",
            cluster.id,
            queue.action,
            i32::try_from(queue.rate).unwrap_or(i32::MAX),
            i32::try_from(limit).unwrap_or(i32::MAX),
            CALL_TIMEOUT.as_secs_f64(),
            FENCE.as_secs_f64(),
            queue.gives,
            LOOK_AGE.as_secs_f64(),
        )
        .fetch_all(&self.pool)
        .await?;
        let mut batch = AccountBatch { changes: Vec::new(), retry_in: None, woken: 0 };
        for row in rows {
            let sent = SentColumns {
                operation_id: row.operation_id,
                lease_id: row.lease_id,
                resource: row.resource,
                change: row.change,
                sends: row.sends,
                fence_until: row.fence_until,
                may_still_arrive: row.may_still_arrive,
                busy_retries: None,
                waited: row.waited,
            };
            if let Some(change) = sent.into_change()? {
                batch.changes.push(change);
                continue;
            }
            batch.retry_in = row.retry_in.and_then(|wait| Duration::try_from_secs_f64(wait).ok());
            batch.woken = row.woken.unwrap_or(0).unsigned_abs();
        }
        Ok(batch)
    }

    /// Puts a change back that the cloud throttled, and lowers the action's rate, once for all calls
    /// under way. No call of the action is sent before `pause` has passed.
    pub async fn requeue_throttled(
        &self,
        operation: &Operation,
        rate: u32,
        pause: Duration,
    ) -> Result<(), Error> {
        sqlx::query!(
            "SELECT requeue_throttled_change($1, $2, $3, make_interval(secs => $4))",
            operation.id,
            operation.sends,
            i32::try_from(rate).unwrap_or(i32::MAX),
            pause.as_secs_f64(),
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Puts a change back that was marked as sent and then not written.
    pub async fn requeue_unsent(&self, operation: &Operation) -> Result<(), Error> {
        sqlx::query!("SELECT requeue_unsent_change($1, $2)", operation.id, operation.sends)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Counts the changes of a cluster that wait in the account's queues, by action.
    pub async fn count_account_queues(
        &self,
        cluster: Cluster,
    ) -> Result<Vec<(String, i64)>, Error> {
        let rows = sqlx::query!(
            r#"SELECT action, count(*) AS "count!" FROM operation
               WHERE queued AND gateway_id IS NULL AND cluster_id = $1 GROUP BY action"#,
            cluster.id,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|row| (row.action, row.count)).collect())
    }
}

impl Claimed<'_> {
    /// Queues a change of the lease's EIP as a new operation. False if an earlier change of the
    /// resource is unresolved.
    pub async fn queue_eip_change(
        &self,
        request: &ChangeRequest,
        priority: Priority,
    ) -> Result<bool, Error> {
        let frozen = serde_json::to_value(&request.change).map_err(Error::corrupt_value)?;
        let row = sqlx::query_file!(
            "src/queries/queue_eip_change.sql",
            self.claim.lease_id.0,
            self.claim.owner,
            self.claim.epoch,
            request.resource,
            request.change.action(),
            frozen,
            priority.number(),
        )
        .fetch_one(&self.store.pool)
        .await?;
        ensure_claim_held(row.claim_held.unsigned_abs())?;
        Ok(row.queued > 0)
    }
}
