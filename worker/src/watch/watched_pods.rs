//! The pods of the watch as last seen, which every worker keeps, and the news of them for the worker
//! that listens.
//!
//! ```text
//! watch ─▶ latest pod of each UID ─▶ UIDs in the term's queue ─▶ writers, which read the latest
//! ```
//! Invariant: a pod is stored here before the term is looked up, and a term begins before it goes
//! through the pods, so each event is in the queue, or what the term goes through.

use super::slim_pod::SlimPod;
use super::work_queue::WorkQueue;
use kube::Resource as _;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Failures of the watch in a row after which it is out of order: one may pass by itself.
const TOLERATED_FAILURES: u32 = 1;
/// Time after which a failure is past: a watch that is out of order fails again before, within its
/// longest pause, a minute, and the deadlines of a request.
const FAILURE_PERIOD: Duration = Duration::from_secs(150);

/// Longest time without a listener that sees the cluster while another worker does, with room: a
/// stalled watch is out of order after one or two minutes, and then its lock is released or expires.
const LISTENER_GAP: Duration = Duration::from_mins(5);

/// What happened to a pod.
#[derive(Clone)]
pub(super) enum PodNews {
    /// It was seen, or is gone: the latest pod says which.
    Seen,
    /// It left the watch while it was alive, with this content: deleted by force, or without the
    /// label from now on.
    LeftAlive(Arc<SlimPod>),
}

/// The time in which this process listens.
pub(super) struct Term {
    /// News that wait to be recorded.
    pub queue: WorkQueue<PodNews>,
    /// Cancelled when the term ends.
    pub token: CancellationToken,
}

struct WatchedPod {
    pod: Arc<SlimPod>,
    /// Time of its last change that the watch saw.
    changed_at: Option<Instant>,
}

/// The pods of the watch as last seen.
pub(crate) struct WatchedPods {
    pods: Mutex<HashMap<Uuid, WatchedPod>>,
    /// Pods of the list that is being read.
    listed: Mutex<HashSet<Uuid>>,
    /// Number of complete lists.
    lists: watch::Sender<u64>,
    failures: Mutex<Failures>,
    put_in_order: Notify,
    term: Mutex<Option<Arc<Term>>>,
}

/// Failures of the watch in a row.
#[derive(Default)]
struct Failures {
    count: u32,
    last: Option<Instant>,
}

impl Default for WatchedPods {
    fn default() -> Self {
        Self {
            pods: Mutex::default(),
            listed: Mutex::default(),
            lists: watch::Sender::new(0),
            failures: Mutex::default(),
            put_in_order: Notify::new(),
            term: Mutex::default(),
        }
    }
}

impl WatchedPods {
    /// Begins a list of all pods, as at a start and after a gap in the watch.
    pub(super) fn begin_list(&self) {
        self.listed.lock().clear();
    }

    /// Stores a pod of the list.
    pub(super) async fn store_listed(&self, uid: Uuid, pod: SlimPod) {
        self.listed.lock().insert(uid);
        let first_list = *self.lists.borrow() == 0;
        self.replace(uid, pod, |former, pod| match former {
            None if first_list => None,
            // Its former version is as old as the gap.
            Some(former) if former.pod.meta().resource_version == pod.meta().resource_version => {
                former.changed_at
            }
            _ => Some(Instant::now()),
        });
        self.tell_listener(uid, PodNews::Seen).await;
    }

    /// Stores a pod as it is now.
    pub(super) async fn store(&self, uid: Uuid, pod: SlimPod) {
        self.replace(uid, pod, |_, _| Some(Instant::now()));
        self.tell_listener(uid, PodNews::Seen).await;
    }

    fn replace(
        &self,
        uid: Uuid,
        pod: SlimPod,
        change: impl FnOnce(Option<&WatchedPod>, &SlimPod) -> Option<Instant>,
    ) {
        let mut pods = self.pods.lock();
        let changed_at = change(pods.get(&uid), &pod);
        pods.insert(uid, WatchedPod { pod: Arc::new(pod), changed_at });
    }

