//! Ports on a NAT gateway: reserve ports, set the target, create one entry per port range, prove
//! them all; and the same backwards.

mod entries;
mod publication;
mod queue;
mod removal;
#[cfg(test)]
mod tests;

pub(super) use publication::dnat_content;
pub(super) use removal::{detach_entries, plan_dnat_release};

use super::publication::{
    ensure_custom_resource, publish_or_idle, reread_or_withdraw, withdraw_if_ip_changed,
};
use super::situation::{Lookup, PodView, Situation};
use super::step::{EndReason, Step};
use super::target::wait_for_interface;
use crate::change::Change;
use crate::condition::Reason;
use crate::lease::{Phase, Target};
use crate::operation::ChangeRequest;
use crate::request::Request;
use crate::retry::RetryPolicy;
use entries::{EntryState, find_moved_entry, inspect_entry};
use queue::{port_key, queue_at_gateway, request_deletion, vacate_or_wait};
use removal::{delete_entries, give_back_ports};

pub(super) fn plan_dnat(s: &Situation<'_>, pod: &PodView) -> Step {
    let Request::Dnat(request) = &s.lease.request else {
        return Step::BeginRelease(EndReason::RequestChanged);
    };
    if let Some(step) = withdraw_if_ip_changed(s, pod) {
        return step;
    }
    if let Some(step) = s.lease.vacating.then(|| give_back_ports(s)).flatten() {
        return step;
    }
    let Some(ip) = pod.ip else {
        let wait = |retry_policy| {
            Step::wait_for(
                Reason::WaitingForPodIp,
                retry_policy,
                "forward entries wait for the pod's IP".to_owned(),
            )
        };
        // Entries from a handover point at the former pod's IP only until the handover is over, and
        // are then deleted.
        return match s.lease.handover_until() {
            Some(until) if until <= s.now => {
                detach_entries(s).unwrap_or_else(|| wait(RetryPolicy::PodEvent))
            }
            Some(until) => wait(RetryPolicy::Until(until)),
            None => wait(RetryPolicy::PodEvent),
        };
    };
    let target = match &s.lease.target {
        Some(target) if target.private_ip == ip => target,
        // Entries are modified to the new address; without the right to modify, they are deleted
        // first.
        Some(_) if s.cloud.gateway.modify_denied => {
            return delete_entries(s).unwrap_or(Step::ClearTarget);
        }
        former => {
            let Lookup::Present(eni) = &s.cloud.eni else {
                return wait_for_interface(pod, ip, "DNAT");
            };
            if former.is_none() && s.lease.ports.is_empty() {
                return Step::ReservePorts { zone: eni.zone_id.clone() };
            }
            return Step::SetTarget(Target::from_eni(eni, ip));
        }
    };
    if s.lease.ports.len() < request.ports.len() {
        return Step::ReservePorts { zone: target.zone_id.clone() };
    }
    if let Some(step) = ensure_custom_resource(s, dnat_content(s.lease, Some(target), None)) {
        return step;
    }
    ensure_entries(s, pod, target)
}

