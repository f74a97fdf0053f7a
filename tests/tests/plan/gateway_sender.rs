//! The gateway sender in stages, between which any event may happen; `worker/src/gateway/sender.rs`
//! and `delivery.rs` run them in one go.
//!
//! ```text
//! acquire lock ─▶ dequeue ─▶ send ─▶ answer ─▶ settle, requeue or mark unanswered
//! ```

use crate::gateway_queue::{DequeuedChange, GatewayLock};
use crate::operations::SettledBy;
use crate::store::StoreError;
use crate::world::World;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;
use waygate_cloud::Error;
use waygate_core::change::Answer;
use waygate_core::ids::NatGatewayId;
use waygate_core::operation::Outcome;
use waygate_core::rules::response::{self, LearnedFact, LeaseEffect, Record};
use waygate_core::rules::timing::{ENTRIES_SETTLED, MODIFY_DENIED};

/// Changes at a time that a gateway takes whose entries need not settle in between.
const WINDOW: usize = 2;

/// Gateways whose lock a process holds.
pub(crate) type GatewaySenders = BTreeMap<NatGatewayId, GatewaySender>;

/// A gateway sender at work.
pub(crate) struct GatewaySender {
    lock: GatewayLock,
    lost: bool,
    deliveries: Vec<Delivery>,
}

enum Delivery {
    Send(DequeuedChange, Timestamp),
    Record(DequeuedChange, Result<Answer, Error>),
}

impl World {
    /// Does something as one of a worker's gateway senders. False if there is nothing to do.
    pub(crate) fn serve_gateways(&mut self, index: usize) -> bool {
        let mut gateways: Vec<_> =
            self.cloud.gateways.iter().map(|gateway| gateway.id.clone()).collect();
        let rotation = self.roll_below(gateways.len());
        gateways.rotate_left(rotation);
        gateways.iter().any(|gateway| self.serve_gateway(index, gateway))
    }

    fn serve_gateway(&mut self, index: usize, gateway: &NatGatewayId) -> bool {
        let (now, owner) = (self.now, self.workers[index].owner);
        let Some(mut sender) = self.workers[index].senders.remove(gateway) else {
            let Some(lock) = self.store.acquire_gateway_lock(now, owner, gateway) else {
                return false;
            };
            self.note_event(|| format!("worker {index} serves {gateway}"));
            self.workers[index].senders.insert(
                gateway.clone(),
                GatewaySender { lock, lost: false, deliveries: Vec::new() },
            );
            return true;
        };
        let done = self.run_round(&mut sender);
        if !(sender.lost && sender.deliveries.is_empty()) {
            self.workers[index].senders.insert(gateway.clone(), sender);
        }
        done
    }

    fn run_round(&mut self, sender: &mut GatewaySender) -> bool {
        let window = if self.cloud.strict { 1 } else { WINDOW };
        let may_send = !sender.lost && sender.deliveries.len() < window;
        if may_send
            && (sender.deliveries.is_empty() || self.chance(0.5))
            && self.begin_delivery(sender)
        {
            return true;
        }
        let Some(delivery) = (!sender.deliveries.is_empty()).then(|| sender.deliveries.remove(0))
        else {
            return false;
        };
        match delivery {
            Delivery::Send(dequeued, at) => {
                if let Some(row) = self.store.rows.get(&dequeued.lease) {
                    let (cluster, lease) = (row.cluster, row.lease.clone());
                    self.check_sent_change(cluster, &dequeued.operation, &lease);
                }
                let answered = self.transmit_change(&dequeued.operation, at);
                sender.deliveries.push(Delivery::Record(dequeued, answered));
            }
            Delivery::Record(dequeued, answered) => {
                self.record_delivery(&sender.lock, &dequeued, answered);
            }
        }
        true
    }

    /// Dequeues the next change, once the gateway is likely to take it.
    fn begin_delivery(&mut self, sender: &mut GatewaySender) -> bool {
        let gateway = &sender.lock.gateway;
        if self.store.list_queued_changes(gateway).next().is_none() {
            return false;
        }
        if self.cloud.strict && !self.cloud.is_settled(self.now, gateway) && !self.draw_fault(0.05)
        {
            return false;
        }
        let (creations, mut dice) = (!self.draw_fault(0.1), self.derive_dice());
        match self.store.dequeue_change(self.now, &sender.lock, creations, &mut dice) {
            Ok(Some(dequeued)) => sender.deliveries.push(Delivery::Send(dequeued, self.now)),
            Ok(None) => return false,
            Err(_) => sender.lost = true,
        }
        true
    }

    fn record_delivery(
        &mut self,
        lock: &GatewayLock,
        dequeued: &DequeuedChange,
        answered: Result<Answer, Error>,
    ) {
        let (now, operation) = (self.now, &dequeued.operation);
        let error = match answered {
            Ok(answer) => {
                let settles_after = if self.cloud.strict && self.chance(0.5) {
                    ENTRIES_SETTLED
                } else {
                    Duration::ZERO
                };
                return self.store.settle_operation(
                    now,
                    SettledBy::Sender(settles_after),
                    operation,
                    Outcome::Done,
                    Some(&answer),
                    LeaseEffect::None,
                );
            }
            Err(error) => error,
        };
        let failure = error.call_failure();
        if self
            .apply_records(
                lock,
                dequeued,
                response::gateway_sender_records(
                    &operation.change,
                    &failure,
                    dequeued.may_still_arrive,
                    dequeued.busy_retries,
                ),
            )
            .is_err()
        {
            let records =
                response::failure_records(&operation.change, &failure, dequeued.may_still_arrive);
            self.apply_records(lock, dequeued, records).unwrap_or_default();
        }
    }

    /// Records an answer. An error means that the gateway lock was lost, and the change does not go
    /// back into its queue.
    fn apply_records(
        &mut self,
        lock: &GatewayLock,
        dequeued: &DequeuedChange,
        records: Vec<Record>,
    ) -> Result<(), StoreError> {
        let (now, id, gateway) = (self.now, dequeued.operation.id, &lock.gateway);
        for record in records {
            match record {
                Record::Requeue
                    if self.store.requeue_busy_change(now, lock, dequeued)
                        == Err(StoreError::GatewayLockLost) =>
                {
                    return Err(StoreError::GatewayLockLost);
                }
                Record::Settle(outcome, effect) => {
                    self.store.settle_operation(
                        now,
                        SettledBy::Sender(Duration::ZERO),
                        &dequeued.operation,
                        outcome,
                        None,
                        effect,
                    );
                }
                Record::Learn(LearnedFact::GatewayFull) => {
                    let entry_count = self.cloud.read_entries(now, gateway).len();
                    self.store.record_gateway_full(now, gateway, entry_count);
                    self.store.wake_queued_creations(now, gateway);
                }
                Record::Learn(LearnedFact::ModifyDenied) => {
                    self.store.record_modify_denied(gateway, now + MODIFY_DENIED);
                }
                Record::Reject(rejection) => {
                    self.store.record_rejection(dequeued.lease, *rejection);
                }
                Record::AwaitFence => self.store.await_fence(id),
                Record::MarkUnanswered => self.store.mark_unanswered(now, id),
                Record::Requeue | Record::Learn(LearnedFact::AddressNotReclaimable) => {}
            }
        }
        Ok(())
    }
}
