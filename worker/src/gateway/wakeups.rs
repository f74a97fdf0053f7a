//! Wakes this process' gateway senders when this process queues a change. Changes queued by other
//! processes are found by polling the store.

use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Notify;
use waygate_core::ids::NatGatewayId;

/// One wake-up per gateway whose sender runs in this process, and one for all other gateways.
#[derive(Default)]
pub(crate) struct QueueWakeups {
    senders: Mutex<BTreeMap<NatGatewayId, Arc<Notify>>>,
    unserved: Notify,
}

impl QueueWakeups {
    /// Wakes the gateway's sender, or the search for free gateway locks where no sender of this
    /// process serves the gateway.
    pub(crate) fn notify_queued(&self, gateway: &NatGatewayId) {
        match self.lock_senders().get(gateway) {
            Some(queued) => queued.notify_one(),
            None => self.unserved.notify_one(),
        }
    }

    /// Waits until a change was queued at a gateway that no sender of this process serves.
    pub(crate) async fn wait_for_unserved(&self) {
        self.unserved.notified().await;
    }

    /// Registers the gateway as served by this process and returns the wake-up of its sender.
    pub(crate) fn register_sender(&self, gateway: &NatGatewayId) -> Arc<Notify> {
        Arc::clone(self.lock_senders().entry(gateway.clone()).or_default())
    }

    fn lock_senders(&self) -> MutexGuard<'_, BTreeMap<NatGatewayId, Arc<Notify>>> {
        self.senders.lock()
    }
}
