//! When a NAT gateway takes the next change, as the callers see it.

use super::Cloud;
use crate::error::Error;
use crate::gateway::limiter::{Entered, Look};
use crate::gateway::slot::Turn;
use crate::gateway::window::Proof;
use waygate_core::ids::NatGatewayId;

/// So many looks at single entries cost more than a list of all.
const MORE_THAN_A_LIST: usize = 2;

impl Cloud {
    /// Waits until the gateway is likely to take a change; how many at a time, and whether its
    /// entries must be at rest before and how long that takes, is learned from its answers. What
    /// may take long is the caller's to bound: dropping this future gives the place up.
    pub async fn turn(&self, gateway: &NatGatewayId) -> Turn {
        Turn::new(&self.0.transport, self.enter(gateway, Proof::Trust).await)
    }

    /// Waits until a read has shown the gateway's entries at rest, where it waits for that.
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

    /// Looks at entries that came to rest before the last change was taken and that nobody has
    /// looked at, for those who share lists of entries.
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

    /// Whether the gateway takes no change before its entries are at rest.
    pub fn waits_for_rest(&self, gateway: &NatGatewayId) -> bool {
        self.0.gates.of(gateway).is_calm()
    }

    /// Somebody else has changed the gateway's entries: what was read before is not used any more.
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
