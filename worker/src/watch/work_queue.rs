//! Work queue of objects' events between a watch and the writers that record them in the store.
//!
//! ```text
//! watch ─▶ put ─▶ the latest event of each object, longest waiting first ─▶ take ─▶ record it
//!                    ▲                                                       │
//!                    └───── after a pause, unless a newer event came ────────┘ failed
//! ```
//! A thousand pods have ten thousand events and each recorded one costs a round trip to the store,
//! so only a pod's latest event is recorded. Invariant: at most one writer records a pod's event at
//! a time, so that no older event overtakes a newer one.
//!
//! kube's scheduler and applier also keep the latest per name and one writer at a time, but without
//! a bound on the queue or a signal that all is recorded, and deletions never arrive.

use parking_lot::{Mutex, MutexGuard};
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use uuid::Uuid;

/// Pods with an unrecorded event, some kilobytes each. A further one makes the watch wait.
const CAPACITY: usize = 5000;

/// Bounded queue that holds the latest event, of type `T`, of each pod.
pub(crate) struct WorkQueue<T> {
    state: Mutex<State<T>>,
    /// One permit for each pod of `waiting`.
    arrived: Semaphore,
    /// One permit for each further pod that `latest` has room for.
    room: Semaphore,
    emptied: Notify,
    /// Notified when an event begins to wait for its next try.
    put_back: Notify,
}

struct State<T> {
    /// Pods that have an event and no writer at work on them.
    waiting: VecDeque<Uuid>,
    latest: HashMap<Uuid, T>,
    in_progress: HashSet<Uuid>,
    /// Events that failed, with the time of their next try. They hold no room and keep no caller
    /// from finding the queue empty.
    failed: HashMap<Uuid, (Instant, T)>,
}

impl<T> Default for WorkQueue<T> {
    fn default() -> Self {
        let state = State {
            waiting: VecDeque::new(),
            latest: HashMap::new(),
            in_progress: HashSet::new(),
            failed: HashMap::new(),
        };
        Self {
            state: Mutex::new(state),
            arrived: Semaphore::new(0),
            room: Semaphore::new(CAPACITY),
            emptied: Notify::new(),
            put_back: Notify::new(),
        }
    }
}

impl<T> WorkQueue<T> {
    fn lock_state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock()
    }

    /// Queues a pod's event in place of an older one that no writer has taken; waits while the
    /// queue is full.
    pub(crate) async fn put_event(&self, pod: Uuid, event: T) {
        self.put(pod, event, |queued, event| *queued = event).await;
    }

    /// Queues a pod's event if none is queued; waits while the queue is full.
    pub(crate) async fn put_if_none(&self, pod: Uuid, event: T) {
        self.put(pod, event, |_, _| {}).await;
    }

    /// Queues a pod's event; `meet` decides what becomes of one that is queued already.
    async fn put(&self, pod: Uuid, event: T, meet: fn(&mut T, T)) {
        if let Some(queued) = self.lock_state().latest.get_mut(&pod) {
            return meet(queued, event);
        }
        let room = self.room.acquire().await;
        let mut state = self.lock_state();
        // Another caller may have queued an event of the pod while this one waited for room.
        if let Some(queued) = state.latest.get_mut(&pod) {
            return meet(queued, event);
        }
        state.failed.remove(&pod);
        state.latest.insert(pod, event);
        // The permit stays taken until a writer takes the event.
        if let Ok(room) = room {
            room.forget();
        }
        if !state.in_progress.contains(&pod) {
            state.waiting.push_back(pod);
            self.arrived.add_permits(1);
        }
    }

    /// Waits for an event and takes it. Until the returned item is dropped, no other writer gets an
    /// event of the same pod.
    pub(crate) async fn take_item(&self) -> WorkItem<'_, T> {
        loop {
            self.await_event().await;
            let mut state = self.lock_state();
            if let Some(pod) = state.waiting.pop_front()
                && let Some(event) = state.latest.remove(&pod)
            {
                state.in_progress.insert(pod);
                self.room.add_permits(1);
                return WorkItem { event, pod, queue: self };
            }
        }
    }

    /// Waits until an event has arrived. Events that failed arrive again when their pause is over.
    async fn await_event(&self) {
        loop {
            let put_back = self.put_back.notified();
            let mut put_back = std::pin::pin!(put_back);
            // Registered before the look at the pauses, so that none is missed.
            put_back.as_mut().enable();
            let next_try = self.return_failed_events();
            let pause = async {
                match next_try {
                    Some(moment) => tokio::time::sleep_until(moment).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                arrived = self.arrived.acquire() => {
                    if let Ok(arrived) = arrived {
                        arrived.forget();
                    }
                    return;
                }
                () = pause => {}
                () = put_back => {}
            }
        }
    }

    /// Queues the failed events whose pause is over, as far as there is room, and returns when the
    /// next one's is.
    fn return_failed_events(&self) -> Option<Instant> {
        let mut state = self.lock_state();
        let now = Instant::now();
        let due: Vec<_> = state
            .failed
            .iter()
            .filter(|(_, (moment, _))| *moment <= now)
            .map(|(pod, _)| *pod)
            .collect();
        for pod in due {
            let Ok(room) = self.room.try_acquire() else { break };
            room.forget();
            if let Some((_, event)) = state.failed.remove(&pod) {
                state.latest.insert(pod, event);
                state.waiting.push_back(pod);
                self.arrived.add_permits(1);
            }
        }
        state.failed.values().map(|(moment, _)| *moment).filter(|moment| *moment > now).min()
    }

    /// Waits until every queued event has been recorded, or has failed.
    pub(crate) async fn wait_until_empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            let mut emptied = std::pin::pin!(emptied);
            // Registered before the check, so that a last item dropped between check and wait is
            // not missed.
            emptied.as_mut().enable();
            if self.lock_state().is_empty() {
                return;
            }
            emptied.await;
        }
    }
}

