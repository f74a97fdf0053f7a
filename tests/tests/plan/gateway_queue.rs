//! Gateway locks and queues, as the store keeps them: the changes that wait at a gateway, and the
//! process that sends them.

use crate::operations::OperationRow;
use crate::store::{Claim, Done, Row, Store, StoreError};
use jiff::{SignedDuration, Timestamp};
use simulator::dice::Dice;
use std::net::Ipv4Addr;
use uuid::Uuid;
use waygate_core::change::Change;
use waygate_core::ids::{LeaseId, NatGatewayId};
use waygate_core::operation::{ChangeRequest, Operation, Rejection};
use waygate_core::request::Kind;
use waygate_core::rules::timing::{CALL_TIMEOUT, FENCE, WORKER_LOCK};

/// A gateway lock that a process holds for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GatewayLock {
    pub gateway: NatGatewayId,
    owner: Uuid,
    epoch: u64,
}

/// The lock's row: owner, epoch and expiry.
#[derive(Clone, Debug)]
pub(crate) struct GatewayLockRow {
    owner: Option<Uuid>,
    epoch: u64,
    pub until: Timestamp,
}

/// The change that a gateway sender sends next.
#[derive(Clone, Debug)]
pub(crate) struct DequeuedChange {
    pub operation: Operation,
    pub lease: LeaseId,
    /// An earlier send of it was not answered and may still take effect.
    pub may_still_arrive: bool,
    pub busy_retries: i32,
}

impl Store {
    pub(crate) fn queue_changes(
        &mut self,
        now: Timestamp,
        claim: &Claim,
        gateway: &NatGatewayId,
        requests: &[ChangeRequest],
    ) -> Result<usize, StoreError> {
        if self.held_row(claim)?.due <= now {
            return Err(StoreError::ClaimLost);
        }
        let mut queued = 0;
        for request in requests {
            if let Some(asked) =
                self.insert_operation(now, claim.lease_id, &request.resource, &request.change)
            {
                (asked.gateway, asked.queued) = (Some(gateway.clone()), true);
                queued += 1;
            }
        }
        Ok(queued)
    }

    pub(crate) fn cancel_queued_change(&mut self, claim: &Claim, id: Uuid) -> Done {
        let Some(asked) = self.find_operation(claim, id)?.filter(|asked| asked.queued) else {
            return Ok(());
        };
        asked.queued = false;
        if asked.sends == 0 {
            self.operations.retain(|asked| asked.operation.id != id);
        }
        Ok(())
    }

    pub(crate) fn requeue_unanswered(&mut self, now: Timestamp, claim: &Claim, id: Uuid) -> Done {
        if let Some(asked) = self.find_operation(claim, id)?.filter(|asked| asked.answer_by <= now)
        {
            asked.queued = true;
        }
        Ok(())
    }

