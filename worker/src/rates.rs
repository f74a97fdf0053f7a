//! The cloud account's call rates, shared through the lease store by the workers of all clusters
//! that keep their leases there.

use crate::errors::chain;
use crate::retries::Retries;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt::Debug;
use std::str::FromStr;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use waygate_cloud::{Draw, LocalPermits, NoPermit, Permits};
use waygate_store::{RateTurn, Store};

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

/// Source of the account's call permits: the lease store, or a stand-in of tests.
pub(crate) trait Turns: Clone + Debug + Send + Sync + 'static {
    /// Reserves a call of `action` at `rate` (calls a minute, burst), unless the next free moment
    /// is after `by`.
    fn take_turn(
        &self,
        action: &'static str,
        rate: (u32, u32),
        by: Instant,
    ) -> impl Future<Output = Result<RateTurn, waygate_store::Error>> + Send;
}

impl Turns for Store {
    async fn take_turn(
        &self,
        action: &'static str,
        (per_minute, burst): (u32, u32),
        by: Instant,
    ) -> Result<RateTurn, waygate_store::Error> {
        Self::take_turn(self, action, per_minute, burst, by.into_std()).await
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
    turns: T,
    local: LocalPermits,
    ahead: Mutex<HashMap<&'static str, Asked>>,
    retries: Mutex<HashMap<&'static str, Retries>>,
}

/// Actions whose next permit is reserved ahead: a gateway sender makes these calls one after the
/// other, and a free gateway must not wait for Postgres as well. Other reads are batched while they
/// wait for a permit.
const AHEAD: [&str; 4] = [
    "CreateForwardEntry",
    "ModifyForwardEntry",
    "DeleteForwardEntry",
    "DescribeForwardTableEntries",
];
/// Latest moment, from now, of a permit reserved ahead: a later one would delay its user by more
/// than Postgres does, and might never be used.
const AHEAD_BY: Duration = Duration::from_secs(1);

/// A pending request for a permit. A task runs the query, because one cancelled with its caller
/// could leave its connection unusable.
type Asked = JoinHandle<Answer>;

/// Answer of the store to a request for a permit.
#[derive(Debug)]
enum Answer {
    /// Granted: the call may be sent from this moment on.
    Taken(Instant),
    /// No permit in time; the next is likely at this moment.
    Likely(Instant),
    /// The store could not be reached.
    Away,
}

impl<T: Turns> AccountRates<T> {
    /// Starts from the published rates, with those of `others` in their place.
    pub(crate) fn new(turns: T, others: &[Rate]) -> Self {
        let local = others.iter().fold(LocalPermits::published(), |local, rate| {
            local.with_rate(rate.action, rate.per_minute)
        });
        Self { turns, local, ahead: Mutex::default(), retries: Mutex::default() }
    }

    fn ask(&self, action: &'static str, by: Instant) -> Asked {
        let (turns, rate) = (self.turns.clone(), self.local.best_rate(action));
        tokio::spawn(async move {
            match turns.take_turn(action, rate, by).await {
                Ok(RateTurn::Taken(wait)) => Answer::Taken(Instant::now() + wait),
                Ok(RateTurn::Later(wait)) => Answer::Likely(Instant::now() + wait),
                Err(error) => {
                    tracing::debug!(
                        cloud.action = action,
                        error = chain(&error),
                        "call permit not shared; the process' own rate applies"
                    );
                    Answer::Away
                }
            }
        })
    }

    /// Uses the permit reserved ahead, or requests a new one.
    async fn turn(&self, action: &'static str, by: Instant) -> Answer {
        let ahead = self.ahead.lock().remove(action);
        // A permit reserved ahead is used even if it comes a little too late: else it is lost.
        if let Some(ahead) = ahead
            && let Ok(Answer::Taken(turn)) = ahead.await
        {
            return Answer::Taken(turn);
        }
        self.ask(action, by).await.unwrap_or(Answer::Away)
    }

