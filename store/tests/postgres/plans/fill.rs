//! A store filled with a million leases, quickly: tables without a log, indexes made afterwards.

use anyhow::{Result, ensure};
use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use std::collections::BTreeSet;

/// Tables that do not grow with the leases: rows of clusters, of gateways, of the account.
const SMALL: [&str; 10] = [
    "_sqlx_migrations",
    "store",
    "cluster",
    "gateway",
    "gateway_eip",
    "worker_lock",
    "rate",
    "account_rate",
    "account_turn",
    "call_slot",
];
/// Fewer rows in a table that grows with the leases: reading all of it would be no fault.
const MIN_ROWS: f32 = 10_000.0;

const FILL: &str = include_str!("fill.sql");

/// The tables that grow with the leases.
pub(crate) struct Tables {
    pub large: BTreeSet<String>,
}

/// What is taken from a table while it is filled, and given back afterwards.
#[derive(sqlx::FromRow)]
struct Definition {
    table: String,
    drop: String,
    create: String,
}

/// Fills the store with this number of leases in one cluster and ten thousand in fifty others, and
/// analyzes it.
pub(crate) async fn fill_store(pool: &PgPool, leases: i32) -> Result<Tables> {
    let mut connection = pool.acquire().await?;
    let definitions = read_definitions(&mut connection).await?;
    let fast = "SET synchronous_commit = off; SET temp_buffers = '128MB'; SET work_mem = '64MB'; SET statement_timeout = 0";
    let size = format!("{fast}; SET fill.leases = {leases}");
    let drop: Vec<_> = definitions.iter().map(|definition| definition.drop.as_str()).collect();
    for sql in [size, drop.join(";"), FILL.to_owned()] {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *connection).await?;
    }
    let mut other = pool.acquire().await?;
    let (lease, rest): (Vec<_>, Vec<_>) =
        definitions.into_iter().partition(|definition| definition.table == "lease");
    let (one, two) = futures::join!(create(&mut connection, lease), create(&mut other, rest));
    one.and(two)?;
    sqlx::raw_sql("VACUUM (ANALYZE)").execute(&mut *connection).await?;
    list_large_tables(&mut connection).await
}

async fn create(connection: &mut PgConnection, definitions: Vec<Definition>) -> Result<()> {
    let memory = "SET maintenance_work_mem = '256MB'; SET synchronous_commit = off; SET max_parallel_maintenance_workers = 0";
    sqlx::raw_sql(memory).execute(&mut *connection).await?;
    for definition in definitions {
        sqlx::raw_sql(AssertSqlSafe(definition.create)).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Indexes, primary keys and foreign keys, with the statements that drop and create them. The
/// tables become unlogged, and are analyzed by this test alone.
async fn read_definitions(connection: &mut PgConnection) -> Result<Vec<Definition>> {
    let definitions = sqlx::query_as(
        "WITH large AS (
           SELECT oid, oid::regclass AS name FROM pg_class
           WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname <> ALL($1))
         SELECT name::text AS table, format('ALTER TABLE %s DROP CONSTRAINT %I', name, conname) AS drop, format('ALTER TABLE %s ADD CONSTRAINT %I %s', name, conname, pg_get_constraintdef(c.oid)) AS create
         FROM large JOIN pg_constraint c ON conrelid = large.oid WHERE contype IN ('p', 'f')
         UNION ALL
         SELECT name::text, format('DROP INDEX %s', indexrelid::regclass), pg_get_indexdef(indexrelid)
         FROM large JOIN pg_index ON indrelid = large.oid WHERE NOT indisprimary
         UNION ALL
         SELECT name::text, format('ALTER TABLE %s SET UNLOGGED', name), format('ALTER TABLE %s SET (autovacuum_enabled = false)', name) FROM large",
    )
    .bind(SMALL)
    .fetch_all(&mut *connection)
    .await?;
    Ok(definitions)
}

/// The tables outside [`SMALL`], each of which must have been filled.
async fn list_large_tables(connection: &mut PgConnection) -> Result<Tables> {
    let tables: Vec<(String, f32)> = sqlx::query_as(
        "SELECT relname::text, reltuples FROM pg_class
         WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname <> ALL($1)",
    )
    .bind(SMALL)
    .fetch_all(connection)
    .await?;
    for (table, rows) in &tables {
        ensure!(*rows >= MIN_ROWS, "table {table} has {rows} rows: fill it, or list it as small");
    }
    Ok(Tables { large: tables.into_iter().map(|(table, _)| table).collect() })
}
