//! The schema: brought forward by `waygate-worker migrate`, and checked by everyone else.

use crate::error::Error;
use crate::store::Store;
use sqlx::migrate::Migrator;

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

impl Store {
    /// Applies what is missing, forward only. Several at once wait for each other on an advisory
    /// lock.
    pub async fn migrate(&self) -> Result<(), Error> {
        MIGRATIONS.run(&self.pool).await?;
        Ok(())
    }

    /// Refuses a schema older than ours, and a server that may lose what it acknowledged. A newer
    /// schema is fine: migrations expand before they contract, so that two releases work side by
    /// side.
    pub async fn check(&self) -> Result<(), Error> {
        let needed = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
        let known = sqlx::query_scalar!(
            r#"SELECT to_regclass('_sqlx_migrations') IS NOT NULL AS "known!""#
        )
        .fetch_one(&self.pool)
        .await?;
        let found: Option<i64> = if known {
            // Not a checked query: the table is sqlx's own and no part of our schema.
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
        if fsync == "on" { Ok(()) } else { Err(Error::Unsafe) }
    }
}
