//! Operations whose end is not known.
//!
//! ```text
//! queued ─▶ sent ─▶ (settled)         queued: still what the plan would ask for? wait; else take it back
//!   ▲         └▶ unanswered           sent: wait for the answer
//!   └──────────────┘                  unanswered: a read tells how it ended, or it is sent again, or it must be waited out
//! ```
//!
//! Sending again is safe (same token, same parameters) as long as its effect is still wanted. Where
//! it is not, or the cloud has said no to it, nothing is sent: what a late send may still do is
//! waited for until the fence has passed, and taken back after.

use super::situation::{PodFact, Seen, Situation};
use super::step::Step;
use crate::change::{Answer, Change, Forward};
use crate::condition::Reason;
use crate::facts::{EipStatus, ForwardEntry};
use crate::ids::{AllocationId, EniId};
use crate::lease::Phase;
use crate::operation::{Operation, Outcome, Sending};
use crate::retry::Patience;
use std::net::Ipv4Addr;

/// What becomes of them; none once all are settled. An operation is still wanted if `fresh`, the
/// step were none under way, would ask for it.
pub(super) fn resolve(s: &Situation<'_>, fresh: &Step) -> Option<Step> {
    if let Some(operation) = unwanted(s, fresh) {
        return Some(Step::Unqueue(operation.id));
    }
    // Those without an answer first: what is queued or on its way needs nothing of us.
    let worst = s.operations.iter().max_by_key(|operation| match operation.sending {
        Sending::Queued => 0,
        Sending::Sent => 1,
        Sending::Unanswered => 2,
    })?;
    Some(match worst.sending {
        Sending::Queued => {
            let gateway =
                s.lease.ports.first().map_or("its NAT gateway", |port| port.gateway_id.as_str());
            let message = format!(
                "the pod's forward entries wait for their turn at {gateway}, which takes changes one after the other"
            );
            Step::wait(Reason::WaitingForGateway, Patience::Turn, message)
        }
        Sending::Sent => {
            let message = format!("{} is under way", worst.change.action());
            Step::wait(Reason::Unanswered, Patience::Turn, message)
        }
        Sending::Unanswered => resolve_unanswered(worst, s, fresh),
    })
}

/// A queued operation that would not be asked for as things are now. What takes away is never one:
/// taken away twice is taken away.
fn unwanted<'a>(s: &'a Situation<'_>, fresh: &Step) -> Option<&'a Operation> {
    let gives =
        |operation: &&Operation| !matches!(operation.change, Change::DeleteForwardEntry { .. });
    s.operations
        .iter()
        .filter(gives)
        .find(|operation| operation.sending == Sending::Queued && !asks_for(fresh, operation))
}

/// Whether this step asks for just what the operation does.
fn asks_for(fresh: &Step, operation: &Operation) -> bool {
    matches!(fresh, Step::Queue { asks, .. } if asks.iter().any(|ask| ask.change == operation.change))
}

fn resolve_unanswered(operation: &Operation, s: &Situation<'_>, fresh: &Step) -> Step {
    match by_reading(operation, s, fresh) {
        Step::Resend(_) | Step::Requeue(_) if operation.waits_out => missed(operation, s),
        step => step,
    }
}

fn by_reading(operation: &Operation, s: &Situation<'_>, fresh: &Step) -> Step {
    match &operation.change {
        Change::AllocateEipAddress { .. } | Change::AllocateEipAddressPro { .. } => {
            match s.cloud.tagged.first() {
                Some(eip) => {
                    let answer = Answer {
                        allocation_id: Some(eip.allocation_id.clone()),
                        ip_address: Some(eip.ip_address),
                        ..Answer::default()
                    };
                    done(operation, Some(answer))
                }
                None => again_if_wanted(operation, s),
            }
        }
        Change::AssociateEipAddress { allocation_id, eni_id, private_ip } => {
            associate(operation, s, allocation_id, eni_id, *private_ip)
        }
        Change::UnassociateEipAddress { .. } => match &s.cloud.eip {
            Seen::There(eip) if eip.status == EipStatus::Unassociating => {
                poll("the EIP is being unbound")
            }
            // Whether it is still bound to our target is for the plan to see, once this is settled.
            Seen::There(eip) if eip.status == EipStatus::Available => done(operation, None),
            Seen::There(_) | Seen::Absent | Seen::NotRead => Step::Resend(operation.id),
        },
        Change::AddCommonBandwidthPackageIp { package_id, .. } => match &s.cloud.eip {
            Seen::There(eip) if eip.bandwidth_package.as_ref() == Some(package_id) => {
                done(operation, None)
            }
            Seen::There(_) | Seen::Absent | Seen::NotRead => again_if_wanted(operation, s),
        },
        Change::RemoveCommonBandwidthPackageIp { package_id, .. } => match &s.cloud.eip {
            Seen::There(eip) if eip.bandwidth_package.as_ref() != Some(package_id) => {
                done(operation, None)
            }
            Seen::There(_) | Seen::Absent | Seen::NotRead => Step::Resend(operation.id),
        },
        // Absolute or one-way: sending again can only confirm it.
        Change::ReleaseEipAddress { .. } | Change::ModifyEipAddressAttribute { .. } => {
            Step::Resend(operation.id)
        }
        // One that the lease knew before was made by an earlier creation: this one's may still
        // come.
        Change::CreateForwardEntry(forward) => {
            match named(s, forward).filter(|entry| !is_known(s, entry)) {
                Some(entry) => done(
                    operation,
                    Some(Answer { entry_id: Some(entry.entry_id.clone()), ..Answer::default() }),
                ),
                None => queued_again_if_wanted(operation, s, fresh),
            }
        }
        Change::ModifyForwardEntry { forward, .. } => match named(s, forward) {
            Some(_) => done(operation, None),
            None => queued_again_if_wanted(operation, s, fresh),
        },
        // A list without the entry does not confirm it: an empty one is what wrong credentials
        // give, too.
        Change::DeleteForwardEntry { .. } => Step::Requeue(operation.id),
    }
}

