//! Waiting until a NAT gateway is likely to accept the next change of its forward entries.

use super::Cloud;
use crate::error::Error;
use crate::gateway::limiter::{Entered, Look};
use crate::gateway::slot::Turn;
use crate::gateway::window::Proof;
use waygate_core::ids::NatGatewayId;

/// Reads of single entries beyond this number cost more than one list of all.
const MORE_THAN_A_LIST: usize = 2;

impl Cloud {
    /// Waits for a write slot: until the gateway is likely to accept a change. The limiter learns
    /// from answers how many changes the gateway accepts at a time, whether its entries must settle
    /// first, and how long that takes. The wait has no bound of its own; dropping the future leaves
    /// the queue.
    pub async fn turn(&self, gateway: &NatGatewayId) -> Turn {
        Turn::new(&self.0.transport, self.enter(gateway, Proof::Trust).await)
    }

    /// Waits as for a write slot, but only a read counts as evidence of settled entries, and takes
    /// no slot.
    pub async fn rest(&self, gateway: &NatGatewayId) {
        drop(self.enter(gateway, Proof::Read).await);
    }

    async fn enter(&self, gateway: &NatGatewayId, proof: Proof) -> Entered {
        let look = |look| {
            let (cloud, gateway) = (self.clone(), gateway.clone());
            async move { cloud.look(&gateway, look).await }
        };
        self.0.gates.of(gateway).enter(proof, look).await
    }

    /// Reads the entries that settled before the last accepted change but were not read since, so
    /// that the cached list shows them.
    pub async fn catch_up(&self, gateway: &NatGatewayId) -> Result<(), Error> {
        let gate = self.0.gates.of(gateway);
        let overtaken = gate.table().overtaken();
        if overtaken.len() > MORE_THAN_A_LIST {
            return self.entries(gateway).await.map(drop);
        }
        for moving in overtaken {
            let read = self.entry(gateway, moving.id()).await?;
            gate.table().entered(&moving, &read);
        }
        Ok(())
    }

    /// True if the gateway accepts no change before its entries are settled.
    pub fn waits_for_rest(&self, gateway: &NatGatewayId) -> bool {
        self.0.gates.of(gateway).is_calm()
    }

    /// Drops the cached entries of a gateway, because another writer has changed them.
    pub fn forget_entries(&self, gateway: &NatGatewayId) {
        self.0.gates.of(gateway).table().forget();
    }

    async fn look(&self, gateway: &NatGatewayId, look: Look) -> Result<(), Error> {
        let Look::Entry(moving) = look else { return self.entries(gateway).await.map(drop) };
        let read = self.entry(gateway, moving.id()).await?;
        self.0.gates.of(gateway).shown(&moving, &read);
        Ok(())
    }
}
