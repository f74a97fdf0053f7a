//! Operations, as the store records them: intended before the call, settled once, by the first
//! process that has the answer.

use crate::eip_sources::FormerAddress;
use crate::store::{Claim, Done, Row, Store, StoreError, forget_entry, outlives_pod};
use jiff::Timestamp;
use std::time::Duration;
use uuid::Uuid;
use waygate_core::change::{Answer, Change};
use waygate_core::ids::{LeaseId, NatGatewayId};
use waygate_core::lease::{Lease, LeasedEip, LeasedPort, Phase};
use waygate_core::operation::{Operation, Outcome, Refusal, SendState};
use waygate_core::rules::response::LeaseEffect;
use waygate_core::rules::timing::READS_WITHOUT_EFFECT_APART;

/// An unresolved operation, and its place in a queue.
#[derive(Clone, Debug)]
pub(crate) struct OperationRow {
    pub lease: LeaseId,
    pub operation: Operation,
    /// The gateway in whose queue it is; none: it is in the account's.
    pub gateway: Option<NatGatewayId>,
    pub queued: bool,
    pub urgent: bool,
    pub sends: i32,
    /// Earlier refusals of the same change because the gateway was busy.
    pub busy_retries: i32,
    /// Until then a process waits for the answer to the last send.
    pub answer_by: Timestamp,
}

/// Process that settles an operation.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SettledBy<'a> {
    /// The claim holder of the lease.
    ClaimHolder(&'a Claim),
    /// A sender; the lease looks after this time.
    Sender(Duration),
}

impl Store {
    pub(crate) fn list_unresolved(&self, now: Timestamp, lease: LeaseId) -> Vec<Operation> {
        let of_lease = self.operations.iter().filter(|asked| asked.lease == lease);
        let sending = |asked: &OperationRow| match (asked.queued, asked.answer_by > now) {
            (true, _) => SendState::Queued,
            (false, true) => SendState::Sent { answer_by: asked.answer_by },
            (false, false) => SendState::Unanswered,
        };
        of_lease
            .map(|asked| Operation {
                send_state: sending(asked),
                sends: asked.sends,
                ..asked.operation.clone()
            })
            .collect()
    }

    pub(crate) fn is_unresolved(&self, id: Uuid) -> bool {
        self.operations.iter().any(|asked| asked.operation.id == id)
    }

    /// A new operation, unless another one changes the same thing.
    pub(crate) fn insert_operation(
        &mut self,
        now: Timestamp,
        lease: LeaseId,
        resource: &str,
        change: &Change,
    ) -> Option<&mut OperationRow> {
        if self.operations.iter().any(|asked| asked.operation.resource == resource) {
            return None;
        }
        let (resource, change) = (resource.to_owned(), change.clone());
        let operation = Operation {
            id: self.new_id(),
            resource,
            change,
            send_state: SendState::Unanswered,
            sends: 0,
            fence_until: now,
            reads_without_effect: 0,
            awaits_fence: false,
        };
        self.operations.push(OperationRow {
            lease,
            operation,
            gateway: None,
            queued: false,
            urgent: false,
            sends: 0,
            busy_retries: 0,
            answer_by: now,
        });
        self.operations.last_mut()
    }

    /// An unresolved operation of the claimed lease.
    pub(crate) fn find_operation(
        &mut self,
        claim: &Claim,
        id: Uuid,
    ) -> Result<Option<&mut OperationRow>, StoreError> {
        self.held_row(claim)?;
        Ok(self
            .operations
            .iter_mut()
            .find(|asked| asked.lease == claim.lease_id && asked.operation.id == id))
    }

    pub(crate) fn count_read_without_effect(
        &mut self,
        now: Timestamp,
        claim: &Claim,
        id: Uuid,
    ) -> Done {
        let operation =
            &mut self.find_operation(claim, id)?.ok_or(StoreError::ClaimLost)?.operation;
        operation.reads_without_effect += 1;
        operation.fence_until = operation.fence_until.max(now + READS_WITHOUT_EFFECT_APART);
        Ok(())
    }

