//! A database of a test's own in the testbed's Postgres.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool, postgres::PgPoolOptions};
use tokio::process::Command;
use url::Url;

/// Connections that a test itself may hold.
const MAX_CONNECTIONS: u32 = 4;

/// A new, migrated database.
#[derive(Debug)]
pub struct Database {
    /// The test's own way to it, which has no faults.
    pub pool: PgPool,
    /// The test's own way, as a URL.
    pub direct_url: String,
}

impl Database {
    /// Makes the database `name` and lets `waygate-worker migrate` give it its schema.
    pub async fn create_database(admin_url: &str, name: &str, worker: &Path) -> Result<Self> {
        let mut admin =
            PgConnection::connect(admin_url).await.context("reaching the testbed's Postgres")?;
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE \"{name}\"")))
            .execute(&mut admin)
            .await?;
        admin.close().await?;

        let mut direct = Url::parse(admin_url).context("DATABASE_URL")?;
        direct.set_path(name);
        run_migrate(worker, direct.as_str()).await?;
        let pool =
            PgPoolOptions::new().max_connections(MAX_CONNECTIONS).connect(direct.as_str()).await?;
        Ok(Self { pool, direct_url: direct.into() })
    }

    /// Address of the server, `HOST:PORT`.
    pub fn server(&self) -> Result<String> {
        let url = Url::parse(&self.direct_url)?;
        let host = url.host_str().context("DATABASE_URL names no host")?;
        Ok(format!("{host}:{}", url.port().unwrap_or(5432)))
    }
}

async fn run_migrate(worker: &Path, url: &str) -> Result<()> {
    let output = Command::new(worker)
        .arg("migrate")
        .env("DATABASE_URL", url)
        .output()
        .await
        .context("waygate-worker migrate")?;
    ensure!(
        output.status.success(),
        "waygate-worker migrate: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
