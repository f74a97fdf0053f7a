//! Turns of the account's rates.

use crate::database::in_database;
use anyhow::{Result, ensure};
use std::time::Duration;

#[tokio::test]
async fn all_processes_together_get_a_burst_and_then_one_turn_at_a_time() -> Result<()> {
    in_database(async |bench| {
        let mut waits = Vec::new();
        for _ in 0..8 {
            waits.push(bench.store.take_turn("AllocateEipAddress", 64, 4).await?);
        }
        // Four at once, then a second apart; the queries themselves take milliseconds.
        let early = waits[..4].iter().all(Duration::is_zero);
        let due = |place: usize| Duration::from_secs(u64::try_from(place).unwrap_or_default() + 1);
        let spaced =
            waits[4..].iter().enumerate().all(|(place, wait)| *wait <= due(place) && *wait + Duration::from_millis(900) > due(place));
        ensure!(early && spaced, "{waits:?}");
        ensure!(bench.store.take_turn("ReleaseEipAddress", 64, 4).await?.is_zero(), "each action has its own");
        Ok(())
    })
    .await
}
