//! Removal of forward entries and release of ports.

use super::queue::{delete, key, queue, settling};
use crate::facts::{ForwardEntry, ForwardEntryStatus};
use crate::ids::ForwardEntryId;
use crate::plan::situation::Situation;
use crate::plan::step::Step;

/// Gives back everything that the lease has on its gateway; none once nothing is left there.
pub(super) fn give_back(s: &Situation<'_>) -> Option<Step> {
    retire(s).or_else(|| s.lease.ports.first().map(|port| Step::QuietPort(key(port))))
}

/// Deletes every entry of the lease until all are proven gone; none once they are.
pub(super) fn retire(s: &Situation<'_>) -> Option<Step> {
    let ours = |entry: &&ForwardEntry| {
        s.owner.read_entry_name(&entry.name).is_some_and(|name| name.lease == s.lease.id)
    };
    let standing: Vec<_> = s.cloud.entries.iter().filter(ours).collect();
    let changing = |entry: &&&ForwardEntry| {
        matches!(entry.status, ForwardEntryStatus::Pending | ForwardEntryStatus::Deleting)
    };
    // Deletable entries first: an entry that is still changing must not delay the rest.
    let deletable = standing
        .iter()
        .filter(|entry| !changing(entry))
        .map(|entry| delete(&entry.table_id, &entry.entry_id));
    // Recorded, but missing from the list without an accepted deletion: only the answer to a
    // deletion proves that the entry is gone.
    let listed = |id: &ForwardEntryId| standing.iter().any(|entry| entry.entry_id == *id);
    let vanished = s
        .lease
        .ports
        .iter()
        .filter(|port| !port.deleted)
        .filter_map(|port| port.entry_id.as_ref().map(|id| (port, id)));
    let vanished =
        vanished.filter(|(_, id)| !listed(id)).map(|(port, id)| delete(&port.table_id, id));
    let asks: Vec<_> = deletable.chain(vanished).collect();
    queue(s, asks).or_else(|| standing.first().map(|entry| settling(entry)))
}

/// Deletes the entries and keeps the ports; none once nothing points at the pod's address.
pub(in crate::plan) fn detach(s: &Situation<'_>) -> Option<Step> {
    retire(s).or_else(|| s.lease.target.is_some().then_some(Step::ClearTarget))
}

/// Takes back entries, target and ports, in this order; none once nothing is left.
pub(in crate::plan) fn ending(s: &Situation<'_>) -> Option<Step> {
    detach(s).or_else(|| give_back(s))
}
