//! Operations: intended before the call, settled once, by whoever has the answer.

use crate::leases::moment;
use crate::{Claim, Error, Store};
use std::time::Duration;
use uuid::Uuid;
use waygate_core::change::{Answer, Change};
use waygate_core::ids::LeaseId;
use waygate_core::operation::{Operation, Outcome, Sending};

pub use waygate_core::rules::response::LeaseEffect as Effect;

/// Who brings an answer.
#[derive(Clone, Copy, Debug)]
pub enum Bringer<'a> {
    /// The lease's claimant, who goes on with it.
    Claimant(&'a Claim),
    /// A gateway's lane; the lease looks after this time.
    Lane(Duration),
}

impl Store {
    /// Commits the intent to change a resource, before the call. Refused when the claim's rest is shorter than `call`.
    /// [`Error::Taken`] by `operation_unresolved`: an earlier change of this resource has no known end yet.
    pub async fn intend(
        &self,
        claim: &Claim,
        resource: &str,
        change: &Change,
        call: Duration,
        fence: Duration,
    ) -> Result<Operation, Error> {
        let frozen = serde_json::to_value(change).map_err(Error::corrupt)?;
        let row = sqlx::query!(
            r#"WITH l AS MATERIALIZED (
               SELECT lease_id FROM lease
               WHERE lease_id = $1 AND owner = $2 AND epoch = $3 AND due_at > now() + make_interval(secs => $6) FOR UPDATE)
             INSERT INTO operation (lease_id, resource, change, owner, epoch, fence_until)
             SELECT lease_id, $4, $5, $2, $3, now() + make_interval(secs => $7) FROM l
             RETURNING operation_id, extract(epoch FROM fence_until)::float8 AS "fence_until!""#,
            claim.lease_id.0,
            claim.owner,
            claim.epoch,
            resource,
            frozen,
            call.as_secs_f64(),
            fence.as_secs_f64(),
        )
        .fetch_optional(&self.pool)
        .await?
        .ok_or(Error::ClaimLost)?;
        let (sending, fence_until) = (Sending::Sent, moment(row.fence_until)?);
        let (resource, change) = (resource.to_owned(), change.clone());
        Ok(Operation { id: row.operation_id, resource, change, sending, fence_until, misses: 0, waits_out: false })
    }

    /// Commits the intent to send an operation once more: the same operation, whoever sends it, with a later fence.
    pub async fn intend_again(&self, claim: &Claim, operation: Uuid, call: Duration, fence: Duration) -> Result<(), Error> {
        let done = sqlx::query!(
            "WITH l AS MATERIALIZED (
               SELECT lease_id FROM lease
               WHERE lease_id = $1 AND owner = $2 AND epoch = $3 AND due_at > now() + make_interval(secs => $5) FOR UPDATE)
             UPDATE operation o SET sends = sends + 1, misses = 0, fence_until = greatest(fence_until, now() + make_interval(secs => $6))
             FROM l WHERE o.operation_id = $4 AND o.outcome IS NULL AND l.lease_id = o.lease_id",
            claim.lease_id.0,
            claim.owner,
            claim.epoch,
            operation,
            call.as_secs_f64(),
            fence.as_secs_f64(),
        )
        .execute(&self.pool)
        .await?;
        crate::jobs::fenced(done.rows_affected())
    }

    /// A read after the fence showed no effect. The next one that counts is half a minute later: what made this one blind may last.
    pub async fn miss(&self, claim: &Claim, operation: Uuid) -> Result<(), Error> {
        let done = sqlx::query!(
            "WITH l AS MATERIALIZED (SELECT lease_id FROM lease WHERE lease_id = $1 AND owner = $2 AND epoch = $3 FOR UPDATE)
             UPDATE operation o SET misses = misses + 1, fence_until = greatest(fence_until, now() + interval '30 seconds') FROM l
             WHERE o.operation_id = $4 AND o.outcome IS NULL AND l.lease_id = o.lease_id",
            claim.lease_id.0,
            claim.owner,
            claim.epoch,
            operation,
        )
        .execute(&self.pool)
        .await?;
        crate::jobs::fenced(done.rows_affected())
    }

    /// Records how an operation ended: a fact, so not fenced, and written once. What the answer brought goes onto the lease in the same
    /// statement; whoever holds the lease now, if not the bringer, is woken.
    pub async fn settle(
        &self,
        by: Bringer<'_>,
        operation: &Operation,
        outcome: Outcome,
        answer: Option<&Answer>,
        error: Option<&str>,
        effect: Effect,
    ) -> Result<(), Error> {
        let done = outcome == Outcome::Done;
        let created = (done && matches!(operation.change, Change::CreateForwardEntry(_)))
            .then(|| answer.and_then(|answer| answer.entry_id.as_ref()))
            .flatten();
        let (eip, ip) = (answer.and_then(|a| a.allocation_id.as_ref()), answer.and_then(|a| a.ip_address).map(|ip| ip.to_string()));
        let new_port = if let Change::CreateForwardEntry(forward) = &operation.change { Some(forward) } else { None };
        let deleted = match &operation.change {
            Change::DeleteForwardEntry { entry_id, .. } if done => Some(entry_id.as_str()),
            _ => None,
        };
        let (owner, epoch, look) = match by {
            Bringer::Claimant(claim) => (claim.owner, claim.epoch, Duration::ZERO),
            // No process has this ID: the lease is somebody else's.
            Bringer::Lane(look) => (Uuid::nil(), 0, look),
        };
        let answer_json = answer.map(serde_json::to_value).transpose().map_err(Error::corrupt)?;
        sqlx::query!(
            "WITH o AS (
               UPDATE operation SET outcome = $2, answer = $3, error = $4, settled_at = now(), queued = false
               WHERE operation_id = $1 AND outcome IS NULL RETURNING lease_id),
             created AS (
               UPDATE port SET entry_id = $7, deleted = false FROM o
               WHERE port.lease_id = o.lease_id AND $7::text IS NOT NULL AND port.head = $8 AND port.proto = $9),
             former AS (
               INSERT INTO former_address (cluster_id, namespace, pod_name, controller, address)
               SELECT l.cluster_id, l.namespace, l.pod_name, l.controller, l.eip_address FROM lease l JOIN o USING (lease_id)
               WHERE $11 AND l.ours AND l.keeps AND l.phase = 'ending' AND l.ends_at <= now()
               ON CONFLICT (cluster_id, namespace, pod_name)
                 DO UPDATE SET controller = excluded.controller, address = excluded.address, released_at = now()),
             reclaimed AS (
               DELETE FROM former_address f USING lease l, o
               WHERE $5::text IS NOT NULL AND l.lease_id = o.lease_id
                 AND f.cluster_id = l.cluster_id AND f.namespace = l.namespace AND f.pod_name = l.pod_name),
             deleted AS (
               UPDATE port SET deleted = true FROM o WHERE port.lease_id = o.lease_id AND port.entry_id = $10)
             UPDATE lease SET
               allocation_id = CASE WHEN $11 THEN NULL ELSE coalesce(allocation_id, $5) END,
               eip_address   = CASE WHEN $11 THEN NULL ELSE coalesce(eip_address, $6::text::inet) END,
               ours          = CASE WHEN $11 THEN false ELSE ours OR (allocation_id IS NULL AND $5::text IS NOT NULL) END,
               wake          = wake + (owner IS DISTINCT FROM $12 OR epoch <> $13)::int,
               due_at        = CASE WHEN owner IS NULL THEN least(due_at, now() + make_interval(secs => $14)) ELSE due_at END,
               refusals      = CASE WHEN $2 = 'done' THEN 0 ELSE refusals END
             FROM o WHERE lease.lease_id = o.lease_id",
            operation.id,
            outcome.as_str(),
            answer_json,
            error,
            eip.map(waygate_core::ids::AllocationId::as_str),
            ip,
            created.map(waygate_core::ids::ForwardEntryId::as_str),
            new_port.map(|forward| i32::from(forward.external_port)),
            new_port.map(|forward| forward.protocol.number()),
            deleted,
            effect == Effect::EipGone,
            owner,
            epoch,
            look.as_secs_f64(),
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The unresolved operations of a lease, the oldest first.
    pub(crate) async fn unresolved(&self, lease: LeaseId) -> Result<Vec<Operation>, Error> {
        let rows = sqlx::query!(
            r#"SELECT operation_id, resource, change, misses, waits_out, queued, lane IS NOT NULL AND answer_by > now() AS "under_way!",
               extract(epoch FROM fence_until)::float8 AS "fence_until!"
             FROM operation WHERE lease_id = $1 AND outcome IS NULL ORDER BY intended_at, operation_id"#,
            lease.0,
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter()
            .map(|row| {
                Ok(Operation {
                    id: row.operation_id,
                    resource: row.resource,
                    change: serde_json::from_value(row.change).map_err(Error::corrupt)?,
                    sending: match (row.queued, row.under_way) {
                        (true, _) => Sending::Queued,
                        (false, true) => Sending::Sent,
                        // What a claimant sent is loaded by whoever claimed after it.
                        (false, false) => Sending::Unanswered,
                    },
                    fence_until: moment(row.fence_until)?,
                    misses: row.misses,
                    waits_out: row.waits_out,
                })
            })
            .collect()
    }

    /// Deletes operations settled longer ago than `age`: they are history, kept for those who ask what happened.
    pub async fn prune_operations(&self, age: Duration) -> Result<u64, Error> {
        let done = sqlx::query!("DELETE FROM operation WHERE settled_at < now() - make_interval(secs => $1)", age.as_secs_f64())
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected())
    }
}
