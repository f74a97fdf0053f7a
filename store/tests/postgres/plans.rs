//! The plans by which Postgres finds rows among many: generic plans, as on the store's connections.

use crate::database::{Bench, in_database};
use anyhow::{Result, ensure};
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

/// Statements that run at every event or announcement of a pod.
const HOT: [(&str, &str); 3] = [
    ("announce_pod", include_str!("../../src/queries/announce_pod.sql")),
    ("observe_pod", include_str!("../../src/queries/observe_pod.sql")),
    ("wake_retained", include_str!("../../src/queries/wake_retained.sql")),
];

/// Fills in leases of pods with and without retention, in a hundred namespaces.
async fn fill(bench: &Bench, connection: &mut PgConnection) -> Result<()> {
    sqlx::query(
        "INSERT INTO lease (cluster_id, kind, namespace, pod_name, pod_uid, request, retains, controller, phase)
         SELECT cluster_id, 'eip', 'ns-' || n % 100, 'pod-' || n, gen_random_uuid(), '{}', n % 2 = 0, 'StatefulSet/db', 'bound'
         FROM cluster, generate_series(1, 20000) n",
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query("ANALYZE lease").execute(&mut *connection).await?;
    ensure!(bench.due().await? >= 20_000);
    Ok(())
}

async fn plan(connection: &mut PgConnection, name: &str, statement: &str) -> Result<String> {
    sqlx::raw_sql(AssertSqlSafe(format!("PREPARE {name} AS {statement}")))
        .execute(&mut *connection)
        .await?;
    let parameters =
        (1..100).take_while(|number| statement.contains(&format!("${number}"))).count();
    let explain = format!("EXPLAIN EXECUTE {name} ({})", vec!["NULL"; parameters].join(", "));
    let lines = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_all(&mut *connection).await?;
    let lines: Result<Vec<String>, _> = lines.iter().map(|line| line.try_get(0)).collect();
    Ok(lines?.join("\n"))
}

#[tokio::test]
async fn no_event_of_a_pod_reads_all_leases() -> Result<()> {
    in_database(async |bench| {
        let mut connection = bench.pool.acquire().await?;
        fill(bench, &mut connection).await?;
        sqlx::query("SET plan_cache_mode = force_generic_plan").execute(&mut *connection).await?;
        for (name, statement) in HOT {
            let plan = plan(&mut connection, name, statement).await?;
            ensure!(!plan.contains("Seq Scan on lease"), "{name} reads all leases:\n{plan}");
            ensure!(
                plan.contains("using lease_retained_by_name"),
                "{name} does not search by the pod's name:\n{plan}"
            );
        }
        Ok(())
    })
    .await
}
