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
pub(crate) struct PortPool {
    usable: BTreeMap<NatGatewayId, Vec<AllocationId>>,
    looked: Option<Timestamp>,
}

impl PortPool {
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        self.looked.is_none_or(|looked| now >= looked + PERIOD)
    }
}

impl World {
    /// EIPs with ports to give, in any order.
    pub(crate) fn candidate_eips(&mut self) -> Vec<AllocationId> {
        let mut eips: Vec<_> = self.pool.usable.values().flatten().cloned().collect();
        let turn = self.roll_below(eips.len());
        eips.rotate_left(turn);
        eips
    }

    /// Looks at every gateway of the configuration.
    pub(crate) fn discover_gateways(&mut self) {
        self.pool.looked = Some(self.now);
        for gateway in self.cloud.gateways.clone() {
            self.refresh_gateway(&gateway.id);
        }
        self.store.end_cooldowns(self.now);
    }

    fn refresh_gateway(&mut self, id: &NatGatewayId) {
        let now = self.now;
        let look = self.cloud.read_gateway(now, id);
        let trouble = match &look {
            None => Some("the gateway does not exist any more"),
            Some(look) if !look.usable => Some("the gateway is locked"),
            Some(_) => None,
        };
        let Some(look) = look.filter(|_| trouble.is_none()) else {
            self.pool.usable.insert(id.clone(), Vec::new());
            return self.store.set_gateway_eips(now, id, &[], trouble);
        };
        for (gateway, snat) in &look.eips {
            if self.store.offer_ports(gateway, *snat).is_err() {
                // A former pod's port stands in the way of one that came along: the next look may
                // do it.
                return;
            }
        }
        let eips: Vec<_> = look.eips.iter().map(|(gateway, _)| gateway.eip.clone()).collect();
        self.store.set_gateway_eips(now, id, &eips, None);
        let entries = self.cloud.read_entries(now, id);
        let others = reads::foreign_entries(self.owners[0], &entries);
        let addresses: Vec<_> =
            look.eips.iter().map(|(gateway, _)| (&gateway.eip, gateway.address)).collect();
        let foreign = reads::occupied_ports(&others, &addresses);
        self.store.record_entries(now, id, entries.len(), others.len(), &foreign);
        self.pool.usable.insert(id.clone(), eips);
    }
}
