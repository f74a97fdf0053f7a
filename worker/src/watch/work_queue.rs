//! News of pods, between the watch that hears them and those who write them down.
//!
//! ```text
//! watch ─▶ put ─▶ the latest of each pod, the longest waiting first ─▶ take ─▶ write it down
//! ```
//! A thousand pods have ten thousand events, and the store takes a round trip for each that is
//! written: what is older than a pod's latest is not. Invariant: of one pod only one writes at a
//! time, so that nothing older overtakes what is newer.
//!
//! Ours, because kube's scheduler and applier keep no more than the latest per name and one writer
//! at a time: no bound on what waits, no word that all was written, and deletions never arrive.

use parking_lot::{Mutex, MutexGuard};
use std::collections::{HashMap, HashSet, VecDeque};
use tokio::sync::{Notify, Semaphore};
use uuid::Uuid;

/// Pods with news at a time, some kilobytes each. The watch waits when there are more.
const MOST: usize = 5000;

/// News of type `T`, by pod.
pub(crate) struct Inbox<T> {
    state: Mutex<State<T>>,
    /// One permit for each of `waiting`.
    arrived: Semaphore,
    /// One permit for each pod that `news` may take up besides.
    room: Semaphore,
    emptied: Notify,
}

struct State<T> {
    /// Pods that have news and of which nobody writes.
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

    /// The latest news of a pod, in place of what nobody has taken yet.
    pub(crate) async fn put(&self, pod: Uuid, news: T) {
        if let Some(older) = self.state().news.get_mut(&pod) {
            *older = news;
            return;
        }
        let room = self.room.acquire().await;
        let mut state = self.state();
        if state.news.insert(pod, news).is_some() {
            return;
        }
        if let Ok(room) = room {
            room.forget();
        }
        if !state.at_work.contains(&pod) {
            state.waiting.push_back(pod);
            self.arrived.add_permits(1);
        }
    }

    /// Waits for news of a pod. Until what is returned is dropped, nobody else gets any of it.
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

    /// Waits until everything that was put has been written down.
    pub(crate) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            let mut emptied = std::pin::pin!(emptied);
            // Registered before the look, so that the end of the last one between look and wait is
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

/// News of one pod, at work until dropped.
pub(crate) struct Taken<'a, T> {
    /// What there is.
    pub(crate) news: T,
    /// Whose.
    pub(crate) pod: Uuid,
    inbox: &'a Inbox<T>,
}

impl<T> Drop for Taken<'_, T> {
    fn drop(&mut self) {
        let mut state = self.inbox.state();
        state.at_work.remove(&self.pod);
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
        assert!(inbox.take().now_or_never().is_none(), "it would overtake");
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
        assert!(emptied.as_mut().now_or_never().is_none(), "taken is not written");
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
            "what replaces older news needs no more room"
        );
    }
}
