//! Permits of the account's call rates.

use crate::database::{Bench, in_database};
use anyhow::{Result, ensure};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use waygate_store::{CallPermit, Store};

const ALLOCATE: &str = "AllocateEipAddress";

/// Asks for a permit at 64 calls a minute with a burst of four: after those, one a second.
async fn ask(store: &Store, action: &str, timeout: Duration) -> Result<CallPermit> {
    Ok(store.reserve_call(action, 64, 4, Instant::now() + timeout).await?)
}

/// Reads how far the row is ahead of the clock, in seconds.
async fn lead(bench: &Bench) -> Result<f64> {
    Ok(sqlx::query_scalar(
        "SELECT extract(epoch FROM next_call_at - clock_timestamp())::float8 FROM rate",
    )
    .fetch_one(&bench.pool)
    .await?)
}

async fn free_at(bench: &Bench) -> Result<String> {
    Ok(sqlx::query_scalar("SELECT next_call_at::text FROM rate").fetch_one(&bench.pool).await?)
}

#[tokio::test]
async fn all_processes_together_get_a_burst_and_then_one_permit_at_a_time() -> Result<()> {
    in_database(async |bench| {
        let mut waits = Vec::new();
        for _ in 0..8 {
            let CallPermit::Granted(wait) =
                ask(&bench.store, ALLOCATE, Duration::from_mins(1)).await?
            else {
                continue;
            };
            waits.push(wait);
        }
        ensure!(waits.len() == 8, "{waits:?}");
        // Four at once, then a second apart; the queries themselves take milliseconds.
        let early = waits[..4].iter().all(Duration::is_zero);
        let due = |place: usize| Duration::from_secs(u64::try_from(place).unwrap_or_default() + 1);
        let spaced = waits[4..].iter().enumerate().all(|(place, wait)| {
            *wait <= due(place) && *wait + Duration::from_millis(900) > due(place)
        });
        ensure!(early && spaced, "{waits:?}");
        let other = ask(&bench.store, "ReleaseEipAddress", Duration::ZERO).await?;
        ensure!(other == CallPermit::Granted(Duration::ZERO), "each action has its own: {other:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_permit_after_the_callers_deadline_is_left_to_others() -> Result<()> {
    in_database(async |bench| {
        for _ in 0..24 {
            ask(&bench.store, ALLOCATE, Duration::from_mins(1)).await?;
        }
        let (before, backlog) = (free_at(bench).await?, lead(bench).await?);
        ensure!(backlog > 15.0, "the machine is too slow for this test: {backlog}");
        for _ in 0..10 {
            let ahead = lead(bench).await?;
            let refused = ask(&bench.store, ALLOCATE, Duration::from_secs(5)).await?;
            // The next permit is a second after the last reserved one, and the caller waits five.
            let CallPermit::Later(later) = refused else {
                anyhow::bail!("{refused:?} with {ahead} s of permits reserved")
            };
            let meant = ahead + 1.0 - 5.0;
            ensure!((later.as_secs_f64() - meant).abs() < 1.0, "{later:?} instead of {meant} s");
        }
        ensure!(free_at(bench).await? == before, "the row moved for refused requests");
        let patient = ask(&bench.store, ALLOCATE, Duration::from_mins(1)).await?;
        ensure!(
            matches!(patient, CallPermit::Granted(_)),
            "a longer wait gets a permit: {patient:?}"
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_with_short_deadlines_do_not_push_the_row_beyond_them() -> Result<()> {
    in_database(async |bench| {
        let start = Arc::new(Barrier::new(64));
        let mut askers = JoinSet::new();
        for _ in 0..64 {
            let (store, start) = (bench.store.clone(), Arc::clone(&start));
            askers.spawn(async move {
                start.wait().await;
                let mut granted = 0;
                for _ in 0..4 {
                    granted += u32::from(matches!(
                        ask(&store, ALLOCATE, Duration::from_secs(2)).await?,
                        CallPermit::Granted(_)
                    ));
                }
                anyhow::Ok(granted)
            });
        }
        let begun = Instant::now();
        let mut granted = 0;
        while let Some(asked) = askers.join_next().await {
            granted += asked??;
        }
        let lead = lead(bench).await?;
        ensure!(lead <= 3.0, "the row is {lead} s ahead; no caller waits longer than 2 s");
        // Four at once, two seconds' worth ahead, and one for each second that has passed.
        let most = 7.0 + begun.elapsed().as_secs_f64();
        ensure!(
            granted >= 4 && f64::from(granted) <= most,
            "{granted} of 256 got a permit, at most {most} may"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_row_further_ahead_than_any_wait_is_started_anew() -> Result<()> {
    in_database(async |bench| {
        ask(&bench.store, ALLOCATE, Duration::ZERO).await?;
        sqlx::query("UPDATE rate SET next_call_at = now() + interval '300 seconds'")
            .execute(&bench.pool)
            .await?;
        let turn = ask(&bench.store, ALLOCATE, Duration::from_secs(2)).await?;
        // Without a burst, because earlier calls are unknown.
        ensure!(
            matches!(turn, CallPermit::Granted(wait) if wait <= Duration::from_secs(1)),
            "{turn:?}"
        );
        ensure!(lead(bench).await? <= 1.0, "{}", lead(bench).await?);
        Ok(())
    })
    .await
}
