//! Objects that a loop has set aside: one that fails for a permanent reason, or several times, is
//! counted, told where it has a pod, and tried again after a pause of its own, which grows to
//! minutes. No other object waits for it.
//!
//! ```text
//! try ─┬▶ done ──────────────────────────────────▶ forgotten
//!      └▶ failed ─▶ pause, longer each time ─▶ try
//!            └─ permanent, or the n-th time: set aside (counted, told once)
//! ```
//! `docs/design-notes.md` lists the loops. A lease keeps its tries in the store instead, where they
//! survive the worker (`worker/src/reconcile/set_aside.rs`); the curve is the same.

use crate::errors::Error;
use crate::metrics::{Metrics, ObjectLoop};
use jiff::Timestamp;
use parking_lot::Mutex;
use rand::RngExt as _;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::ops::Range;
use std::time::Duration;
use tokio::time::Instant;
use waygate_core::retry::{self, RetryPolicy, TRIES_UNTIL_SET_ASIDE};
use waygate_store::Transience;

/// Random factor of a pause: objects and leases that wait for the same event look again up to a
/// fifth sooner or later, so that they do not return all at once.
pub(crate) const JITTER: Range<f64> = 0.8..1.2;

/// The failing objects of one loop, by key.
pub(crate) struct SetAside<K> {
    of: ObjectLoop,
    metrics: Metrics,
    failing: Mutex<HashMap<K, Failing>>,
}

#[derive(Clone, Copy, Debug)]
struct Failing {
    tries: i32,
    retry_at: Instant,
    set_aside: bool,
}

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Time until the next try.
    pub retry_in: Duration,
    /// True if the object is set aside by this failure; its owner is told.
    pub newly_set_aside: bool,
}

impl<K: Clone + Eq + Hash> SetAside<K> {
    /// No failing objects yet.
    pub(crate) fn new(of: ObjectLoop, metrics: &Metrics) -> Self {
        Self { of, metrics: metrics.clone(), failing: Mutex::new(HashMap::new()) }
    }

    /// True unless the object has failed and its pause is not over.
    pub(crate) fn may_try(&self, key: &K) -> bool {
        self.failing.lock().get(key).is_none_or(|failing| failing.retry_at <= Instant::now())
    }

    /// True if the object is set aside.
    pub(crate) fn is_set_aside(&self, key: &K) -> bool {
        self.failing.lock().get(key).is_some_and(|failing| failing.set_aside)
    }

    /// Records a failure, and sets the object aside if the error is permanent or the last of
    /// several.
    pub(crate) fn record_failure(&self, key: &K, error: &Error) -> Failure {
        let mut failing = self.failing.lock();
        let former = failing.get(key).copied();
        let tries = former.map_or(0, |former| former.tries.saturating_add(1));
        let was_set_aside = former.is_some_and(|former| former.set_aside);
        let set_aside = was_set_aside || is_set_aside_after(error, tries);
        let retry_in = retry::retry_delay(
            if set_aside { RetryPolicy::SetAside } else { RetryPolicy::Event },
            tries,
            Timestamp::UNIX_EPOCH,
            rand::rng().random_range(JITTER),
        );
        let retry_at = Instant::now() + retry_in;
        failing.insert(key.clone(), Failing { tries, retry_at, set_aside });
        if set_aside {
            self.metrics.count_set_aside(self.of, error.reason());
        }
        self.show_number(&failing);
        Failure { retry_in, newly_set_aside: set_aside && !was_set_aside }
    }

    /// Forgets the failures of an object: it was done, or is gone.
    pub(crate) fn forget(&self, key: &K) {
        let mut failing = self.failing.lock();
        if failing.remove(key).is_some() {
            self.show_number(&failing);
        }
    }

    /// Forgets all objects but these, the ones that exist.
    pub(crate) fn retain_existing(&self, existing: &HashSet<K>) {
        let mut failing = self.failing.lock();
        failing.retain(|key, _| existing.contains(key));
        self.show_number(&failing);
    }

    fn show_number(&self, failing: &HashMap<K, Failing>) {
        self.metrics.show_set_aside(self.of, failing.values().filter(|it| it.set_aside).count());
    }
}

/// True if an object with this error, after `tries` earlier ones in a row, is set aside. An outage
/// is no fault of the object: all wait for its end, and none must wait minutes longer.
pub(crate) fn is_set_aside_after(error: &Error, tries: i32) -> bool {
    match error.transience() {
        Transience::Outage => false,
        Transience::Passing => tries.saturating_add(1) >= TRIES_UNTIL_SET_ASIDE,
        Transience::Permanent => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;
    use prometheus_client::registry::Registry;

    fn refusal(code: u16) -> Error {
        kube::Error::Api(Status::failure("refused", "Refused").with_code(code).boxed()).into()
    }

    /// Pauses of an object that fails this often, and the failures that set it aside.
    async fn fail(code: u16, times: usize) -> (Vec<Duration>, Vec<usize>) {
        let aside = SetAside::new(ObjectLoop::MissedPods, &Metrics::new(&mut Registry::default()));
        let (mut pauses, mut told) = (Vec::new(), Vec::new());
        for number in 0..times {
            assert!(aside.may_try(&"one"), "its pause is over");
            let failure = aside.record_failure(&"one", &refusal(code));
            assert!(!aside.may_try(&"one") && aside.may_try(&"other"));
            pauses.push(failure.retry_in);
            told.extend(failure.newly_set_aside.then_some(number));
            tokio::time::advance(failure.retry_in).await;
        }
        (pauses, told)
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_is_set_aside_for_a_permanent_reason_or_after_several_failures() {
        assert_eq!(fail(422, 8).await.1, [0], "told once");
        assert_eq!(fail(500, 8).await.1, [4]);
        assert_eq!(fail(503, 30).await.1, [0_usize; 0], "an outage is not the object's fault");
    }

    #[tokio::test(start_paused = true)]
    async fn the_pauses_of_an_object_set_aside_grow_to_minutes_and_those_of_an_outage_do_not() {
        let minutes = |pause: &Duration| *pause >= Duration::from_mins(2);
        let (pauses, _) = fail(422, 20).await;
        assert!(pauses[0] < Duration::from_secs(2), "{pauses:?}");
        assert!(pauses.iter().rev().take(5).all(minutes), "{pauses:?}");
        assert!(!fail(503, 20).await.0.iter().any(minutes));
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_that_is_done_or_gone_is_forgotten() {
        let aside = SetAside::new(ObjectLoop::Gateways, &Metrics::new(&mut Registry::default()));
        for key in ["done", "gone", "there"] {
            aside.record_failure(&key, &refusal(422));
        }
        aside.forget(&"done");
        aside.retain_existing(&HashSet::from(["there"]));
        assert_eq!(
            ["done", "gone", "there"].map(|key| aside.is_set_aside(&key)),
            [false, false, true]
        );
    }
}
