//! Operations without an answer: queued once more, or found to be without effect.

use crate::claimed::{Claimed, update_operation_under_claim, write_under_claim};
use crate::error::Error;
use uuid::Uuid;
use waygate_core::rules::timing::READS_WITHOUT_EFFECT_APART;

impl Claimed<'_> {
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

    /// Queues an operation with a lost answer once more: the same operation, in its old place. No
    /// effect if it is settled by now.
    pub async fn requeue_unanswered(&self, operation: Uuid) -> Result<(), Error> {
        update_operation_under_claim!(
            self,
            operation,
            "UPDATE operation o SET queued = true
             FROM l WHERE o.operation_id = $4 AND l.lease_id = o.lease_id AND o.outcome IS NULL AND o.answer_by <= now()",
        )
    }
}
