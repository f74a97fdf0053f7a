//! Removal of forward entries and release of ports.

use super::queue::{port_key, queue_at_gateway, request_deletion, wait_for_entry};
use crate::cloud_facts::{ForwardEntry, ForwardEntryStatus};
use crate::ids::ForwardEntryId;
use crate::plan::situation::Situation;
use crate::plan::step::Step;

/// Gives back everything that the lease has on its gateway; none once nothing is left there.
pub(super) fn give_back_ports(s: &Situation<'_>) -> Option<Step> {
    delete_entries(s)
        .or_else(|| s.lease.ports.first().map(|port| Step::CoolDownPorts(port_key(port))))
}

/// Deletes every entry of the lease until all are proven gone; none once they are.
pub(super) fn delete_entries(s: &Situation<'_>) -> Option<Step> {
    let is_of_lease = |entry: &&ForwardEntry| {
        s.owner.read_entry_name(&entry.name).is_some_and(|name| name.lease == s.lease.id)
    };
    let own_entries: Vec<_> = s.cloud.entries.iter().filter(is_of_lease).collect();
    let changing = |entry: &&&ForwardEntry| {
        matches!(entry.status, ForwardEntryStatus::Pending | ForwardEntryStatus::Deleting)
    };
    // Deletable entries first: an entry that is still changing must not delay the rest.
    let deletable = own_entries
        .iter()
        .filter(|entry| !changing(entry))
        .map(|entry| request_deletion(&entry.table_id, &entry.entry_id));
    // Recorded, but missing from the list without an accepted deletion: only the answer to a
    // deletion proves that the entry is gone.
    let listed = |id: &ForwardEntryId| own_entries.iter().any(|entry| entry.entry_id == *id);
    let vanished = s
        .lease
        .ports
        .iter()
        .filter(|port| !port.deleted)
        .filter_map(|port| port.entry_id.as_ref().map(|id| (port, id)));
    let vanished = vanished
        .filter(|(_, id)| !listed(id))
        .map(|(port, id)| request_deletion(&port.table_id, id));
    let requests: Vec<_> = deletable.chain(vanished).collect();
    queue_at_gateway(s, requests).or_else(|| own_entries.first().map(|entry| wait_for_entry(entry)))
}

/// Deletes the entries and keeps the ports; none once nothing points at the pod's address.
pub(in crate::plan) fn detach_entries(s: &Situation<'_>) -> Option<Step> {
    delete_entries(s).or_else(|| s.lease.target.is_some().then_some(Step::ClearTarget))
}

/// Takes back entries, target and ports, in this order; none once nothing is left.
pub(in crate::plan) fn plan_dnat_release(s: &Situation<'_>) -> Option<Step> {
    detach_entries(s).or_else(|| give_back_ports(s))
}
