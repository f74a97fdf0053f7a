//! Wakes this process' gateway senders when this process queues a change. Changes queued by other
//! processes are found by polling the store.

use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Notify;
use waygate_core::ids::NatGatewayId;

/// One wake-up per gateway whose sender runs in this process, and one for all other gateways.
#[derive(Default)]
pub(crate) struct Lanes {
    served: Mutex<BTreeMap<NatGatewayId, Arc<Notify>>>,
    free: Notify,
}

impl Lanes {
    /// Wakes the gateway's sender, or the search for free gateway locks where no sender of this
    /// process serves the gateway.
    pub(crate) fn queued(&self, gateway: &NatGatewayId) {
        match self.served().get(gateway) {
            Some(queued) => queued.notify_one(),
            None => self.free.notify_one(),
        }
    }

    /// Waits until a change was queued at a gateway that no sender of this process serves.
    pub(crate) async fn freed(&self) {
        self.free.notified().await;
    }

    /// Registers the gateway as served by this process and returns the wake-up of its sender.
    pub(crate) fn wakeups_of(&self, gateway: &NatGatewayId) -> Arc<Notify> {
        Arc::clone(self.served().entry(gateway.clone()).or_default())
    }

    fn served(&self) -> MutexGuard<'_, BTreeMap<NatGatewayId, Arc<Notify>>> {
        self.served.lock()
    }
}
