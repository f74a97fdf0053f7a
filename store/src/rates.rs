//! The account's call rates: all processes reserve their calls in one row for each action.

use crate::error::Error;
use crate::store::Store;
use std::time::{Duration, Instant};

/// Furthest time ahead that a row may say. A row beyond comes from a clock that was set back, or
/// from an earlier version that reserved without a deadline: it is started anew, because waiting
/// for it would hold up every call.
const MAX_AHEAD: Duration = Duration::from_mins(1);
/// Longest wait of a caller; shorter than the limit above, so that no regular reservation reaches
/// it.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// The answer to a request for a permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallPermit {
    /// The permit is reserved and valid after this time.
    Granted(Duration),
    /// No permit is free before the deadline, and none was reserved. Ask again after this time.
    Later(Duration),
}

impl Store {
    /// Reserves the next permit to call `action`, if one is free before `by`: `per_minute` calls a
    /// minute, with `burst` calls at once after a pause. An unused permit is lost.
    pub async fn reserve_call(
        &self,
        action: &str,
        per_minute: u32,
        burst: u32,
        by: Instant,
    ) -> Result<CallPermit, Error> {
        // The permits that accrue after a burst leave room for it, so that no minute exceeds the
        // rate.
        let apart = 60.0 / f64::from(per_minute.saturating_sub(burst).max(1));
        let mut connection = self.pool.acquire().await?;
        // Computed only now: time passes for the caller while it waits for a connection.
        let within = by.saturating_duration_since(Instant::now()).min(MAX_WAIT);
        // Without waiting for the disk: a crash of Postgres loses a permit or two, and every call
        // of every worker passes through this statement.
        let answer = sqlx::query!(
            r#"WITH granted AS (
               INSERT INTO rate (action, next_call_at)
               SELECT $1, now() - make_interval(secs => $2::float8 * ($3::float8 - 1)) WHERE set_config('synchronous_commit', 'off', true) = 'off'
               ON CONFLICT (action) DO UPDATE SET
                 next_call_at = make_interval(secs => $2::float8) + greatest(now() - make_interval(secs => $2::float8 * $3::float8),
                   CASE WHEN rate.next_call_at > now() + make_interval(secs => $5::float8) THEN now() ELSE rate.next_call_at END)
                 WHERE rate.next_call_at + make_interval(secs => $2::float8) <= now() + make_interval(secs => $4::float8)
                   OR rate.next_call_at > now() + make_interval(secs => $5::float8)
               RETURNING extract(epoch FROM next_call_at - now())::float8 AS wait)
             SELECT true AS "granted!", wait AS "wait!" FROM granted
             UNION ALL
             SELECT false, extract(epoch FROM next_call_at - now())::float8 + $2::float8 - $4::float8 FROM rate
             WHERE action = $1 AND NOT EXISTS (SELECT FROM granted)"#,
            action,
            apart,
            f64::from(burst.max(1)),
            within.as_secs_f64(),
            MAX_AHEAD.as_secs_f64(),
        )
        .fetch_optional(&mut *connection)
        .await?;
        // No row: another process inserted it after this statement began, and took the permits
        // there were.
        let Some(answer) = answer else {
            return Ok(CallPermit::Later(Duration::from_secs_f64(apart)));
        };
        let wait = Duration::try_from_secs_f64(answer.wait).unwrap_or_default();
        Ok(if answer.granted { CallPermit::Granted(wait) } else { CallPermit::Later(wait) })
    }
}
