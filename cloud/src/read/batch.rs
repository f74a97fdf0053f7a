//! Batching of reads: many waiters share one call.
//!
//! ```text
//! read(key) ─┐
//! read(key) ─┼─▶ open batch ── full or 5 ms old ─▶ free call ─▶ permit ─▶ close ─▶ call ─▶ waiters
//! read(key) ─┘
//! ```
//! A batch stays open until just before its call is sent, so that more waiters join during the wait
//! for a permit. Invariant: every waiter of a batch asked before its call was sent, so the answer
//! is newer than the request.

use crate::error::Error;
use crate::transport::Read;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

/// Time a batch stays open for more waiters: short beside a call of 100 ms, long enough for a
/// burst.
const BATCH_WINDOW: Duration = Duration::from_millis(5);

/// The values that one call returned, by key.
pub(crate) type Fetched<S> =
    Result<Read<HashMap<<S as BatchSource>::Key, <S as BatchSource>::Value>>, Error>;

/// The call behind a batcher.
pub(crate) trait BatchSource: Send + Sync + 'static {
    /// Identifies a value, such as an EIP's ID; `()` where a call has one value.
    type Key: Clone + Eq + Hash + Send + Sync;
    /// The fact that a key's waiters get; cloned for each.
    type Value: Clone + Send + Sync;
    /// Permission to call once.
    type Permit: Send;

    /// The action named in errors.
    fn action(&self) -> &'static str;
    /// Most keys of one call.
    fn most_keys(&self) -> usize;
    /// Waits for a permit to call once.
    fn acquire_permit(
        &self,
        deadline: Instant,
    ) -> impl Future<Output = Result<Self::Permit, Error>> + Send;
    /// Reads all `keys` in one call. A key missing in the answer does not exist in the cloud.
    fn fetch_values(
        &self,
        permit: Self::Permit,
        keys: Vec<Self::Key>,
        deadline: Instant,
    ) -> impl Future<Output = Fetched<Self>> + Send;
}

type Answer<S> = Result<Read<Option<<S as BatchSource>::Value>>, Error>;
type Waiters<S> = HashMap<<S as BatchSource>::Key, Vec<oneshot::Sender<Answer<S>>>>;

/// Collects reads into batches. Cheap to clone.
pub(crate) struct Batcher<S: BatchSource>(Arc<Inner<S>>);

impl<S: BatchSource> Clone for Batcher<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Inner<S: BatchSource> {
    source: S,
    /// Free calls: bounds the calls in flight.
    in_flight: Semaphore,
    /// Time limit of a waiter's wait, and of a call.
    timeout: Duration,
    open: Mutex<Option<Arc<Batch<S>>>>,
}

struct Batch<S: BatchSource> {
    waiters: Mutex<Waiters<S>>,
    full: Notify,
}

impl<S: BatchSource> Batcher<S> {
    /// A batcher with at most `max_in_flight` calls in flight, whose waiters time out after `timeout`.
    pub(crate) fn new(source: S, max_in_flight: usize, timeout: Duration) -> Self {
        Self(Arc::new(Inner {
            source,
            in_flight: Semaphore::new(max_in_flight),
            timeout,
            open: Mutex::default(),
        }))
    }

    /// The value of `key` as of a call sent after now; `None` in the answer where the key does not
    /// exist. Needs a tokio runtime, because a batch outlives each of its waiters.
    pub(crate) async fn read_key(&self, key: S::Key) -> Answer<S> {
        let deadline = Instant::now() + self.0.timeout;
        match timeout_at(deadline, self.join_batch(key)).await {
            Ok(Ok(answer)) => answer,
            // Elapsed, or the batch's task ended with the runtime.
            Ok(Err(_)) | Err(_) => Err(Error::Deadline { action: self.0.source.action() }),
        }
    }

    fn join_batch(&self, key: S::Key) -> oneshot::Receiver<Answer<S>> {
        let (sender, receiver) = oneshot::channel();
        let mut open = self.0.open.lock();
        let batch = open.get_or_insert_with(|| self.start_batch());
        let mut waiters = batch.waiters.lock();
        waiters.entry(key).or_default().push(sender);
        let full = waiters.len() >= self.0.source.most_keys();
        drop(waiters);
        if full {
            batch.full.notify_one();
            *open = None;
        }
        receiver
    }