    /// A send was refused for sure, and an earlier one may still take effect.
    pub(crate) fn await_fence(&mut self, id: Uuid) {
        self.operations
            .iter_mut()
            .filter(|asked| asked.operation.id == id)
            .for_each(|asked| asked.operation.awaits_fence = true);
    }

    /// Settles an operation. An answer is a fact, so no claim is checked, and the first one counts.
    pub(crate) fn settle_operation(
        &mut self,
        now: Timestamp,
        by: SettledBy<'_>,
        settled: &Operation,
        outcome: Outcome,
        answer: Option<&Answer>,
        effect: LeaseEffect,
    ) {
        // The refusal of one send decides nothing once there is a later one.
        let decides = |asked: &OperationRow| {
            asked.operation.id == settled.id
                && (outcome != Outcome::Refused || asked.sends <= settled.sends)
        };
        let Some(at) = self.operations.iter().position(decides) else { return };
        let OperationRow { lease, operation, .. } = self.operations.remove(at);
        let Some(row) = self.rows.get_mut(&lease) else { return };
        row.last_change_at = now;
        if outcome == Outcome::Done {
            let of_other = |refusal: &Refusal| refusal.rejection.change != operation.change;
            if !row.refusal.as_ref().is_some_and(of_other) {
                (row.rejections, row.refusal) = (0, None);
            }
            apply_effect(now, &mut row.lease, &operation.change, answer);
        }
        let name = (row.cluster, row.lease.pod_name.clone());
        let brought = answer.and_then(|answer| answer.allocation_id.clone().zip(answer.ip_address));
        if effect == LeaseEffect::EipGone {
            if let Some(former) = row.take_former_address(now) {
                self.former_addresses.insert(name, former);
            }
        } else if let Some((allocation_id, ip_address)) = brought {
            self.former_addresses.remove(&name);
            row.lease.eip.get_or_insert(LeasedEip {
                allocation_id,
                ip_address,
                managed: true,
                release_accepted_at: None,
            });
        }
        row.wake_unless_settled_by_holder(now, by);
    }
}

impl Row {
    /// Takes the EIP, which is gone; returns the address if the cloud sells it back.
    pub(crate) fn take_former_address(&mut self, now: Timestamp) -> Option<FormerAddress> {
        let eip = self.lease.eip.take()?;
        let expired = self.lease.phase == Phase::Releasing
            && self.lease.retained_until.is_some_and(|end| end <= now);
        (eip.managed && expired && outlives_pod(&self.lease.request)).then(|| FormerAddress {
            controller: self.lease.controller.clone(),
            address: eip.ip_address,
            at: now,
        })
    }

    /// Wakes the lease, unless its claim holder settles the operation itself.
    fn wake_unless_settled_by_holder(&mut self, now: Timestamp, by: SettledBy<'_>) {
        let due_after = match by {
            SettledBy::ClaimHolder(claim)
                if self.owner == Some(claim.owner) && self.epoch == claim.epoch =>
            {
                return;
            }
            SettledBy::ClaimHolder(_) => Duration::ZERO,
            SettledBy::Sender(due_after) => due_after,
        };
        self.wake += 1;
        if self.owner.is_none() {
            self.due = self.due.min(now + due_after);
        }
    }
}

/// Applies a change that was done to the lease's entries or its EIP.
fn apply_effect(now: Timestamp, lease: &mut Lease, change: &Change, answer: Option<&Answer>) {
    match change {
        Change::CreateForwardEntry(forward) => {
            let Some(entry) = answer.and_then(|answer| answer.entry_id.clone()) else { return };
            let of_entry = |port: &&mut LeasedPort| {
                port.range_start == forward.external_port && port.protocol() == forward.protocol
            };
            for port in lease.ports.iter_mut().filter(of_entry) {
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
        Change::ReleaseEipAddress { .. } => {
            if let Some(eip) = &mut lease.eip {
                eip.release_accepted_at = Some(now);
            }
        }
        _ => {}
    }
}
