//! The queues of the gateways' lanes: what waits there are unresolved operations that were not sent
//! yet, or must be sent again.
//!
//! ```text
//! queue ─▶ queued ─ next_in_lane ─▶ sent ─ settle ─▶ (settled)
//!            │ ▲                     │ └─ again ─▶ (settled, and queued anew)
//!            │ └────── requeue ──────┴─ lost ─▶ unanswered
//!            └ unqueue ─▶ void; unanswered where it was sent before
//! ```
//!
//! What is queued and taken back is a lease's decision, written under its claim; what is sent is
//! the lane's, written under the lane. Of a taking back and a sending at the same time one goes
//! through.

use crate::claimed::{Claimed, fenced};
use crate::columns::moment;
use crate::error::Error;
use crate::operation::gateway_lock::Lane;
use crate::store::Store;
use std::net::Ipv4Addr;
use std::time::Duration;
use uuid::Uuid;
use waygate_core::ids::{LeaseId, NatGatewayId};
use waygate_core::operation::{Ask, Operation, Sending};
use waygate_core::rules::timing::GATEWAY_LOCK;

/// What a lane sends next, marked as sent.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The operation.
    pub operation: Operation,
    /// Its lease.
    pub lease_id: LeaseId,
    /// An earlier send of it was not answered and may still take effect: a refusal of this one does
    /// not end it.
    pub may_still_arrive: bool,
    /// How often the same change was refused before, because the gateway was busy.
    pub agains: i32,
    /// How long it waited.
    pub waited: Duration,
}

/// What a lane looks for in its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Whatever comes next.
    Anything,
    /// No new entries: the gateway has just refused one for its quota.
    NoCreation,
}

impl Store {
    /// How many changes wait at a gateway.
    pub async fn waiting_in_lane(&self, gateway: &NatGatewayId) -> Result<i64, Error> {
        let count = sqlx::query_scalar!(
            r#"SELECT count(*) AS "count!" FROM operation WHERE lane = $1 AND queued"#,
            gateway.as_str()
        );
        Ok(count.fetch_one(&self.pool).await?)
    }

    /// Marks what comes next as sent: urgent deletions, then the namespace whose last turn is
    /// longest ago, then the oldest. `call` is how long its answer is waited for, and the lane
    /// holds at least that long; after `fence` nothing of it is expected to take effect any more.
    pub async fn next_in_lane(
        &self,
        lane: &Lane,
        wanted: Wanted,
        call: Duration,
        fence: Duration,
    ) -> Result<Option<Taken>, Error> {
        let row = sqlx::query_file!(
            "src/queries/send_next_change.sql",
            lane.gateway_id.as_str(),
            lane.owner,
            lane.epoch,
            call.as_secs_f64(),
            fence.as_secs_f64(),
            wanted == Wanted::Anything,
            GATEWAY_LOCK.max(call).as_secs_f64(),
        )
        .fetch_one(&self.pool)
        .await?;
        if row.held == 0 {
            return Err(Error::LaneLost);
        }
        let (Some(id), Some(lease_id), Some(resource), Some(change), Some(fence_until)) =
            (row.operation_id, row.lease_id, row.resource, row.change, row.fence_until)
        else {
            return Ok(None);
        };
        Ok(Some(Taken {
            operation: Operation {
                id,
                resource,
                change: serde_json::from_value(change).map_err(Error::corrupt)?,
                sending: Sending::Sent,
                fence_until: moment(fence_until)?,
                misses: 0,
                waits_out: false,
            },
            lease_id: LeaseId(lease_id),
            may_still_arrive: row.may_still_arrive.unwrap_or(false),
            agains: row.agains.unwrap_or(0),
            waited: Duration::try_from_secs_f64(row.waited.unwrap_or(0.0)).unwrap_or_default(),
        }))
    }

