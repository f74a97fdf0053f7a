//! The account's rates: every process takes its calls' turns from one row an action.

use crate::{Error, Store};
use std::time::Duration;

impl Store {
    /// Takes the next turn to call `action`, at `per_minute` calls a minute with `burst` calls at once after a pause; says how long to wait for it.
    /// A turn is taken by asking: one that is not used is lost, and costs others nothing but its time.
    pub async fn take_turn(&self, action: &str, per_minute: u32, burst: u32) -> Result<Duration, Error> {
        // What flows in after a burst leaves room for it, so that no minute holds more than the rate.
        let apart = 60.0 / f64::from(per_minute.saturating_sub(burst).max(1));
        // Not waiting for the disk: what a crash of Postgres may lose is a turn or two, and every call of every worker passes here.
        let wait = sqlx::query_scalar!(
            r#"INSERT INTO rate (action, free_at)
             SELECT $1, now() - make_interval(secs => $2::float8 * ($3::float8 - 1)) WHERE set_config('synchronous_commit', 'off', true) = 'off'
             ON CONFLICT (action) DO UPDATE SET
               free_at = greatest(rate.free_at, now() - make_interval(secs => $2::float8 * $3::float8)) + make_interval(secs => $2::float8)
             RETURNING extract(epoch FROM free_at - now())::float8 AS "wait!""#,
            action,
            apart,
            f64::from(burst.max(1)),
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(Duration::try_from_secs_f64(wait).unwrap_or_default())
    }
}
