//! Ports on a NAT gateway: reserve ports, set the target, create one entry per port range, prove
//! them all; and the same backwards.

mod entries;
mod publication;
mod queue;
mod removal;
#[cfg(test)]
mod tests;

pub(super) use publication::content;
pub(super) use removal::{detach, ending};

use super::publication::{doubt, moved, publish, resource_step};
use super::situation::{PodHere, Seen, Situation};
use super::step::{EndReason, Step};
use super::target::waiting_for_interface;
use crate::change::Change;
use crate::condition::Reason;
use crate::lease::{Phase, Target};
use crate::operation::Ask;
use crate::request::Request;
use crate::retry::Patience;
use entries::{Entry, entry, stray};
use queue::{delete, key, no_room, queue};
use removal::{give_back, retire};

pub(super) fn live(s: &Situation<'_>, pod: &PodHere) -> Step {
    let Request::Dnat(request) = &s.lease.request else {
        return Step::End(EndReason::RequestChanged);
    };
    if let Some(step) = moved(s, pod) {
        return step;
    }
    if let Some(step) = s.lease.spilling.then(|| give_back(s)).flatten() {
        return step;
    }
    let Some(ip) = pod.ip else {
        let wait = |patience| {
            Step::wait(
                Reason::WaitingForPodIp,
                patience,
                "forward entries wait for the pod's IP".to_owned(),
            )
        };
        // Entries from a handover point at the former pod's IP only until the handover is over, and
        // are then deleted.
        return match s.lease.handover_until() {
            Some(until) if until <= s.now => detach(s).unwrap_or_else(|| wait(Patience::Event)),
            Some(until) => wait(Patience::Until(until)),
            None => wait(Patience::Event),
        };
    };
    let target = match &s.lease.target {
        Some(target) if target.private_ip == ip => target,
        // Entries are modified to the new address; without the right to modify, they are deleted
        // first.
        Some(_) if s.cloud.gateway.modify_denied => return retire(s).unwrap_or(Step::ClearTarget),
        former => {
            let Seen::There(eni) = &s.cloud.eni else {
                return waiting_for_interface(pod, ip, "DNAT");
            };
            if former.is_none() && s.lease.ports.is_empty() {
                return Step::ReservePorts { zone: eni.zone_id.clone() };
            }
            return Step::SetTarget(Target::of(eni, ip));
        }
    };
    if s.lease.ports.len() < request.ports.len() {
        return Step::ReservePorts { zone: target.zone_id.clone() };
    }
    if let Some(step) = resource_step(s, content(s.lease, Some(target), None)) {
        return step;
    }
    forward(s, pod, target)
}

/// Makes one entry per port range. All changes are asked for at once; without any, the first range
/// that needs another step decides.
fn forward(s: &Situation<'_>, pod: &PodHere, target: &Target) -> Step {
    let runs = s.lease.runs();
    let mut ready = Vec::with_capacity(runs.len());
    let (mut asks, mut needs) = (Vec::new(), None);
    for run in &runs {
        match entry(s, *run, target) {
            Entry::Ready(entry) => ready.push((*run, entry)),
            Entry::Pending => {}
            Entry::Asks(ask) => asks.push(*ask),
            Entry::Needs(step) => {
                needs.get_or_insert(*step);
            }
        }
    }
    if ready.len() < runs.len() {
        let shown = format!("{} of {} forward entries work", ready.len(), runs.len());
        let pending = || {
            Step::wait(
                Reason::EntriesPending,
                Patience::Poll,
                format!("{shown}; the missing ones are being made"),
            )
        };
        if s.lease.phase == Phase::Held && s.lease.doubts > 0 && s.cloud.gateway.losses_held {
            return mend(s, asks, needs.is_none(), &shown);
        }
        let asked = || no_room(s, &asks).or_else(|| queue(s, asks));
        // Withdrawal first, then a gateway that takes no changes. Other steps come last, lest a
        // blocked range delay the changes of the rest.
        return lost(
            s,
            pod,
            format!("{shown}; the missing ones are made again as far as the gateway takes them"),
        )
        .or_else(|| out_of_service(s))
        .or_else(asked)
        .or(needs)
        .unwrap_or_else(pending);
    }
    if let Some((run, entry)) =
        ready.iter().find(|(run, entry)| run.head.entry_id.as_ref() != Some(&entry.entry_id))
    {
        return Step::NoteEntry(key(run.head), entry.entry_id.clone());
    }
    match (publish(s, pod, publication::publication(s, target, &ready)), stray(s, &runs)) {
        // Only once the address is published: the moved entry does not keep it from working.
        (Step::Wait(wait), Some(stray)) => {
            queue(s, vec![delete(&stray.table_id, &stray.entry_id)]).unwrap_or(Step::Wait(wait))
        }
        (step, _) => step,
    }
}

/// Withdraws after missed reads, under the loss limit: published entries may be missing for all
/// pods of the gateway at once.
fn lost(s: &Situation<'_>, pod: &PodHere, shown: String) -> Option<Step> {
    match doubt(s, pod, shown)? {
        Step::Withdraw(withdrawal) if s.lease.phase == Phase::Held => {
            Some(Step::WithdrawLost(withdrawal))
        }
        step => Some(step),
    }
}

/// Puts missing entries back while the loss limit keeps the pod's condition True, and deletes none:
/// clients find the published address working again.
fn mend(s: &Situation<'_>, asks: Vec<Ask>, only_asks: bool, shown: &str) -> Step {
    let held = |patience| {
        let message = format!(
            "{shown}; many pods of the NAT gateway lost their entries within ten minutes, so this \
             pod's condition stays True for now: check that the entries were not deleted by hand, \
             and that the worker's credentials are those of the gateway's account"
        );
        Step::wait(Reason::LossesHeld, patience, message)
    };
    if only_asks && asks.is_empty() {
        return held(Patience::Poll);
    }
    let puts_back = |ask: &Ask| {
        matches!(ask.change, Change::CreateForwardEntry(_) | Change::ModifyForwardEntry { .. })
    };
    let mends = only_asks
        && asks.iter().all(puts_back)
        && no_room(s, &asks).is_none()
        && s.cloud.gateway.trouble.is_none();
    mends.then(|| queue(s, asks)).flatten().unwrap_or_else(|| held(Patience::Event))
}

/// Waits while the gateway or the EIP takes no changes; the periodic read of the gateways notices
/// when it does again.
fn out_of_service(s: &Situation<'_>) -> Option<Step> {
    let trouble = s.cloud.gateway.trouble.as_ref()?;
    Some(Step::wait(
        Reason::GatewayUnavailable,
        Patience::Event,
        format!("{trouble}; the pod's ports stay reserved"),
    ))
}
