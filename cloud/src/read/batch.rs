//! Many waiters, one call.
//!
//! ```text
//! read(key) ─┐
//! read(key) ─┼─▶ open batch ── full, or its window is over ─▶ lane ─▶ permit ─▶ closed ─▶ one call ─▶ every waiter
//! read(key) ─┘
//! ```
//! A batch stays open until the very moment its call is sent, so that waiting for a permit makes it
//! fuller. Invariant: whoever joins a batch has asked before its call was sent, so the answer is
//! younger than the question.

use crate::error::Error;
use crate::transport::Read;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

/// How long a batch waits for company: nothing beside a call of 100 ms, enough for a burst to
/// gather.
const WINDOW: Duration = Duration::from_millis(5);

/// What one call found.
pub(crate) type Fetched<S> = Result<Read<HashMap<<S as Source>::Key, <S as Source>::Value>>, Error>;

/// Where a batch's answers come from.
pub(crate) trait Source: Send + Sync + 'static {
    /// What is asked for.
    type Key: Clone + Eq + Hash + Send + Sync;
    /// What is answered.
    type Value: Clone + Send + Sync;
    /// The right to call once.
    type Permit: Send;

    /// The action, for errors.
    fn action(&self) -> &'static str;
    /// How many keys one call takes.
    fn most_keys(&self) -> usize;
    /// Waits until a call may be sent.
    fn permit(&self, deadline: Instant)
    -> impl Future<Output = Result<Self::Permit, Error>> + Send;
    /// Asks for all `keys` in one go. A key that the answer lacks is not there.
    fn fetch(
        &self,
        permit: Self::Permit,
        keys: Vec<Self::Key>,
        deadline: Instant,
    ) -> impl Future<Output = Fetched<Self>> + Send;
}

type Answer<S> = Result<Read<Option<<S as Source>::Value>>, Error>;
type Waiters<S> = HashMap<<S as Source>::Key, Vec<oneshot::Sender<Answer<S>>>>;

/// Gathers reads into batches. Cheap to clone.
pub(crate) struct Batcher<S: Source>(Arc<Inner<S>>);

impl<S: Source> Clone for Batcher<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Inner<S: Source> {
    source: S,
    /// Calls in flight at a time.
    lanes: Semaphore,
    /// How long a waiter waits, and a call may take.
    patience: Duration,
    open: Mutex<Option<Arc<Batch<S>>>>,
}

struct Batch<S: Source> {
    waiters: Mutex<Waiters<S>>,
    full: Notify,
}

impl<S: Source> Batcher<S> {
    /// Batches with `lanes` calls in flight at most, for waiters who wait for `patience`.
    pub(crate) fn new(source: S, lanes: usize, patience: Duration) -> Self {
        Self(Arc::new(Inner {
            source,
            lanes: Semaphore::new(lanes),
            patience,
            open: Mutex::default(),
        }))
    }

    /// What a call sent after now says about `key`. Needs a tokio runtime, since the batch outlives
    /// any one of its waiters.
    pub(crate) async fn read(&self, key: S::Key) -> Answer<S> {
        let deadline = Instant::now() + self.0.patience;
        match timeout_at(deadline, self.join(key)).await {
            Ok(Ok(answer)) => answer,
            // Elapsed, or the batch's task ended with the runtime.
            Ok(Err(_)) | Err(_) => Err(Error::Deadline { action: self.0.source.action() }),
        }
    }

    fn join(&self, key: S::Key) -> oneshot::Receiver<Answer<S>> {
        let (sender, receiver) = oneshot::channel();
        let mut open = self.0.open.lock();
        let batch = open.get_or_insert_with(|| self.start());
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

    fn start(&self) -> Arc<Batch<S>> {
        let batch = Arc::new(Batch { waiters: Mutex::default(), full: Notify::new() });
        tokio::spawn(Arc::clone(&self.0).run(Arc::clone(&batch)));
        batch
    }
}

impl<S: Source> Inner<S> {
    async fn run(self: Arc<Self>, batch: Arc<Batch<S>>) {
        let deadline = Instant::now() + self.patience;
        _ = tokio::time::timeout(WINDOW, batch.full.notified()).await;
        let lane = timeout_at(deadline, self.lanes.acquire()).await;
        // Without a lane nothing is called, and a permit would be lost to everybody.
        let permit = match &lane {
            Ok(_) => self.source.permit(deadline).await,
            Err(_) => Err(Error::Deadline { action: self.source.action() }),
        };
        // From here on nobody joins: the call is about to be sent.
        let waiters = self.close(&batch);
        let answer = match permit {
            _ if waiters.is_empty() => return,
            // The last to join may still wait for its whole patience; the others leave by
            // themselves.
            Ok(permit) => {
                self.source
                    .fetch(
                        permit,
                        waiters.keys().cloned().collect(),
                        Instant::now() + self.patience,
                    )
                    .await
            }
            Err(error) => Err(error),
        };
        drop(lane);
        distribute::<S>(waiters, &answer);
    }