    fn start_batch(&self) -> Arc<Batch<S>> {
        let batch = Arc::new(Batch { waiters: Mutex::default(), full: Notify::new() });
        tokio::spawn(Arc::clone(&self.0).run_batch(Arc::clone(&batch)));
        batch
    }
}

impl<S: BatchSource> Inner<S> {
    async fn run_batch(self: Arc<Self>, batch: Arc<Batch<S>>) {
        let deadline = Instant::now() + self.timeout;
        _ = tokio::time::timeout(BATCH_WINDOW, batch.full.notified()).await;
        let free_call = timeout_at(deadline, self.in_flight.acquire()).await;
        // Without a free call nothing is sent, and a permit would be lost to other callers.
        let permit = match &free_call {
            Ok(_) => self.source.acquire_permit(deadline).await,
            Err(_) => Err(Error::Deadline { action: self.source.action() }),
        };
        // Closed before the call is sent: a later waiter must get a later read.
        let waiters = self.close_batch(&batch);
        let answer = match permit {
            _ if waiters.is_empty() => return,
            // The last waiter to join may still wait for the whole timeout; earlier ones time out
            // on their own.
            Ok(permit) => {
                self.source
                    .fetch_values(
                        permit,
                        waiters.keys().cloned().collect(),
                        Instant::now() + self.timeout,
                    )
                    .await
            }
            Err(error) => Err(error),
        };
        drop(free_call);
        answer_waiters::<S>(waiters, &answer);
    }

    /// Closes the batch and takes the waiters that have not timed out.
    fn close_batch(&self, batch: &Arc<Batch<S>>) -> Waiters<S> {
        let mut open = self.open.lock();
        if open.as_ref().is_some_and(|current| Arc::ptr_eq(current, batch)) {
            *open = None;
        }
        drop(open);
        let mut waiters = std::mem::take(&mut *batch.waiters.lock());
        waiters.retain(|_, senders| senders.iter().any(|sender| !sender.is_closed()));
        waiters
    }
}

fn answer_waiters<S: BatchSource>(waiters: Waiters<S>, answer: &Fetched<S>) {
    for (key, senders) in waiters {
        let answer = match answer {
            Ok(read) => Ok(Read { value: read.value.get(&key).cloned(), began: read.began }),
            Err(error) => Err(error.clone()),
        };
        for sender in senders {
            // A waiter may have timed out meanwhile.
            _ = sender.send(answer.clone());
        }
    }
}

/// A batcher for each key, created at its first use and kept: keys are gateways, which are few.
pub(crate) struct BatcherMap<K, S: BatchSource>(Mutex<HashMap<K, Batcher<S>>>);

impl<K: Eq + Hash + Clone, S: BatchSource> BatcherMap<K, S> {
    pub(crate) fn new() -> Self {
        Self(Mutex::default())
    }

    pub(crate) fn get(&self, key: &K, make: impl FnOnce() -> Batcher<S>) -> Batcher<S> {
        self.0.lock().entry(key.clone()).or_insert_with(make).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::task::JoinSet;

    const PATIENCE: Duration = Duration::from_secs(10);
    const CALL: Duration = Duration::from_millis(100);

    /// Answers every even number with its double, after the time of a call.
    struct Doubler {
        calls: Arc<AtomicUsize>,
        permits: Arc<AtomicUsize>,
        permit_after: Duration,
    }

    impl BatchSource for Doubler {
        type Key = u32;
        type Value = u32;
        type Permit = ();

        fn action(&self) -> &'static str {
            "Double"
        }

        fn most_keys(&self) -> usize {
            3
        }

        async fn acquire_permit(&self, deadline: Instant) -> Result<(), Error> {
            self.permits.fetch_add(1, Ordering::Relaxed);
            let late = |_| Error::Deadline { action: "Double" };
            timeout_at(deadline, tokio::time::sleep(self.permit_after)).await.map_err(late)
        }

        async fn fetch_values(&self, (): (), keys: Vec<u32>, _: Instant) -> Fetched<Self> {
            self.calls.fetch_add(1, Ordering::Relaxed);
            let began = Instant::now();
            tokio::time::sleep(CALL).await;
            if keys.contains(&13) {
                return Err(Error::Setup("thirteen".to_owned()));
            }
            Ok(Read {
                value: keys
                    .into_iter()
                    .filter(|key| key % 2 == 0)
                    .map(|key| (key, key * 2))
                    .collect(),
                began,
            })
        }
    }

