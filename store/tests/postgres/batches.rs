//! Work on many rows is done in small statements, and only where something changed.

use crate::database::{Bench, in_database};
use anyhow::{Result, ensure};
use sqlx::AssertSqlSafe;
use std::collections::HashSet;
use std::time::Duration;

/// Most rows that one statement may write: of a thousand ports, those for TCP and UDP.
const MOST: i64 = 2000;

/// Counts the rows that each statement writes to a table.
async fn count_written(bench: &Bench, table: &str, event: &str, rows: &str) -> Result<()> {
    let trigger = format!(
        "CREATE TABLE IF NOT EXISTS written (rows bigint);
         CREATE OR REPLACE FUNCTION count_written() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN INSERT INTO written SELECT count(*) FROM touched; RETURN NULL; END $$;
         CREATE TRIGGER count_written AFTER {event} ON {table} REFERENCING {rows} TABLE AS touched
           FOR EACH STATEMENT EXECUTE FUNCTION count_written()"
    );
    sqlx::raw_sql(AssertSqlSafe(trigger)).execute(&bench.pool).await?;
    Ok(())
}

/// All rows written since the last time, and the most by one statement.
async fn take_written(bench: &Bench) -> Result<(i64, i64)> {
    let written = "WITH w AS (DELETE FROM written RETURNING rows)
                   SELECT coalesce(sum(rows), 0)::bigint, coalesce(max(rows), 0) FROM w";
    Ok(sqlx::query_as(written).fetch_one(&bench.pool).await?)
}

#[tokio::test]
async fn ports_are_offered_in_batches_and_again_only_if_the_offer_changed() -> Result<()> {
    in_database(async |bench| {
        count_written(bench, "port", "INSERT", "NEW").await?;
        bench.offer("eip-1", 1, 5000).await?;
        assert_eq!(take_written(bench).await?, (10_000, MOST));
        let version = "SELECT xmin::text FROM gateway_eip";
        let before: String = sqlx::query_scalar(version).fetch_one(&bench.pool).await?;
        bench.offer("eip-1", 1, 5000).await?;
        assert_eq!(take_written(bench).await?, (0, 0), "no statement");
        let after: String = sqlx::query_scalar(version).fetch_one(&bench.pool).await?;
        assert_eq!(before, after, "the same offer is not written again");
        bench.offer("eip-1", 1, 5001).await?;
        assert_eq!(take_written(bench).await?.0, 2, "only the ports that were missing");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_offer_that_broke_off_is_completed() -> Result<()> {
    in_database(async |bench| {
        bench.offer("eip-1", 1, 3000).await?;
        let broken_off =
            "WITH later AS (DELETE FROM gateway_eip) DELETE FROM port WHERE port > 1000";
        sqlx::query(broken_off).execute(&bench.pool).await?;
        bench.offer("eip-1", 1, 3000).await?;
        let ports: i64 =
            sqlx::query_scalar("SELECT count(*) FROM port").fetch_one(&bench.pool).await?;
        assert_eq!(ports, 6000);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_eip_that_moves_takes_its_ports_along_in_batches() -> Result<()> {
    in_database(async |bench| {
        bench.offer("eip-1", 1, 5000).await?;
        count_written(bench, "port", "UPDATE", "NEW").await?;
        bench.offer_on("ngw-2", "eip-1", 2, 4000).await?;
        assert_eq!(take_written(bench).await?, (10_000, MOST), "of the former offer, too");
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM port WHERE gateway_id <> 'ngw-2'")
            .fetch_one(&bench.pool)
            .await?;
        assert_eq!(left, 0);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn old_rows_are_deleted_a_thousand_at_a_time() -> Result<()> {
    in_database(async |bench| {
        let old = "INSERT INTO operation (lease_id, resource, action, cluster_id, namespace, change, owner, epoch, fence_until, outcome, settled_at)
                   SELECT gen_random_uuid(), 'eip-' || n, 'ReleaseEipAddress', 1, 'ns', '{}', gen_random_uuid(), 1, now(), 'done', now() - interval '1 year' FROM generate_series(1, 2500) n;
                   INSERT INTO former_address (cluster_id, namespace, pod_name, address, released_at)
                   SELECT cluster_id, 'ns', 'pod-' || n, '192.0.2.1', now() - interval '1 year' FROM cluster, generate_series(1, 2500) n";
        sqlx::raw_sql(old).execute(&bench.pool).await?;
        count_written(bench, "operation", "DELETE", "OLD").await?;
        count_written(bench, "former_address", "DELETE", "OLD").await?;
        assert_eq!(bench.store.prune_operations(Duration::from_hours(1)).await?, 2500);
        assert_eq!(take_written(bench).await?, (2500, 1000));
        assert_eq!(bench.store.prune_former_addresses().await?, 2500);
        assert_eq!(take_written(bench).await?, (2500, 1000));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn leases_without_a_pod_are_woken_a_thousand_at_a_time() -> Result<()> {
    in_database(async |bench| {
        let leases = "INSERT INTO lease (cluster_id, kind, namespace, pod_name, pod_uid, request, phase, due_at)
                      SELECT cluster_id, kind, 'ns', 'pod-' || n, ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, '{}',
                        CASE WHEN n % 10 = 0 THEN 'announced' ELSE 'bound' END, now() + interval '1 hour'
                      FROM cluster, unnest(ARRAY['eip', 'dnat']) kind, generate_series(1, 1250) n";
        sqlx::query(leases).execute(&bench.pool).await?;
        bench.store.register_cluster(uuid::Uuid::new_v4(), "c2").await?;
        let listener = bench.listen().await?;
        count_written(bench, "lease", "UPDATE", "NEW").await?;
        assert_eq!(bench.store.wake_leases_without_pod(&listener, bench.cluster, &HashSet::new()).await?, 2250, "none is announced");
        let (all, most) = take_written(bench).await?;
        ensure!(all == 2250 && most <= 1000, "{all} rows, up to {most} at once");
        assert_eq!(bench.due().await?, 2250);
        let pods = "SELECT pod_uid FROM lease WHERE pod_name <> 'pod-1' AND pod_name <> 'pod-1249'";
        let present: HashSet<uuid::Uuid> =
            sqlx::query_scalar(pods).fetch_all(&bench.pool).await?.into_iter().collect();
        let woken = bench.store.wake_leases_without_pod(&listener, bench.cluster, &present).await?;
        assert_eq!(woken, 4, "both leases of each pod that is not listed");
        Ok(())
    })
    .await
}
