//! The connection pool. Facts and queries are methods of [`Store`], in the files of their subjects;
//! decisions of a claim holder are methods of [`crate::Claimed`].

use crate::error::Error;
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use std::time::Duration;

/// Longest wait for a connection. After that the caller's own deadline has passed.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection pool to the lease store; cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) pool: PgPool,
}

impl Store {
    /// Prepares the pool without connecting, so that a process can start, and report what it lacks,
    /// while Postgres is away.
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
            // An acknowledged lease must survive a crash.
            ("synchronous_commit", "on"),
            // sqlx can leave a transaction open on a connection whose `begin` was cancelled.
            ("idle_in_transaction_session_timeout", "10s"),
            ("statement_timeout", "10s"),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_lazy_with(options);
        Ok(Self { pool })
    }

    /// Checks that Postgres answers a query.
    pub async fn ping(&self) -> Result<(), Error> {
        sqlx::query("SELECT 1").execute(&self.pool).await?;
        Ok(())
    }
}
