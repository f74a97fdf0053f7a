//! Drift: what a list of the cloud shows otherwise than the records of bound leases say. It wakes
//! leases, which read for themselves; nothing is decided here.
//!
//! ```text
//! list ────┐
//! records ─┴▶ find_eip_drift, find_entry_drift ─▶ DriftWakeups ─▶ leases to wake
//! ```

use crate::cloud_facts::{Eip, EipStatus, ForwardEntry, ForwardEntryStatus, format_ports};
use crate::ids::{AllocationId, EniId, LeaseId};
use crate::ownership::read_entry_name;
use crate::plan::eip_settings_differ;
use crate::request::{EipRequest, Protocol};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// A bound lease's EIP, as it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct EipRecord {
    /// Lease that has the EIP.
    pub lease: LeaseId,
    /// The EIP.
    pub allocation_id: AllocationId,
    /// Interface that the EIP should be bound to.
    pub eni_id: EniId,
    /// Address of the interface that the EIP should be bound to.
    pub private_ip: Ipv4Addr,
    /// True if it is the interface's primary address.
    pub primary: bool,
    /// Request with the EIP's settings.
    pub request: EipRequest,
    /// Last settlement of an operation of the lease.
    pub settled_at: Option<Timestamp>,
}

/// A forward entry of a bound lease, as it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct EntryRecord {
    /// Lease that has the entry's ports.
    pub lease: LeaseId,
    /// Name with store, cluster, lease and generation.
    pub name: String,
    /// Address that the entry listens on.
    pub external_ip: Ipv4Addr,
    /// First of its external ports.
    pub external_port: u16,
    /// Private address that it forwards to.
    pub internal_ip: Ipv4Addr,
    /// First of the pod's ports.
    pub internal_port: u16,
    /// Number of adjacent ports.
    pub ports: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Last settlement of an operation of the lease.
    pub settled_at: Option<Timestamp>,
}

/// What a list shows of a lease in place of what was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Nothing of what is missing.
    Absent,
    /// Something else, described so that a change of it is told from the same once more.
    Otherwise(String),
}

/// A lease whose record a list does not confirm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// The lease.
    pub lease: LeaseId,
    /// What the list shows in place of the record.
    pub shown: Shown,
    /// Last settlement of an operation of the lease: after a repair the same drift is a new one.
    pub settled_at: Option<Timestamp>,
}

/// Finds the leases whose EIP is not in the list, or not bound to the lease's target, or has other
/// settings than those requested.
pub fn find_eip_drift(records: &[EipRecord], list: &BTreeMap<AllocationId, Eip>) -> Vec<Drift> {
    let shown = |record: &EipRecord| {
        let Some(eip) = list.get(&record.allocation_id) else { return Some(Shown::Absent) };
        let works = eip.status == EipStatus::InUse
            && eip.is_bound_to(&record.eni_id, record.private_ip, record.primary);
        (!works || eip_settings_differ(&record.request, eip)).then(|| {
            Shown::Otherwise(format!(
                "{} {:?} {:?} {} {} {}",
                eip.status,
                eip.binding,
                eip.bandwidth_package,
                eip.bandwidth,
                eip.name,
                eip.description
            ))
        })
    };
    let drift = |record: &EipRecord| {
        let (lease, settled_at) = (record.lease, record.settled_at);
        Some(Drift { lease, shown: shown(record)?, settled_at })
    };
    records.iter().filter_map(drift).collect()
}

/// Finds the leases of which an entry is not in the list of their gateway, forwards otherwise, or
/// does not forward; and those of which the list has an entry on other ports than theirs. Each
/// lease once, as absent only if nothing of it is shown otherwise.
pub fn find_entry_drift(records: &[EntryRecord], list: &[ForwardEntry]) -> Vec<Drift> {
    let by_external: BTreeMap<_, _> = list
        .iter()
        .map(|entry| ((entry.external_ip, entry.external_port.as_str(), entry.protocol()), entry))
        .collect();
    let mut of_leases: BTreeMap<LeaseId, (Option<Timestamp>, Vec<&EntryRecord>)> = BTreeMap::new();
    for record in records {
        let lease = of_leases.entry(record.lease).or_default();
        lease.0 = record.settled_at;
        lease.1.push(record);
    }
    let mut drifts = BTreeMap::new();
    for record in records {
        let ports = format_ports(record.external_port, record.ports);
        let exact = by_external.get(&(record.external_ip, ports.as_str(), Some(record.protocol)));
        if exact.is_some_and(|entry| record.is_confirmed_by(entry)) {
            continue;
        }
        let found = list.iter().find(|entry| record.shares_ports_with(entry));
        add_shown(&mut drifts, record.lease, record.settled_at, found);
    }
    for entry in list.iter().filter(|entry| entry.status == ForwardEntryStatus::Available) {
        let Some(name) = read_entry_name(&entry.name) else { continue };
        // By the whole name, since another store's entry may name the same lease.
        let is_of = |record: &&EntryRecord| {
            read_entry_name(&record.name).is_some_and(|own| own.owner == name.owner)
        };
        if let Some((settled_at, own)) = of_leases.get(&name.lease)
            && own.iter().any(is_of)
            && !own.iter().any(|record| record.shares_ports_with(entry))
        {
            add_shown(&mut drifts, name.lease, *settled_at, Some(entry));
        }
    }
    drifts.into_values().collect()
}

