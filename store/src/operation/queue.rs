//! The queues of the gateways and of the account: unresolved operations that were not sent yet, or
//! must be sent again. What is special to the account's is in `store/src/operation/account_queue.rs`.
//!
//! ```text
//! queue ─▶ queued ─ dequeue ─▶ sent ─ settle ─▶ (settled)
//!            │ ▲                │ ├─ gateway busy ─▶ (settled, and queued anew)
//!            │ ├────────────────┼─┘  throttled, or not written
//!            │ └─── requeue ────┴─ no answer ─▶ unanswered
//!            └ cancel ─▶ void; unanswered if it was sent before
//! ```
//!
//! Queueing and cancelling are decisions about a lease, written under its claim. Sending is the
//! sender's: at a gateway it is written under the gateway lock, in the account's queue any worker
//! sends. If a cancellation meets a send, exactly one takes effect.

use crate::claimed::{Claimed, ensure_claim_held, update_operation_under_claim};
use crate::columns::timestamp_from_seconds;
use crate::error::Error;
use crate::store::Store;
use crate::worker_lock::GatewayLock;
use std::net::Ipv4Addr;
use std::time::Duration;
use uuid::Uuid;
use waygate_core::ids::{LeaseId, NatGatewayId, VpcId};
use waygate_core::operation::{ChangeRequest, Operation, SendState};
use waygate_core::rules::timing::WORKER_LOCK;

/// The next change of a queue, marked as sent.
#[derive(Clone, Debug)]
pub struct DequeuedChange {
    /// The operation, with the fence of this send.
    pub operation: Operation,
    /// The lease that the change belongs to.
    pub lease_id: LeaseId,
    /// True if an earlier send was not answered and may still take effect: then a refusal of this
    /// send does not settle the operation.
    pub may_still_arrive: bool,
    /// Earlier refusals of the same change because the gateway was busy.
    pub busy_retries: i32,
    /// Time since the change was queued first.
    pub waited: Duration,
}

/// Columns of a row that marks a change as sent; none where there was no change to send.
pub(crate) struct SentColumns {
    pub operation_id: Option<Uuid>,
    pub lease_id: Option<Uuid>,
    pub resource: Option<String>,
    pub change: Option<serde_json::Value>,
    pub sends: Option<i32>,
    pub fence_until: Option<f64>,
    pub may_still_arrive: Option<bool>,
    pub busy_retries: Option<i32>,
    pub waited: Option<f64>,
}

impl SentColumns {
    pub(crate) fn into_change(self) -> Result<Option<DequeuedChange>, Error> {
        let (Some(id), Some(lease_id), Some(resource), Some(change), Some(fence_until)) =
            (self.operation_id, self.lease_id, self.resource, self.change, self.fence_until)
        else {
            return Ok(None);
        };
        Ok(Some(DequeuedChange {
            operation: Operation {
                id,
                resource,
                change: serde_json::from_value(change).map_err(Error::corrupt_value)?,
                send_state: SendState::Unanswered,
                sends: self.sends.unwrap_or(1),
                fence_until: timestamp_from_seconds(fence_until)?,
                reads_without_effect: 0,
                awaits_fence: false,
            },
            lease_id: LeaseId(lease_id),
            may_still_arrive: self.may_still_arrive.unwrap_or(false),
            busy_retries: self.busy_retries.unwrap_or(0),
            waited: Duration::try_from_secs_f64(self.waited.unwrap_or(0.0)).unwrap_or_default(),
        }))
    }
}

/// The kinds of changes that the gateway sender dequeues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueFilter {
    /// Every change in the queue.
    All,
    /// Every change except creations: the gateway has just refused one for its quota.
    ExceptCreations,
}

impl Store {
    /// Counts the changes queued at a gateway.
    pub async fn count_queued_changes(&self, gateway: &NatGatewayId) -> Result<i64, Error> {
        let count = sqlx::query_scalar!(
            r#"SELECT count(*) AS "count!" FROM operation WHERE gateway_id = $1 AND queued"#,
            gateway.as_str()
        );
        Ok(count.fetch_one(&self.pool).await?)
    }