    /// Takes the waiters who still wait.
    fn close(&self, batch: &Arc<Batch<S>>) -> Waiters<S> {
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

fn distribute<S: Source>(waiters: Waiters<S>, answer: &Fetched<S>) {
    for (key, senders) in waiters {
        let answer = match answer {
            Ok(read) => Ok(Read { value: read.value.get(&key).cloned(), began: read.began }),
            Err(error) => Err(error.clone()),
        };
        for sender in senders {
            // A waiter that has given up wants no answer.
            _ = sender.send(answer.clone());
        }
    }
}

/// One batcher a thing, made when it is first asked for. There are as many as gateways, which are
/// few.
pub(crate) struct Shelf<K, S: Source>(Mutex<HashMap<K, Batcher<S>>>);

impl<K: Eq + Hash + Clone, S: Source> Shelf<K, S> {
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

    /// Answers every even number with its double, after a while.
    struct Doubler {
        calls: Arc<AtomicUsize>,
        permits: Arc<AtomicUsize>,
        permit_after: Duration,
    }

    impl Source for Doubler {
        type Key = u32;
        type Value = u32;
        type Permit = ();

        fn action(&self) -> &'static str {
            "Double"
        }

        fn most_keys(&self) -> usize {
            3
        }

        async fn permit(&self, deadline: Instant) -> Result<(), Error> {
            self.permits.fetch_add(1, Ordering::Relaxed);
            let late = |_| Error::Deadline { action: "Double" };
            timeout_at(deadline, tokio::time::sleep(self.permit_after)).await.map_err(late)
        }

        async fn fetch(&self, (): (), keys: Vec<u32>, _: Instant) -> Fetched<Self> {
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

    fn batcher(lanes: usize, permit_after: Duration) -> (Batcher<Doubler>, Arc<AtomicUsize>) {
        let calls = Arc::new(AtomicUsize::new(0));
        (
            Batcher::new(
                Doubler { calls: Arc::clone(&calls), permits: Arc::default(), permit_after },
                lanes,
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
            readers.spawn(async move { (key, batcher.read(key).await.unwrap().value) });
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
            async move { batcher.read(2).await }
        });
        tokio::time::sleep(WINDOW + CALL / 2).await;
        assert_eq!(calls.load(Ordering::Relaxed), 1, "the first call is under way");
        let asked = Instant::now();
        let (late, later) = tokio::join!(batcher.read(2), async {
            tokio::time::sleep(CALL / 4).await;
            batcher.read(2).await
        });
        assert!(early.await.unwrap().unwrap().began < asked);
        assert!(late.unwrap().began >= asked);
        assert!(later.unwrap().began >= asked);
        assert_eq!(calls.load(Ordering::Relaxed), 2, "those who waited for the lane share it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_fills_up_while_it_waits_for_a_permit() {
        let (batcher, calls) = batcher(8, Duration::from_secs(1));
        let late = async {
            tokio::time::sleep(Duration::from_millis(900)).await;
            batcher.read(4).await
        };
        let (first, second) = tokio::join!(batcher.read(2), late);
        assert_eq!(first.unwrap().began, second.unwrap().began);
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_reaches_every_reader_of_its_batch_and_no_other() {
        let (batcher, _) = batcher(8, Duration::ZERO);
        let (unlucky, beside) = tokio::join!(batcher.read(13), batcher.read(2));
        assert!(unlucky.is_err() && beside.is_err());
        assert_eq!(batcher.read(2).await.unwrap().value, Some(4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_waits_no_longer_than_its_patience() {
        let (batcher, calls) = batcher(8, PATIENCE * 2);
        let asked = Instant::now();
        assert!(matches!(batcher.read(2).await, Err(Error::Deadline { .. })));
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
        assert!(matches!(batcher.read(2).await, Err(Error::Deadline { .. })));
        tokio::time::sleep(PATIENCE).await;
        assert_eq!(permits.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_called_for_readers_who_have_left() {
        let (batcher, calls) = batcher(8, Duration::from_secs(1));
        for key in 0..3 {
            assert!(timeout_at(Instant::now() + WINDOW, batcher.read(key)).await.is_err());
        }
        tokio::time::sleep(PATIENCE).await;
        assert_eq!(calls.load(Ordering::Relaxed), 0);
    }
}
