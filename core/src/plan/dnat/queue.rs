//! Changes that a lease queues at its gateway.

use crate::change::Change;
use crate::condition::Reason;
use crate::facts::ForwardEntry;
use crate::ids::{ForwardEntryId, ForwardTableId};
use crate::lease::{LeasedPort, PortKey};
use crate::operation::Ask;
use crate::plan::situation::Situation;
use crate::plan::step::Step;
use crate::request::Keep;
use crate::retry::Patience;

/// Vacates the gateway, or waits, if it has no room for all new entries; none if it has.
pub(super) fn no_room(s: &Situation<'_>, asks: &[Ask]) -> Option<Step> {
    let new = asks.iter().filter(|ask| matches!(ask.change, Change::CreateForwardEntry(_))).count();
    let standing = s.cloud.entries.len();
    let most = s.cloud.gateway.full_at.filter(|most| new > 0 && standing + new > *most)?;
    // Fixed ports that were published must not move: the lease waits until there is room.
    let stays = s.lease.told && s.lease.request.keep() != Keep::Not;
    if !stays {
        return Some(Step::Spill);
    }
    let message = format!(
        "the NAT gateway takes no more than {most} forward entries and has {standing}; raise its \
         quota or delete some"
    );
    Some(Step::wait(Reason::QuotaExceeded, Patience::Person, message))
}

/// Queues these changes at the lease's gateway, each resource once; none if the list is empty.
pub(super) fn queue(s: &Situation<'_>, asks: Vec<Ask>) -> Option<Step> {
    let gateway = s.lease.ports.first()?.gateway_id.clone();
    let mut distinct: Vec<Ask> = Vec::with_capacity(asks.len());
    for ask in asks {
        // A leftover may block several port ranges.
        if distinct.iter().all(|other| other.resource != ask.resource) {
            distinct.push(ask);
        }
    }
    (!distinct.is_empty()).then_some(Step::Queue { gateway, asks: distinct })
}

/// Key of the port range that a port belongs to.
pub(super) fn key(port: &LeasedPort) -> PortKey {
    PortKey {
        allocation_id: port.allocation_id.clone(),
        protocol: port.protocol(),
        port: port.head,
    }
}

/// Asks for the deletion of an entry.
pub(super) fn delete(table_id: &ForwardTableId, entry_id: &ForwardEntryId) -> Ask {
    let change =
        Change::DeleteForwardEntry { table_id: table_id.clone(), entry_id: entry_id.clone() };
    Ask { resource: entry_id.to_string(), change }
}

/// Waits while the cloud applies a change of the entry.
pub(super) fn settling(entry: &ForwardEntry) -> Step {
    Step::wait(
        Reason::EntriesPending,
        Patience::Poll,
        format!("the cloud is changing forward entry {}: {:?}", entry.entry_id, entry.status),
    )
}
