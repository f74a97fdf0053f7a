//! The lister, as in `worker/src/lister.rs`: compares whole lists with the records of bound leases
//! and wakes those that differ.

use crate::store::Row;
use crate::world::World;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use waygate_core::ids::{LeaseId, NatGatewayId};
use waygate_core::lease::Phase;
use waygate_core::request::Request;
use waygate_core::rules::drift::{
    DriftWakeups, EipRecord, EntryRecord, find_eip_drift, find_entry_drift,
};

/// Interval between two comparisons.
const PERIOD: SignedDuration = SignedDuration::from_secs(30);

/// What the holders of the lists remember. It is lost in no crash here.
#[derive(Default)]
pub(crate) struct Lister {
    eips: DriftWakeups,
    entries: BTreeMap<NatGatewayId, DriftWakeups>,
    listed: Option<Timestamp>,
}

impl Lister {
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        self.listed.is_none_or(|listed| now >= listed + PERIOD)
    }
}

impl World {
    /// Compares the EIPs and each gateway's entries.
    pub(crate) fn compare_lists(&mut self) {
        self.lister.listed = Some(self.now);
        let comparable: Vec<Row> =
            self.store.rows.values().filter(|row| self.is_comparable(row)).cloned().collect();
        let list = if self.are_lists_empty() { Vec::new() } else { self.cloud.list_eips(self.now) };
        let list = list.into_iter().map(|eip| (eip.allocation_id.clone(), eip)).collect();
        let records: Vec<_> = comparable.iter().filter_map(eip_record).collect();
        let woken = self.lister.eips.choose_leases(find_eip_drift(&records, &list), records.len());
        self.wake_drifted(&woken);
        for gateway in self.cloud.gateways.clone() {
            let blind = self.are_lists_empty();
            let list =
                if blind { Vec::new() } else { self.cloud.read_entries(self.now, &gateway.id) };
            let records: Vec<_> = comparable
                .iter()
                .flat_map(|row| self.list_entry_records(row, &gateway.id))
                .collect();
            let wakeups = self.lister.entries.entry(gateway.id).or_default();
            let woken = wakeups.choose_leases(find_entry_drift(&records, &list), records.len());
            self.wake_drifted(&woken);
        }
    }

    fn is_comparable(&self, row: &Row) -> bool {
        row.lease.phase == Phase::Bound
            && row.last_change_at < self.now
            && self.store.operations.iter().all(|asked| asked.lease != row.lease.id)
    }

    fn list_entry_records(&self, row: &Row, gateway: &NatGatewayId) -> Vec<EntryRecord> {
        let Some(target) = &row.lease.target else { return Vec::new() };
        let ranges = row.lease.port_ranges();
        let own = ranges.iter().filter(|range| range.first.gateway_id == *gateway);
        own.map(|range| EntryRecord {
            lease: row.lease.id,
            name: self.owners[row.cluster].entry_name(row.lease.id, row.lease.generation),
            external_ip: range.first.external_ip,
            external_port: range.first.external_port,
            internal_ip: target.private_ip,
            internal_port: range.first.exposed.port,
            ports: range.count,
            protocol: range.first.protocol(),
            settled_at: Some(row.last_change_at),
        })
        .collect()
    }

    fn wake_drifted(&mut self, leases: &[LeaseId]) {
        for lease in leases {
            self.note_event(|| format!("a list differs from {lease}"));
            self.store.wake_lease(self.now, *lease);
        }
    }
}

fn eip_record(row: &Row) -> Option<EipRecord> {
    let (eip, target) = (row.lease.eip.as_ref()?, row.lease.target.as_ref()?);
    let Request::Eip(request) = &row.lease.request else { return None };
    Some(EipRecord {
        lease: row.lease.id,
        allocation_id: eip.allocation_id.clone(),
        eni_id: target.eni_id.clone(),
        private_ip: target.private_ip,
        primary: target.primary,
        request: request.clone(),
        settled_at: Some(row.last_change_at),
    })
}
