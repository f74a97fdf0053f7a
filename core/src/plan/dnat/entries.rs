//! One run of ports: how its forward entry stands, and what it needs.

use super::queue::{delete, settling};
use crate::change::{Change, Forward};
use crate::condition::Reason;
use crate::facts::{ForwardEntry, ForwardEntryStatus};
use crate::lease::{LeasedPort, PortSpan, Run, Target};
use crate::operation::Ask;
use crate::plan::situation::Situation;
use crate::plan::step::Step;
use crate::retry::Patience;

/// What a run's entry needs.
pub(super) enum Entry<'a> {
    /// It works.
    Ready(&'a ForwardEntry),
    /// The cloud is at it.
    Pending,
    /// This change.
    Asks(Box<Ask>),
    /// This, first.
    Needs(Box<Step>),
}

/// An entry of the lease on none of its ports: somebody has moved it, and it may forward to an
/// address that is another pod's by now.
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
        // Nobody else's lease can hold these ports: whatever of ours stands on them is a leftover.
        (false, ..) => leftover(found),
    }
}

/// A recycled pod IP: another entry already forwards to these ports of it.
fn in_the_way<'a>(s: &Situation<'_>, found: &ForwardEntry, run: Run<'_>) -> Entry<'a> {
    let whose = match s.owner.read_entry_name(&found.name) {
        Some(name) if name.lease != s.lease.id && s.cloud.known_leases.contains(&name.lease) => {
            "of a former pod, which is being deleted"
        }
        Some(_) => return leftover(found),
        None => "that is not Waygate's; delete it",
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

/// What the run's entry should be.
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

/// Ports up to here may be forwarded from an address that SNAT uses, too; above, an entry must
/// break them out of it.
const HIGHEST_SHARED: u16 = 1024;

/// A new entry.
fn create<'a>(run: Run<'_>, wanted: Forward) -> Entry<'a> {
    let resource =
        format!("{}/{}/{}", run.head.allocation_id, wanted.protocol, wanted.external_port);
    Entry::Asks(Box::new(Ask { resource, change: Change::CreateForwardEntry(wanted) }))
}

/// Where somebody else's entry stands, on the address of this port.
fn span(entry: &ForwardEntry, port: &LeasedPort) -> PortSpan {
    PortSpan {
        allocation_id: port.allocation_id.clone(),
        protocol: entry.protocol(),
        ports: entry.external_ports(),
    }
}

/// What a leftover of ours needs: to go, once it can.
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
