//! The cloud account's call rates, shared through the lease store by the workers of all clusters
//! that keep their leases there.

use crate::errors::error_chain;
use crate::retry_schedule::RetrySchedule;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt::Debug;
use std::str::FromStr;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use waygate_cloud::{LocalPermits, NoPermit, PermitFuture, Permits};
use waygate_core::change::{EIP_ACTIONS, action_gives};
use waygate_store::{AccountQueue, CallPermit, Store};

/// Calls of one action a minute, for an account whose quota differs from the published one. Written
/// `ACTION=CALLS` on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    action: &'static str,
    per_minute: u32,
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, calls) = text.split_once('=').ok_or("not of the form ACTION=CALLS")?;
        let known: Vec<_> = LocalPermits::published_actions().collect();
        let action = known.iter().find(|known| **known == name).copied();
        let action = action.ok_or_else(|| {
            format!("{name} has no published rate; actions that have one: {}", known.join(", "))
        })?;
        let per_minute = calls
            .parse()
            .ok()
            .filter(|calls| *calls > 0)
            .ok_or_else(|| format!("{calls} is not a positive number of calls a minute"))?;
        Ok(Self { action, per_minute })
    }
}

/// How often the cloud's lists are read for comparisons, and how fast.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListTimes {
    /// Shortest time from one list of EIPs to the next.
    pub eip_period: Duration,
    /// Pause before each page of it.
    pub eip_pages_apart: Duration,
    /// Shortest time from one list of a gateway's entries to the next.
    pub entry_period: Duration,
    /// Pause before each page of it.
    pub entry_pages_apart: Duration,
}

/// Source of the account's call permits: the lease store, or a stand-in of tests.
pub(crate) trait CallPermits: Clone + Debug + Send + Sync + 'static {
    /// Reserves a call of `action` at `rate` (calls a minute, burst), unless the next free moment
    /// is after `by`.
    fn reserve_call(
        &self,
        action: &'static str,
        rate: (u32, u32),
        by: Instant,
    ) -> impl Future<Output = Result<CallPermit, waygate_store::Error>> + Send;
}

impl CallPermits for Store {
    async fn reserve_call(
        &self,
        action: &'static str,
        (per_minute, burst): (u32, u32),
        by: Instant,
    ) -> Result<CallPermit, waygate_store::Error> {
        Self::reserve_call(self, action, per_minute, burst, by.into_std()).await
    }
}

/// Call permits of this process, each backed by a permit of the account.
///
/// The process' own buckets adapt when the cloud throttles; the store's rows keep all processes
/// together within the published rates, give or take the one permit of some actions that each
/// process reserves ahead. A caller for whom no permit comes in time takes none, and learns when to
/// ask again. While Postgres is unreachable, calls go on at the process' own rate: without the
/// store no change is sent, and reads lead to no action.
#[derive(Debug)]
pub(crate) struct AccountRates<T = Store> {
    permits: T,
    local: LocalPermits,
    prefetched: Mutex<HashMap<&'static str, PendingPermit>>,
    retries: Mutex<HashMap<&'static str, RetrySchedule>>,
}

/// Actions whose next permit is reserved ahead: a gateway sender makes these calls one after the
/// other, and a free gateway must not wait for Postgres as well. Other reads are batched while they
/// wait for a permit.
const PREFETCHED_ACTIONS: [&str; 4] = [
    "CreateForwardEntry",
    "ModifyForwardEntry",
    "DeleteForwardEntry",
    "DescribeForwardTableEntries",
];
/// Latest moment, from now, of a permit reserved ahead: a later one would delay its user by more
/// than Postgres does, and might never be used.
const PREFETCH_LIMIT: Duration = Duration::from_secs(1);

/// A pending request for a permit. A task runs the query, because one cancelled with its caller
/// could leave its connection unusable.
type PendingPermit = JoinHandle<PermitAnswer>;