fn add_shown(
    drifts: &mut BTreeMap<LeaseId, Drift>,
    lease: LeaseId,
    settled_at: Option<Timestamp>,
    entry: Option<&ForwardEntry>,
) {
    let drift =
        drifts.entry(lease).or_insert_with(|| Drift { lease, shown: Shown::Absent, settled_at });
    let Some(entry) = entry else { return };
    let text = format!(
        "{} {} {}:{} {}:{} {};",
        entry.entry_id,
        entry.name,
        entry.external_ip,
        entry.external_port,
        entry.internal_ip,
        entry.internal_port,
        entry.status
    );
    match &mut drift.shown {
        Shown::Otherwise(known) => known.push_str(&text),
        shown @ Shown::Absent => *shown = Shown::Otherwise(text),
    }
}

impl EntryRecord {
    fn is_confirmed_by(&self, entry: &ForwardEntry) -> bool {
        entry.status == ForwardEntryStatus::Available
            && entry.name == self.name
            && entry.internal_ip == self.internal_ip
            && entry.internal_port == format_ports(self.internal_port, self.ports)
    }

    fn shares_ports_with(&self, entry: &ForwardEntry) -> bool {
        let last = self.external_port.saturating_add(self.ports.saturating_sub(1));
        entry.meets_external(self.external_ip, self.protocol, &(self.external_port..=last))
    }
}

/// Fewest leases that are woken in a round because a list does not show what is theirs.
const FEWEST_ABSENT: usize = 3;
/// The same as a share of the compared records: a twentieth. A list read with wrong credentials is
/// empty, and so would the leases' own reads be.
const ABSENT_DIVISOR: usize = 20;
/// Most rounds between two wake-ups for the same drift: a quarter of an hour at 30 s a round.
const MOST_ROUNDS_APART: u32 = 32;

/// What a lister remembers of the drift for which it woke leases. A woken lease reads for itself,
/// and its own wait holds from then on: for the same drift it is woken again after one round, two,
/// four and so on, in case the wake-up came to nothing.
#[derive(Debug, Default)]
pub struct DriftWakeups {
    known: BTreeMap<LeaseId, KnownDrift>,
}

#[derive(Debug)]
struct KnownDrift {
    drift: Drift,
    /// Rounds without a wake-up that are still to come, and those after the next wake-up.
    rounds_left: u32,
    rounds_next: u32,
}

impl DriftWakeups {
    /// Chooses the leases to wake in this round, of which `compared` records were compared. Drift
    /// that was not found again is forgotten.
    pub fn choose_leases(&mut self, drifts: Vec<Drift>, compared: usize) -> Vec<LeaseId> {
        let mut absent_left = FEWEST_ABSENT.max(compared / ABSENT_DIVISOR);
        let (mut former, mut chosen) = (std::mem::take(&mut self.known), Vec::new());
        for drift in drifts {
            let known = former.remove(&drift.lease).filter(|known| known.drift == drift);
            let mut known = known.unwrap_or(KnownDrift { drift, rounds_left: 0, rounds_next: 1 });
            if known.rounds_left > 0 {
                known.rounds_left -= 1;
            } else if known.drift.shown != Shown::Absent || absent_left > 0 {
                if known.drift.shown == Shown::Absent {
                    absent_left -= 1;
                }
                known.rounds_left = known.rounds_next;
                known.rounds_next = (known.rounds_next * 2).min(MOST_ROUNDS_APART);
                chosen.push(known.drift.lease);
            }
            self.known.insert(known.drift.lease, known);
        }
        chosen
    }
}

#[cfg(test)]
mod tests;
