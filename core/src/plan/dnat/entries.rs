//! Forward entries: the state of a port range's entry, and the step or change it needs.

use super::queue::{delete, settling};
use crate::change::{Change, Forward};
use crate::condition::Reason;
use crate::facts::{ForwardEntry, ForwardEntryStatus};
use crate::lease::{LeasedPort, PortSpan, Run, Target};
use crate::operation::Ask;
use crate::plan::situation::Situation;
use crate::plan::step::Step;
use crate::retry::Patience;

/// State of a port range's entry, with what is missing for it to work.
pub(super) enum Entry<'a> {
    /// The entry forwards to the target.
    Ready(&'a ForwardEntry),
    /// The entry is right, and the cloud is still applying it.
    Pending,
    /// The entry needs this change.
    Asks(Box<Ask>),
    /// Another step must come before any change.
    Needs(Box<Step>),
}

/// Finds an entry of the lease on none of its port ranges. A person has moved it, and its address
/// may be another pod's by now.
pub(super) fn stray<'a>(s: &'a Situation<'_>, runs: &[Run<'_>]) -> Option<&'a ForwardEntry> {
    let on = |entry: &ForwardEntry, run: &Run<'_>| {
        entry.meets_external(run.head.external_ip, run.head.protocol(), &run.external())
    };
    let ours = |entry: &ForwardEntry| {
        s.owner.read_entry_name(&entry.name).is_some_and(|name| name.lease == s.lease.id)
    };
    let strays = |entry: &&ForwardEntry| ours(entry) && !runs.iter().any(|run| on(entry, run));
    s.cloud
        .entries
        .iter()
        .filter(strays)
        .find(|entry| entry.status == ForwardEntryStatus::Available)
}

pub(super) fn entry<'a>(s: &'a Situation<'_>, run: Run<'_>, target: &Target) -> Entry<'a> {
    let (head, protocol) = (run.head, run.head.protocol());
    let wanted = wanted(s, run, target);
    let mut outside = s
        .cloud
        .entries
        .iter()
        .filter(|entry| entry.meets_external(head.external_ip, protocol, &run.external()));
    let found = outside.next();
    let inside = s.cloud.entries.iter().find(|entry| {
        entry.meets_internal(target.private_ip, protocol, &run.internal())
            && found.is_none_or(|found| found.entry_id != entry.entry_id)
    });
    let Some(found) = found else {
        return inside.map_or_else(|| create(run, wanted), |inside| in_the_way(s, inside, run));
    };
    let Some(name) = s.owner.read_entry_name(&found.name) else {
        return Entry::Needs(Box::new(Step::MarkForeign(span(found, head))));
    };
    let same_ports = found.external_port == wanted.external_ports()
        && found.internal_port == wanted.internal_ports()
        && found.protocol() == Some(protocol)
        && name.lease == s.lease.id;
    let current = same_ports
        && name.generation == s.lease.generation
        && found.internal_ip == target.private_ip;
    match (current, found.status, inside) {
        (true, ForwardEntryStatus::Available, _) => Entry::Ready(found),
        (true, _, _) => Entry::Pending,
        // Same ports, other target: modified, instead of deleted and created.
        (false, ForwardEntryStatus::Available, None)
            if same_ports && !s.cloud.gateway.modify_denied =>
        {
            let entry_id = found.entry_id.clone();
            let resource = entry_id.to_string();
            Entry::Asks(Box::new(Ask {
                resource,
                change: Change::ModifyForwardEntry { entry_id, forward: wanted },
            }))
        }
        (false, ForwardEntryStatus::Available, Some(inside)) if same_ports => {
            in_the_way(s, inside, run)
        }
        // No other lease can hold these ports: an entry of Waygate's on them is a leftover.
        (false, ..) => leftover(found),
    }
}

/// Handles an entry that already forwards to the same ports of the pod IP, as after the reuse of an
/// IP.
fn in_the_way<'a>(s: &Situation<'_>, found: &ForwardEntry, run: Run<'_>) -> Entry<'a> {
    let whose = match s.owner.read_entry_name(&found.name) {
        Some(name) if name.lease != s.lease.id && s.cloud.known_leases.contains(&name.lease) => {
            "of a former pod; Waygate is deleting that entry"
        }
        Some(_) => return leftover(found),
        None => "that is not Waygate's; delete it, and the port is forwarded to this pod",
    };
    let message = format!(
        "port {} of pod IP {} is already forwarded from {}:{} by entry {} (\"{}\") {whose}",
        run.head.exposed,
        found.internal_ip,
        found.external_ip,
        found.external_port,
        found.entry_id,
        found.name
    );
    Entry::Needs(Box::new(Step::wait(Reason::PortForwardedElsewhere, Patience::Poll, message)))
}

/// Desired entry of a port range.
pub(super) fn wanted(s: &Situation<'_>, run: Run<'_>, target: &Target) -> Forward {
    Forward {
        table_id: run.head.table_id.clone(),
        name: s.owner.entry_name(s.lease.id, s.lease.generation),
        external_ip: run.head.external_ip,
        external_port: run.head.external_port,
        internal_ip: target.private_ip,
        internal_port: run.head.exposed.port,
        ports: run.ports,
        protocol: run.head.protocol(),
        port_break: s.cloud.gateway.snat && *run.external().end() > HIGHEST_SHARED,
    }
}

/// Highest port that may be forwarded from an address that SNAT uses, too; for higher ports an
/// entry must set `port_break`.
const HIGHEST_SHARED: u16 = 1024;

/// Asks for a new entry.
fn create<'a>(run: Run<'_>, wanted: Forward) -> Entry<'a> {
    let resource =
        format!("{}/{}/{}", run.head.allocation_id, wanted.protocol, wanted.external_port);
    Entry::Asks(Box::new(Ask { resource, change: Change::CreateForwardEntry(wanted) }))
}

/// External ports that a foreign entry occupies on the EIP of `port`.
fn span(entry: &ForwardEntry, port: &LeasedPort) -> PortSpan {
    PortSpan {
        allocation_id: port.allocation_id.clone(),
        protocol: entry.protocol(),
        ports: entry.external_ports(),
    }
}

/// Asks for the deletion of a leftover entry, or waits until it can be deleted.
fn leftover<'a>(entry: &ForwardEntry) -> Entry<'a> {
    match entry.status {
        ForwardEntryStatus::Available | ForwardEntryStatus::Other => {
            Entry::Asks(Box::new(delete(&entry.table_id, &entry.entry_id)))
        }
        ForwardEntryStatus::Pending | ForwardEntryStatus::Deleting => {
            Entry::Needs(Box::new(settling(entry)))
        }
    }
}