    async fn draw_both(&self, action: &'static str, by: Instant) -> Result<(), NoPermit> {
        // Dropped, and so given back, where the account has no permit in time.
        let reservation = self.local.reserve(action, by)?;
        let turn = match self.turn(action, by).await {
            Answer::Taken(turn) => Some(turn),
            Answer::Likely(then) => {
                return Err(NoPermit {
                    retry_after: then.saturating_duration_since(Instant::now()),
                });
            }
            Answer::Away => None,
        };
        if AHEAD.contains(&action) {
            self.ahead
                .lock()
                .entry(action)
                .or_insert_with(|| self.ask(action, Instant::now() + AHEAD_BY));
        }
        reservation.wait(turn).await;
        Ok(())
    }

    /// Replaces the refusal's retry time by one of the caller's own; see [`Retries`].
    fn retry(&self, action: &'static str, refused: NoPermit) -> NoPermit {
        let (per_minute, burst) = self.local.best_rate(action);
        let apart = Duration::from_mins(1) / per_minute.saturating_sub(burst).max(1);
        let now = Instant::now();
        let next = self.retries.lock().entry(action).or_default().next(
            now,
            now + refused.retry_after,
            apart,
        );
        NoPermit { retry_after: next - now }
    }
}

impl<T: Turns> Permits for AccountRates<T> {
    fn draw(&self, action: &'static str, by: Instant) -> Draw<'_> {
        Box::pin(async move {
            self.draw_both(action, by).await.map_err(|refused| self.retry(action, refused))
        })
    }

    fn throttled(&self, action: &'static str, retry_after: Option<Duration>) {
        self.local.throttled(action, retry_after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_rate_is_of_an_action_that_has_one() {
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
        says: RateTurn,
        asked: Arc<Mutex<Vec<Instant>>>,
    }

    impl Turns for Fixed {
        async fn take_turn(
            &self,
            _: &'static str,
            _: (u32, u32),
            by: Instant,
        ) -> Result<RateTurn, waygate_store::Error> {
            self.asked.lock().push(by);
            Ok(self.says)
        }
    }

    fn rates(says: RateTurn) -> (AccountRates<Fixed>, Arc<Mutex<Vec<Instant>>>) {
        let asked = Arc::default();
        (AccountRates::new(Fixed { says, asked: Arc::clone(&asked) }, &[]), asked)
    }

    #[tokio::test]
    async fn callers_without_a_turn_hear_so_at_once_and_are_told_to_come_back_one_after_the_other()
    {
        let (rates, asked) = rates(RateTurn::Later(Duration::from_secs(1)));
        let by = Instant::now() + Duration::from_hours(1);
        let mut told = Vec::new();
        // More than the process' own bucket holds: a refused caller takes nothing from it.
        for _ in 0..40 {
            let now = Instant::now();
            told.push(now + rates.draw("AllocateEipAddress", by).await.unwrap_err().retry_after);
        }
        assert!(
            asked.lock().iter().all(|asked| *asked == by),
            "the store is asked with the caller's own deadline"
        );
        // 110 a minute, but for the time that passes between two lines of this test.
        assert!(told.is_sorted() && told[39] - told[0] > Duration::from_secs(20), "{told:?}");
        assert!(
            rates.local.reserve("AllocateEipAddress", Instant::now()).is_ok(),
            "a refused caller gives its local permit back"
        );
    }

    #[tokio::test]
    async fn a_turn_is_taken_ahead_only_where_it_comes_soon_and_is_used_by_the_next_caller() {
        let (rates, asked) = rates(RateTurn::Taken(Duration::ZERO));
        let by = Instant::now() + Duration::from_hours(1);
        for _ in 0..3 {
            rates.draw("CreateForwardEntry", by).await.unwrap();
        }
        // The last permit ahead may not have been requested yet.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let asked = asked.lock().clone();
        assert_eq!(asked.len(), 4, "one a call, and one ahead");
        assert!(
            asked[0] == by && asked[1..].iter().all(|ahead| *ahead <= Instant::now() + AHEAD_BY),
            "{asked:?}"
        );
    }
}
