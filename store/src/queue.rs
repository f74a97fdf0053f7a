//! The queues of the gateways' lanes: what waits there are unresolved operations that were not sent yet, or must be sent again.
//!
//! ```text
//! queue ─▶ queued ─ next_in_lane ─▶ sent ─ settle ─▶ (settled)
//!            │ ▲                     │ └─ again ─▶ (settled, and queued anew)
//!            │ └────── requeue ──────┴─ lost ─▶ unanswered
//!            └ unqueue ─▶ void; unanswered where it was sent before
//! ```
//!
//! What is queued and taken back is a lease's decision, written under its claim; what is sent is the lane's, written under the lane. Of a
//! taking back and a sending at the same time one goes through.

use crate::jobs::fenced;
use crate::lanes::LIFE;
use crate::leases::moment;
use crate::{Claim, Error, Lane, Store};
use std::net::Ipv4Addr;
use std::time::Duration;
use uuid::Uuid;
use waygate_core::ids::{LeaseId, NatGatewayId};
use waygate_core::operation::{Ask, Operation, Refused, Sending};

/// What a lane sends next, marked as sent.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The operation.
    pub operation: Operation,
    /// Its lease.
    pub lease_id: LeaseId,
    /// An earlier send of it was not answered and may still take effect: a refusal of this one does not end it.
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
    /// Queues changes at a gateway, each as a new operation; says how many. Those of things that another operation changes already are left.
    pub async fn queue(&self, claim: &Claim, gateway: &NatGatewayId, asks: &[Ask]) -> Result<usize, Error> {
        let resources: Vec<_> = asks.iter().map(|ask| ask.resource.clone()).collect();
        let changes: Result<Vec<_>, _> = asks.iter().map(|ask| serde_json::to_value(&ask.change)).collect();
        let row = sqlx::query!(
            r#"WITH l AS MATERIALIZED (
               SELECT lease_id, cluster_id, namespace FROM lease WHERE lease_id = $1 AND owner = $2 AND epoch = $3 AND due_at > now() FOR UPDATE),
             g AS (INSERT INTO lane (gateway_id) SELECT $4 FROM l ON CONFLICT DO NOTHING),
             q AS (
               INSERT INTO operation (lease_id, resource, change, owner, epoch, sends, fence_until, lane, cluster_id, namespace, queued)
               SELECT l.lease_id, a.resource, a.change, $2, $3, 0, now(), $4, l.cluster_id, l.namespace, true
               FROM l, unnest($5::text[], $6::jsonb[]) a (resource, change)
               ON CONFLICT (resource) WHERE outcome IS NULL DO NOTHING RETURNING operation_id)
             SELECT (SELECT count(*) FROM l) AS "held!", (SELECT count(*) FROM q) AS "queued!""#,
            claim.lease_id.0,
            claim.owner,
            claim.epoch,
            gateway.as_str(),
            &resources,
            &changes.map_err(Error::corrupt)?,
        )
        .fetch_one(&self.pool)
        .await?;
        fenced(row.held.unsigned_abs())?;
        Ok(usize::try_from(row.queued).unwrap_or(0))
    }

    /// Takes an operation back before it is sent; nothing happens if it has been. Where an earlier send went unanswered, it waits for that.
    pub async fn unqueue(&self, claim: &Claim, operation: Uuid) -> Result<(), Error> {
        let held = sqlx::query_scalar!(
            r#"WITH l AS MATERIALIZED (SELECT lease_id FROM lease WHERE lease_id = $1 AND owner = $2 AND epoch = $3 FOR UPDATE),
             u AS (
               UPDATE operation o SET queued = false,
                 outcome = CASE WHEN o.sends = 0 THEN 'void' END, settled_at = CASE WHEN o.sends = 0 THEN now() END
               FROM l WHERE o.operation_id = $4 AND o.queued AND l.lease_id = o.lease_id)
             SELECT count(*) AS "held!" FROM l"#,
            claim.lease_id.0,
            claim.owner,
            claim.epoch,
            operation,
        )
        .fetch_one(&self.pool)
        .await?;
        fenced(held.unsigned_abs())
    }

    /// Queues an operation once more whose answer was lost: the same operation, in its old place. Nothing happens if its end is known by now.
    pub async fn requeue(&self, claim: &Claim, operation: Uuid) -> Result<(), Error> {
        let held = sqlx::query_scalar!(
            r#"WITH l AS MATERIALIZED (
               SELECT lease_id, cluster_id, namespace FROM lease WHERE lease_id = $1 AND owner = $2 AND epoch = $3 FOR UPDATE),
             u AS (
               UPDATE operation o SET queued = true, cluster_id = l.cluster_id, namespace = l.namespace,
                 lane = coalesce(o.lane, (SELECT p.gateway_id FROM port p WHERE p.lease_id = l.lease_id LIMIT 1))
               FROM l WHERE o.operation_id = $4 AND l.lease_id = o.lease_id AND o.outcome IS NULL AND o.answer_by <= now())
             SELECT count(*) AS "held!" FROM l"#,
            claim.lease_id.0,
            claim.owner,
            claim.epoch,
            operation,
        )
        .fetch_one(&self.pool)
        .await?;
        fenced(held.unsigned_abs())
    }

    /// How many changes wait at a gateway.
    pub async fn waiting_in_lane(&self, gateway: &NatGatewayId) -> Result<i64, Error> {
        let count = sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM operation WHERE lane = $1 AND queued"#, gateway.as_str());
        Ok(count.fetch_one(&self.pool).await?)
    }

    /// Marks what comes next as sent: urgent deletions, then the namespace whose last turn is longest ago, then the oldest. `call` is how long
    /// its answer is waited for, and the lane holds at least that long; after `fence` nothing of it is expected to take effect any more.
    pub async fn next_in_lane(&self, lane: &Lane, wanted: Wanted, call: Duration, fence: Duration) -> Result<Option<Taken>, Error> {
        let row = sqlx::query!(
            r#"WITH l AS MATERIALIZED (
               UPDATE lane SET until = now() + make_interval(secs => $7)
               WHERE gateway_id = $1 AND owner = $2 AND epoch = $3 AND until > now() RETURNING gateway_id),
             n AS MATERIALIZED (
               SELECT o.operation_id, o.cluster_id, o.namespace, o.sends > 0 AND o.fence_until >= now() AS may_still_arrive
               FROM operation o LEFT JOIN turn t ON t.gateway_id = o.lane AND t.cluster_id = o.cluster_id AND t.namespace = o.namespace
               WHERE o.queued AND o.lane = (SELECT gateway_id FROM l) AND ($6 OR o.change ->> 'action' <> 'CreateForwardEntry')
               ORDER BY o.urgent DESC, t.taken_at NULLS FIRST, o.intended_at, o.operation_id LIMIT 1 FOR UPDATE OF o SKIP LOCKED),
             turned AS (
               INSERT INTO turn (gateway_id, cluster_id, namespace, taken_at) SELECT $1, cluster_id, namespace, clock_timestamp() FROM n
               ON CONFLICT (gateway_id, cluster_id, namespace) DO UPDATE SET taken_at = excluded.taken_at),
             s AS (
               UPDATE operation o SET queued = false, sends = o.sends + 1, misses = 0, answer_by = now() + make_interval(secs => $4),
                 fence_until = greatest(o.fence_until, now() + make_interval(secs => $5))
               FROM n WHERE o.operation_id = n.operation_id
               RETURNING o.operation_id, o.lease_id, o.resource, o.change, o.fence_until, o.agains, n.may_still_arrive, now() - o.intended_at AS waited)
             SELECT (SELECT count(*) FROM l) AS "held!", s.operation_id AS "operation_id?", s.lease_id AS "lease_id?", s.resource AS "resource?",
               s.change AS "change?", s.agains AS "agains?", s.may_still_arrive AS "may_still_arrive?", extract(epoch FROM s.fence_until)::float8 AS "fence_until?",
               extract(epoch FROM s.waited)::float8 AS "waited?"
             FROM (SELECT) one LEFT JOIN s ON true"#,
            lane.gateway_id.as_str(),
            lane.owner,
            lane.epoch,
            call.as_secs_f64(),
            fence.as_secs_f64(),
            wanted == Wanted::Anything,
            LIFE.max(call).as_secs_f64(),
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

    /// The gateway was busy: what was refused for that is queued anew, as another operation in its old place, and its lease hears nothing of it.
    /// What may still arrive stays the same operation.
    pub async fn again(&self, lane: &Lane, taken: &Taken, error: &str) -> Result<(), Error> {
        let row = sqlx::query!(
            r#"WITH l AS MATERIALIZED (
               SELECT gateway_id FROM lane WHERE gateway_id = $1 AND owner = $2 AND epoch = $3 AND until > now() FOR UPDATE),
             s AS (
               UPDATE operation o SET error = $5, answer_by = now(), queued = $6, agains = agains + 1,
                 outcome = CASE WHEN $6 THEN NULL ELSE 'refused' END, settled_at = CASE WHEN $6 THEN NULL ELSE now() END
               FROM l WHERE o.operation_id = $4 AND o.outcome IS NULL AND NOT o.queued RETURNING o.*),
             q AS (
               INSERT INTO operation (lease_id, resource, change, owner, epoch, sends, fence_until, intended_at, lane, cluster_id, namespace, queued, urgent, agains)
               SELECT lease_id, resource, change, owner, epoch, 0, now(), intended_at, lane, cluster_id, namespace, true, urgent, agains
               FROM s WHERE outcome IS NOT NULL)
             SELECT count(*) AS "held!" FROM l"#,
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

    /// No answer will come, or none that ends it: a fact, told to the lease at once.
    pub async fn lost(&self, operation: Uuid) -> Result<(), Error> {
        sqlx::query!(
            "WITH o AS (UPDATE operation SET answer_by = now() WHERE operation_id = $1 AND outcome IS NULL RETURNING lease_id)
             UPDATE lease SET wake = wake + 1, due_at = CASE WHEN owner IS NULL THEN now() ELSE due_at END FROM o WHERE lease.lease_id = o.lease_id",
            operation,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// A send was refused for sure, and an earlier one of the same operation may still take effect: it is not sent again, but waited out.
    pub async fn wait_out(&self, operation: Uuid) -> Result<(), Error> {
        let waits = sqlx::query!("UPDATE operation SET waits_out = true WHERE operation_id = $1 AND outcome IS NULL", operation);
        waits.execute(&self.pool).await?;
        Ok(())
    }

    /// Leaves word for the lease's next claimant why its change was not carried out. It is not woken: the end of the operation does that.
    pub async fn leave_word(&self, lease: LeaseId, refused: &Refused) -> Result<(), Error> {
        let word = serde_json::to_value(refused).map_err(Error::corrupt)?;
        sqlx::query!("UPDATE lease SET refused = $2 WHERE lease_id = $1", lease.0, word).execute(&self.pool).await?;
        Ok(())
    }

    /// The gateway takes no more entries: leases that wait to make some there look for themselves.
    pub async fn wake_queue(&self, gateway: &NatGatewayId) -> Result<(), Error> {
        sqlx::query!(
            "UPDATE lease SET wake = wake + 1, due_at = CASE WHEN owner IS NULL THEN now() ELSE due_at END
             WHERE lease_id IN (SELECT lease_id FROM operation WHERE lane = $1 AND queued AND change ->> 'action' = 'CreateForwardEntry')",
            gateway.as_str(),
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// What these leases asked for has come to rest; those that wait for nothing else look.
    pub async fn wake_rested(&self, leases: &[LeaseId]) -> Result<(), Error> {
        let ids: Vec<_> = leases.iter().map(|lease| lease.0).collect();
        sqlx::query!(
            "UPDATE lease l SET wake = wake + 1, due_at = CASE WHEN owner IS NULL THEN now() ELSE due_at END
             WHERE lease_id = ANY($1) AND NOT EXISTS (SELECT FROM operation o WHERE o.lease_id = l.lease_id AND o.queued)",
            &ids,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Another pod has an address that other leases' entries still point to: what takes those away goes first, and holders that have not asked
    /// for it look for themselves; one that waits for a successor waits no longer. Gives the gateways concerned.
    pub async fn hurry(&self, waiting: LeaseId, private_ip: Ipv4Addr) -> Result<Vec<NatGatewayId>, Error> {
        let lanes = sqlx::query_scalar!(
            r#"WITH h AS MATERIALIZED (
               SELECT DISTINCT p.lease_id FROM (SELECT DISTINCT gateway_id FROM gateway_eip) g
               JOIN port p ON p.gateway_id = g.gateway_id AND p.private_ip = $2::text::inet WHERE p.lease_id <> $1),
             u AS (
               UPDATE operation o SET urgent = true FROM h
               WHERE o.lease_id = h.lease_id AND o.queued AND NOT o.urgent
                 AND o.change ->> 'action' IN ('DeleteForwardEntry', 'ModifyForwardEntry') RETURNING o.lane),
             w AS (
               UPDATE lease l SET wake = wake + 1, due_at = now(), parted_at = CASE WHEN parted_at IS NOT NULL THEN to_timestamp(0) END FROM h
               WHERE l.lease_id = h.lease_id AND l.owner IS NULL AND l.due_at > now() + interval '1 second'
                 AND NOT EXISTS (SELECT FROM operation o WHERE o.lease_id = l.lease_id AND o.outcome IS NULL))
             SELECT DISTINCT lane AS "lane!" FROM u"#,
            waiting.0,
            private_ip.to_string(),
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(lanes.into_iter().map(NatGatewayId::new).collect())
    }
}
