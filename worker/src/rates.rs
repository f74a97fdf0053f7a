//! The account's rates, shared through the lease store by every worker of every cluster that keeps its leases there.

use crate::errors::chain;
use std::time::Duration;
use waygate_cloud::{Draw, LocalPermits, Permits};
use waygate_store::Store;

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
    /// The published rates.
    pub(crate) fn new(store: Store) -> Self {
        Self { store, local: LocalPermits::published() }
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
