//! Sends one change, through a network and to a cloud that may fail, and records its answer by the
//! rules, as `worker/src/reconcile/cloud_call.rs` does.

use crate::cloud::refused_with;
use crate::operations::Bringer;
use crate::store::Claim;
use crate::worker::{After, Scene, Stage};
use crate::world::World;
use jiff::{SignedDuration, Timestamp};
use waygate_cloud::Error;
use waygate_core::change::{Answer, Change};
use waygate_core::ids::AllocationId;
use waygate_core::operation::{Operation, Outcome};
use waygate_core::rules::response::{self, LeaseEffect, Record};
use waygate_core::rules::timing::{CALL, FENCE};

impl World {
    /// Sends once. The faults are those of a network and of a cloud, and a process that was paused
    /// for too long finds its deadline past.
    pub(crate) fn transmit(
        &mut self,
        operation: &Operation,
        intended: Timestamp,
    ) -> Result<Answer, Error> {
        let action = operation.change.action();
        let lost = Err(Error::Deadline { action });
        if self.now >= intended + CALL {
            return lost;
        }
        let fault = if self.fault(0.12) { self.dice_below(6) } else { usize::MAX };
        match fault {
            0 => lost,
            1 => {
                let latest =
                    (intended + FENCE).duration_since(self.now).as_millis().saturating_sub(1000);
                let after = self.dice_below(usize::try_from(latest).unwrap_or(0).max(1));
                let arrives =
                    self.now + SignedDuration::from_millis(i64::try_from(after).unwrap_or(0));
                self.note(|| format!("{action} {} is on its way until {arrives}", operation.id));
                self.cloud.change_later(arrives, operation.clone());
                lost
            }
            2 => Err(refused_with(action, 400, "Throttling.User", "too many")),
            3 => Err(refused_with(action, 409, "OperationConflict", "busy")),
            4 => Err(refused_with(action, 500, "InternalError", "oops")),
            _ => {
                let (answered, latency) = self.cloud.change(self.now, operation);
                self.now += latency;
                self.note(|| {
                    format!(
                        "{action} {} {}: {answered:?}",
                        operation.id,
                        if fault == 5 { "lost" } else { "answered" }
                    )
                });
                if fault == 5 { lost } else { answered }
            }
        }
    }

    /// Sends a change that the claim holder makes itself.
    pub(crate) fn send(
        &mut self,
        claim: &Claim,
        scene: Box<Scene>,
        operation: Operation,
        intended: Timestamp,
    ) -> After {
        self.sending(claim.cluster, &operation, &scene.loaded.lease);
        let answered = self.transmit(&operation, intended);
        After::then(Stage::Hear(scene, operation, answered))
    }

    /// Records an answer that the claim holder got.
    pub(crate) fn hear(
        &mut self,
        claim: &Claim,
        scene: &Scene,
        operation: &Operation,
        answered: Result<Answer, Error>,
    ) -> After {
        let by = Bringer::Claimant(claim);
        let error = match answered {
            Ok(answer) => {
                self.store.settle(
                    self.now,
                    by,
                    operation.id,
                    Outcome::Done,
                    Some(&answer),
                    LeaseEffect::Plain,
                );
                return After::then(Stage::Load);
            }
            Err(error) => error,
        };
        let may_still_arrive =
            response::may_still_arrive(operation, &scene.loaded.operations, scene.loaded.now);
        let mut after = After::then(Stage::Load);
        for record in response::of_claimant(&operation.change, &error.failure(), may_still_arrive) {
            match record {
                Record::Settle(outcome, effect) => {
                    self.store.settle(self.now, by, operation.id, outcome, None, effect);
                    if effect == LeaseEffect::EipGone {
                        self.kept.remove(&scene.loaded.lease.id);
                    }
                }
                Record::Learn(_) if self.store.forget_former(claim).is_err() => {
                    return After::Dropped;
                }
                Record::AwaitFence => self.store.wait_out(operation.id),
                Record::Reject(refused) => after = self.report_rejection(claim, scene, refused),
                Record::Learn(_) | Record::Requeue | Record::MarkUnanswered => {}
            }
        }
        after
    }
}

/// The EIP of a change that gives it back or modifies it: never one that people bought.
pub(crate) fn modifies(change: &Change) -> Option<&AllocationId> {
    match change {
        Change::ReleaseEipAddress { allocation_id }
        | Change::ModifyEipAddressAttribute { allocation_id, .. }
        | Change::AddCommonBandwidthPackageIp { allocation_id, .. }
        | Change::RemoveCommonBandwidthPackageIp { allocation_id, .. } => Some(allocation_id),
        Change::AllocateEipAddress { .. }
        | Change::AllocateEipAddressPro { .. }
        | Change::AssociateEipAddress { .. }
        | Change::UnassociateEipAddress { .. }
        | Change::CreateForwardEntry(_)
        | Change::ModifyForwardEntry { .. }
        | Change::DeleteForwardEntry { .. } => None,
    }
}
