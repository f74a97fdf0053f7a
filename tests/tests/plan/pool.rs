//! The gateways' discovery, as in `worker/src/gateway/discovery.rs`: reads the gateways, offers
//! their EIPs, and sorts them by their free ports.

use crate::world::World;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use waygate_core::ids::{AllocationId, NatGatewayId};
use waygate_core::rules::reads;

/// Interval between two reads of the gateways.
const PERIOD: SignedDuration = SignedDuration::from_secs(60);

/// EIPs of all usable gateways at the last read. All workers share this one here; a reservation may
/// meet a pool that is out of date.
#[derive(Default)]
pub(crate) struct Pool {
    usable: BTreeMap<NatGatewayId, Vec<AllocationId>>,
    looked: Option<Timestamp>,
}

impl Pool {
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        self.looked.is_none_or(|looked| now >= looked + PERIOD)
    }
}

impl World {
    /// EIPs with ports to give, in any order.
    pub(crate) fn candidates(&mut self) -> Vec<AllocationId> {
        let mut eips: Vec<_> = self.pool.usable.values().flatten().cloned().collect();
        let turn = self.dice_below(eips.len());
        eips.rotate_left(turn);
        eips
    }

    /// Looks at every gateway of the configuration.
    pub(crate) fn look_at_gateways(&mut self) {
        self.pool.looked = Some(self.now);
        for gateway in self.cloud.gateways.clone() {
            self.look_at(&gateway.id);
        }
        self.store.end_quiet(self.now);
    }

    fn look_at(&mut self, id: &NatGatewayId) {
        let now = self.now;
        let look = self.cloud.look(now, id);
        let trouble = match &look {
            None => Some("the gateway does not exist any more"),
            Some(look) if !look.usable => Some("the gateway is locked"),
            Some(_) => None,
        };
        let Some(look) = look.filter(|_| trouble.is_none()) else {
            self.pool.usable.insert(id.clone(), Vec::new());
            return self.store.bound(now, id, &[], trouble);
        };
        for (gateway, snat) in &look.eips {
            if self.store.offer(gateway, *snat).is_err() {
                // A former pod's port stands in the way of one that came along: the next look may
                // do it.
                return;
            }
        }
        let eips: Vec<_> = look.eips.iter().map(|(gateway, _)| gateway.eip.clone()).collect();
        self.store.bound(now, id, &eips, None);
        let entries = self.cloud.entries(now, id);
        let others = reads::foreign_entries(self.owners[0], &entries);
        let addresses: Vec<_> =
            look.eips.iter().map(|(gateway, _)| (&gateway.eip, gateway.address)).collect();
        let foreign = reads::occupied_ports(&others, &addresses);
        self.store.saw_entries(now, id, entries.len(), others.len(), &foreign);
        self.pool.usable.insert(id.clone(), eips);
    }
}