impl<T> State<T> {
    fn is_empty(&self) -> bool {
        self.latest.is_empty() && self.in_progress.is_empty()
    }
}

/// One pod's event taken from the queue; no other writer gets the pod until this is dropped.
pub(crate) struct WorkItem<'a, T> {
    /// The latest event when the item was taken.
    pub(crate) event: T,
    /// UID of the pod.
    pub(crate) pod: Uuid,
    queue: &'a WorkQueue<T>,
}

impl<T: Clone> WorkItem<'_, T> {
    /// Queues the event again after a pause, unless a newer one has come or comes before.
    pub(crate) fn put_back(self, pause: Duration) {
        let mut state = self.queue.lock_state();
        if !state.latest.contains_key(&self.pod) {
            state.failed.insert(self.pod, (Instant::now() + pause, self.event.clone()));
        }
        drop(state);
        self.queue.put_back.notify_waiters();
    }
}

impl<T> Drop for WorkItem<'_, T> {
    fn drop(&mut self) {
        let mut state = self.queue.lock_state();
        state.in_progress.remove(&self.pod);
        // An event that arrived meanwhile has waited for this one to be recorded.
        if state.latest.contains_key(&self.pod) {
            state.waiting.push_back(self.pod);
            self.queue.arrived.add_permits(1);
        }
        if state.is_empty() {
            self.queue.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    const ONE: Uuid = Uuid::from_u128(1);
    const OTHER: Uuid = Uuid::from_u128(2);

    #[tokio::test]
    async fn work_queue_gives_the_latest_event_of_each_pod_in_order() {
        let queue = WorkQueue::default();
        queue.put_event(ONE, "made").await;
        queue.put_event(OTHER, "made").await;
        queue.put_event(ONE, "running").await;
        let first = queue.take_item().await;
        assert_eq!((first.pod, first.event), (ONE, "running"));
        assert_eq!(queue.take_item().await.pod, OTHER);
        assert!(queue.take_item().now_or_never().is_none());
    }

    #[tokio::test]
    async fn work_queue_gives_a_pod_to_one_writer_at_a_time() {
        let queue = WorkQueue::default();
        queue.put_event(ONE, "made").await;
        let first = queue.take_item().await;
        queue.put_event(ONE, "running").await;
        assert!(
            queue.take_item().now_or_never().is_none(),
            "the newer event would overtake the older one"
        );
        drop(first);
        assert_eq!(queue.take_item().await.event, "running");
    }

    #[tokio::test]
    async fn work_queue_is_empty_once_the_last_event_is_recorded() {
        let queue = WorkQueue::default();
        queue.wait_until_empty().await;
        queue.put_event(ONE, "made").await;
        let item = queue.take_item().await;
        let mut emptied = Box::pin(queue.wait_until_empty());
        assert!(emptied.as_mut().now_or_never().is_none(), "taken is not recorded");
        drop(item);
        emptied.await;
    }

    #[tokio::test(start_paused = true)]
    async fn work_queue_returns_a_failed_event_after_its_pause_and_others_do_not_wait_for_it() {
        let queue = WorkQueue::default();
        queue.put_event(ONE, "made").await;
        let begun = Instant::now();
        queue.take_item().await.put_back(Duration::from_secs(9));
        queue.wait_until_empty().await;
        queue.put_event(OTHER, "made").await;
        assert_eq!(queue.take_item().await.pod, OTHER);
        let again = queue.take_item().await;
        assert_eq!((again.pod, again.event), (ONE, "made"));
        assert!(begun.elapsed() >= Duration::from_secs(9));
        // A waiting writer learns of a pause that begins meanwhile.
        let waiting = queue.take_item();
        let putting = async { again.put_back(Duration::from_secs(1)) };
        assert_eq!(tokio::join!(waiting, putting).0.pod, ONE);
    }

    #[tokio::test(start_paused = true)]
    async fn work_queue_drops_a_failed_event_when_a_newer_one_comes() {
        let queue = WorkQueue::default();
        queue.put_event(ONE, "made").await;
        queue.take_item().await.put_back(Duration::from_secs(9));
        queue.put_event(ONE, "mended").await;
        assert_eq!(queue.take_item().await.event, "mended", "at once");
        queue.put_event(ONE, "made").await;
        let failing = queue.take_item().await;
        queue.put_event(ONE, "mended").await;
        failing.put_back(Duration::ZERO);
        assert_eq!(queue.take_item().await.event, "mended");
        assert!(queue.take_item().now_or_never().is_none());
    }

    #[tokio::test]
    async fn work_queue_is_bounded() {
        let queue = WorkQueue::default();
        for pod in 0..CAPACITY {
            queue.put_event(Uuid::from_u128(pod as u128), pod).await;
        }
        let late = Uuid::from_u128(CAPACITY as u128);
        assert!(queue.put_event(late, CAPACITY).now_or_never().is_none());
        drop(queue.take_item().await);
        assert!(queue.put_event(late, CAPACITY).now_or_never().is_some());
        assert!(
            queue.put_event(late, 0).now_or_never().is_some(),
            "an event that replaces an older one needs no room"
        );
    }
}
