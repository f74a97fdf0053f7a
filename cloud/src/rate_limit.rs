//! Permits: the account's call rates. Every call needs a permit, because the cloud limits calls per
//! account and a throttled call costs time.
//!
//! Processes that share an account share its rates through their own [`Permits`]; [`LocalPermits`]
//! serves one process alone.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::Instant;

/// The wait for a permit; dropping the future leaves the queue.
pub type PermitFuture<'a> = Pin<Box<dyn Future<Output = Result<(), NoPermit>> + Send + 'a>>;

/// The account's rate leaves no permit before the caller's limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the account's call rate leaves no permit in time")]
pub struct NoPermit {
    /// A caller who asks again after this time is likely to get a permit.
    pub retry_after: Duration,
}

/// Grants one permit for each call.
pub trait Permits: Send + Sync + fmt::Debug {
    /// Waits for a permit to call `action` once. Fails at once where the permit would come after
    /// `by`, and takes none.
    fn draw_permit(&self, action: &'static str, by: Instant) -> PermitFuture<'_>;

    /// Reports that the cloud throttled a call of `action`, with the delay it named if any.
    fn note_throttled(&self, action: &'static str, retry_after: Option<Duration>) {
        _ = (action, retry_after);
    }
}

/// Calls per minute and account, as the API documents them. Other actions get a default.
const PUBLISHED_RATES: &[(&str, u32)] = &[
    ("AllocateEipAddress", 120),
    ("AllocateEipAddressPro", 120),
    ("AssociateEipAddress", 120),
    ("AssociateEipAddressBatch", 30),
    ("UnassociateEipAddress", 120),
    ("ReleaseEipAddress", 600),
    ("DescribeEipAddresses", 600),
    ("DescribeNetworkInterfaces", 800),
    ("DescribeVSwitches", 300),
];

/// Calls per minute of actions without a documented rate: more than one gateway can use, less than
/// reads are throttled at. Throttling then finds the account's real rate.
const DEFAULT_RATE: u32 = 600;

/// A burst is a minute's calls divided by this. The rest flows in evenly, so that no minute holds
/// more calls than the rate.
const BURST_DIVISOR: u32 = 12;
const BURST_SHARE: f64 = 1.0 / 12.0;

/// Throttling multiplies an action's rate by this …
const THROTTLE_FACTOR: f64 = 0.7;
/// … but never below this share of the published rate …
const MIN_RATE_SHARE: f64 = 0.05;
/// … and each second restores this share of the published rate: from the floor to the maximum in
/// about eight minutes.
const RECOVERY_SHARE: f64 = 0.002;

/// Token buckets of this process, one per action. They start at the published rates, throttling
/// lowers a rate and time restores it.
pub struct LocalPermits {
    rates: HashMap<&'static str, u32>,
    buckets: Mutex<HashMap<&'static str, Bucket>>,
}

impl LocalPermits {
    /// Buckets with the published rates.
    pub fn with_published_rates() -> Self {
        Self { rates: PUBLISHED_RATES.iter().copied().collect(), buckets: Mutex::default() }
    }

    /// The actions with a published rate; an account may have another agreement.
    pub fn published_actions() -> impl Iterator<Item = &'static str> {
        PUBLISHED_RATES.iter().map(|(action, _)| *action)
    }

    /// Sets the rate of `action` to `per_minute` calls a minute, at least 1, for accounts with
    /// another agreement.
    #[must_use]
    pub fn with_rate(mut self, action: &'static str, per_minute: u32) -> Self {
        self.rates.insert(action, per_minute.max(1));
        self
    }

    /// The unthrottled rate of `action` in calls per minute, and its burst in calls.
    pub fn best_rate(&self, action: &str) -> (u32, u32) {
        let per_minute = self.rates.get(action).copied().unwrap_or(DEFAULT_RATE);
        (per_minute, per_minute / BURST_DIVISOR)
    }

    /// Reserves a permit for a call of `action`; fails where it would be ready after `by`.
    pub fn reserve_permit(
        &self,
        action: &'static str,
        by: Instant,
    ) -> Result<Reservation<'_>, NoPermit> {
        let ready = self.update_bucket(action, Instant::now(), |bucket| bucket.take_token(by))?;
        Ok(Reservation { permits: self, action, ready, used: false })
    }

    fn update_bucket<T>(
        &self,
        action: &'static str,
        now: Instant,
        act: impl FnOnce(&mut Bucket) -> T,
    ) -> T {
        let mut buckets = self.buckets.lock();
        let bucket = buckets.entry(action).or_insert_with(|| {
            let per_minute = self.rates.get(action).copied().unwrap_or(DEFAULT_RATE);
            Bucket::full_at(f64::from(per_minute), now)
        });
        bucket.refill_tokens(now);
        act(bucket)
    }
}

impl Permits for LocalPermits {
    fn draw_permit(&self, action: &'static str, by: Instant) -> PermitFuture<'_> {
        Box::pin(async move {
            self.reserve_permit(action, by)?.wait_until_ready(None).await;
            Ok(())
        })
    }

    fn note_throttled(&self, action: &'static str, retry_after: Option<Duration>) {
        self.update_bucket(action, Instant::now(), |bucket| bucket.cut_rate(retry_after));
    }
}

impl fmt::Debug for LocalPermits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalPermits").finish_non_exhaustive()
    }
}

