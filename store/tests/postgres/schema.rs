//! The schema is migrated, and checked before it is used.

use crate::database::{Database, in_empty_database};
use anyhow::{Result, bail, ensure};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{ConnectOptions as _, Connection as _, SqlSafeStr as _};
use std::collections::BTreeSet;
use tokio::task::JoinSet;
use waygate_core::lease::Constraint;
use waygate_store::{Error, MigrationError, Store};

#[tokio::test]
async fn migrating_twice_changes_nothing() -> Result<()> {
    in_empty_database(async |database: &Database| {
        database.store.migrate().await?;
        let first: String = sqlx::query_scalar("SELECT store_id::text FROM store")
            .fetch_one(&database.pool)
            .await?;
        database.store.migrate().await?;
        let second: String = sqlx::query_scalar("SELECT store_id::text FROM store")
            .fetch_one(&database.pool)
            .await?;
        assert_eq!(first, second);
        database.store.check_schema().await?;
        Ok(())
    })
    .await
}

/// A violation of an index that is not among the constraints reads like a failure of Postgres.
#[tokio::test]
async fn the_constraints_are_the_unique_indexes_of_leases_ports_and_operations() -> Result<()> {
    in_empty_database(async |database: &Database| {
        database.store.migrate().await?;
        let indexes = "SELECT i.indexrelid::regclass::text FROM pg_index i
                       WHERE i.indrelid IN ('lease'::regclass, 'port'::regclass, 'operation'::regclass) AND i.indisunique AND NOT i.indisprimary";
        let indexes: Vec<String> = sqlx::query_scalar(indexes).fetch_all(&database.pool).await?;
        let known: BTreeSet<_> = Constraint::ALL.iter().map(|constraint| constraint.index_name().to_owned()).collect();
        assert_eq!(indexes.into_iter().collect::<BTreeSet<_>>(), known);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn several_may_migrate_at_once() -> Result<()> {
    in_empty_database(async |database: &Database| {
        let mut tasks = JoinSet::new();
        for _ in 0..4 {
            let store = database.store.clone();
            tasks.spawn(async move { store.migrate().await });
        }
        while let Some(migrated) = tasks.join_next().await {
            migrated??;
        }
        database.store.check_schema().await?;
        Ok(())
    })
    .await
}

/// A migration that needs `lease` for itself for a moment.
fn later_migration() -> Migrator {
    let sql = "ALTER TABLE lease ADD COLUMN added int".into_sql_str();
    let migration = Migration::new(1000, "later".into(), MigrationType::Simple, sql, false);
    let mut migrator = Migrator::with_migrations(vec![migration]);
    migrator.set_ignore_missing(true);
    migrator
}

#[tokio::test]
async fn a_migration_gives_way_to_a_dump_and_names_it() -> Result<()> {
    in_empty_database(async |database: &Database| {
        database.store.migrate().await?;
        let options = database.pool.connect_options().as_ref().clone();
        let mut dump = options.application_name("pg_dump").connect().await?;
        let mut dumping = dump.begin().await?;
        sqlx::query("LOCK TABLE lease IN ACCESS SHARE MODE").execute(&mut *dumping).await?;
        let store = database.store.clone();
        let migrating = tokio::spawn(async move { store.apply_migrations(&later_migration()).await });
        let waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'lease'::regclass AND NOT granted)";
        while !sqlx::query_scalar::<_, bool>(waiting).fetch_one(&database.pool).await? {
            ensure!(!migrating.is_finished(), "the migration does not wait for the dump");
        }
        // A reader that comes later waits behind the migration, but not for the dump.
        sqlx::query("SELECT FROM lease").execute(&database.pool).await?;
        match migrating.await? {
            Err(error @ MigrationError::Locked { .. }) => {
                assert!(error.to_string().contains("\"pg_dump\" (process"), "{error}");
            }
            other => bail!("the migration should have given way: {other:?}"),
        }
        dumping.commit().await?;
        Ok(database.store.apply_migrations(&later_migration()).await?)
    })
    .await
}

/// Longer than the statement timeout of the service, which ended a second migrator's wait.
#[tokio::test]
async fn a_migrator_waits_for_another_one_for_longer_than_statements_may_take() -> Result<()> {
    in_empty_database(async |database: &Database| {
        let sql = "SELECT pg_sleep(10.5)".into_sql_str();
        let migration = Migration::new(2, "slow".into(), MigrationType::Simple, sql, false);
        let mut slow = Migrator::with_migrations(vec![migration]);
        slow.set_ignore_missing(true);
        let (one, two) = futures::join!(
            database.store.apply_migrations(&slow),
            database.store.apply_migrations(&slow),
        );
        one?;
        Ok(two?)
    })
    .await
}

#[tokio::test]
async fn a_schema_that_is_missing_or_older_is_refused_and_a_newer_one_is_not() -> Result<()> {
    in_empty_database(async |database: &Database| {
        assert!(matches!(database.store.check_schema().await, Err(Error::Schema { found: 0, .. })), "an empty database");
        database.store.migrate().await?;
        let newest: i64 = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations").fetch_one(&database.pool).await?;
        let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                     VALUES ($1, 'of the next release', true, '', 0)";
        sqlx::query(newer).bind(newest + 1).execute(&database.pool).await?;
        database.store.check_schema().await?;
        sqlx::query("DELETE FROM _sqlx_migrations WHERE version >= $1").bind(newest).execute(&database.pool).await?;
        assert!(matches!(database.store.check_schema().await, Err(Error::Schema { needed, .. }) if needed == newest), "an older schema");
        Ok(())
    })
    .await
}

/// The setting belongs to the whole server, which other tests use as well: so only this database is
/// made to report it wrongly.
#[tokio::test]
async fn a_server_that_may_lose_what_it_acknowledged_is_refused() -> Result<()> {
    in_empty_database(async |database: &Database| {
        database.store.migrate().await?;
        let lie = "CREATE FUNCTION public.current_setting(text) RETURNS text LANGUAGE sql AS
                   $$ SELECT CASE WHEN $1 = 'fsync' THEN 'off' ELSE pg_catalog.current_setting($1) END $$";
        sqlx::query(lie).execute(&database.pool).await?;
        let first = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = public, pg_catalog', current_database()); END $$";
        sqlx::query(first).execute(&database.pool).await?;
        // The setting applies to connections made from now on.
        let url = sqlx::ConnectOptions::to_url_lossy(&*database.pool.connect_options());
        let store = Store::connect_lazy(&url.as_str().into(), 1, "store test")?;
        assert!(matches!(store.check_schema().await, Err(Error::FsyncOff)));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_url_that_cannot_be_read_is_refused_without_being_shown() -> Result<()> {
    let refused = Store::connect_lazy(&"postgres//user:hunter2@db".into(), 1, "store test");
    let error = refused.err().map(|error| format!("{error} {error:?}")).unwrap_or_default();
    assert!(!error.is_empty() && !error.contains("hunter2"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_store_that_is_away_is_a_passing_error() -> Result<()> {
    let store =
        Store::connect_lazy(&"postgres://waygate@127.0.0.1:1/none".into(), 1, "store test")?;
    let error = store.ping().await.err();
    assert!(error.is_some_and(|error| error.is_transient()));
    Ok(())
}
