//! Migrations, applied by `waygate-worker migrate`.
//!
//! ```text
//! alone? ─▶ each missing migration, in its transaction ─▶ up to date
//!   │           └ a table stays locked for LOCK_TIMEOUT ─▶ Locked
//!   └ another migrator: wait for it, up to MIGRATOR_WAIT ─▶ Locked
//! ```
//!
//! A migration that waits for a table's lock holds up every statement that comes after it, reads
//! included. So it waits for a moment only, and the caller tries again later. It may then run for as
//! long as it needs: the statement timeout of the service does not apply.

use crate::error::Error;
use crate::store::Store;
use sqlx::error::DatabaseError;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use std::fmt;
use std::time::{Duration, Instant};

pub(crate) static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

/// Longest wait of a migration for a lock: well below the statement timeout of the service (10 s),
/// whose statements wait behind it.
const LOCK_TIMEOUT: &str = "3s";
/// Longest wait for another migrator.
const MIGRATOR_WAIT: Duration = Duration::from_mins(1);
/// Key of the advisory lock that a migrator holds: "waygate", in ASCII.
const MIGRATOR_LOCK: i64 = 0x0077_6179_6761_7465;

/// The reason for which migrations were not applied.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// A lock was not free in time, and the migration that needs it changed nothing.
    #[error("lease store: a migration waits for a lock that is held by {}", list_holders(.holders))]
    Locked {
        /// Sessions with locks that may be in the way, the oldest transaction first.
        holders: Vec<LockHolder>,
    },
    /// Postgres cannot be reached, or rejected a migration.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// A session that holds a lock on a table of the lease store, or the lock of the migrators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockHolder {
    /// Process ID of the session on the server.
    pub pid: i32,
    /// The `application_name` of the session, for example `pg_dump`; empty if this user may not see
    /// it.
    pub application_name: String,
    /// The user of the session.
    pub user_name: String,
    /// Time since the begin of the transaction, in seconds.
    pub seconds: i64,
}

impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, application_name, user_name, seconds } = self;
        write!(f, "{application_name:?} (process {pid}, user {user_name}, for {seconds} s)")
    }
}

fn list_holders(holders: &[LockHolder]) -> String {
    if holders.is_empty() {
        return "transactions that have ended by now".to_owned();
    }
    holders.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Store {
    /// Applies the missing migrations, forward only. Parallel calls wait for each other.
    pub async fn migrate(&self) -> Result<(), MigrationError> {
        self.apply_migrations(&MIGRATIONS).await
    }

    /// Applies those of these migrations that are missing, on a connection with timeouts of its
    /// own.
    pub async fn apply_migrations(&self, migrations: &Migrator) -> Result<(), MigrationError> {
        let options = self.pool.connect_options().as_ref().clone();
        let timeouts = [("statement_timeout", "0"), ("lock_timeout", LOCK_TIMEOUT)];
        let mut connection = options.options(timeouts).connect().await.map_err(Error::from)?;
        lock_migrators(&mut connection).await?;
        match migrations.run_direct(None, &mut connection, false).await {
            Ok(()) => {}
            Err(error) if is_lock_timeout(&error) => {
                return Err(find_lock_holders(&mut connection).await?);
            }
            Err(error) => return Err(Error::from(error).into()),
        }
        // The end of the session releases the lock of the migrators, here and after an error.
        connection.close().await.map_err(Error::from)?;
        Ok(())
    }
}

/// Waits until no other migrator works. Asks again and again instead of queueing for the lock: a
/// statement that waits holds a snapshot, for which `CREATE INDEX CONCURRENTLY` of the other
/// migrator would wait in turn.
async fn lock_migrators(connection: &mut PgConnection) -> Result<(), MigrationError> {
    let began = Instant::now();
    while !try_lock_migrators(connection).await? {
        if began.elapsed() > MIGRATOR_WAIT {
            return Err(find_lock_holders(connection).await?);
        }
        sqlx::query!(r#"SELECT true AS "slept!" FROM pg_sleep(0.2)"#)
            .fetch_one(&mut *connection)
            .await
            .map_err(Error::from)?;
    }
    Ok(())
}

async fn try_lock_migrators(connection: &mut PgConnection) -> Result<bool, Error> {
    let locked =
        sqlx::query_scalar!(r#"SELECT pg_try_advisory_lock($1) AS "locked!""#, MIGRATOR_LOCK);
    Ok(locked.fetch_one(connection).await?)
}

/// True if a lock was not free within [`LOCK_TIMEOUT`].
fn is_lock_timeout(error: &MigrateError) -> bool {
    /// SQLSTATE `lock_not_available`.
    const LOCK_NOT_AVAILABLE: &str = "55P03";
    let (MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _)) = error else {
        return false;
    };
    let code = cause.as_database_error().and_then(DatabaseError::code);
    code.is_some_and(|code| code == LOCK_NOT_AVAILABLE)
}

/// The error that names the sessions whose locks were in the way: of the migrators, or of
/// transactions on the store's tables that had begun before this one waited.
async fn find_lock_holders(connection: &mut PgConnection) -> Result<MigrationError, Error> {
    let holders = sqlx::query_file_as!(
        LockHolder,
        "src/queries/find_lock_holders.sql",
        MIGRATOR_LOCK,
        LOCK_TIMEOUT,
    )
    .fetch_all(connection)
    .await?;
    Ok(MigrationError::Locked { holders })
}
