//! The functions of the schema: EXPLAIN does not see their statements, so they are called, and the
//! rows that they read are counted.

use crate::plans::fill::Tables;
use anyhow::{Result, ensure};
use sqlx::{Connection as _, PgConnection};

/// Rows that a call may read of all large tables together: some ten for each change that it sends,
/// twenty for each lease that it wakes ahead, of which there are 160 here.
const MAX_ROWS: i64 = 4_000;

/// Calls with the changes that must have come of them.
const CALLS: [(&str, &str); 4] = [
    (
        "dequeue what takes",
        "SELECT count(*) FILTER (WHERE operation_id IS NOT NULL) = 10
         FROM dequeue_account_changes(1, 'ReleaseEipAddress', 600, 10, '10 s', '1 min', false, '10 s')",
    ),
    (
        "dequeue what gives, of leases that were not looked at",
        "SELECT max(woken) >= 10
         FROM dequeue_account_changes(1, 'AssociateEipAddress', 120, 10, '10 s', '1 min', true, '10 s')",
    ),
    (
        "requeue a throttled change",
        "SELECT requeue_throttled_change(operation_id, 1, 600, '0 s') IS NOT NULL
         FROM operation WHERE operation_id = (SELECT operation_id FROM call_slot WHERE operation_id IS NOT NULL LIMIT 1)",
    ),
    (
        "requeue an unsent change",
        "SELECT requeue_unsent_change(operation_id, 1) IS NOT NULL
         FROM operation WHERE operation_id = (SELECT operation_id FROM call_slot WHERE operation_id IS NOT NULL OFFSET 1 LIMIT 1)",
    ),
];

/// Calls each function with generic plans; none may read a large table from end to end, or more than
/// a few rows of all.
pub(crate) async fn assert_functions_read_little(
    connection: &mut PgConnection,
    tables: &Tables,
) -> Result<()> {
    let mut transaction = connection.begin().await?;
    sqlx::raw_sql("SET LOCAL plan_cache_mode = force_generic_plan")
        .execute(&mut *transaction)
        .await?;
    for (what, call) in CALLS {
        let before = count_reads(&mut transaction, tables).await?;
        let done: bool = sqlx::query_scalar(call).fetch_one(&mut *transaction).await?;
        ensure!(done, "{what}: did not do it");
        let after = count_reads(&mut transaction, tables).await?;
        let (scans, rows) = (after.0 - before.0, after.1 - before.1);
        println!("{what}: {rows} rows read");
        ensure!(scans == 0, "{what}: {scans} large tables were read from end to end");
        ensure!(rows <= MAX_ROWS, "{what}: {rows} rows were read");
    }
    transaction.rollback().await?;
    Ok(())
}

/// Sequential scans and rows read of the large tables in this transaction.
async fn count_reads(connection: &mut PgConnection, tables: &Tables) -> Result<(i64, i64)> {
    Ok(sqlx::query_as(
        "SELECT coalesce(sum(seq_scan), 0)::bigint, coalesce(sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)), 0)::bigint
         FROM pg_stat_xact_user_tables WHERE relname = ANY($1)",
    )
    .bind(tables.large.iter().cloned().collect::<Vec<_>>())
    .fetch_one(connection)
    .await?)
}
