//! Operations whose outcome is not known.
//!
//! ```text
//! queued ─▶ sent ─▶ (settled)         queued: wait while it is wanted, or take it back
//!   ▲         └▶ unanswered           sent: wait for the answer
//!   └──────────────┘                  unanswered: settle by a read, send again, or await the fence
//! ```
//!
//! Sending again is safe (same token, same parameters) as long as the effect is still wanted. If
//! the effect is unwanted, or the cloud has refused the change, the plan sends nothing, waits for
//! the fence, until which an earlier send may take effect, and then undoes the effect.

use super::situation::{Lookup, PodState, Situation};
use super::step::Step;
use crate::change::{Answer, Change, ForwardEntrySpec};
use crate::cloud_facts::{EipStatus, ForwardEntry};
use crate::condition::Reason;
use crate::ids::{AllocationId, EniId};
use crate::lease::Phase;
use crate::operation::{Operation, Outcome, SendState};
use crate::retry::RetryPolicy;
use std::net::Ipv4Addr;

/// Plans the step for the unresolved operations; none once all are settled. An operation is still
/// wanted if `fresh`, the step without operations, would ask for the same change.
pub(super) fn resolve_operations(s: &Situation<'_>, fresh: &Step) -> Option<Step> {
    if let Some(operation) = find_unwanted_operation(s, fresh) {
        return Some(Step::CancelQueued(operation.id));
    }
    // Unanswered operations first: queued and sent ones need no decision.
    let most_urgent = s.operations.iter().max_by_key(|operation| match operation.send_state {
        SendState::Queued => 0,
        SendState::Sent { .. } => 1,
        SendState::Unanswered => 2,
    })?;
    Some(match most_urgent.send_state {
        SendState::Queued => wait_in_queue(most_urgent, s),
        SendState::Sent { answer_by } => {
            let message =
                format!("the cloud's answer to {} is awaited", most_urgent.change.action());
            Step::wait_for(Reason::WaitingForAnswer, RetryPolicy::Answer(answer_by), message)
        }
        SendState::Unanswered => resolve_unanswered(most_urgent, s, fresh),
    })
}

fn wait_in_queue(operation: &Operation, s: &Situation<'_>) -> Step {
    if operation.change.forward_table().is_none() {
        let message = format!(
            "{} is queued: the account may call it only so often a minute; it follows without \
             further action",
            operation.change.action()
        );
        return Step::wait_for(Reason::RateLimited, RetryPolicy::Queue, message);
    }
    let gateway = s.lease.ports.first().map_or("its NAT gateway", |port| port.gateway_id.as_str());
    let message = format!(
        "the pod's forward entries are queued at {gateway}, which takes changes one after the \
         other; they follow without further action"
    );
    Step::wait_for(Reason::WaitingForGateway, RetryPolicy::Queue, message)
}

/// Finds a queued operation that is not wanted now. One that was sent before is judged by the rule
/// that requeued it: with two rules, requeueing and taking back could alternate for ever. A deletion
/// always stays queued: deleting twice does no harm.
fn find_unwanted_operation<'a>(s: &'a Situation<'_>, fresh: &Step) -> Option<&'a Operation> {
    let is_wanted = |operation: &Operation| match (&operation.change, operation.sends) {
        (Change::DeleteForwardEntry { .. }, _) => true,
        (change, 1..) if change.forward_table().is_none() => is_wanted_again(operation, s),
        _ => step_contains_change(fresh, operation),
    };
    s.operations
        .iter()
        .find(|operation| operation.send_state == SendState::Queued && !is_wanted(operation))
}

/// True if `fresh` asks for exactly the operation's change.
fn step_contains_change(fresh: &Step, operation: &Operation) -> bool {
    match fresh {
        Step::QueueChanges { requests, .. } => {
            requests.iter().any(|request| request.change == operation.change)
        }
        Step::QueueEipChange { change, .. } => *change == operation.change,
        _ => false,
    }
}

