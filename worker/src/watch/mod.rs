//! Watches on pods, custom resources and namespaces, and a periodic resync for changes that watches
//! miss. Events decide nothing: they create leases for pods that request one, and wake leases.

pub(crate) mod custom_resources;
mod gates;
pub(crate) mod namespaces;
pub(crate) mod pod_listener;
mod pod_record;
pub(crate) mod pods;
mod recorder;
mod resync;
mod slim_pod;
pub(crate) mod watched_pods;
mod work_queue;

use kube::runtime::watcher;
use std::time::Duration;

/// Duration of one watch request, in seconds; the watcher goes on where it ended. A connection that
/// stalls without a sign is noticed shortly after it, because the API server has not ended the
/// request.
const WATCH_SECONDS: u32 = 25;

/// Longest silence of the API server before a request has failed: a watch may be silent until its
/// end, and five seconds later the watcher would make a stalled one anew without a word.
pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(28);

/// Configuration of every watch.
fn watch_config() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS)
}

#[cfg(test)]
mod tests;