    /// The gateway was busy: what was refused for that is queued anew, as another operation in its
    /// old place, and its lease hears nothing of it. What may still arrive stays the same
    /// operation.
    pub async fn again(&self, lane: &Lane, taken: &Taken, error: &str) -> Result<(), Error> {
        let row = sqlx::query_file!(
            "src/queries/requeue_busy_change.sql",
            lane.gateway_id.as_str(),
            lane.owner,
            lane.epoch,
            taken.operation.id,
            error,
            taken.may_still_arrive,
        )
        .fetch_one(&self.pool)
        .await?;
        if row.held == 0 { Err(Error::LaneLost) } else { Ok(()) }
    }

    /// Another pod has an address that other leases' entries still point to: what takes those away
    /// goes first, and holders that have not asked for it look for themselves; one that waits for a
    /// successor waits no longer. Gives the gateways concerned.
    pub async fn hurry(
        &self,
        waiting: LeaseId,
        private_ip: Ipv4Addr,
    ) -> Result<Vec<NatGatewayId>, Error> {
        let lanes = sqlx::query_file_scalar!(
            "src/queries/expedite_removals.sql",
            waiting.0,
            private_ip.to_string(),
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(lanes.into_iter().map(NatGatewayId::new).collect())
    }
}

impl Claimed<'_> {
    /// Queues changes at a gateway, each as a new operation; says how many. Those of things that
    /// another operation changes already are left.
    pub async fn queue(&self, gateway: &NatGatewayId, asks: &[Ask]) -> Result<usize, Error> {
        let resources: Vec<_> = asks.iter().map(|ask| ask.resource.clone()).collect();
        let changes: Result<Vec<_>, _> =
            asks.iter().map(|ask| serde_json::to_value(&ask.change)).collect();
        let row = sqlx::query_file!(
            "src/queries/queue_changes.sql",
            self.claim.lease_id.0,
            self.claim.owner,
            self.claim.epoch,
            gateway.as_str(),
            &resources,
            &changes.map_err(Error::corrupt)?,
        )
        .fetch_one(&self.store.pool)
        .await?;
        fenced(row.held.unsigned_abs())?;
        Ok(usize::try_from(row.queued).unwrap_or(0))
    }

    /// Takes an operation back before it is sent; nothing happens if it has been. Where an earlier
    /// send went unanswered, it waits for that.
    pub async fn unqueue(&self, operation: Uuid) -> Result<(), Error> {
        let held = sqlx::query_scalar!(
            r#"WITH l AS MATERIALIZED (SELECT lease_id FROM lease WHERE lease_id = $1 AND owner = $2 AND epoch = $3 FOR UPDATE),
             u AS (
               UPDATE operation o SET queued = false,
                 outcome = CASE WHEN o.sends = 0 THEN 'void' END, settled_at = CASE WHEN o.sends = 0 THEN now() END
               FROM l WHERE o.operation_id = $4 AND o.queued AND l.lease_id = o.lease_id)
             SELECT count(*) AS "held!" FROM l"#,
            self.claim.lease_id.0,
            self.claim.owner,
            self.claim.epoch,
            operation,
        )
        .fetch_one(&self.store.pool)
        .await?;
        fenced(held.unsigned_abs())
    }

    /// Queues an operation once more whose answer was lost: the same operation, in its old place.
    /// Nothing happens if its end is known by now.
    pub async fn requeue(&self, operation: Uuid) -> Result<(), Error> {
        let held = sqlx::query_scalar!(
            r#"WITH l AS MATERIALIZED (
               SELECT lease_id, cluster_id, namespace FROM lease WHERE lease_id = $1 AND owner = $2 AND epoch = $3 FOR UPDATE),
             u AS (
               UPDATE operation o SET queued = true, cluster_id = l.cluster_id, namespace = l.namespace,
                 lane = coalesce(o.lane, (SELECT p.gateway_id FROM port p WHERE p.lease_id = l.lease_id LIMIT 1))
               FROM l WHERE o.operation_id = $4 AND l.lease_id = o.lease_id AND o.outcome IS NULL AND o.answer_by <= now())
             SELECT count(*) AS "held!" FROM l"#,
            self.claim.lease_id.0,
            self.claim.owner,
            self.claim.epoch,
            operation,
        )
        .fetch_one(&self.store.pool)
        .await?;
        fenced(held.unsigned_abs())
    }
}
