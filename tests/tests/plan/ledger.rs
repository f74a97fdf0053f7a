//! Leases by the external ports they have used, and until when, as the cloud has it; the store's
//! own belief does not count here.

use crate::ports::QUIET;
use jiff::Timestamp;
use simulator::cloud::{EntryStatus, ForwardEntry, Ports, Protocol};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use waygate_core::ids::LeaseId;
use waygate_core::names::read_entry_name;

/// A lease on a port; until when, once it has left.
struct Stay {
    lease: LeaseId,
    until: Option<Timestamp>,
}

/// All ports that ever forwarded to one of our pods.
#[derive(Default)]
pub(crate) struct Ledger {
    stays: BTreeMap<(Ipv4Addr, &'static str, u16), Stay>,
    /// Entries that were changed at the console, which Waygate does not answer for.
    pub touched: BTreeSet<String>,
}

impl Ledger {
    /// Takes down how the entries stand; says which port came from one lease to another inside its
    /// quiet time.
    pub(crate) fn take_down<'a>(
        &mut self,
        now: Timestamp,
        entries: impl Iterator<Item = &'a ForwardEntry>,
    ) -> Option<String> {
        let mut standing = BTreeSet::new();
        let mut reused = None;
        for entry in entries.filter(|entry| {
            entry.status != EntryStatus::Deleting && !self.touched.contains(&entry.id)
        }) {
            let (Some(name), Ports::Range(first, last)) =
                (read_entry_name(&entry.name), entry.external_ports)
            else {
                continue;
            };
            let protocol = if entry.protocol == Protocol::Udp { "udp" } else { "tcp" };
            for port in first..=last {
                let key = (entry.external_ip, protocol, port);
                standing.insert(key);
                let before = self.stays.insert(key, Stay { lease: name.lease, until: None });
                if let Some(before) = before.filter(|it| {
                    it.lease != name.lease && it.until.is_none_or(|until| now < until + QUIET)
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
            .stays
            .iter_mut()
            .filter(|(key, stay)| stay.until.is_none() && !standing.contains(*key));
        left.for_each(|(_, stay)| stay.until = Some(now));
        reused
    }
}