/// A reserved permit. Dropped before its wait has ended, it goes back to the bucket.
#[must_use]
#[derive(Debug)]
pub struct Reservation<'a> {
    permits: &'a LocalPermits,
    action: &'static str,
    ready: Instant,
    used: bool,
}

impl Reservation<'_> {
    /// Waits until the permit is ready, and at least until `shared_from`: the time from which
    /// the rate shared with other processes allows the call.
    pub async fn wait_until_ready(mut self, shared_from: Option<Instant>) {
        let until = shared_from.map_or(self.ready, |from| from.max(self.ready));
        // A timer takes a millisecond even when already due.
        if until > Instant::now() {
            tokio::time::sleep_until(until).await;
        }
        self.used = true;
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if !self.used {
            self.permits.update_bucket(self.action, Instant::now(), |bucket| bucket.tokens += 1.0);
        }
    }
}

/// A token bucket that may go negative: the debt is a queue in the order of the requests.
struct Bucket {
    /// Unthrottled rate, in calls per minute.
    max_rate: f64,
    /// Present rate, in calls per minute.
    rate: f64,
    tokens: f64,
    refilled: Instant,
}

impl Bucket {
    fn full_at(max_rate: f64, now: Instant) -> Self {
        Self { max_rate, rate: max_rate, tokens: (max_rate * BURST_SHARE).max(1.0), refilled: now }
    }

    fn per_second(&self) -> f64 {
        self.rate * (1.0 - BURST_SHARE) / 60.0
    }

    fn refill_tokens(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.refilled = self.refilled.max(now);
        let gained = seconds * self.per_second();
        self.rate = (self.rate + self.max_rate * RECOVERY_SHARE * seconds).min(self.max_rate);
        self.tokens = (self.tokens + gained).min((self.rate * BURST_SHARE).max(1.0));
    }

    /// Takes a token, going into debt if none is left, and returns when it may be used. Takes none
    /// where that is after `by`.
    fn take_token(&mut self, by: Instant) -> Result<Instant, NoPermit> {
        let debt = (1.0 - self.tokens).max(0.0);
        let ready = self.refilled + Duration::from_secs_f64(debt / self.per_second());
        // Without debt there is no wait, so `by` does not matter.
        if debt > 0.0 && ready > by {
            return Err(NoPermit { retry_after: ready - by });
        }
        self.tokens -= 1.0;
        Ok(ready)
    }

    fn cut_rate(&mut self, retry_after: Option<Duration>) {
        self.rate = (self.rate * THROTTLE_FACTOR).max(self.max_rate * MIN_RATE_SHARE);
        self.tokens = self.tokens.min(0.0);
        if let Some(pause) = retry_after {
            self.tokens -= pause.min(Duration::from_mins(1)).as_secs_f64() * self.per_second();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn drawn_within(permits: &LocalPermits, action: &'static str, time: Duration) -> usize {
        let end = Instant::now() + time;
        let mut drawn = 0;
        while permits.draw_permit(action, end).await.is_ok() {
            drawn += 1;
        }
        drawn
    }

    #[tokio::test(start_paused = true)]
    async fn no_minute_holds_more_calls_than_published_and_few_are_wasted() {
        let permits = LocalPermits::with_published_rates();
        let first = drawn_within(&permits, "AllocateEipAddress", Duration::from_mins(1)).await;
        assert!((115..=120).contains(&first), "{first}");
    }

    #[tokio::test(start_paused = true)]
    async fn throttling_slows_down_and_time_speeds_up_again() {
        let permits = LocalPermits::with_published_rates();
        for _ in 0..3 {
            permits.note_throttled("AllocateEipAddress", None);
        }
        let slow = drawn_within(&permits, "AllocateEipAddress", Duration::from_mins(1)).await;
        assert!(slow < 70, "{slow}");
        tokio::time::sleep(Duration::from_mins(10)).await;
        let again = drawn_within(&permits, "AllocateEipAddress", Duration::from_mins(1)).await;
        assert!(again >= 115, "{again}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_who_gives_up_gives_its_permit_back() {
        let permits = LocalPermits::with_published_rates().with_rate("X", 12);
        let late = Instant::now() + Duration::from_mins(10);
        permits.draw_permit("X", late).await.unwrap();
        for _ in 0..100 {
            assert!(
                tokio::time::timeout(Duration::from_millis(1), permits.draw_permit("X", late))
                    .await
                    .is_err()
            );
        }
        assert!(
            tokio::time::timeout(Duration::from_secs(6), permits.draw_permit("X", late))
                .await
                .is_ok()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_permit_that_comes_too_late_is_not_taken_and_the_caller_hears_when_to_ask_again() {
        let permits = LocalPermits::with_published_rates().with_rate("X", 12);
        let asked = Instant::now();
        permits.draw_permit("X", asked).await.unwrap();
        for _ in 0..100 {
            let refused =
                permits.draw_permit("X", asked + Duration::from_secs(1)).await.unwrap_err();
            // A token comes every 5.45 s.
            assert!((4.4..4.5).contains(&refused.retry_after.as_secs_f64()), "{refused:?}");
        }
        assert_eq!(asked.elapsed(), Duration::ZERO, "refused without waiting");
        tokio::time::sleep(Duration::from_millis(4_460)).await;
        permits.draw_permit("X", Instant::now() + Duration::from_secs(1)).await.unwrap();
    }
}
