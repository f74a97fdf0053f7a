//! Ends waits of refused changes early, when what they wait for has come free. What Waygate cannot
//! see, as a quota raised in the console, is found by the retries.

use crate::context::Worker;
use waygate_cloud::EIP_QUOTA_EXCEEDED;
use waygate_store::Error as StoreError;

/// Wakes the lease that has waited longest for the account's quota of EIPs: one EIP is gone.
pub(crate) async fn wake_after_release(worker: &Worker) -> Result<(), StoreError> {
    if worker.store.wake_refused(EIP_QUOTA_EXCEEDED).await? {
        worker.due.notify_one();
    }
    Ok(())
}
