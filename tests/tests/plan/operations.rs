//! Operations, as the store records them: intended before the call, settled once, by the first
//! process that has the answer.

use crate::sources::Former;
use crate::store::{Claim, Done, No, Row, Store, forget_entry, keeps};
use jiff::Timestamp;
use std::time::Duration;
use uuid::Uuid;
use waygate_core::change::{Answer, Change};
use waygate_core::ids::{LeaseId, NatGatewayId};
use waygate_core::lease::{Constraint, Lease, LeasedEip, LeasedPort, Phase};
use waygate_core::operation::{Operation, Outcome, Sending};
use waygate_core::rules::response::LeaseEffect;
use waygate_core::rules::timing::{CALL, FENCE, MISSED_READS_APART};

/// An unresolved operation, and its place in a gateway's queue.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub lease: LeaseId,
    pub operation: Operation,
    /// The gateway whose sender sends it; none: the lease's claim holder does.
    pub lane: Option<NatGatewayId>,
    pub queued: bool,
    pub urgent: bool,
    pub sends: u32,
    /// Earlier refusals of the same change because the gateway was busy.
    pub agains: i32,
    /// Until then a process waits for the answer to the last send.
    pub answer_by: Timestamp,
}

/// Process that settles an operation.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bringer<'a> {
    /// The claim holder of the lease.
    Claimant(&'a Claim),
    /// A gateway sender; the lease looks after this time.
    Lane(Duration),
}

impl Store {
    pub(crate) fn unresolved(&self, now: Timestamp, lease: LeaseId) -> Vec<Operation> {
        let its = self.operations.iter().filter(|asked| asked.lease == lease);
        let sending =
            |asked: &Asked| match (asked.queued, asked.lane.is_some() && asked.answer_by > now) {
                (true, _) => Sending::Queued,
                (false, true) => Sending::Sent,
                (false, false) => Sending::Unanswered,
            };
        its.map(|asked| Operation { sending: sending(asked), ..asked.operation.clone() }).collect()
    }

    pub(crate) fn is_unresolved(&self, id: Uuid) -> bool {
        self.operations.iter().any(|asked| asked.operation.id == id)
    }

    /// A new operation, unless another one changes the same thing.
    pub(crate) fn ask(
        &mut self,
        now: Timestamp,
        lease: LeaseId,
        resource: &str,
        change: &Change,
    ) -> Option<&mut Asked> {
        if self.operations.iter().any(|asked| asked.operation.resource == resource) {
            return None;
        }
        let (resource, change) = (resource.to_owned(), change.clone());
        let operation = Operation {
            id: self.id(),
            resource,
            change,
            sending: Sending::Unanswered,
            fence_until: now,
            misses: 0,
            waits_out: false,
        };
        self.operations.push(Asked {
            lease,
            operation,
            lane: None,
            queued: false,
            urgent: false,
            sends: 0,
            agains: 0,
            answer_by: now,
        });
        self.operations.last_mut()
    }

    pub(crate) fn intend(
        &mut self,
        now: Timestamp,
        claim: &Claim,
        resource: &str,
        change: &Change,
    ) -> Result<Operation, No> {
        if self.held(claim)?.due <= now + CALL {
            return Err(No::ClaimLost);
        }
        let asked = self
            .ask(now, claim.lease_id, resource, change)
            .ok_or(No::Conflict(Constraint::OpenOperation))?;
        asked.sends = 1;
        asked.operation.fence_until = now + FENCE;
        Ok(asked.operation.clone())
    }

    /// An unresolved operation of the claimed lease.
    pub(crate) fn asked(&mut self, claim: &Claim, id: Uuid) -> Result<Option<&mut Asked>, No> {
        self.held(claim)?;
        Ok(self
            .operations
            .iter_mut()
            .find(|asked| asked.lease == claim.lease_id && asked.operation.id == id))
    }

