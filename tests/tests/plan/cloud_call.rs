//! Sends one change, through a network and to a cloud that may fail.

use crate::cloud::refuse_with;
use crate::world::World;
use jiff::{SignedDuration, Timestamp};
use waygate_cloud::Error;
use waygate_core::change::{Answer, Change};
use waygate_core::ids::AllocationId;
use waygate_core::operation::Operation;
use waygate_core::rules::timing::{CALL_TIMEOUT, FENCE};

impl World {
    /// Sends once. The faults are those of a network and of a cloud, and a process that was paused
    /// for too long finds its deadline past.
    pub(crate) fn transmit_change(
        &mut self,
        operation: &Operation,
        intended: Timestamp,
    ) -> Result<Answer, Error> {
        let action = operation.change.action();
        let lost = Err(Error::Deadline { action });
        if self.now >= intended + CALL_TIMEOUT {
            return lost;
        }
        let fault = if self.draw_fault(0.12) { self.roll_below(6) } else { usize::MAX };
        match fault {
            0 => lost,
            1 => {
                let latest =
                    (intended + FENCE).duration_since(self.now).as_millis().saturating_sub(1000);
                let after = self.roll_below(usize::try_from(latest).unwrap_or(0).max(1));
                let arrives =
                    self.now + SignedDuration::from_millis(i64::try_from(after).unwrap_or(0));
                self.note_event(|| {
                    format!("{action} {} is on its way until {arrives}", operation.id)
                });
                self.cloud.send_late(arrives, operation.clone());
                lost
            }
            2 => Err(refuse_with(action, 400, "Throttling.User", "too many")),
            3 => Err(refuse_with(action, 409, "OperationConflict", "busy")),
            4 => Err(refuse_with(action, 500, "InternalError", "oops")),
            _ => {
                let (answered, latency) = self.cloud.send_change(self.now, operation);
                self.now += latency;
                self.note_event(|| {
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
}

/// The EIP of a change that gives it back or modifies it: never one that people bought.
pub(crate) fn modified_eip(change: &Change) -> Option<&AllocationId> {
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