    /// Lists the changes that wait at a gateway.
    pub(crate) fn list_queued_changes<'a>(
        &'a self,
        gateway: &'a NatGatewayId,
    ) -> impl Iterator<Item = &'a OperationRow> {
        self.operations
            .iter()
            .filter(move |asked| asked.queued && asked.gateway.as_ref() == Some(gateway))
    }

    /// Earliest time at which a queue whose gateway lock is held may be served.
    pub(crate) fn queue_due(&self) -> Option<Timestamp> {
        let locks = self
            .gateway_locks
            .iter()
            .filter(|(gateway, _)| self.list_queued_changes(gateway).next().is_some());
        locks.map(|(_, lock)| lock.until).min()
    }

    /// Takes a free gateway lock; leases whose changes were under way at the gateway are woken.
    pub(crate) fn acquire_gateway_lock(
        &mut self,
        now: Timestamp,
        owner: Uuid,
        gateway: &NatGatewayId,
    ) -> Option<GatewayLock> {
        let row = self.gateway_locks.entry(gateway.clone()).or_insert(GatewayLockRow {
            owner: None,
            epoch: 0,
            until: now,
        });
        if row.until > now {
            return None;
        }
        row.epoch += 1;
        (row.owner, row.until) = (Some(owner), now + WORKER_LOCK);
        let lock = GatewayLock { gateway: gateway.clone(), owner, epoch: row.epoch };
        let under_way = self
            .operations
            .iter()
            .filter(|asked| !asked.queued && asked.gateway.as_ref() == Some(gateway));
        for lease in under_way.map(|asked| asked.lease).collect::<Vec<_>>() {
            self.wake_lease(now, lease);
        }
        Some(lock)
    }

    /// Renews the owner's gateway locks that have not expired.
    pub(crate) fn renew_gateway_locks(&mut self, now: Timestamp, owner: Uuid) {
        for row in self
            .gateway_locks
            .values_mut()
            .filter(|row| row.owner == Some(owner) && row.until > now)
        {
            row.until = now + WORKER_LOCK;
        }
    }

    fn held_lock_row(
        &mut self,
        now: Timestamp,
        lock: &GatewayLock,
    ) -> Result<&mut GatewayLockRow, StoreError> {
        let held = |row: &&mut GatewayLockRow| {
            row.owner == Some(lock.owner) && row.epoch == lock.epoch && row.until > now
        };
        self.gateway_locks.get_mut(&lock.gateway).filter(held).ok_or(StoreError::GatewayLockLost)
    }

    /// Marks a change as sent: urgent deletions first, then one chosen by the dice.
    pub(crate) fn dequeue_change(
        &mut self,
        now: Timestamp,
        lock: &GatewayLock,
        creations: bool,
        dice: &mut Dice,
    ) -> Result<Option<DequeuedChange>, StoreError> {
        let row = self.held_lock_row(now, lock)?;
        row.until = row.until.max(now + WORKER_LOCK);
        let may = |asked: &&OperationRow| {
            creations || !matches!(asked.operation.change, Change::CreateForwardEntry(_))
        };
        let waiting: Vec<_> = self
            .list_queued_changes(&lock.gateway)
            .filter(may)
            .map(|asked| (asked.urgent, asked.operation.id))
            .collect();
        let urgent = waiting.iter().any(|(urgent, _)| *urgent);
        let next: Vec<_> =
            waiting.into_iter().filter(|(is_urgent, _)| *is_urgent == urgent).collect();
        let Some(index) = usize::try_from(dice.roll()).unwrap_or(0).checked_rem(next.len()) else {
            return Ok(None);
        };
        let id = next[index].1;
        let Some(asked) = self.operations.iter_mut().find(|asked| asked.operation.id == id) else {
            return Ok(None);
        };
        let may_still_arrive = asked.sends > 0 && asked.operation.fence_until >= now;
        (asked.queued, asked.sends, asked.answer_by) = (false, asked.sends + 1, now + CALL_TIMEOUT);
        asked.operation.reads_without_effect = 0;
        asked.operation.fence_until = asked.operation.fence_until.max(now + FENCE);
        Ok(Some(DequeuedChange {
            operation: Operation { sends: asked.sends, ..asked.operation.clone() },
            lease: asked.lease,
            may_still_arrive,
            busy_retries: asked.busy_retries,
        }))
    }

    /// The gateway was busy: queued anew in the old place, as another operation unless an earlier
    /// send may still arrive.
    pub(crate) fn requeue_busy_change(
        &mut self,
        now: Timestamp,
        lock: &GatewayLock,
        dequeued: &DequeuedChange,
    ) -> Done {
        self.held_lock_row(now, lock)?;
        let new = self.new_id();
        let known = |asked: &&mut OperationRow| {
            asked.operation.id == dequeued.operation.id && !asked.queued
        };
        let Some(asked) = self.operations.iter_mut().find(known) else { return Ok(()) };
        (asked.queued, asked.busy_retries, asked.answer_by) = (true, asked.busy_retries + 1, now);
        if !dequeued.may_still_arrive {
            asked.sends = 0;
            (
                asked.operation.id,
                asked.operation.fence_until,
                asked.operation.reads_without_effect,
            ) = (new, now, 0);
        }
        Ok(())
    }

    /// No answer will come, or none that ends it.
    pub(crate) fn mark_unanswered(&mut self, now: Timestamp, id: Uuid) {
        let Some(asked) = self.operations.iter_mut().find(|asked| asked.operation.id == id) else {
            return;
        };
        asked.answer_by = now;
        let lease = asked.lease;
        self.wake_lease(now, lease);
    }

    pub(crate) fn record_rejection(&mut self, lease: LeaseId, rejection: Rejection) {
        if let Some(row) = self.rows.get_mut(&lease) {
            row.rejection = Some(rejection);
        }
    }

    /// The gateway takes no more entries: leases that wait to make some there look for themselves.
    pub(crate) fn wake_queued_creations(&mut self, now: Timestamp, gateway: &NatGatewayId) {
        let new = self
            .list_queued_changes(gateway)
            .filter(|asked| matches!(asked.operation.change, Change::CreateForwardEntry(_)));
        for lease in new.map(|asked| asked.lease).collect::<Vec<_>>() {
            self.wake_lease(now, lease);
        }
    }

    /// Expedites the removal of what other leases still have at another pod's address.
    pub(crate) fn expedite_removals(&mut self, now: Timestamp, waiting: LeaseId, ip: Ipv4Addr) {
        let points = |row: &&Row| {
            row.lease.target.as_ref().is_some_and(|target| target.private_ip == ip)
                && (!row.lease.ports.is_empty() || row.lease.kind == Kind::Eip)
        };
        let holders: Vec<_> = self
            .rows
            .values()
            .filter(points)
            .map(|row| row.lease.id)
            .filter(|id| *id != waiting)
            .collect();
        for asked in self
            .operations
            .iter_mut()
            .filter(|asked| asked.queued && holders.contains(&asked.lease))
        {
            asked.urgent |= matches!(
                asked.operation.change,
                Change::DeleteForwardEntry { .. }
                    | Change::ModifyForwardEntry { .. }
                    | Change::UnassociateEipAddress { .. }
            );
        }
        for id in holders {
            let idle = !self.operations.iter().any(|asked| asked.lease == id);
            let late = |row: &&mut Row| {
                row.owner.is_none() && row.due > now + SignedDuration::from_secs(1)
            };
            let Some(row) = self.rows.get_mut(&id).filter(late).filter(|_| idle) else { continue };
            row.wake_lease_row(now);
            row.lease.handover_since = row.lease.handover_since.map(|_| Timestamp::UNIX_EPOCH);
        }
    }
}