/// Answer of the store to a request for a permit.
#[derive(Debug)]
enum PermitAnswer {
    /// Granted: the call may be sent from this moment on.
    Granted(Instant),
    /// No permit in time; the next is likely at this moment.
    NotBefore(Instant),
    /// The store could not be reached.
    StoreUnreachable,
}

impl<T: CallPermits> AccountRates<T> {
    /// Starts from the published rates, with those of `others` in their place.
    pub(crate) fn new(permits: T, others: &[Rate]) -> Self {
        let local = others.iter().fold(LocalPermits::with_published_rates(), |local, rate| {
            local.with_rate(rate.action, rate.per_minute)
        });
        Self { permits, local, prefetched: Mutex::default(), retries: Mutex::default() }
    }

    /// The account's queues, one for each action that changes EIPs, with its rate. Their calls need no
    /// permit: the store marks them as sent within the rate.
    pub(crate) fn account_queues(&self) -> Vec<AccountQueue> {
        let queue = |action| AccountQueue {
            action,
            rate: self.local.best_rate(action).0,
            gives: action_gives(action),
        };
        EIP_ACTIONS.into_iter().map(queue).collect()
    }

    /// How often lists are read, and how fast: with half of their actions' rates at most, since the
    /// other half is for the reads of leases. All `gateways` may be listed at the same time.
    pub(crate) fn list_times(
        &self,
        eip_period: Duration,
        entry_period: Duration,
        gateways: usize,
    ) -> ListTimes {
        let gateways = u32::try_from(gateways).unwrap_or(u32::MAX).max(1);
        let apart = |action| Duration::from_mins(2) / self.local.best_rate(action).0;
        ListTimes {
            eip_period,
            eip_pages_apart: apart("DescribeEipAddresses"),
            entry_period,
            entry_pages_apart: apart("DescribeForwardTableEntries").saturating_mul(gateways),
        }
    }

    fn request_permit(&self, action: &'static str, by: Instant) -> PendingPermit {
        let (permits, rate) = (self.permits.clone(), self.local.best_rate(action));
        tokio::spawn(async move {
            match permits.reserve_call(action, rate, by).await {
                Ok(CallPermit::Granted(wait)) => PermitAnswer::Granted(Instant::now() + wait),
                Ok(CallPermit::Later(wait)) => PermitAnswer::NotBefore(Instant::now() + wait),
                Err(error) => {
                    tracing::debug!(
                        cloud.action = action,
                        error = error_chain(&error),
                        "lease store gave no call permit; this process' own rate applies"
                    );
                    PermitAnswer::StoreUnreachable
                }
            }
        })
    }

    /// Uses the permit reserved ahead, or requests a new one.
    async fn obtain_permit(&self, action: &'static str, by: Instant) -> PermitAnswer {
        let ahead = self.prefetched.lock().remove(action);
        // A permit reserved ahead is used even if it comes a little too late: else it is lost.
        if let Some(ahead) = ahead
            && let Ok(PermitAnswer::Granted(permit)) = ahead.await
        {
            return PermitAnswer::Granted(permit);
        }
        self.request_permit(action, by).await.unwrap_or(PermitAnswer::StoreUnreachable)
    }

    async fn draw_local_and_shared(
        &self,
        action: &'static str,
        by: Instant,
    ) -> Result<(), NoPermit> {
        // Dropped, and so given back, where the account has no permit in time.
        let reservation = self.local.reserve_permit(action, by)?;
        let permit = match self.obtain_permit(action, by).await {
            PermitAnswer::Granted(permit) => Some(permit),
            PermitAnswer::NotBefore(then) => {
                return Err(NoPermit {
                    retry_after: then.saturating_duration_since(Instant::now()),
                });
            }
            PermitAnswer::StoreUnreachable => None,
        };
        if PREFETCHED_ACTIONS.contains(&action) {
            self.prefetched
                .lock()
                .entry(action)
                .or_insert_with(|| self.request_permit(action, Instant::now() + PREFETCH_LIMIT));
        }
        reservation.wait_until_ready(permit).await;
        Ok(())
    }

