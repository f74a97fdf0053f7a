//! Waiting until a NAT gateway is likely to accept the next change of its forward entries.

use super::Cloud;
use crate::error::Error;
use crate::gateway::limiter::{LimiterSlot, Probe};
use crate::gateway::slot::WriteSlot;
use crate::gateway::window::RequiredEvidence;
use waygate_core::ids::NatGatewayId;

/// Reads of single entries beyond this number cost more than one list of all.
const MAX_SINGLE_READS: usize = 2;

impl Cloud {
    /// Waits for a write slot: until the gateway is likely to accept a change. The limiter learns
    /// from answers how many changes the gateway accepts at a time, whether its entries must settle
    /// first, and how long that takes. The wait has no bound of its own; dropping the future leaves
    /// the queue.
    pub async fn acquire_write_slot(&self, gateway: &NatGatewayId) -> WriteSlot {
        WriteSlot::new(
            &self.0.transport,
            self.acquire_gateway_slot(gateway, RequiredEvidence::Estimate).await,
        )
    }

    /// Waits as for a write slot, but only a read counts as evidence of settled entries, and takes
    /// no slot.
    pub async fn wait_until_settled(&self, gateway: &NatGatewayId) {
        drop(self.acquire_gateway_slot(gateway, RequiredEvidence::Read).await);
    }

    async fn acquire_gateway_slot(
        &self,
        gateway: &NatGatewayId,
        evidence: RequiredEvidence,
    ) -> LimiterSlot {
        let probe = |probe| {
            let (cloud, gateway) = (self.clone(), gateway.clone());
            async move { cloud.send_probe(&gateway, probe).await }
        };
        self.0.limiters.limiter_of(gateway).acquire_slot(evidence, probe).await
    }

    /// Reads the entries that settled before the last accepted change but were not read since, so
    /// that the cached list shows them.
    pub async fn refresh_settled(&self, gateway: &NatGatewayId) -> Result<(), Error> {
        let limiter = self.0.limiters.limiter_of(gateway);
        let overtaken = limiter.lock_entry_cache().settled_unread();
        if overtaken.len() > MAX_SINGLE_READS {
            return self.read_entries(gateway).await.map(drop);
        }
        for pending in overtaken {
            let read = self.read_entry(gateway, pending.entry_id()).await?;
            limiter.lock_entry_cache().merge_entry(&pending, &read);
        }
        Ok(())
    }

    /// True if the gateway accepts no change before its entries are settled.
    pub fn requires_quiescence(&self, gateway: &NatGatewayId) -> bool {
        self.0.limiters.limiter_of(gateway).requires_quiescence()
    }

    /// Drops the cached entries of a gateway, because another writer has changed them.
    pub fn forget_entries(&self, gateway: &NatGatewayId) {
        self.0.limiters.limiter_of(gateway).lock_entry_cache().clear_all();
    }

    async fn send_probe(&self, gateway: &NatGatewayId, probe: Probe) -> Result<(), Error> {
        let Probe::Entry(pending) = probe else {
            return self.read_entries(gateway).await.map(drop);
        };
        let read = self.read_entry(gateway, pending.entry_id()).await?;
        self.0.limiters.limiter_of(gateway).record_entry(&pending, &read);
        Ok(())
    }
}
