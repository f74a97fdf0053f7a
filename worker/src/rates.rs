//! The account's rates, shared through the lease store by every worker of every cluster that keeps its leases there.

use crate::errors::chain;
use std::str::FromStr;
use std::time::Duration;
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
/// The process' own buckets adapt when the cloud throttles; the store's rows keep all processes together within what is published. With
/// Postgres away, reads go on at the process' own rate: nothing can be changed then, and what is read is not acted on.
#[derive(Debug)]
pub(crate) struct AccountRates {
    store: Store,
    local: LocalPermits,
}

impl AccountRates {
    /// The published rates, but for those that are another agreement's.
    pub(crate) fn new(store: Store, others: &[Rate]) -> Self {
        let local = others.iter().fold(LocalPermits::published(), |local, rate| local.with_rate(rate.action, rate.per_minute));
        Self { store, local }
    }
}

impl Permits for AccountRates {
    fn draw(&self, action: &'static str) -> Draw<'_> {
        Box::pin(async move {
            self.local.draw(action).await?;
            let (per_minute, burst) = self.local.best_rate(action);
            match self.store.take_turn(action, per_minute, burst).await {
                Ok(wait) => tokio::time::sleep(wait).await,
                Err(error) => tracing::debug!(cloud.action = action, error = chain(&error), "the account's rate is not shared right now"),
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