    /// Removes a pod that has left the watch; `left_alive` is its last content if it may live on.
    pub(super) async fn remove(&self, uid: Uuid, left_alive: Option<SlimPod>) {
        self.pods.lock().remove(&uid);
        let news = left_alive.map_or(PodNews::Seen, |pod| PodNews::LeftAlive(Arc::new(pod)));
        self.tell_listener(uid, news).await;
    }

    /// Removes the pods that left during the gap: the list is complete, and they are not in it.
    pub(super) fn complete_list(&self) {
        let listed = std::mem::take(&mut *self.listed.lock());
        self.pods.lock().retain(|pod, _| listed.contains(pod));
        // The first list alone puts the watch in order.
        let first = *self.lists.borrow() == 0;
        self.lists.send_modify(|lists| *lists += 1);
        self.note_answer();
        if first {
            self.put_in_order.notify_one();
        }
    }

    /// The number of complete lists, and its changes.
    pub(super) fn count_lists(&self) -> watch::Receiver<u64> {
        self.lists.subscribe()
    }

    /// The pod as last seen; none if it is not in the watch.
    pub(super) fn find(&self, uid: Uuid) -> Option<Arc<SlimPod>> {
        self.pods.lock().get(&uid).map(|watched| Arc::clone(&watched.pod))
    }

    /// UIDs of all pods.
    pub(super) fn list_uids(&self) -> HashSet<Uuid> {
        self.pods.lock().keys().copied().collect()
    }

    /// UIDs of the pods that have changed lately. Between two listeners one may have changed twice,
    /// and be as it was recorded, while a lease was looked at in between.
    pub(super) fn list_changed(&self) -> Vec<Uuid> {
        let pods = self.pods.lock();
        let lately = |at: Instant| at.elapsed() < LISTENER_GAP;
        let changed = pods.iter().filter(|(_, pod)| pod.changed_at.is_some_and(lately));
        changed.map(|(uid, _)| *uid).collect()
    }

    /// Begins a term, which gets all news from now on, in place of a former one.
    pub(super) fn begin_term(&self, token: CancellationToken) -> Arc<Term> {
        let term = Arc::new(Term { queue: WorkQueue::default(), token });
        // A term that ended without a word, by a panic, must not hold up the watch.
        if let Some(former) = self.term.lock().replace(Arc::clone(&term)) {
            former.token.cancel();
        }
        term
    }

    /// Puts news into the queue of the present term, and waits while it is full.
    async fn tell_listener(&self, uid: Uuid, news: PodNews) {
        let term = self.term.lock().clone();
        if let Some(term) = term {
            term.token.run_until_cancelled(term.queue.put_event(uid, news)).await;
        }
    }

    /// Notes that the API server has sent pods or events.
    pub(super) fn note_answer(&self) {
        let was_in_order = self.is_in_order();
        *self.failures.lock() = Failures::default();
        if !was_in_order {
            self.put_in_order.notify_one();
        }
    }

    /// Notes that the watch has failed.
    pub(super) fn note_failure(&self) {
        let mut failures = self.failures.lock();
        let goes_on = failures.last.is_some_and(|last| last.elapsed() < FAILURE_PERIOD);
        let count = if goes_on { failures.count.saturating_add(1) } else { 1 };
        *failures = Failures { count, last: Some(Instant::now()) };
    }

    /// True if this process sees the cluster's pods: it has read all once, and the watch does not
    /// fail time after time. A watch that goes on without events tells nothing, so failures count
    /// for a while.
    pub(crate) fn is_in_order(&self) -> bool {
        let failures = self.failures.lock();
        let past = failures.last.is_none_or(|last| last.elapsed() >= FAILURE_PERIOD);
        *self.lists.borrow() > 0 && (past || failures.count <= TOLERATED_FAILURES)
    }

    /// Waits until the watch comes in order.
    pub(crate) async fn wait_for_order(&self) {
        self.put_in_order.notified().await;
    }
}

#[cfg(test)]
mod tests;
