//! The account's rates, shared through the lease store by every worker of every cluster that keeps its leases there.

use crate::errors::chain;
use std::collections::HashMap;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use waygate_cloud::{Draw, LocalPermits, Permits};
use waygate_store::Store;

/// Calls of one action a minute, for an account with another agreement than what is published. Written `ACTION=CALLS`.
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
        let action = action.ok_or_else(|| format!("{name} is none of the actions that have a rate: {}", known.join(", ")))?;
        let per_minute = calls.parse().ok().filter(|calls| *calls > 0).ok_or_else(|| format!("{calls} is no number of calls a minute"))?;
        Ok(Self { action, per_minute })
    }
}

/// Permits of this process, each with a turn of the account's.
///
/// The process' own buckets adapt when the cloud throttles; the store's rows keep all processes together within what is published, give or take
/// the one turn of some actions that each of them takes ahead. With Postgres away, reads go on at the process' own rate: nothing can be changed
/// then, and what is read is not acted on.
#[derive(Debug)]
pub(crate) struct AccountRates {
    store: Store,
    local: LocalPermits,
    ahead: Mutex<HashMap<&'static str, Turn>>,
}

/// The calls that lanes make one after the other: a gateway that is free must not wait for Postgres as well. Of other reads more fit into one
/// call while it waits for its turn.
const AHEAD: [&str; 4] = ["CreateForwardEntry", "ModifyForwardEntry", "DeleteForwardEntry", "DescribeForwardTableEntries"];

/// When a call may be made; none where the store cannot say.
type Turn = JoinHandle<Option<Instant>>;

impl AccountRates {
    /// The published rates, but for those that are another agreement's.
    pub(crate) fn new(store: Store, others: &[Rate]) -> Self {
        let local = others.iter().fold(LocalPermits::published(), |local, rate| local.with_rate(rate.action, rate.per_minute));
        Self { store, local, ahead: Mutex::default() }
    }

    fn take(&self, action: &'static str) -> Turn {
        let (store, (per_minute, burst)) = (self.store.clone(), self.local.best_rate(action));
        tokio::spawn(async move {
            match store.take_turn(action, per_minute, burst).await {
                Ok(wait) => Some(Instant::now() + wait),
                Err(error) => {
                    tracing::debug!(cloud.action = action, error = chain(&error), "the account's rate is not shared right now");
                    None
                }
            }
        })
    }

    fn ahead(&self) -> MutexGuard<'_, HashMap<&'static str, Turn>> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permits for AccountRates {
    fn draw(&self, action: &'static str) -> Draw<'_> {
        Box::pin(async move {
            self.local.draw(action).await?;
            let ahead = self.ahead().remove(action);
            let turn = ahead.unwrap_or_else(|| self.take(action)).await;
            if AHEAD.contains(&action) {
                self.ahead().entry(action).or_insert_with(|| self.take(action));
            }
            if let Ok(Some(turn)) = turn
                && turn > Instant::now()
            {
                sleep_until(turn).await;
            }
            Ok(())
        })
    }

    fn throttled(&self, action: &'static str, retry_after: Option<Duration>) {
        self.local.throttled(action, retry_after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_an_action_that_has_one() {
        assert_eq!("AllocateEipAddress=240".parse(), Ok(Rate { action: "AllocateEipAddress", per_minute: 240 }));
        for (text, why) in [
            ("AllocateEipAddress", "not ACTION=CALLS"),
            ("AllocateEip=240", "none of the actions"),
            ("AllocateEipAddress=0", "no number of calls"),
            ("AllocateEipAddress=many", "no number of calls"),
        ] {
            assert!(text.parse::<Rate>().unwrap_err().contains(why), "{text}");
        }
    }
}
