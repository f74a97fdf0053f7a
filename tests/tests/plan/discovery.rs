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
        let rotation = self.roll_below(eips.len());
        eips.rotate_left(rotation);
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
        let view = self.cloud.read_gateway(now, id);
        let unavailable_reason = match &view {
            None => Some("the gateway does not exist any more"),
            Some(view) if !view.usable => Some("the gateway is locked"),
            Some(_) => None,
        };
        let Some(view) = view.filter(|_| unavailable_reason.is_none()) else {
            self.pool.usable.insert(id.clone(), Vec::new());
            return self.store.set_gateway_eips(now, id, &[], unavailable_reason);
        };
        for (gateway, snat) in &view.eips {
            if self.store.offer_ports(gateway, *snat).is_err() {
                // A former pod's port is in the way of one that came along; the next round tries
                // again.
                return;
            }
        }
        let eips: Vec<_> = view.eips.iter().map(|(gateway, _)| gateway.eip.clone()).collect();
        self.store.set_gateway_eips(now, id, &eips, None);
        let entries = self.cloud.read_entries(now, id);
        let foreign_entries = reads::foreign_entries(self.owners[0], &entries);
        let addresses: Vec<_> =
            view.eips.iter().map(|(gateway, _)| (&gateway.eip, gateway.address)).collect();
        let foreign_ports = reads::occupied_ports(&foreign_entries, &addresses);
        self.store.record_entries(now, id, entries.len(), foreign_entries.len(), &foreign_ports);
        self.pool.usable.insert(id.clone(), eips);
    }
}
