//! The plans by which Postgres finds rows among a million leases: generic plans, as on the store's
//! connections, of every statement in `store/.sqlx`.
//!
//! ```text
//! fill ─▶ EXPLAIN each statement ─▶ judge its plan
//!      └▶ for each index: drop it ─▶ some plan must become worse ─▶ roll back
//! ```

mod exceptions;
mod fill;
mod functions;
mod judge;
mod statements;

use crate::database::{Database, in_empty_database};
use anyhow::{Result, ensure};
use fill::{Tables, fill_store};
use judge::Judge;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use statements::{PreparedStatement, ensure_no_hidden_statements, prepare_statements};
use std::collections::{BTreeMap, BTreeSet};

/// Leases of the largest cluster.
const LEASES: i32 = 1_000_000;

/// The faults of plans, by statement.
type Faults = BTreeMap<String, Vec<String>>;

#[tokio::test]
async fn every_statement_finds_its_rows_by_index_among_a_million_leases() -> Result<()> {
    in_empty_database(async |database: &Database| {
        database.store.migrate().await?;
        let tables = fill_store(&database.pool, LEASES).await?;
        let mut connection = database.pool.acquire().await?.detach();
        ensure_no_hidden_statements(&mut connection).await?;
        let statements = prepare_statements(&mut connection).await?;
        let judge = Judge::new(&mut connection, &tables).await?;
        assert_one_cluster_and_many(&mut connection, &judge, &statements).await?;
        functions::assert_functions_read_little(&mut connection, &tables).await?;
        assert_each_index_is_needed(&mut connection, &judge, &statements, &tables).await
    })
    .await
}

/// Judges all plans twice: as they are for a store of many clusters, and for a store of one, where
/// every row is the cluster's.
async fn assert_one_cluster_and_many(
    connection: &mut PgConnection,
    judge: &Judge,
    statements: &[PreparedStatement],
) -> Result<()> {
    let many = judge_plans(connection, judge, statements).await?;
    assert_no_faults("many clusters", &many)?;
    let mut transaction = connection.begin().await?;
    for table in ["lease", "former_address", "manual_release", "fair_queue"] {
        let one = format!(
            "ALTER TABLE {table} ALTER COLUMN cluster_id SET (n_distinct = 1); ANALYZE {table} (cluster_id)"
        );
        sqlx::raw_sql(AssertSqlSafe(one)).execute(&mut *transaction).await?;
    }
    let one = judge_plans(&mut transaction, judge, statements).await?;
    transaction.rollback().await?;
    assert_no_faults("one cluster", &one)
}

/// The faults of each statement's plan, without the excepted ones. An exception without its fault
/// is a fault.
async fn judge_plans(
    connection: &mut PgConnection,
    judge: &Judge,
    statements: &[PreparedStatement],
) -> Result<Faults> {
    let mut faults = Faults::new();
    for statement in statements {
        let plan = statement.explain(connection).await?;
        let mut found = judge.find_faults(&plan);
        for exception in &statement.exceptions {
            let before = found.len();
            found.retain(|fault| !fault.starts_with(exception.fault));
            if found.len() == before {
                found.push(format!("excepted without need: {}", exception.fault));
            }
        }
        if !found.is_empty() {
            found.push(serde_json::to_string_pretty(&plan)?);
            faults.insert(statement.query.clone(), found);
        }
    }
    Ok(faults)
}

fn assert_no_faults(store: &str, faults: &Faults) -> Result<()> {
    let report: Vec<_> = faults
        .iter()
        .map(|(statement, lines)| format!("{statement}\n--> {}", lines.join("\n--> ")))
        .collect();
    ensure!(faults.is_empty(), "{} statements, {store}:\n{}", faults.len(), report.join("\n\n"));
    Ok(())
}

/// Drops each index that guarantees nothing by itself: without it, at least one more plan must be
/// judged faulty. An index that no statement needs is paid for with each write.
async fn assert_each_index_is_needed(
    connection: &mut PgConnection,
    judge: &Judge,
    statements: &[PreparedStatement],
    tables: &Tables,
) -> Result<()> {
    let indexes: Vec<String> = sqlx::query_scalar(
        "SELECT indexrelid::regclass::text FROM pg_index JOIN pg_class c ON c.oid = indrelid
         WHERE c.relnamespace = 'public'::regnamespace AND NOT indisunique ORDER BY 1",
    )
    .fetch_all(&mut *connection)
    .await?;
    ensure!(indexes.len() > 5, "only {} indexes", indexes.len());
    let mut needless = BTreeSet::new();
    for index in indexes {
        let mut transaction = connection.begin().await?;
        sqlx::raw_sql(AssertSqlSafe(format!("DROP INDEX {index}")))
            .execute(&mut *transaction)
            .await?;
        if judge_plans(&mut transaction, judge, statements).await?.is_empty()
            && functions::assert_functions_read_little(&mut transaction, tables).await.is_ok()
        {
            needless.insert(index);
        }
        transaction.rollback().await?;
    }
    ensure!(needless.is_empty(), "no statement needs the indexes {needless:?}");
    Ok(())
}