fn resolve_unanswered(operation: &Operation, s: &Situation<'_>, fresh: &Step) -> Step {
    match resolve_by_read(operation, s, fresh) {
        Step::Requeue(_) if operation.awaits_fence => wait_or_void(operation, s),
        step => step,
    }
}

fn resolve_by_read(operation: &Operation, s: &Situation<'_>, fresh: &Step) -> Step {
    match &operation.change {
        Change::AllocateEipAddress { .. } | Change::AllocateEipAddressPro { .. } => {
            match s.cloud.tagged.first() {
                Some(eip) => {
                    let answer = Answer {
                        allocation_id: Some(eip.allocation_id.clone()),
                        ip_address: Some(eip.ip_address),
                        ..Answer::default()
                    };
                    settle_done(operation, Some(answer))
                }
                None => requeue_if_wanted_again(operation, s),
            }
        }
        Change::AssociateEipAddress { allocation_id, eni_id, private_ip } => {
            resolve_association(operation, s, allocation_id, eni_id, *private_ip)
        }
        Change::UnassociateEipAddress { .. } => match &s.cloud.eip {
            Lookup::Present(eip) if eip.status == EipStatus::Unassociating => {
                wait_for_eip_change("the cloud is unbinding the EIP")
            }
            // A binding to another address is the plan's to handle, once this operation is settled.
            Lookup::Present(eip) if eip.status == EipStatus::Available => {
                settle_done(operation, None)
            }
            Lookup::Present(_) | Lookup::Absent | Lookup::NotRead => Step::Requeue(operation.id),
        },
        Change::AddCommonBandwidthPackageIp { package_id, .. } => match &s.cloud.eip {
            Lookup::Present(eip) if eip.bandwidth_package.as_ref() == Some(package_id) => {
                settle_done(operation, None)
            }
            Lookup::Present(_) | Lookup::Absent | Lookup::NotRead => {
                requeue_if_wanted_again(operation, s)
            }
        },
        Change::RemoveCommonBandwidthPackageIp { package_id, .. } => match &s.cloud.eip {
            Lookup::Present(eip) if eip.bandwidth_package.as_ref() != Some(package_id) => {
                settle_done(operation, None)
            }
            Lookup::Present(_) | Lookup::Absent | Lookup::NotRead => Step::Requeue(operation.id),
        },
        // Absolute or one-way changes: sending again can only confirm the effect.
        Change::ReleaseEipAddress { .. } | Change::ModifyEipAddressAttribute { .. } => {
            Step::Requeue(operation.id)
        }
        // An entry that the lease has recorded was made by an earlier creation; the entry of this
        // one may still appear.
        Change::CreateForwardEntry(forward) => {
            match find_matching_entry(s, forward).filter(|entry| !is_recorded_entry(s, entry)) {
                Some(entry) => settle_done(
                    operation,
                    Some(Answer { entry_id: Some(entry.entry_id.clone()), ..Answer::default() }),
                ),
                None => requeue_if_wanted(operation, s, fresh),
            }
        }
        Change::ModifyForwardEntry { forward, .. } => match find_matching_entry(s, forward) {
            Some(_) => settle_done(operation, None),
            None => requeue_if_wanted(operation, s, fresh),
        },
        // Absence from a list does not prove the deletion: wrong credentials give an empty list,
        // too.
        Change::DeleteForwardEntry { .. } => Step::Requeue(operation.id),
    }
}

