//! One change is sent, through a network and to a cloud that may fail, and its answer is judged: what `worker/src/call.rs` does.

use crate::cloud::refused_with;
use crate::operations::Bringer;
use crate::store::{CALL, Claim, FENCE};
use crate::worker::{After, Scene, Stage};
use crate::world::World;
use jiff::{SignedDuration, Timestamp};
use waygate_cloud::{Class, Error};
use waygate_core::change::{Answer, Change};
use waygate_core::condition::Verdict;
use waygate_core::ids::AllocationId;
use waygate_core::operation::{Operation, Outcome};
use waygate_core::retry::Patience;

/// How an operation ended, and whether its EIP is gone.
pub(crate) type Judged = Option<(Outcome, bool)>;

impl World {
    /// Sends once. The faults are those of a network and of a cloud, and a process that was paused for too long finds its deadline past.
    pub(crate) fn transmit(&mut self, operation: &Operation, intended: Timestamp) -> Result<Answer, Error> {
        let action = operation.change.action();
        let lost = Err(Error::Deadline { action });
        if self.now >= intended + CALL {
            return lost;
        }
        let fault = if self.fault(0.12) { self.dice_below(6) } else { usize::MAX };
        match fault {
            0 => lost,
            1 => {
                let latest = (intended + FENCE).duration_since(self.now).as_millis().saturating_sub(1000);
                let after = self.dice_below(usize::try_from(latest).unwrap_or(0).max(1));
                let arrives = self.now + SignedDuration::from_millis(i64::try_from(after).unwrap_or(0));
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
                self.note(|| format!("{action} {} {}: {answered:?}", operation.id, if fault == 5 { "lost" } else { "answered" }));
                if fault == 5 { lost } else { answered }
            }
        }
    }

    /// A change of the claimant's own.
    pub(crate) fn send(&mut self, claim: &Claim, scene: Box<Scene>, operation: Operation, intended: Timestamp) -> After {
        self.sending(claim.cluster, &operation, &scene.loaded.lease);
        let answered = self.transmit(&operation, intended);
        After::then(Stage::Hear(scene, operation, answered))
    }

    /// What the claimant does with an answer.
    pub(crate) fn hear(&mut self, claim: &Claim, scene: &Scene, operation: &Operation, answered: Result<Answer, Error>) -> After {
        let by = Bringer::Claimant(claim);
        let error = match answered {
            Ok(answer) => {
                self.store.settle(self.now, by, operation.id, Outcome::Done, Some(&answer), false);
                return After::then(Stage::Load);
            }
            Err(error) => error,
        };
        let earlier = scene.loaded.operations.iter().any(|known| known.id == operation.id);
        let ended = judged(&operation.change, &error, earlier && scene.loaded.now <= operation.fence_until);
        if let Some((outcome, eip_gone)) = ended {
            self.store.settle(self.now, by, operation.id, outcome, None, eip_gone);
            if eip_gone {
                self.kept.remove(&scene.loaded.lease.id);
            }
        }
        let denied = matches!(error.class(), Class::Permanent | Class::Denied) && error.is_definite();
        let learned = matches!(operation.change, Change::AllocateEipAddressPro { .. }) && denied;
        if learned && self.store.forget_former(claim).is_err() {
            return After::Dropped;
        }
        if (learned && ended.is_some()) || matches!(ended, Some((Outcome::Done, _))) {
            return After::then(Stage::Load);
        }
        let (reason, patience) = (error.reason().to_owned(), patience(&error));
        self.tell(claim, scene, patience, Verdict { status: false, reason: reason.clone(), message: error.to_string() });
        let open = ended.is_none() && error.is_definite();
        if open {
            self.store.wait_out(operation.id);
        }
        let at_least = if open { FENCE } else { SignedDuration::ZERO };
        After::Pause { reason, patience, at_least }
    }
}

/// How an operation ended that was answered with an error; none where that is not known.
pub(crate) fn judged(change: &Change, error: &Error, may_still_arrive: bool) -> Judged {
    let takes_eip = matches!(change, Change::ReleaseEipAddress { .. } | Change::UnassociateEipAddress { .. });
    let takes_away = takes_eip || matches!(change, Change::DeleteForwardEntry { .. } | Change::RemoveCommonBandwidthPackageIp { .. });
    match error.class() {
        Class::NotFound if takes_away => Some((Outcome::Done, takes_eip)),
        Class::Done => Some((Outcome::Done, false)),
        _ if error.is_definite() && !may_still_arrive => Some((Outcome::Refused, false)),
        _ => None,
    }
}

pub(crate) fn patience(error: &Error) -> Patience {
    match error.class() {
        Class::Conflict if error.reason() == "AddressNotOnGateway" => Patience::Event,
        Class::Transient | Class::Processing | Class::Conflict | Class::Done | Class::NotFound => Patience::Poll,
        Class::Throttled => Patience::Event,
        Class::Quota | Class::Denied | Class::Permanent => Patience::Person,
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
