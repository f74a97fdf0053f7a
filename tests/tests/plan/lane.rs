//! The gateway sender in stages, between which any event may happen; `worker/src/gateway/sender.rs`
//! and `delivery.rs` run them in one go.
//!
//! ```text
//! take the lane ─▶ take what comes next ─▶ send ─▶ hear ─▶ settle, queue anew, or leave word
//! ```

use crate::operations::Bringer;
use crate::queue::{Lane, Taken};
use crate::store::No;
use crate::world::World;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;
use waygate_cloud::Error;
use waygate_core::change::Answer;
use waygate_core::ids::NatGatewayId;
use waygate_core::operation::Outcome;
use waygate_core::rules::response::{self, LeaseEffect, Lesson, Record};
use waygate_core::rules::timing::{ENTRIES_AT_REST, MODIFY_DENIED};

/// Changes that a gateway takes at a time which does not wait for rest.
const WINDOW: usize = 2;

/// Gateways whose lock a process holds.
pub(crate) type Lanes = BTreeMap<NatGatewayId, Serving>;

/// A gateway sender at work.
pub(crate) struct Serving {
    lane: Lane,
    lost: bool,
    deliveries: Vec<Delivery>,
}

enum Delivery {
    Send(Taken, Timestamp),
    Hear(Taken, Result<Answer, Error>),
}

impl World {
    /// Does something as one of a worker's gateway senders. False if there is nothing to do.
    pub(crate) fn serve(&mut self, index: usize) -> bool {
        let mut gateways: Vec<_> =
            self.cloud.gateways.iter().map(|gateway| gateway.id.clone()).collect();
        let turn = self.dice_below(gateways.len());
        gateways.rotate_left(turn);
        gateways.iter().any(|gateway| self.serve_gateway(index, gateway))
    }

    fn serve_gateway(&mut self, index: usize, gateway: &NatGatewayId) -> bool {
        let (now, owner) = (self.now, self.workers[index].owner);
        let Some(mut serving) = self.workers[index].lanes.remove(gateway) else {
            let Some(lane) = self.store.take_lane(now, owner, gateway) else { return false };
            self.note(|| format!("worker {index} serves {gateway}"));
            self.workers[index]
                .lanes
                .insert(gateway.clone(), Serving { lane, lost: false, deliveries: Vec::new() });
            return true;
        };
        let done = self.round(&mut serving);
        if !(serving.lost && serving.deliveries.is_empty()) {
            self.workers[index].lanes.insert(gateway.clone(), serving);
        }
        done
    }

    fn round(&mut self, serving: &mut Serving) -> bool {
        let window = if self.cloud.strict { 1 } else { WINDOW };
        let may_send = !serving.lost && serving.deliveries.len() < window;
        if may_send && (serving.deliveries.is_empty() || self.chance(0.5)) && self.begin(serving) {
            return true;
        }
        let Some(delivery) = (!serving.deliveries.is_empty()).then(|| serving.deliveries.remove(0))
        else {
            return false;
        };
        match delivery {
            Delivery::Send(taken, at) => {
                if let Some(row) = self.store.rows.get(&taken.lease) {
                    let (cluster, lease) = (row.cluster, row.lease.clone());
                    self.sending(cluster, &taken.operation, &lease);
                }
                let answered = self.transmit(&taken.operation, at);
                serving.deliveries.push(Delivery::Hear(taken, answered));
            }
            Delivery::Hear(taken, answered) => self.delivered(&serving.lane, &taken, answered),
        }
        true
    }

    /// Takes what comes next, once the gateway is likely to take it.
    fn begin(&mut self, serving: &mut Serving) -> bool {
        let gateway = &serving.lane.gateway;
        if self.store.waiting(gateway).next().is_none() {
            return false;
        }
        if self.cloud.strict && !self.cloud.is_at_rest(self.now, gateway) && !self.fault(0.05) {
            return false;
        }
        let (creations, mut dice) = (!self.fault(0.1), self.another_dice());
        match self.store.next_in_lane(self.now, &serving.lane, creations, &mut dice) {
            Ok(Some(taken)) => serving.deliveries.push(Delivery::Send(taken, self.now)),
            Ok(None) => return false,
            Err(_) => serving.lost = true,
        }
        true
    }

    fn delivered(&mut self, lane: &Lane, taken: &Taken, answered: Result<Answer, Error>) {
        let (now, operation) = (self.now, &taken.operation);
        let error = match answered {
            Ok(answer) => {
                let look = if self.cloud.strict && self.chance(0.5) {
                    ENTRIES_AT_REST
                } else {
                    Duration::ZERO
                };
                return self.store.settle(
                    now,
                    Bringer::Lane(look),
                    operation.id,
                    Outcome::Done,
                    Some(&answer),
                    LeaseEffect::Plain,
                );
            }
            Err(error) => error,
        };
        let failure = error.failure();
        if self
            .record_all(
                lane,
                taken,
                response::of_sender(
                    &operation.change,
                    &failure,
                    taken.may_still_arrive,
                    taken.agains,
                ),
            )
            .is_err()
        {
            let records =
                response::after_busy_retries(&operation.change, &failure, taken.may_still_arrive);
            self.record_all(lane, taken, records).unwrap_or_default();
        }
    }

    /// Records an answer. An error means that the gateway lock was lost, and the change does not go
    /// back into its queue.
    fn record_all(&mut self, lane: &Lane, taken: &Taken, records: Vec<Record>) -> Result<(), No> {
        let (now, id, gateway) = (self.now, taken.operation.id, &lane.gateway);
        for record in records {
            match record {
                Record::Requeue if self.store.again(now, lane, taken) == Err(No::LaneLost) => {
                    return Err(No::LaneLost);
                }
                Record::Settle(outcome, effect) => {
                    self.store.settle(
                        now,
                        Bringer::Lane(Duration::ZERO),
                        id,
                        outcome,
                        None,
                        effect,
                    );
                }
                Record::Learn(Lesson::GatewayFull) => {
                    let standing = self.cloud.entries(now, gateway).len();
                    self.store.gateway_full(now, gateway, standing);
                    self.store.wake_queue(now, gateway);
                }
                Record::Learn(Lesson::ModifyDenied) => {
                    self.store.modify_denied(gateway, now + MODIFY_DENIED);
                }
                Record::Reject(refused) => self.store.leave_word(taken.lease, refused),
                Record::AwaitFence => self.store.wait_out(id),
                Record::MarkUnanswered => self.store.lost(now, id),
                Record::Requeue | Record::Learn(Lesson::AddressNotReclaimable) => {}
            }
        }
        Ok(())
    }
}
