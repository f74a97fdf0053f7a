//! Forward entries: the state of a port range's entry, and the step or change it needs.

use super::queue::{request_deletion, wait_for_entry};
use crate::change::{Change, ForwardEntrySpec};
use crate::cloud_facts::{ForwardEntry, ForwardEntryStatus};
use crate::condition::Reason;
use crate::lease::{LeasedPort, PortRange, PortSpan, Target};
use crate::operation::ChangeRequest;
use crate::plan::situation::Situation;
use crate::plan::step::Step;
use crate::retry::RetryPolicy;

/// State of a port range's entry, with what is missing for it to work.
pub(super) enum EntryState<'a> {
    /// The entry forwards to the target.
    Ready(&'a ForwardEntry),
    /// The entry is right, and the cloud is still applying it.
    Pending,
    /// The entry needs this change.
    NeedsChange(Box<ChangeRequest>),
    /// Another step must come before any change.
    NeedsStep(Box<Step>),
}

/// Finds an entry of the lease on none of its port ranges. A person has moved it, and its address
/// may be another pod's by now.
pub(super) fn find_moved_entry<'a>(
    s: &'a Situation<'_>,
    ranges: &[PortRange<'_>],
) -> Option<&'a ForwardEntry> {
    let is_on = |entry: &ForwardEntry, range: &PortRange<'_>| {
        entry.meets_external(
            range.first.external_ip,
            range.first.protocol(),
            &range.external_ports(),
        )
    };
    let is_of_lease = |entry: &ForwardEntry| {
        s.owner.read_entry_name(&entry.name).is_some_and(|name| name.lease == s.lease.id)
    };
    let is_moved = |entry: &&ForwardEntry| {
        is_of_lease(entry) && !ranges.iter().any(|range| is_on(entry, range))
    };
    s.cloud
        .entries
        .iter()
        .filter(is_moved)
        .find(|entry| entry.status == ForwardEntryStatus::Available)
}

pub(super) fn inspect_entry<'a>(
    s: &'a Situation<'_>,
    range: PortRange<'_>,
    target: &Target,
) -> EntryState<'a> {
    let (first, protocol) = (range.first, range.first.protocol());
    let wanted = desired_entry(s, range, target);
    let mut on_external =
        s.cloud.entries.iter().filter(|entry| {
            entry.meets_external(first.external_ip, protocol, &range.external_ports())
        });
    let found = on_external.next();
    let on_internal = s.cloud.entries.iter().find(|entry| {
        entry.meets_internal(target.private_ip, protocol, &range.internal_ports())
            && found.is_none_or(|found| found.entry_id != entry.entry_id)
    });
    let Some(found) = found else {
        return on_internal.map_or_else(
            || request_creation(range, wanted),
            |blocking| resolve_blocking_entry(s, blocking, range),
        );
    };
    let Some(name) = s.owner.read_entry_name(&found.name) else {
        return EntryState::NeedsStep(Box::new(Step::MarkForeignPorts(entry_span(found, first))));
    };
    let same_ports = found.external_port == wanted.external_ports()
        && found.internal_port == wanted.internal_ports()
        && found.protocol() == Some(protocol)
        && name.lease == s.lease.id;
    let current = same_ports
        && name.generation == s.lease.generation
        && found.internal_ip == target.private_ip;
    match (current, found.status, on_internal) {
        (true, ForwardEntryStatus::Available, _) => EntryState::Ready(found),
        (true, _, _) => EntryState::Pending,
        // Same ports, other target: modified, instead of deleted and created.
        (false, ForwardEntryStatus::Available, None)
            if same_ports && !s.cloud.gateway.modify_denied =>
        {
            let entry_id = found.entry_id.clone();
            let resource = entry_id.to_string();
            EntryState::NeedsChange(Box::new(ChangeRequest {
                resource,
                change: Change::ModifyForwardEntry { entry_id, forward: wanted },
            }))
        }
        (false, ForwardEntryStatus::Available, Some(blocking)) if same_ports => {
            resolve_blocking_entry(s, blocking, range)
        }
        // No other lease can hold these ports: an entry of Waygate's on them is a leftover.
        (false, ..) => remove_leftover(found),
    }
}

/// Handles an entry that already forwards to the same ports of the pod IP, as after the reuse of an
/// IP.
fn resolve_blocking_entry<'a>(
    s: &Situation<'_>,
    blocking: &ForwardEntry,
    range: PortRange<'_>,
) -> EntryState<'a> {
    let owner_text = match s.owner.read_entry_name(&blocking.name) {
        Some(name) if name.lease != s.lease.id && s.cloud.known_leases.contains(&name.lease) => {
            "of a former pod; Waygate is deleting that entry"
        }
        Some(_) => return remove_leftover(blocking),
        None => "that is not Waygate's; delete it, and the port is forwarded to this pod",
    };
    let message = format!(
        "port {} of pod IP {} is already forwarded from {}:{} by entry {} (\"{}\") {owner_text}",
        range.first.exposed,
        blocking.internal_ip,
        blocking.external_ip,
        blocking.external_port,
        blocking.entry_id,
        blocking.name
    );
    EntryState::NeedsStep(Box::new(Step::wait_for(
        Reason::PortForwardedElsewhere,
        RetryPolicy::Poll,
        message,
    )))
}

/// Desired entry of a port range.
pub(super) fn desired_entry(
    s: &Situation<'_>,
    range: PortRange<'_>,
    target: &Target,
) -> ForwardEntrySpec {
    ForwardEntrySpec {
        table_id: range.first.table_id.clone(),
        name: s.owner.entry_name(s.lease.id, s.lease.generation),
        external_ip: range.first.external_ip,
        external_port: range.first.external_port,
        internal_ip: target.private_ip,
        internal_port: range.first.exposed.port,
        ports: range.count,
        protocol: range.first.protocol(),
        port_break: s.cloud.gateway.snat && *range.external_ports().end() > MAX_SNAT_SHARED_PORT,
    }
}

/// Highest port that may be forwarded from an address that SNAT uses, too; for higher ports an
/// entry must set `port_break`.
const MAX_SNAT_SHARED_PORT: u16 = 1024;

/// Asks for a new entry.
fn request_creation<'a>(range: PortRange<'_>, wanted: ForwardEntrySpec) -> EntryState<'a> {
    let resource =
        format!("{}/{}/{}", range.first.allocation_id, wanted.protocol, wanted.external_port);
    EntryState::NeedsChange(Box::new(ChangeRequest {
        resource,
        change: Change::CreateForwardEntry(wanted),
    }))
}

/// External ports that a foreign entry occupies on the EIP of `port`.
fn entry_span(entry: &ForwardEntry, port: &LeasedPort) -> PortSpan {
    PortSpan {
        allocation_id: port.allocation_id.clone(),
        protocol: entry.protocol(),
        ports: entry.external_ports(),
    }
}

/// Asks for the deletion of a leftover entry, or waits until it can be deleted.
fn remove_leftover<'a>(entry: &ForwardEntry) -> EntryState<'a> {
    match entry.status {
        ForwardEntryStatus::Available | ForwardEntryStatus::Other => {
            EntryState::NeedsChange(Box::new(request_deletion(&entry.table_id, &entry.entry_id)))
        }
        ForwardEntryStatus::Pending | ForwardEntryStatus::Deleting => {
            EntryState::NeedsStep(Box::new(wait_for_entry(entry)))
        }
    }
}