fn associate(
    operation: &Operation,
    s: &Situation<'_>,
    allocation_id: &AllocationId,
    eni_id: &EniId,
    private_ip: Ipv4Addr,
) -> Step {
    let Seen::There(eip) = &s.cloud.eip else { return missed(operation, s) };
    debug_assert_eq!(eip.allocation_id, *allocation_id);
    let primary = s
        .lease
        .target
        .as_ref()
        .is_some_and(|target| target.primary && target.private_ip == private_ip);
    match eip.status {
        EipStatus::Associating | EipStatus::Unassociating => poll("the EIP is being bound"),
        EipStatus::InUse if eip.bound_to(eni_id, private_ip, primary) => done(operation, None),
        EipStatus::Available => again_if_wanted(operation, s),
        EipStatus::InUse | EipStatus::Releasing | EipStatus::Other => missed(operation, s),
    }
}

/// Again while the pod is there to want it and has not moved; else it is waited out.
fn again_if_wanted(operation: &Operation, s: &Situation<'_>) -> Step {
    let PodFact::Here(pod) = s.pod else { return missed(operation, s) };
    let aims_elsewhere = matches!(&operation.change, Change::AssociateEipAddress { private_ip, .. } if pod.ip != Some(*private_ip));
    let gives_up =
        s.lease.phase == Phase::Ending || s.lease.lost_to.is_some() || s.resource.is_foreign();
    let unwanted = gives_up || pod.exited || pod.terminating || aims_elsewhere;
    if unwanted { missed(operation, s) } else { Step::Resend(operation.id) }
}

/// The same for what a lane sends. One rule for what is put back into its queue and what stays
/// there, or the two would take turns for ever.
fn queued_again_if_wanted(operation: &Operation, s: &Situation<'_>, fresh: &Step) -> Step {
    if asks_for(fresh, operation) { Step::Requeue(operation.id) } else { missed(operation, s) }
}

/// Its effect does not show. Before the fence that says nothing; after it, twice, that nothing came
/// of it.
fn missed(operation: &Operation, s: &Situation<'_>) -> Step {
    if s.now <= operation.fence_until {
        let message = format!(
            "the answer to {} was lost; what became of it is known by {}",
            operation.change.action(),
            operation.fence_until
        );
        return Step::wait(Reason::Unanswered, Patience::Event, message);
    }
    match operation.misses {
        0 => Step::Miss(operation.id),
        _ => Step::Settle { operation: operation.id, outcome: Outcome::Void, answer: None },
    }
}

fn done(operation: &Operation, answer: Option<Answer>) -> Step {
    Step::Settle { operation: operation.id, outcome: Outcome::Done, answer }
}

fn poll(message: &str) -> Step {
    Step::wait(Reason::EipChanging, Patience::Poll, message.to_owned())
}

/// Whether an earlier answer or read has named the entry.
fn is_known(s: &Situation<'_>, entry: &ForwardEntry) -> bool {
    s.lease.ports.iter().any(|port| port.entry_id.as_ref() == Some(&entry.entry_id))
}

/// The entry that stands as this one was to stand, by its name and on both sides.
fn named<'a>(s: &'a Situation<'_>, forward: &Forward) -> Option<&'a ForwardEntry> {
    let is = |entry: &&ForwardEntry| {
        entry.name == forward.name
            && (&entry.external_port, entry.internal_ip)
                == (&forward.external_ports(), forward.internal_ip)
            && entry.internal_port == forward.internal_ports()
            && entry.protocol() == Some(forward.protocol)
    };
    s.cloud.entries.iter().find(is)
}