/// Makes one entry per port range. All changes are asked for at once; without any, the first range
/// that needs another step decides.
fn ensure_entries(s: &Situation<'_>, pod: &PodView, target: &Target) -> Step {
    let ranges = s.lease.port_ranges();
    let mut ready = Vec::with_capacity(ranges.len());
    let (mut requests, mut other_step) = (Vec::new(), None);
    for range in &ranges {
        match inspect_entry(s, *range, target) {
            EntryState::Ready(entry) => ready.push((*range, entry)),
            EntryState::Pending => {}
            EntryState::NeedsChange(request) => requests.push(*request),
            EntryState::NeedsStep(step) => {
                other_step.get_or_insert(*step);
            }
        }
    }
    if ready.len() < ranges.len() {
        let progress = format!("{} of {} forward entries work", ready.len(), ranges.len());
        let pending = || {
            Step::wait_for(
                Reason::EntriesPending,
                RetryPolicy::Poll,
                format!("{progress}; the missing ones are being made"),
            )
        };
        if s.lease.phase == Phase::Bound
            && s.lease.missed_reads > 0
            && s.cloud.gateway.withdrawals_limited
        {
            return restore_entries(s, requests, other_step.is_none(), &progress);
        }
        let queue_missing =
            || vacate_or_wait(s, &requests).or_else(|| queue_at_gateway(s, requests));
        // Withdrawal first, then a gateway that takes no changes. Other steps come last, lest a
        // blocked range delay the changes of the rest.
        return reread_or_limit_withdrawal(
            s,
            pod,
            format!(
                "{progress}; Waygate creates the missing ones again as the gateway accepts them"
            ),
        )
        .or_else(|| wait_while_unavailable(s))
        .or_else(queue_missing)
        .or(other_step)
        .unwrap_or_else(pending);
    }
    if let Some((range, entry)) =
        ready.iter().find(|(range, entry)| range.first.entry_id.as_ref() != Some(&entry.entry_id))
    {
        return Step::RecordEntry(port_key(range.first), entry.entry_id.clone());
    }
    match (
        publish_or_idle(s, pod, publication::dnat_publication(s, target, &ready)),
        find_moved_entry(s, &ranges),
    ) {
        // Only once the address is published: the moved entry does not keep it from working.
        (Step::Wait(wait), Some(moved)) => {
            queue_at_gateway(s, vec![request_deletion(&moved.table_id, &moved.entry_id)])
                .unwrap_or(Step::Wait(wait))
        }
        (step, _) => step,
    }
}

/// Withdraws after missed reads, under the loss limit: published entries may be missing for all
/// pods of the gateway at once.
fn reread_or_limit_withdrawal(s: &Situation<'_>, pod: &PodView, why: String) -> Option<Step> {
    match reread_or_withdraw(s, pod, why)? {
        Step::Withdraw(withdrawal) if s.lease.phase == Phase::Bound => {
            Some(Step::WithdrawLimited(withdrawal))
        }
        step => Some(step),
    }
}

/// Restores missing entries while the loss limit keeps the pod's condition True, and deletes none:
/// clients find the published address working again. `no_other_step` is true if no port range needs
/// a step other than a change.
fn restore_entries(
    s: &Situation<'_>,
    requests: Vec<ChangeRequest>,
    no_other_step: bool,
    progress: &str,
) -> Step {
    let wait_limited = |retry_policy| {
        let message = format!(
            "{progress}; many pods of the NAT gateway lost their entries within ten minutes, so \
             this pod's condition stays True for now: check that the entries were not deleted by \
             hand, and that the worker's credentials are those of the gateway's account"
        );
        Step::wait_for(Reason::WithdrawalsLimited, retry_policy, message)
    };
    if no_other_step && requests.is_empty() {
        return wait_limited(RetryPolicy::Poll);
    }
    let restores = |request: &ChangeRequest| {
        matches!(request.change, Change::CreateForwardEntry(_) | Change::ModifyForwardEntry { .. })
    };
    let can_restore = no_other_step
        && requests.iter().all(restores)
        && vacate_or_wait(s, &requests).is_none()
        && s.cloud.gateway.unavailable_reason.is_none();
    can_restore
        .then(|| queue_at_gateway(s, requests))
        .flatten()
        .unwrap_or_else(|| wait_limited(RetryPolicy::Event))
}

/// Waits while the gateway or the EIP takes no changes; the periodic read of the gateways notices
/// when it does again.
fn wait_while_unavailable(s: &Situation<'_>) -> Option<Step> {
    let unavailable_reason = s.cloud.gateway.unavailable_reason.as_ref()?;
    Some(Step::wait_for(
        Reason::GatewayUnavailable,
        RetryPolicy::Event,
        format!("{unavailable_reason}; the pod's ports stay reserved"),
    ))
}