    pub(crate) fn intend_again(&mut self, now: Timestamp, claim: &Claim, id: Uuid) -> Done {
        if self.held(claim)?.due <= now + CALL {
            return Err(No::ClaimLost);
        }
        let asked = self.asked(claim, id)?.ok_or(No::ClaimLost)?;
        asked.sends += 1;
        asked.operation.misses = 0;
        asked.operation.fence_until = asked.operation.fence_until.max(now + FENCE);
        Ok(())
    }

    pub(crate) fn miss(&mut self, now: Timestamp, claim: &Claim, id: Uuid) -> Done {
        let operation = &mut self.asked(claim, id)?.ok_or(No::ClaimLost)?.operation;
        operation.misses += 1;
        operation.fence_until = operation.fence_until.max(now + MISSED_READS_APART);
        Ok(())
    }

    /// A send was refused for sure, and an earlier one may still take effect.
    pub(crate) fn wait_out(&mut self, id: Uuid) {
        self.operations
            .iter_mut()
            .filter(|asked| asked.operation.id == id)
            .for_each(|asked| asked.operation.waits_out = true);
    }

    /// A fact, so not fenced, and written once.
    pub(crate) fn settle(
        &mut self,
        now: Timestamp,
        by: Bringer<'_>,
        id: Uuid,
        outcome: Outcome,
        answer: Option<&Answer>,
        effect: LeaseEffect,
    ) {
        let Some(at) = self.operations.iter().position(|asked| asked.operation.id == id) else {
            return;
        };
        let Asked { lease, operation, .. } = self.operations.remove(at);
        let Some(row) = self.rows.get_mut(&lease) else { return };
        row.stirred = now;
        if outcome == Outcome::Done {
            row.refusals = 0;
            bring(&mut row.lease, &operation.change, answer);
        }
        let name = (row.cluster, row.lease.pod_name.clone());
        let brought = answer.and_then(|answer| answer.allocation_id.clone().zip(answer.ip_address));
        if effect == LeaseEffect::EipGone {
            let expired =
                row.lease.phase == Phase::Ending && row.lease.ends_at.is_some_and(|end| end <= now);
            let left =
                row.lease.eip.take().filter(|eip| eip.ours && expired && keeps(&row.lease.request));
            if let Some(eip) = left {
                self.former.insert(
                    name,
                    Former {
                        controller: row.lease.controller.clone(),
                        address: eip.ip_address,
                        at: now,
                    },
                );
            }
        } else if let Some((allocation_id, ip_address)) = brought {
            self.former.remove(&name);
            row.lease.eip.get_or_insert(LeasedEip { allocation_id, ip_address, ours: true });
        }
        row.answered(now, by);
    }
}

impl Row {
    /// Wakes the lease, unless its claim holder settles the operation itself.
    fn answered(&mut self, now: Timestamp, by: Bringer<'_>) {
        let look = match by {
            Bringer::Claimant(claim)
                if self.owner == Some(claim.owner) && self.epoch == claim.epoch =>
            {
                return;
            }
            Bringer::Claimant(_) => Duration::ZERO,
            Bringer::Lane(look) => look,
        };
        self.wake += 1;
        if self.owner.is_none() {
            self.due = self.due.min(now + look);
        }
    }
}

/// Applies a change that was done to the lease's entries.
fn bring(lease: &mut Lease, change: &Change, answer: Option<&Answer>) {
    match change {
        Change::CreateForwardEntry(forward) => {
            let Some(entry) = answer.and_then(|answer| answer.entry_id.clone()) else { return };
            let mine = |port: &&mut LeasedPort| {
                port.head == forward.external_port && port.protocol() == forward.protocol
            };
            for port in lease.ports.iter_mut().filter(mine) {
                forget_entry(port);
                port.entry_id = Some(entry.clone());
            }
        }
        Change::DeleteForwardEntry { entry_id, .. } => {
            lease
                .ports
                .iter_mut()
                .filter(|port| port.entry_id.as_ref() == Some(entry_id))
                .for_each(|port| port.deleted = true);
        }
        _ => {}
    }
}
