//! Wakes this process' account sender when this process queues a change. Changes queued by other
//! processes are found by polling the store.

use parking_lot::Mutex;
use std::collections::BTreeSet;
use tokio::sync::Notify;

/// Actions with changes that were queued since the sender looked last.
#[derive(Debug, Default)]
pub(crate) struct AccountWakeups {
    actions: Mutex<BTreeSet<&'static str>>,
    queued: Notify,
}

impl AccountWakeups {
    /// Wakes the sender for this action.
    pub(crate) fn notify_queued(&self, action: &'static str) {
        self.actions.lock().insert(action);
        self.queued.notify_one();
    }

    /// Waits until a change was queued.
    pub(crate) async fn wait_for_queued(&self) {
        self.queued.notified().await;
    }

    /// Returns the actions with changes queued since the last call.
    pub(crate) fn take_actions(&self) -> BTreeSet<&'static str> {
        std::mem::take(&mut *self.actions.lock())
    }
}
