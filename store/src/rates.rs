//! The account's rates: every process takes its calls' turns from one row an action.

use crate::error::Error;
use crate::store::Store;
use std::time::{Duration, Instant};

/// No turn is further ahead. A row that says so comes from a clock that was set back, or from a
/// version that took turns for everyone who asked: it is begun anew, since waiting for it would
/// hold every call up.
const FARTHEST: Duration = Duration::from_mins(1);
/// No caller waits longer, so that a row that was moved for one is never taken for such a row.
const LONGEST: Duration = Duration::from_secs(30);

/// What came of asking for a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateTurn {
    /// It was taken, and comes after this.
    Taken(Duration),
    /// None comes in time, and none was taken. One may for a process that asks again after this.
    Later(Duration),
}

impl Store {
    /// Takes the next turn to call `action`, at `per_minute` calls a minute with `burst` calls at
    /// once after a pause, where it comes by then. A turn that was taken and is not used is lost.
    pub async fn take_turn(
        &self,
        action: &str,
        per_minute: u32,
        burst: u32,
        by: Instant,
    ) -> Result<RateTurn, Error> {
        // What flows in after a burst leaves room for it, so that no minute holds more than the
        // rate.
        let apart = 60.0 / f64::from(per_minute.saturating_sub(burst).max(1));
        let mut connection = self.pool.acquire().await?;
        // Counted only now: the caller's time goes by while it waits for a connection.
        let within = by.saturating_duration_since(Instant::now()).min(LONGEST);
        // Not waiting for the disk: what a crash of Postgres may lose is a turn or two, and every
        // call of every worker passes here.
        let asked = sqlx::query!(
            r#"WITH taken AS (
               INSERT INTO rate (action, free_at)
               SELECT $1, now() - make_interval(secs => $2::float8 * ($3::float8 - 1)) WHERE set_config('synchronous_commit', 'off', true) = 'off'
               ON CONFLICT (action) DO UPDATE SET
                 free_at = make_interval(secs => $2::float8) + greatest(now() - make_interval(secs => $2::float8 * $3::float8),
                   CASE WHEN rate.free_at > now() + make_interval(secs => $5::float8) THEN now() ELSE rate.free_at END)
                 WHERE rate.free_at + make_interval(secs => $2::float8) <= now() + make_interval(secs => $4::float8)
                   OR rate.free_at > now() + make_interval(secs => $5::float8)
               RETURNING extract(epoch FROM free_at - now())::float8 AS wait)
             SELECT true AS "taken!", wait AS "wait!" FROM taken
             UNION ALL
             SELECT false, extract(epoch FROM free_at - now())::float8 + $2::float8 - $4::float8 FROM rate
             WHERE action = $1 AND NOT EXISTS (SELECT FROM taken)"#,
            action,
            apart,
            f64::from(burst.max(1)),
            within.as_secs_f64(),
            FARTHEST.as_secs_f64(),
        )
        .fetch_optional(&mut *connection)
        .await?;
        // No row: another process made it after this statement had begun, and took what there was.
        let Some(asked) = asked else { return Ok(RateTurn::Later(Duration::from_secs_f64(apart))) };
        let wait = Duration::try_from_secs_f64(asked.wait).unwrap_or_default();
        Ok(if asked.taken { RateTurn::Taken(wait) } else { RateTurn::Later(wait) })
    }
}
