//! How the senders of this process hear of what was queued here. What other processes queue they
//! find by looking.

use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Notify;
use waygate_core::ids::NatGatewayId;

/// How the lanes that are served here hear of what was queued here. What others queue they find by
/// looking.
#[derive(Default)]
pub(crate) struct Lanes {
    served: Mutex<BTreeMap<NatGatewayId, Arc<Notify>>>,
    free: Notify,
}

impl Lanes {
    /// Something was queued at a gateway.
    pub(crate) fn queued(&self, gateway: &NatGatewayId) {
        match self.served().get(gateway) {
            Some(queued) => queued.notify_one(),
            None => self.free.notify_one(),
        }
    }

    /// Waits until something was queued at a gateway whose lane is not served here.
    pub(crate) async fn freed(&self) {
        self.free.notified().await;
    }

    /// Wakes the sender of a gateway whose lane is served here from now on.
    pub(crate) fn wakeups_of(&self, gateway: &NatGatewayId) -> Arc<Notify> {
        Arc::clone(self.served().entry(gateway.clone()).or_default())
    }

    fn served(&self) -> MutexGuard<'_, BTreeMap<NatGatewayId, Arc<Notify>>> {
        self.served.lock()
    }
}
