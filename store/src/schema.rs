//! The schema's version, checked by all processes but `waygate-worker migrate`.

use crate::error::Error;
use crate::migrate::MIGRATIONS;
use crate::store::Store;

impl Store {
    /// Rejects a schema older than this program needs, and a server that may lose acknowledged
    /// transactions. A newer schema is accepted: migrations expand before they contract, so that
    /// two releases can run side by side.
    pub async fn check_schema(&self) -> Result<(), Error> {
        let needed = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
        // The table does not exist before the first migration.
        let known = sqlx::query_scalar!(
            r#"SELECT to_regclass('_sqlx_migrations') IS NOT NULL AS "known!""#
        )
        .fetch_one(&self.pool)
        .await?;
        let found: Option<i64> = if known {
            // Not a checked query: the table belongs to sqlx and is not part of Waygate's schema.
            sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations WHERE success")
                .fetch_one(&self.pool)
                .await?
        } else {
            None
        };
        let found = found.unwrap_or(0);
        if found < needed {
            return Err(Error::Schema { found, needed });
        }
        let fsync = sqlx::query_scalar!(r#"SELECT current_setting('fsync') AS "fsync!""#)
            .fetch_one(&self.pool)
            .await?;
        if fsync == "on" { Ok(()) } else { Err(Error::FsyncOff) }
    }
}