    /// Marks the next change as sent and returns it: urgent removals first, then the namespace that
    /// was served longest ago, then the oldest change. The sender waits for the answer for `call`,
    /// and the lock holds at least that long; after `fence` the send is no longer expected to take
    /// effect. Fails if the gateway lock has expired or passed to another process.
    pub async fn dequeue_change(
        &self,
        lock: &GatewayLock,
        filter: QueueFilter,
        call: Duration,
        fence: Duration,
    ) -> Result<Option<DequeuedChange>, Error> {
        let row = sqlx::query_file!(
            "src/queries/dequeue_change.sql",
            lock.gateway_id.as_str(),
            lock.owner,
            lock.epoch,
            call.as_secs_f64(),
            fence.as_secs_f64(),
            filter == QueueFilter::All,
            WORKER_LOCK.max(call).as_secs_f64(),
        )
        .fetch_one(&self.pool)
        .await?;
        if row.lock_held == 0 {
            return Err(Error::GatewayLockLost);
        }
        SentColumns {
            operation_id: row.operation_id,
            lease_id: row.lease_id,
            resource: row.resource,
            change: row.change,
            sends: row.sends,
            fence_until: row.fence_until,
            may_still_arrive: row.may_still_arrive,
            busy_retries: row.busy_retries,
            waited: row.waited,
        }
        .into_change()
    }

    /// Settles a change that was refused because the gateway was busy and queues it anew, as
    /// another operation in its old place, without waking the lease. A change with an earlier send
    /// that may still take effect stays the same operation.
    pub async fn requeue_busy_change(
        &self,
        lock: &GatewayLock,
        dequeued: &DequeuedChange,
        error: &str,
    ) -> Result<(), Error> {
        let row = sqlx::query_file!(
            "src/queries/requeue_busy_change.sql",
            lock.gateway_id.as_str(),
            lock.owner,
            lock.epoch,
            dequeued.operation.id,
            error,
            dequeued.may_still_arrive,
        )
        .fetch_one(&self.pool)
        .await?;
        if row.lock_held == 0 { Err(Error::GatewayLockLost) } else { Ok(()) }
    }

    /// Makes removals of what other leases still have at this private address of the VPC urgent,
    /// because another pod has the address now: forward entries, and bindings of EIPs. Wakes those
    /// leases if they have not asked for the removal, and ends their handover. Returns the gateways
    /// whose queues changed.
    pub async fn expedite_removals(
        &self,
        waiting: LeaseId,
        vpc: &VpcId,
        private_ip: Ipv4Addr,
    ) -> Result<Vec<NatGatewayId>, Error> {
        let gateways = sqlx::query_file_scalar!(
            "src/queries/expedite_removals.sql",
            waiting.0,
            private_ip.to_string(),
            vpc.as_str(),
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(gateways.into_iter().flatten().map(NatGatewayId::new).collect())
    }
}

impl Claimed<'_> {
    /// Queues changes at a gateway, each as a new operation, and returns how many. Changes of a
    /// resource with an unresolved operation are skipped.
    pub async fn queue_changes(
        &self,
        gateway: &NatGatewayId,
        requests: &[ChangeRequest],
    ) -> Result<usize, Error> {
        let resources: Vec<_> = requests.iter().map(|request| request.resource.clone()).collect();
        let changes: Result<Vec<_>, _> =
            requests.iter().map(|request| serde_json::to_value(&request.change)).collect();
        let row = sqlx::query_file!(
            "src/queries/queue_changes.sql",
            self.claim.lease_id.0,
            self.claim.owner,
            self.claim.epoch,
            gateway.as_str(),
            &resources,
            &changes.map_err(Error::corrupt_value)?,
        )
        .fetch_one(&self.store.pool)
        .await?;
        ensure_claim_held(row.claim_held.unsigned_abs())?;
        Ok(usize::try_from(row.queued).unwrap_or(0))
    }

    /// Cancels a queued operation; no effect if it has been sent. An operation with an earlier
    /// unanswered send stays unresolved until the end of that send is known.
    pub async fn cancel_queued_change(&self, operation: Uuid) -> Result<(), Error> {
        update_operation_under_claim!(
            self,
            operation,
            "UPDATE operation o SET queued = false,
               outcome = CASE WHEN o.sends = 0 THEN 'void' END, settled_at = CASE WHEN o.sends = 0 THEN now() END
             FROM l WHERE o.operation_id = $4 AND o.queued AND l.lease_id = o.lease_id",
        )
    }
}
