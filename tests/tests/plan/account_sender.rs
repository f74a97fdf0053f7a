//! The account sender in stages, between which any event may happen; `worker/src/account/sender.rs`
//! and `delivery.rs` run them in one go.
//!
//! ```text
//! dequeue ─▶ send, if still in time ─▶ answer ─▶ settle, requeue or mark unanswered
//! ```

use crate::gateway_queue::DequeuedChange;
use crate::operations::SettledBy;
use crate::world::World;
use jiff::Timestamp;
use std::time::Duration;
use waygate_cloud::Error;
use waygate_core::change::Answer;
use waygate_core::failure::CallFailure;
use waygate_core::operation::Outcome;
use waygate_core::rules::response::{self, LeaseEffect, Record};
use waygate_core::rules::timing::SEND_WITHIN;

/// Changes in flight of one process.
const MAX_IN_FLIGHT: usize = 3;

/// A change on its way.
pub(crate) enum AccountDelivery {
    Send(DequeuedChange, Timestamp),
    Record(DequeuedChange, Result<Answer, Error>),
}

impl World {
    /// Does something as a worker's account sender. False if there is nothing to do.
    pub(crate) fn serve_account(&mut self, index: usize) -> bool {
        let (now, cluster) = (self.now, self.workers[index].cluster);
        let in_flight = self.workers[index].deliveries.len();
        if in_flight < MAX_IN_FLIGHT && (in_flight == 0 || self.chance(0.5)) {
            let mut dice = self.derive_dice();
            // At any time there may be no free slot.
            let free = !self.draw_fault(0.2);
            if free
                && let Some(dequeued) = self.store.dequeue_account_change(now, cluster, &mut dice)
            {
                self.workers[index].deliveries.push(AccountDelivery::Send(dequeued, now));
                return true;
            }
        }
        if self.workers[index].deliveries.is_empty() {
            return false;
        }
        match self.workers[index].deliveries.remove(0) {
            AccountDelivery::Send(dequeued, marked) => self.send_in_time(index, dequeued, marked),
            AccountDelivery::Record(dequeued, answered) => {
                self.record_account_answer(&dequeued, answered);
            }
        }
        true
    }

    fn send_in_time(&mut self, index: usize, dequeued: DequeuedChange, marked: Timestamp) {
        if self.now > marked + SEND_WITHIN {
            self.note_event(|| format!("{} is too late to be sent", dequeued.operation.id));
            return self.store.requeue_unsent(self.now, &dequeued.operation);
        }
        if let Some(row) = self.store.rows.get(&dequeued.lease) {
            let (cluster, lease) = (row.cluster, row.lease.clone());
            self.check_sent_change(cluster, &dequeued.operation, &lease);
        }
        let answered = self.transmit_change(&dequeued.operation, marked);
        self.workers[index].deliveries.push(AccountDelivery::Record(dequeued, answered));
    }

    fn record_account_answer(
        &mut self,
        dequeued: &DequeuedChange,
        answered: Result<Answer, Error>,
    ) {
        let (now, operation) = (self.now, &dequeued.operation);
        match answered {
            Ok(answer) => self.store.settle_operation(
                now,
                SettledBy::Sender(Duration::ZERO),
                operation,
                Outcome::Done,
                Some(&answer),
                LeaseEffect::None,
            ),
            Err(error) => self.record_account_failure(dequeued, &error.call_failure()),
        }
    }

    fn record_account_failure(&mut self, dequeued: &DequeuedChange, failure: &CallFailure) {
        let (now, operation) = (self.now, &dequeued.operation);
        let records =
            response::account_sender_records(&operation.change, failure, dequeued.may_still_arrive);
        for record in records {
            match record {
                Record::Requeue => self.store.requeue_unsent(now, operation),
                Record::Settle(outcome, effect) => {
                    let by = SettledBy::Sender(Duration::ZERO);
                    self.store.settle_operation(now, by, operation, outcome, None, effect);
                    if effect == LeaseEffect::EipGone {
                        self.retained.remove(&dequeued.lease);
                    }
                }
                Record::Learn(_) => self.store.delete_former_address(dequeued.lease),
                Record::Reject(rejection) => {
                    self.store.record_rejection(dequeued.lease, *rejection);
                }
                Record::AwaitFence => self.store.await_fence(operation.id),
                Record::MarkUnanswered => self.store.mark_unanswered(now, operation.id),
            }
        }
    }
}
