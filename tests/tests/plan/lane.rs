//! A process at its lanes: what `worker/src/lane.rs` and `delivery.rs` do in one go stands here as stages, between which anything may happen.
//!
//! ```text
//! take the lane ─▶ take what comes next ─▶ send ─▶ hear ─▶ settle, queue anew, or leave word
//! ```

use crate::call::{judged, patience};
use crate::operations::Bringer;
use crate::queue::{Lane, Taken};
use crate::store::{FENCE, No};
use crate::world::World;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use waygate_cloud::{Class, Error};
use waygate_core::change::{Answer, Change};
use waygate_core::ids::NatGatewayId;
use waygate_core::operation::{Outcome, Refused};

/// Where entries must be at rest first, a lease looks after this by itself.
const RESTED: SignedDuration = SignedDuration::from_secs(10);
/// How long the right to modify entries is not asked for again.
const DENIED: SignedDuration = SignedDuration::from_hours(1);
/// Refusals for a busy gateway that the lease does not hear of.
const MOST_AGAIN: u32 = 3;
/// Changes that a gateway takes at a time which does not wait for rest.
const WINDOW: usize = 2;

/// The lanes of a process.
pub(crate) type Lanes = BTreeMap<NatGatewayId, Serving>;

/// A lane at work.
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
    /// Does something at one of a worker's lanes. False: there is nothing to do.
    pub(crate) fn serve(&mut self, index: usize) -> bool {
        let mut gateways: Vec<_> = self.cloud.gateways.iter().map(|gateway| gateway.id.clone()).collect();
        let turn = self.dice_below(gateways.len());
        gateways.rotate_left(turn);
        gateways.iter().any(|gateway| self.serve_gateway(index, gateway))
    }

    fn serve_gateway(&mut self, index: usize, gateway: &NatGatewayId) -> bool {
        let (now, owner) = (self.now, self.workers[index].owner);
        let Some(mut serving) = self.workers[index].lanes.remove(gateway) else {
            let Some(lane) = self.store.take_lane(now, owner, gateway) else { return false };
            self.note(|| format!("worker {index} serves {gateway}"));
            self.workers[index].lanes.insert(gateway.clone(), Serving { lane, lost: false, deliveries: Vec::new() });
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
        let Some(delivery) = (!serving.deliveries.is_empty()).then(|| serving.deliveries.remove(0)) else { return false };
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
                let look = if self.cloud.strict && self.chance(0.5) { RESTED } else { SignedDuration::ZERO };
                return self.store.settle(now, Bringer::Lane(look), operation.id, Outcome::Done, Some(&answer), false);
            }
            Err(error) => error,
        };
        if error.is_gateway_busy() && taken.agains < MOST_AGAIN && self.store.again(now, lane, taken) != Err(No::LaneLost) {
            return;
        }
        let ended = judged(&operation.change, &error, taken.may_still_arrive);
        let learned = self.learn(&lane.gateway, &operation.change, &error);
        if !learned && ended.is_none_or(|(outcome, _)| outcome == Outcome::Refused) {
            let at_least = if ended.is_none() && error.is_definite() { FENCE } else { SignedDuration::ZERO };
            let at_least_seconds = u32::try_from(at_least.as_secs()).unwrap_or(0);
            let (reason, message) = (error.reason().to_owned(), error.to_string());
            self.store.leave_word(taken.lease, Refused { reason, message, patience: patience(&error), at_least_seconds });
        }
        if let Some((outcome, eip_gone)) = ended {
            return self.store.settle(now, Bringer::Lane(SignedDuration::ZERO), operation.id, outcome, None, eip_gone);
        }
        if error.is_definite() {
            self.store.wait_out(operation.id);
        }
        self.store.lost(now, operation.id);
    }

    /// Whether the refusal told what the plan can go by.
    fn learn(&mut self, gateway: &NatGatewayId, change: &Change, error: &Error) -> bool {
        match (change, error.class()) {
            (Change::CreateForwardEntry(_), Class::Quota) => {
                let standing = self.cloud.entries(self.now, gateway).len();
                self.store.gateway_full(self.now, gateway, standing);
                self.store.wake_queue(self.now, gateway);
                true
            }
            (Change::ModifyForwardEntry { .. }, Class::Denied) if error.reason() == "PermissionDenied" => {
                self.store.modify_denied(gateway, self.now + DENIED);
                true
            }
            _ => false,
        }
    }
}
