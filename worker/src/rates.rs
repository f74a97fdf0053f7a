//! The account's rates, shared through the lease store by every worker of every cluster that keeps
//! its leases there.

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

/// Calls of one action a minute, for an account with another agreement than what is published.
/// Written `ACTION=CALLS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    action: &'static str,
    per_minute: u32,
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, calls) = text.split_once('=').ok_or("it is not ACTION=CALLS")?;
        let known: Vec<_> = LocalPermits::published_actions().collect();
        let action = known.iter().find(|known| **known == name).copied();
        let action = action.ok_or_else(|| {
            format!("{name} is none of the actions that have a rate: {}", known.join(", "))
        })?;
        let per_minute = calls
            .parse()
            .ok()
            .filter(|calls| *calls > 0)
            .ok_or_else(|| format!("{calls} is no number of calls a minute"))?;
        Ok(Self { action, per_minute })
    }
}

/// Where the account's turns come from.
pub(crate) trait Turns: Clone + Debug + Send + Sync + 'static {
    /// See [`Store::take_turn`].
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

/// Permits of this process, each with a turn of the account's.
///
/// The process' own buckets adapt when the cloud throttles; the store's rows keep all processes
/// together within what is published, give or take the one turn of some actions that each of them
/// takes ahead. A caller for whom no turn comes in time takes none, and hears when to ask again.
/// With Postgres away, reads go on at the process' own rate: nothing can be changed then, and what
/// is read is not acted on.
#[derive(Debug)]
pub(crate) struct AccountRates<T = Store> {
    turns: T,
    local: LocalPermits,
    ahead: Mutex<HashMap<&'static str, Asked>>,
    retries: Mutex<HashMap<&'static str, Retries>>,
}

/// The calls that lanes make one after the other: a gateway that is free must not wait for Postgres
/// as well. Of other reads more fit into one call while it waits for its turn.
const AHEAD: [&str; 4] = [
    "CreateForwardEntry",
    "ModifyForwardEntry",
    "DeleteForwardEntry",
    "DescribeForwardTableEntries",
];
/// No turn is taken ahead that comes later than this: its user would wait for more than Postgres,
/// and there may be none.
const AHEAD_BY: Duration = Duration::from_secs(1);

/// A turn that is being asked for. Asked for in a task: a query that its caller gives up could
/// spoil its connection.
type Asked = JoinHandle<Answer>;

/// What the store says of a turn.
#[derive(Debug)]
enum Answer {
    /// It is this process', from then on.
    Taken(Instant),
    /// None comes in time; one is likely then.
    Likely(Instant),
    /// The store does not answer.
    Away,
}

impl<T: Turns> AccountRates<T> {
    /// The published rates, but for those that are another agreement's.
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
                        "the account's rate is not shared right now"
                    );
                    Answer::Away
                }
            }
        })
    }

    /// The turn that was taken ahead, or a new one.
    async fn turn(&self, action: &'static str, by: Instant) -> Answer {
        let ahead = self.ahead.lock().remove(action);
        // One taken ahead that comes a little too late is used all the same: it would be lost.
        if let Some(ahead) = ahead
            && let Ok(Answer::Taken(turn)) = ahead.await
        {
            return Answer::Taken(turn);
        }
        self.ask(action, by).await.unwrap_or(Answer::Away)
    }

    async fn draw_both(&self, action: &'static str, by: Instant) -> Result<(), NoPermit> {
        // Given back where the account has no turn.
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

    /// When a caller that found no turn asks again; see [`Retries`].
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
            ("AllocateEipAddress", "not ACTION=CALLS"),
            ("AllocateEip=240", "none of the actions"),
            ("AllocateEipAddress=0", "no number of calls"),
            ("AllocateEipAddress=many", "no number of calls"),
        ] {
            assert!(text.parse::<Rate>().unwrap_err().contains(why), "{text}");
        }
    }

    /// A row that says the same to everyone, and what it was asked.
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
        // More than the process' own bucket holds: what is refused takes nothing from it.
        for _ in 0..40 {
            let now = Instant::now();
            told.push(now + rates.draw("AllocateEipAddress", by).await.unwrap_err().retry_after);
        }
        assert!(
            asked.lock().iter().all(|asked| *asked == by),
            "the row is asked with the caller's own deadline"
        );
        // 110 a minute, but for the time that passes between two lines of this test.
        assert!(told.is_sorted() && told[39] - told[0] > Duration::from_secs(20), "{told:?}");
        assert!(
            rates.local.reserve("AllocateEipAddress", Instant::now()).is_ok(),
            "a refused caller gives its own place back"
        );
    }

    #[tokio::test]
    async fn a_turn_is_taken_ahead_only_where_it_comes_soon_and_is_used_by_the_next_caller() {
        let (rates, asked) = rates(RateTurn::Taken(Duration::ZERO));
        let by = Instant::now() + Duration::from_hours(1);
        for _ in 0..3 {
            rates.draw("CreateForwardEntry", by).await.unwrap();
        }
        // The last one taken ahead may not have been asked for yet.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let asked = asked.lock().clone();
        assert_eq!(asked.len(), 4, "one a call, and one ahead");
        assert!(
            asked[0] == by && asked[1..].iter().all(|ahead| *ahead <= Instant::now() + AHEAD_BY),
            "{asked:?}"
        );
    }
}
