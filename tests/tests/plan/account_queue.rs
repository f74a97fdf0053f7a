//! The account's queues, as the store keeps them: changes of EIPs, which any worker of their cluster
//! sends. Call slots are the store's own test; here a change may wait for one at any time.

use crate::gateway_queue::DequeuedChange;
use crate::operations::OperationRow;
use crate::store::{Claim, Store, StoreError};
use jiff::Timestamp;
use simulator::dice::Dice;
use waygate_core::change::Change;
use waygate_core::operation::Operation;
use waygate_core::rules::timing::{CALL_TIMEOUT, FENCE, LOOK_AGE};

impl Store {
    pub(crate) fn queue_eip_change(
        &mut self,
        now: Timestamp,
        claim: &Claim,
        resource: &str,
        change: &Change,
    ) -> Result<bool, StoreError> {
        if self.held_row(claim)?.due <= now {
            return Err(StoreError::ClaimLost);
        }
        self.held_row(claim)?.looked_at = now;
        let asked = self.insert_operation(now, claim.lease_id, resource, change);
        Ok(asked.map(|asked| asked.queued = true).is_some())
    }

    /// Marks a change of the cluster as sent: urgent ones first, then one chosen by the dice. One that
    /// needs a look wakes its lease instead.
    pub(crate) fn dequeue_account_change(
        &mut self,
        now: Timestamp,
        cluster: usize,
        dice: &mut Dice,
    ) -> Option<DequeuedChange> {
        let of_cluster = |asked: &&OperationRow| {
            asked.queued
                && asked.gateway.is_none()
                && self.rows.get(&asked.lease).is_some_and(|row| row.cluster == cluster)
        };
        let waiting: Vec<_> = self
            .operations
            .iter()
            .filter(of_cluster)
            .map(|asked| (asked.urgent, asked.operation.id))
            .collect();
        let urgent = waiting.iter().any(|(urgent, _)| *urgent);
        let next: Vec<_> =
            waiting.into_iter().filter(|(is_urgent, _)| *is_urgent == urgent).collect();
        let index = usize::try_from(dice.roll()).unwrap_or(0).checked_rem(next.len())?;
        let asked = self.operations.iter_mut().find(|asked| asked.operation.id == next[index].1)?;
        let row = self.rows.get_mut(&asked.lease)?;
        if asked.operation.change.gives() && row.looked_at + LOOK_AGE < now {
            if row.look_asked_at + LOOK_AGE / 2 < now {
                row.look_asked_at = now;
                row.wake_lease_row(now);
            }
            return None;
        }
        let may_still_arrive = asked.sends > 0 && asked.operation.fence_until >= now;
        (asked.queued, asked.sends, asked.answer_by) = (false, asked.sends + 1, now + CALL_TIMEOUT);
        asked.operation.reads_without_effect = 0;
        asked.operation.fence_until = asked.operation.fence_until.max(now + FENCE);
        if row.owner.is_none() {
            row.due = row.due.min(now + CALL_TIMEOUT);
        } else {
            row.wake += 1;
        }
        Some(DequeuedChange {
            operation: Operation { sends: asked.sends, ..asked.operation.clone() },
            lease: asked.lease,
            may_still_arrive,
            busy_retries: 0,
        })
    }

    /// Puts a change back that was throttled, or not written: it counts as not sent.
    /// Not if there is a later send of it.
    pub(crate) fn requeue_unsent(&mut self, now: Timestamp, operation: &Operation) {
        let sent = |asked: &&mut OperationRow| {
            asked.operation.id == operation.id && !asked.queued && asked.sends == operation.sends
        };
        if let Some(asked) = self.operations.iter_mut().find(sent) {
            (asked.queued, asked.sends, asked.answer_by) = (true, asked.sends - 1, now);
        }
    }
}
