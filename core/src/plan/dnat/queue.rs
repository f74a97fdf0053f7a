//! What a lease asks of its gateway, in changes that are queued there.

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

/// What follows where the gateway has no room for all new entries; none where it has.
pub(super) fn no_room(s: &Situation<'_>, asks: &[Ask]) -> Option<Step> {
    let new = asks.iter().filter(|ask| matches!(ask.change, Change::CreateForwardEntry(_))).count();
    let standing = s.cloud.entries.len();
    let most = s.cloud.gateway.full_at.filter(|most| new > 0 && standing + new > *most)?;
    // Fixed ports that somebody knows of must not move: they wait until there is room.
    let stays = s.lease.told && s.lease.request.keep() != Keep::Not;
    if !stays {
        return Some(Step::Spill);
    }
    let message = format!(
        "the NAT gateway takes no more than {most} forward entries and has {standing}; raise its quota or remove some"
    );
    Some(Step::wait(Reason::QuotaExceeded, Patience::Person, message))
}

/// Asks for these changes at the lease's gateway, each thing once; none where there are none.
pub(super) fn queue(s: &Situation<'_>, asks: Vec<Ask>) -> Option<Step> {
    let gateway = s.lease.ports.first()?.gateway_id.clone();
    let mut distinct: Vec<Ask> = Vec::with_capacity(asks.len());
    for ask in asks {
        // One leftover may stand in the way of several runs.
        if distinct.iter().all(|other| other.resource != ask.resource) {
            distinct.push(ask);
        }
    }
    (!distinct.is_empty()).then_some(Step::Queue { gateway, asks: distinct })
}

/// Which entry a port belongs to.
pub(super) fn key(port: &LeasedPort) -> PortKey {
    PortKey {
        allocation_id: port.allocation_id.clone(),
        protocol: port.protocol(),
        port: port.head,
    }
}

/// The removal of an entry.
pub(super) fn delete(table_id: &ForwardTableId, entry_id: &ForwardEntryId) -> Ask {
    let change =
        Change::DeleteForwardEntry { table_id: table_id.clone(), entry_id: entry_id.clone() };
    Ask { resource: entry_id.to_string(), change }
}

/// The cloud is at it.
pub(super) fn settling(entry: &ForwardEntry) -> Step {
    Step::wait(
        Reason::EntriesPending,
        Patience::Poll,
        format!("forward entry {} is {:?}", entry.entry_id, entry.status),
    )
}
