//! Operations that the claim holder sends itself: intended before the call, each with a fence after
//! which none of its sends takes effect.

use crate::claimed::{Claimed, write_under_claim};
use crate::columns::timestamp_from_seconds;
use crate::error::Error;
use std::time::Duration;
use uuid::Uuid;
use waygate_core::change::Change;
use waygate_core::operation::{Operation, SendState};
use waygate_core::rules::timing::READS_WITHOUT_EFFECT_APART;

impl Claimed<'_> {
    /// Commits the intent to change a resource, before the call. [`Error::ClaimLost`]: the claim
    /// ends earlier than `call` from now. [`Error::Conflict`] by `UnresolvedOperation`: an
    /// earlier change of this resource is unresolved.
    pub async fn intend_change(
        &self,
        resource: &str,
        change: &Change,
        call: Duration,
        fence: Duration,
    ) -> Result<Operation, Error> {
        let frozen = serde_json::to_value(change).map_err(Error::corrupt_value)?;
        let row = sqlx::query!(
            r#"WITH l AS MATERIALIZED (
               SELECT lease_id FROM lease
               WHERE lease_id = $1 AND owner = $2 AND epoch = $3 AND due_at > now() + make_interval(secs => $6) FOR UPDATE)
             INSERT INTO operation (lease_id, resource, change, owner, epoch, fence_until)
             SELECT lease_id, $4, $5, $2, $3, now() + make_interval(secs => $7) FROM l
             RETURNING operation_id, extract(epoch FROM fence_until)::float8 AS "fence_until!""#,
            self.claim.lease_id.0,
            self.claim.owner,
            self.claim.epoch,
            resource,
            frozen,
            call.as_secs_f64(),
            fence.as_secs_f64(),
        )
        .fetch_optional(&self.store.pool)
        .await?
        .ok_or(Error::ClaimLost)?;
        let fence_until = timestamp_from_seconds(row.fence_until)?;
        Ok(Operation {
            id: row.operation_id,
            resource: resource.to_owned(),
            change: change.clone(),
            send_state: SendState::Sent,
            fence_until,
            reads_without_effect: 0,
            awaits_fence: false,
        })
    }

    /// Commits the intent to send an operation once more. The operation stays the same, with the
    /// same client token, and its fence moves later.
    pub async fn intend_resend(
        &self,
        operation: Uuid,
        call: Duration,
        fence: Duration,
    ) -> Result<(), Error> {
        write_under_claim!(
            self,
            "WITH l AS MATERIALIZED (
               SELECT lease_id FROM lease
               WHERE lease_id = $1 AND owner = $2 AND epoch = $3 AND due_at > now() + make_interval(secs => $5) FOR UPDATE)
             UPDATE operation o SET sends = sends + 1, reads_without_effect = 0, fence_until = greatest(fence_until, now() + make_interval(secs => $6))
             FROM l WHERE o.operation_id = $4 AND o.outcome IS NULL AND l.lease_id = o.lease_id",
            operation,
            call.as_secs_f64(),
            fence.as_secs_f64(),
        )
    }

    /// Counts a read after the fence that showed no effect, and moves the fence: the next read that
    /// counts comes half a minute later, because one disturbance may hide the effect for a while.
    pub async fn count_read_without_effect(&self, operation: Uuid) -> Result<(), Error> {
        write_under_claim!(
            self,
            "WITH l AS MATERIALIZED (SELECT lease_id FROM lease WHERE lease_id = $1 AND owner = $2 AND epoch = $3 FOR UPDATE)
             UPDATE operation o SET reads_without_effect = reads_without_effect + 1, fence_until = greatest(fence_until, now() + make_interval(secs => $5)) FROM l
             WHERE o.operation_id = $4 AND o.outcome IS NULL AND l.lease_id = o.lease_id",
            operation,
            READS_WITHOUT_EFFECT_APART.as_secs_f64(),
        )
    }
}
