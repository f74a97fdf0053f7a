//! The connection pool. Facts and queries are [`Store`]'s, in the files of their subjects; what
//! only a claim holder may write is [`crate::Claimed`]'s.

use crate::error::Error;
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use std::time::Duration;

/// How long a statement may wait for a connection. Longer, and the caller's own deadline is past.
const ACQUIRE: Duration = Duration::from_secs(5);

/// A connection pool to the lease store; cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) pool: PgPool,
}

impl Store {
    /// Prepares a pool without connecting: a process starts, and says what it lacks, while Postgres
    /// is away.
    pub fn connect_lazy(
        url: &SecretString,
        max_connections: u32,
        application_name: &str,
    ) -> Result<Self, Error> {
        let options: PgConnectOptions = url.expose_secret().parse().map_err(|_| Error::BadUrl)?;
        let options = options.application_name(application_name).options([
            // The allocator's LIMIT makes the planner prefer custom plans for ever: 0.22 of the
            // insert rate instead of 0.39.
            ("plan_cache_mode", "force_generic_plan"),
            // A lease that is acknowledged is a lease that survives a crash.
            ("synchronous_commit", "on"),
            // sqlx can leave a transaction open on a connection whose `begin` was cancelled.
            ("idle_in_transaction_session_timeout", "10s"),
            ("statement_timeout", "10s"),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(ACQUIRE)
            .connect_lazy_with(options);
        Ok(Self { pool })
    }

    /// Whether Postgres answers.
    pub async fn ping(&self) -> Result<(), Error> {
        sqlx::query("SELECT 1").execute(&self.pool).await?;
        Ok(())
    }
}