    /// Replaces the retry time by one of the caller's own; see [`RetrySchedule`].
    fn spread_retry(&self, action: &'static str, no_permit: NoPermit) -> NoPermit {
        let (per_minute, burst) = self.local.best_rate(action);
        let apart = Duration::from_mins(1) / per_minute.saturating_sub(burst).max(1);
        let now = Instant::now();
        let next = self.retries.lock().entry(action).or_default().next(
            now,
            now + no_permit.retry_after,
            apart,
        );
        NoPermit { retry_after: next - now }
    }
}

impl<T: CallPermits> Permits for AccountRates<T> {
    fn draw_permit(&self, action: &'static str, by: Instant) -> PermitFuture<'_> {
        Box::pin(async move {
            self.draw_local_and_shared(action, by)
                .await
                .map_err(|no_permit| self.spread_retry(action, no_permit))
        })
    }

    fn note_throttled(&self, action: &'static str, retry_after: Option<Duration>) {
        self.local.note_throttled(action, retry_after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn rate_argument_names_an_action_with_a_published_rate() {
        assert_eq!(
            "AllocateEipAddress=240".parse(),
            Ok(Rate { action: "AllocateEipAddress", per_minute: 240 })
        );
        for (text, why) in [
            ("AllocateEipAddress", "the form ACTION=CALLS"),
            ("AllocateEip=240", "no published rate"),
            ("AllocateEipAddress=0", "not a positive number"),
            ("AllocateEipAddress=many", "not a positive number"),
        ] {
            assert!(text.parse::<Rate>().unwrap_err().contains(why), "{text}");
        }
    }

    /// A source that gives every caller the same answer and records the deadlines it was given.
    #[derive(Clone, Debug)]
    struct Fixed {
        says: CallPermit,
        asked: Arc<Mutex<Vec<Instant>>>,
    }

    impl CallPermits for Fixed {
        async fn reserve_call(
            &self,
            _: &'static str,
            _: (u32, u32),
            by: Instant,
        ) -> Result<CallPermit, waygate_store::Error> {
            self.asked.lock().push(by);
            Ok(self.says)
        }
    }

    fn rates(says: CallPermit) -> (AccountRates<Fixed>, Arc<Mutex<Vec<Instant>>>) {
        let asked = Arc::default();
        (AccountRates::new(Fixed { says, asked: Arc::clone(&asked) }, &[]), asked)
    }

    #[tokio::test]
    async fn rates_refuse_callers_at_once_and_spread_their_retries() {
        let (rates, asked) = rates(CallPermit::Later(Duration::from_secs(1)));
        let by = Instant::now() + Duration::from_hours(1);
        let mut retries = Vec::new();
        // More than the process' own bucket holds: a refused caller takes nothing from it.
        for _ in 0..40 {
            let now = Instant::now();
            retries.push(
                now + rates.draw_permit("AllocateEipAddress", by).await.unwrap_err().retry_after,
            );
        }
        assert!(
            asked.lock().iter().all(|asked| *asked == by),
            "the store is asked with the caller's own deadline"
        );
        // 110 a minute, but for the time that passes between two lines of this test.
        assert!(
            retries.is_sorted() && retries[39] - retries[0] > Duration::from_secs(20),
            "{retries:?}"
        );
        assert!(
            rates.local.reserve_permit("AllocateEipAddress", Instant::now()).is_ok(),
            "a refused caller gives its local permit back"
        );
    }

    #[tokio::test]
    async fn rates_reserve_a_permit_ahead_for_the_next_caller() {
        let (rates, asked) = rates(CallPermit::Granted(Duration::ZERO));
        let by = Instant::now() + Duration::from_hours(1);
        for _ in 0..3 {
            rates.draw_permit("CreateForwardEntry", by).await.unwrap();
        }
        // The last permit ahead may not have been requested yet.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let asked = asked.lock().clone();
        assert_eq!(asked.len(), 4, "one a call, and one ahead");
        assert!(
            asked[0] == by
                && asked[1..].iter().all(|ahead| *ahead <= Instant::now() + PREFETCH_LIMIT),
            "{asked:?}"
        );
    }
}