    fn batcher(
        max_in_flight: usize,
        permit_after: Duration,
    ) -> (Batcher<Doubler>, Arc<AtomicUsize>) {
        let calls = Arc::new(AtomicUsize::new(0));
        (
            Batcher::new(
                Doubler { calls: Arc::clone(&calls), permits: Arc::default(), permit_after },
                max_in_flight,
                PATIENCE,
            ),
            calls,
        )
    }

    async fn read_all(
        batcher: &Batcher<Doubler>,
        keys: impl IntoIterator<Item = u32>,
    ) -> HashMap<u32, Option<u32>> {
        let mut readers = JoinSet::new();
        for key in keys {
            let batcher = batcher.clone();
            readers.spawn(async move { (key, batcher.read_key(key).await.unwrap().value) });
        }
        readers.join_all().await.into_iter().collect()
    }

    #[tokio::test(start_paused = true)]
    async fn readers_share_calls_and_each_gets_its_own_answer() {
        let (batcher, calls) = batcher(8, Duration::ZERO);
        let answers = read_all(&batcher, [0, 1, 2, 3, 4, 5, 6, 0, 1, 2]).await;
        assert_eq!((answers[&4], answers[&5]), (Some(8), None));
        assert!(calls.load(Ordering::Relaxed) <= 4, "{calls:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn readers_of_one_key_share_one_call() {
        let (batcher, calls) = batcher(8, Duration::ZERO);
        read_all(&batcher, std::iter::repeat_n(2, 100)).await;
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_after_the_call_was_sent_gets_the_next_one() {
        let (batcher, calls) = batcher(1, Duration::ZERO);
        let early = tokio::spawn({
            let batcher = batcher.clone();
            async move { batcher.read_key(2).await }
        });
        tokio::time::sleep(BATCH_WINDOW + CALL / 2).await;
        assert_eq!(calls.load(Ordering::Relaxed), 1, "the first call is under way");
        let asked = Instant::now();
        let (late, later) = tokio::join!(batcher.read_key(2), async {
            tokio::time::sleep(CALL / 4).await;
            batcher.read_key(2).await
        });
        assert!(early.await.unwrap().unwrap().began < asked);
        assert!(late.unwrap().began >= asked);
        assert!(later.unwrap().began >= asked);
        assert_eq!(calls.load(Ordering::Relaxed), 2, "the two later readers share a call");
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_fills_up_while_it_waits_for_a_permit() {
        let (batcher, calls) = batcher(8, Duration::from_secs(1));
        let late = async {
            tokio::time::sleep(Duration::from_millis(900)).await;
            batcher.read_key(4).await
        };
        let (first, second) = tokio::join!(batcher.read_key(2), late);
        assert_eq!(first.unwrap().began, second.unwrap().began);
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_reaches_every_reader_of_its_batch_and_no_other() {
        let (batcher, _) = batcher(8, Duration::ZERO);
        let (unlucky, beside) = tokio::join!(batcher.read_key(13), batcher.read_key(2));
        assert!(unlucky.is_err() && beside.is_err());
        assert_eq!(batcher.read_key(2).await.unwrap().value, Some(4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_waits_no_longer_than_its_patience() {
        let (batcher, calls) = batcher(8, PATIENCE * 2);
        let asked = Instant::now();
        assert!(matches!(batcher.read_key(2).await, Err(Error::Deadline { .. })));
        assert!(asked.elapsed() <= PATIENCE);
        assert_eq!(calls.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn no_permit_is_drawn_where_no_call_can_be_made() {
        let permits = Arc::default();
        let source = Doubler {
            calls: Arc::default(),
            permits: Arc::clone(&permits),
            permit_after: Duration::ZERO,
        };
        let batcher = Batcher::new(source, 0, PATIENCE);
        assert!(matches!(batcher.read_key(2).await, Err(Error::Deadline { .. })));
        tokio::time::sleep(PATIENCE).await;
        assert_eq!(permits.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_called_for_readers_who_have_left() {
        let (batcher, calls) = batcher(8, Duration::from_secs(1));
        for key in 0..3 {
            assert!(
                timeout_at(Instant::now() + BATCH_WINDOW, batcher.read_key(key)).await.is_err()
            );
        }
        tokio::time::sleep(PATIENCE).await;
        assert_eq!(calls.load(Ordering::Relaxed), 0);
    }
}
