//! The end of operations: facts, recorded once, by the process that has the answer.

use crate::batches::repeat_batches;
use crate::claimed::Claim;
use crate::error::Error;
use crate::lease::wake::wake_leases;
use crate::store::Store;
use std::time::Duration;
use uuid::Uuid;
use waygate_core::change::{Answer, Change};
use waygate_core::ids::{AllocationId, ForwardEntryId, LeaseId};
use waygate_core::operation::{Operation, Outcome, Rejection};
use waygate_core::rules::response::LeaseEffect;

/// The process that has the answer to an operation.
#[derive(Clone, Copy, Debug)]
pub enum SettledBy<'a> {
    /// The lease's claim holder, which goes on with the lease and is not woken.
    ClaimHolder(&'a Claim),
    /// The sender, by the cloud's answer; the lease is due after this time.
    Sender(Duration),
}

/// The end of an operation and its effect on the lease, recorded in one statement.
#[derive(Clone, Copy, Debug)]
pub struct Settlement<'a> {
    outcome: Outcome,
    answer: Option<&'a Answer>,
    error: Option<&'a str>,
    effect: LeaseEffect,
}

impl<'a> Settlement<'a> {
    /// The cloud answered that the change succeeded. A new EIP or entry in the answer becomes the
    /// lease's.
    pub fn from_success(answer: &'a Answer) -> Self {
        Self::from_read(Outcome::Done, Some(answer))
    }

    /// A read shows the outcome; `answer` is what the cloud would have answered.
    pub fn from_read(outcome: Outcome, answer: Option<&'a Answer>) -> Self {
        Self { outcome, answer, error: None, effect: LeaseEffect::None }
    }

    /// The cloud refused the change, and no other send of it may still take effect.
    pub fn from_refusal(error: &'a str) -> Self {
        Self { error: Some(error), ..Self::from_read(Outcome::Refused, None) }
    }

    /// What was asked for is so already, or the resource to remove does not exist: the change is
    /// done, and the lease has lost what `effect` says.
    pub fn from_absence(error: &'a str, effect: LeaseEffect) -> Self {
        Self { error: Some(error), effect, ..Self::from_read(Outcome::Done, None) }
    }

    /// The fence has passed and reads show no effect, or the change was cancelled unsent.
    pub fn without_effect() -> Self {
        Self::from_read(Outcome::Void, None)
    }

    /// The cloud answered with an error, interpreted by [`waygate_core::rules::response`].
    pub fn from_failure(outcome: Outcome, effect: LeaseEffect, error: &'a str) -> Self {
        match outcome {
            Outcome::Done => Self::from_absence(error, effect),
            Outcome::Refused => Self::from_refusal(error),
            Outcome::Void => Self { error: Some(error), ..Self::without_effect() },
        }
    }
}

impl SettledBy<'_> {
    /// Owner and epoch of the claim that need not be woken, and the time until any other lease is
    /// due.
    fn claim_not_woken(self) -> (Uuid, i64, Duration) {
        match self {
            Self::ClaimHolder(claim) => (claim.owner, claim.epoch, Duration::ZERO),
            // No process has this ID, so the lease is woken in any case.
            Self::Sender(due_after) => (Uuid::nil(), 0, due_after),
        }
    }
}

/// Writes of a finished change to its ports.
#[derive(Default)]
struct EntryWrites<'a> {
    /// The new entry's ID, for the ports of this range start and protocol.
    created: Option<&'a str>,
    range_start: Option<i32>,
    protocol: Option<i16>,
    /// The entry whose deletion the cloud has accepted.
    deleted: Option<&'a str>,
}

impl<'a> EntryWrites<'a> {
    fn from_change(change: &'a Change, outcome: Outcome, answer: Option<&'a Answer>) -> Self {
        match change {
            Change::CreateForwardEntry(forward) if outcome == Outcome::Done => Self {
                created: answer
                    .and_then(|answer| answer.entry_id.as_ref())
                    .map(ForwardEntryId::as_str),
                range_start: Some(i32::from(forward.external_port)),
                protocol: Some(forward.protocol.ip_protocol_number()),
                deleted: None,
            },
            Change::DeleteForwardEntry { entry_id, .. } if outcome == Outcome::Done => {
                Self { deleted: Some(entry_id.as_str()), ..Self::default() }
            }
            _ => Self::default(),
        }
    }
}

impl Store {
    /// Records the end of an operation: a fact, so written without a claim, and once. The answer's
    /// content goes onto the lease in the same statement. The lease is woken unless its claim
    /// holder settles.
    pub async fn settle_operation(
        &self,
        by: SettledBy<'_>,
        operation: &Operation,
        settlement: Settlement<'_>,
    ) -> Result<(), Error> {
        let Settlement { outcome, answer, error, effect } = settlement;
        let (owner, epoch, due_after) = by.claim_not_woken();
        let eip = answer.and_then(|answer| answer.allocation_id.as_ref()).map(AllocationId::as_str);
        let ip = answer.and_then(|answer| answer.ip_address).map(|ip| ip.to_string());
        let entry = EntryWrites::from_change(&operation.change, outcome, answer);
        let answer_json =
            answer.map(serde_json::to_value).transpose().map_err(Error::corrupt_value)?;
        sqlx::query_file!(
            "src/queries/settle_operation.sql",
            operation.id,
            outcome.as_str(),
            answer_json,
            error,
            eip,
            ip,
            entry.created,
            entry.range_start,
            entry.protocol,
            entry.deleted,
            effect == LeaseEffect::EipGone,
            owner,
            epoch,
            due_after.as_secs_f64(),
            matches!(by, SettledBy::Sender(_)),
            operation.sends,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Records that no answer to the last send will come, or none that settles it, and wakes the
    /// lease.
    pub async fn mark_unanswered(&self, operation: Uuid) -> Result<(), Error> {
        wake_leases!(
            after = "WITH o AS (UPDATE operation SET answer_by = now() WHERE operation_id = $1 AND outcome IS NULL RETURNING lease_id) ",
            "lease_id IN (SELECT lease_id FROM o)",
            operation,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Records that a send was refused while an earlier one of the same operation may still take
    /// effect: the operation is not sent again and awaits its fence.
    pub async fn await_fence(&self, operation: Uuid) -> Result<(), Error> {
        let update = sqlx::query!(
            "UPDATE operation SET awaits_fence = true WHERE operation_id = $1 AND outcome IS NULL",
            operation
        );
        update.execute(&self.pool).await?;
        Ok(())
    }

    /// Records for the lease's next claim holder why a queued change was refused. Settling the
    /// operation wakes the lease; this does not.
    pub async fn record_rejection(
        &self,
        lease: LeaseId,
        rejection: &Rejection,
    ) -> Result<(), Error> {
        let rejection_json = serde_json::to_value(rejection).map_err(Error::corrupt_value)?;
        sqlx::query!(
            "UPDATE lease SET rejection = $2 WHERE lease_id = $1",
            lease.0,
            rejection_json
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Deletes operations settled longer ago than `age`, a thousand at a time: a history for
    /// operators, not read by the program.
    pub async fn prune_operations(&self, age: Duration) -> Result<u64, Error> {
        let pool = &self.pool;
        repeat_batches(|| {
            sqlx::query!(
                "DELETE FROM operation WHERE operation_id = ANY(ARRAY(
                   SELECT operation_id FROM operation WHERE settled_at < now() - make_interval(secs => $1)
                   ORDER BY settled_at LIMIT 1000 FOR UPDATE SKIP LOCKED))",
                age.as_secs_f64()
            )
            .execute(pool)
        })
        .await
    }
}
