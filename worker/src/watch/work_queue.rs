//! Work queue of pod events between the watch and the writers that record them in the store.
//!
//! ```text
//! watch ─▶ put ─▶ the latest event of each pod, longest waiting first ─▶ take ─▶ record it
//! ```
//! A thousand pods have ten thousand events and each recorded one costs a round trip to the store,
//! so only a pod's latest event is recorded. Invariant: at most one writer records a pod's event at
//! a time, so that no older event overtakes a newer one.
//!
//! kube's scheduler and applier also keep the latest per name and one writer at a time, but without
//! a bound on the queue or a signal that all is recorded, and deletions never arrive.

use parking_lot::{Mutex, MutexGuard};
use std::collections::{HashMap, HashSet, VecDeque};
use tokio::sync::{Notify, Semaphore};
use uuid::Uuid;

/// Pods with an unrecorded event, some kilobytes each. A further one makes the watch wait.
const MOST: usize = 5000;

/// Bounded queue that holds the latest event, of type `T`, of each pod.
pub(crate) struct Inbox<T> {
    state: Mutex<State<T>>,
    /// One permit for each pod of `waiting`.
    arrived: Semaphore,
    /// One permit for each further pod that `news` has room for.
    room: Semaphore,
    emptied: Notify,
}

struct State<T> {
    /// Pods that have an event and no writer at work on them.
    waiting: VecDeque<Uuid>,
    news: HashMap<Uuid, T>,
    at_work: HashSet<Uuid>,
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        let state =
            State { waiting: VecDeque::new(), news: HashMap::new(), at_work: HashSet::new() };
        Self {
            state: Mutex::new(state),
            arrived: Semaphore::new(0),
            room: Semaphore::new(MOST),
            emptied: Notify::new(),
        }
    }
}

impl<T> Inbox<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock()
    }

    /// Queues a pod's event in place of an older one that no writer has taken; waits while the
    /// queue is full.
    pub(crate) async fn put(&self, pod: Uuid, news: T) {
        if let Some(older) = self.state().news.get_mut(&pod) {
            *older = news;
            return;
        }
        let room = self.room.acquire().await;
        let mut state = self.state();
        // Another caller may have queued an event of the pod while this one waited for room.
        if state.news.insert(pod, news).is_some() {
            return;
        }
        // The permit stays taken until a writer takes the event.
        if let Ok(room) = room {
            room.forget();
        }
        if !state.at_work.contains(&pod) {
            state.waiting.push_back(pod);
            self.arrived.add_permits(1);
        }
    }

    /// Waits for an event and takes it. Until the returned item is dropped, no other writer gets an
    /// event of the same pod.
    pub(crate) async fn take(&self) -> Taken<'_, T> {
        loop {
            if let Ok(arrived) = self.arrived.acquire().await {
                arrived.forget();
            }
            let mut state = self.state();
            if let Some(pod) = state.waiting.pop_front()
                && let Some(news) = state.news.remove(&pod)
            {
                state.at_work.insert(pod);
                self.room.add_permits(1);
                return Taken { news, pod, inbox: self };
            }
        }
    }

    /// Waits until every queued event has been recorded.
    pub(crate) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            let mut emptied = std::pin::pin!(emptied);
            // Registered before the check, so that a last item dropped between check and wait is
            // not missed.
            emptied.as_mut().enable();
            if self.state().is_empty() {
                return;
            }
            emptied.await;
        }
    }
}

impl<T> State<T> {
    fn is_empty(&self) -> bool {
        self.news.is_empty() && self.at_work.is_empty()
    }
}

/// One pod's event taken from the queue; no other writer gets the pod until this is dropped.
pub(crate) struct Taken<'a, T> {
    /// The latest event when the item was taken.
    pub(crate) news: T,
    /// UID of the pod.
    pub(crate) pod: Uuid,
    inbox: &'a Inbox<T>,
}

impl<T> Drop for Taken<'_, T> {
    fn drop(&mut self) {
        let mut state = self.inbox.state();
        state.at_work.remove(&self.pod);
        // An event that arrived meanwhile has waited for this one to be recorded.
        if state.news.contains_key(&self.pod) {
            state.waiting.push_back(self.pod);
            self.inbox.arrived.add_permits(1);
        }
        if state.is_empty() {
            self.inbox.emptied.notify_waiters();
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
    async fn only_the_latest_of_a_pod_is_taken_and_pods_take_turns() {
        let inbox = Inbox::default();
        inbox.put(ONE, "made").await;
        inbox.put(OTHER, "made").await;
        inbox.put(ONE, "running").await;
        let first = inbox.take().await;
        assert_eq!((first.pod, first.news), (ONE, "running"));
        assert_eq!(inbox.take().await.pod, OTHER);
        assert!(inbox.take().now_or_never().is_none());
    }

    #[tokio::test]
    async fn nobody_gets_news_of_a_pod_while_somebody_writes_of_it() {
        let inbox = Inbox::default();
        inbox.put(ONE, "made").await;
        let first = inbox.take().await;
        inbox.put(ONE, "running").await;
        assert!(
            inbox.take().now_or_never().is_none(),
            "the newer event would overtake the older one"
        );
        drop(first);
        assert_eq!(inbox.take().await.news, "running");
    }

    #[tokio::test]
    async fn it_is_empty_once_the_last_has_been_written_down() {
        let inbox = Inbox::default();
        inbox.emptied().await;
        inbox.put(ONE, "made").await;
        let taken = inbox.take().await;
        let mut emptied = Box::pin(inbox.emptied());
        assert!(emptied.as_mut().now_or_never().is_none(), "taken is not recorded");
        drop(taken);
        emptied.await;
    }

    #[tokio::test]
    async fn news_wait_for_room() {
        let inbox = Inbox::default();
        for pod in 0..MOST {
            inbox.put(Uuid::from_u128(pod as u128), pod).await;
        }
        let late = Uuid::from_u128(MOST as u128);
        assert!(inbox.put(late, MOST).now_or_never().is_none());
        drop(inbox.take().await);
        assert!(inbox.put(late, MOST).now_or_never().is_some());
        assert!(
            inbox.put(late, 0).now_or_never().is_some(),
            "an event that replaces an older one needs no room"
        );
    }
}