fn resolve_association(
    operation: &Operation,
    s: &Situation<'_>,
    allocation_id: &AllocationId,
    eni_id: &EniId,
    private_ip: Ipv4Addr,
) -> Step {
    let Lookup::Present(eip) = &s.cloud.eip else { return wait_or_void(operation, s) };
    debug_assert_eq!(eip.allocation_id, *allocation_id);
    let primary = s
        .lease
        .target
        .as_ref()
        .is_some_and(|target| target.primary && target.private_ip == private_ip);
    match eip.status {
        EipStatus::Associating | EipStatus::Unassociating => {
            wait_for_eip_change("the cloud is binding the EIP")
        }
        EipStatus::InUse if eip.is_bound_to(eni_id, private_ip, primary) => {
            settle_done(operation, None)
        }
        EipStatus::Available => requeue_if_wanted_again(operation, s),
        EipStatus::InUse | EipStatus::Releasing | EipStatus::Other => wait_or_void(operation, s),
    }
}

/// Requeues a change of an EIP while its effect is wanted; otherwise the operation awaits its fence.
fn requeue_if_wanted_again(operation: &Operation, s: &Situation<'_>) -> Step {
    if is_wanted_again(operation, s) {
        Step::Requeue(operation.id)
    } else {
        wait_or_void(operation, s)
    }
}

/// True if a change of an EIP that was sent before may be sent again: one that gives, while the pod
/// wants the effect and has not moved; any other, until its answer is known.
fn is_wanted_again(operation: &Operation, s: &Situation<'_>) -> bool {
    if !operation.change.gives()
        || matches!(operation.change, Change::ModifyEipAddressAttribute { .. })
    {
        return true;
    }
    let PodState::Present(pod) = s.pod else { return false };
    let aims_elsewhere = matches!(&operation.change, Change::AssociateEipAddress { private_ip, .. } if pod.ip != Some(*private_ip));
    let gives_up = s.lease.phase == Phase::Releasing
        || s.lease.preempted_by.is_some()
        || s.custom_resource.is_foreign();
    !(gives_up || pod.exited || pod.terminating || aims_elsewhere)
}

/// Requeues a change of a forward entry while the plan still asks for it.
fn requeue_if_wanted(operation: &Operation, s: &Situation<'_>, fresh: &Step) -> Step {
    if step_contains_change(fresh, operation) {
        Step::Requeue(operation.id)
    } else {
        wait_or_void(operation, s)
    }
}

/// Handles an operation whose effect does not show. Before the fence a read proves nothing; after
/// it, the second read without effect makes the operation void.
fn wait_or_void(operation: &Operation, s: &Situation<'_>) -> Step {
    if s.now <= operation.fence_until {
        let message = format!(
            "the answer to {} was lost; reads decide it, about half a minute after {}",
            operation.change.action(),
            operation.fence_until
        );
        return Step::wait_for(Reason::WaitingForAnswer, RetryPolicy::Event, message);
    }
    match operation.reads_without_effect {
        0 => Step::CountReadWithoutEffect(operation.id),
        _ => Step::Settle { operation: operation.id, outcome: Outcome::Void, answer: None },
    }
}

fn settle_done(operation: &Operation, answer: Option<Answer>) -> Step {
    Step::Settle { operation: operation.id, outcome: Outcome::Done, answer }
}

fn wait_for_eip_change(message: &str) -> Step {
    Step::wait_for(Reason::EipChanging, RetryPolicy::Poll, message.to_owned())
}

/// True if an earlier answer or read has recorded the entry on the lease.
fn is_recorded_entry(s: &Situation<'_>, entry: &ForwardEntry) -> bool {
    s.lease.ports.iter().any(|port| port.entry_id.as_ref() == Some(&entry.entry_id))
}

/// Finds the entry that `forward` describes, by name and by both ends.
fn find_matching_entry<'a>(
    s: &'a Situation<'_>,
    forward: &ForwardEntrySpec,
) -> Option<&'a ForwardEntry> {
    let matches = |entry: &&ForwardEntry| {
        entry.name == forward.name
            && (&entry.external_port, entry.internal_ip)
                == (&forward.external_ports(), forward.internal_ip)
            && entry.internal_port == forward.internal_ports()
            && entry.protocol() == Some(forward.protocol)
    };
    s.cloud.entries.iter().find(matches)
}
