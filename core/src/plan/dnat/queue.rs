//! Changes that a lease queues at its gateway.

use crate::change::Change;
use crate::cloud_facts::ForwardEntry;
use crate::condition::Reason;
use crate::ids::{ForwardEntryId, ForwardTableId};
use crate::lease::{LeasedPort, PortKey};
use crate::operation::ChangeRequest;
use crate::plan::situation::Situation;
use crate::plan::step::Step;
use crate::request::Retention;
use crate::retry::RetryPolicy;

/// Vacates the gateway, or waits, if it has no room for all new entries; none if it has.
pub(super) fn vacate_or_wait(s: &Situation<'_>, requests: &[ChangeRequest]) -> Option<Step> {
    let new = requests
        .iter()
        .filter(|request| matches!(request.change, Change::CreateForwardEntry(_)))
        .count();
    let entry_count = s.cloud.entries.len();
    let most =
        s.cloud.gateway.entries_when_full.filter(|most| new > 0 && entry_count + new > *most)?;
    // Fixed ports that were published must not move: the lease waits until there is room.
    let must_stay = s.lease.was_published && s.lease.request.retention() != Retention::None;
    if !must_stay {
        return Some(Step::VacateGateway);
    }
    let message = format!(
        "the NAT gateway takes no more than {most} forward entries and has {entry_count}; raise \
         its quota or delete some"
    );
    Some(Step::wait_for(Reason::QuotaExceeded, RetryPolicy::Person, message))
}

/// Queues these changes at the lease's gateway, each resource once; none if the list is empty.
pub(super) fn queue_at_gateway(s: &Situation<'_>, requests: Vec<ChangeRequest>) -> Option<Step> {
    let gateway = s.lease.ports.first()?.gateway_id.clone();
    let mut distinct: Vec<ChangeRequest> = Vec::with_capacity(requests.len());
    for request in requests {
        // A leftover may block several port ranges.
        if distinct.iter().all(|other| other.resource != request.resource) {
            distinct.push(request);
        }
    }
    (!distinct.is_empty()).then_some(Step::QueueChanges { gateway, requests: distinct })
}

/// Key of the port range that a port belongs to.
pub(super) fn port_key(port: &LeasedPort) -> PortKey {
    PortKey {
        allocation_id: port.allocation_id.clone(),
        protocol: port.protocol(),
        port: port.range_start,
    }
}

/// Asks for the deletion of an entry.
pub(super) fn request_deletion(
    table_id: &ForwardTableId,
    entry_id: &ForwardEntryId,
) -> ChangeRequest {
    let change =
        Change::DeleteForwardEntry { table_id: table_id.clone(), entry_id: entry_id.clone() };
    ChangeRequest { resource: entry_id.to_string(), change }
}

/// Waits while the cloud applies a change of the entry.
pub(super) fn wait_for_entry(entry: &ForwardEntry) -> Step {
    Step::wait_for(
        Reason::EntriesPending,
        RetryPolicy::Poll,
        format!("the cloud is changing forward entry {}: {}", entry.entry_id, entry.status),
    )
}
