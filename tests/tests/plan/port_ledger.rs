//! Leases by the external ports they have used, and until when, as the cloud has it; the store's
//! own belief does not count here.

use crate::ports::COOLDOWN;
use jiff::Timestamp;
use simulator::cloud::{EntryStatus, ForwardEntry, Ports, Protocol};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use waygate_core::ids::LeaseId;
use waygate_core::ownership::read_entry_name;

/// A lease on a port; until when, once it has left.
struct PortUse {
    lease: LeaseId,
    until: Option<Timestamp>,
}

/// All ports that ever forwarded to a pod of Waygate.
#[derive(Default)]
pub(crate) struct PortLedger {
    uses: BTreeMap<(Ipv4Addr, &'static str, u16), PortUse>,
    /// Entries that were changed at the console, which Waygate does not answer for.
    pub changed_at_console: BTreeSet<String>,
}

impl PortLedger {
    /// Records the ports of the entries; returns a port that came from one lease to another within
    /// its cooldown.
    pub(crate) fn record_entries<'a>(
        &mut self,
        now: Timestamp,
        entries: impl Iterator<Item = &'a ForwardEntry>,
    ) -> Option<String> {
        let mut used_keys = BTreeSet::new();
        let mut reused = None;
        for entry in entries.filter(|entry| {
            entry.status != EntryStatus::Deleting && !self.changed_at_console.contains(&entry.id)
        }) {
            let (Some(name), Ports::Range(first, last)) =
                (read_entry_name(&entry.name), entry.external_ports)
            else {
                continue;
            };
            let protocol = if entry.protocol == Protocol::Udp { "udp" } else { "tcp" };
            for port in first..=last {
                let key = (entry.external_ip, protocol, port);
                used_keys.insert(key);
                let before = self.uses.insert(key, PortUse { lease: name.lease, until: None });
                if let Some(before) = before.filter(|it| {
                    it.lease != name.lease && it.until.is_none_or(|until| now < until + COOLDOWN)
                }) {
                    let (lease, until) = (before.lease, before.until);
                    reused = Some(format!(
                        "{key:?} is lease {}'s, and was lease {lease}'s until {until:?}",
                        name.lease
                    ));
                }
            }
        }
        let left = self
            .uses
            .iter_mut()
            .filter(|(key, stay)| stay.until.is_none() && !used_keys.contains(*key));
        left.for_each(|(_, stay)| stay.until = Some(now));
        reused
    }
}
