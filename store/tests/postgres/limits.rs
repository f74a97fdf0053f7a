//! The limits on what happens to many leases at once, at their bounds: a number, or a twentieth.

use crate::database::{Bench, bought, in_database, ports};
use anyhow::Result;
use waygate_core::ids::NatGatewayId;
use waygate_store::Claim;

/// Claims a lease, and gives it this phase.
async fn claim_in_phase(bench: &Bench, claim: Claim, phase: &str) -> Result<Claim> {
    sqlx::query("UPDATE lease SET phase = $2 WHERE lease_id = $1")
        .bind(claim.lease_id.0)
        .bind(phase)
        .execute(&bench.pool)
        .await?;
    Ok(claim)
}

/// True if one of `retained` leases may end, after `released` of its cluster have ended within ten
/// minutes. Others do not count: those that ended earlier, and those of another cluster.
async fn may_release(retained: i32, released: i32) -> Result<bool> {
    let mut may = false;
    in_database(async |bench| {
        bench.store.register_cluster(uuid::Uuid::new_v4(), "c2").await?;
        let claim = claim_in_phase(bench, bench.claimed(&bought()).await?, "retained").await?;
        let rows = "INSERT INTO lease (cluster_id, kind, namespace, pod_name, pod_uid, request, retains, phase)
                    SELECT cluster_id, 'eip', 'ns', 'pod-' || n, gen_random_uuid(), '{}', true, 'retained'
                    FROM cluster, generate_series(1, CASE name WHEN 'c1' THEN $1 - 1 ELSE 2000 END) n";
        sqlx::query(rows).bind(retained).execute(&bench.pool).await?;
        let rows = "INSERT INTO manual_release (cluster_id, lease_id, released_at)
                    SELECT cluster_id, gen_random_uuid(), CASE WHEN name = 'c1' AND n <= $1 THEN now() - interval '9 minutes' WHEN name = 'c1'
                      THEN now() - interval '11 minutes' ELSE now() END
                    FROM cluster, generate_series(1, $1 + 50) n";
        sqlx::query(rows).bind(released).execute(&bench.pool).await?;
        may = bench.store.under_claim(&claim).try_release_retained().await?;
        Ok(())
    })
    .await?;
    Ok(may)
}

#[tokio::test]
async fn twenty_retained_leases_or_a_twentieth_of_them_may_end() -> Result<()> {
    for (retained, released, may) in [
        (1, 19, true),
        (1, 20, false),
        (419, 20, false),
        (420, 20, true),
        (420, 21, false),
        (1000, 49, true),
        (1000, 50, false),
    ] {
        assert_eq!(may_release(retained, released).await?, may, "{released} of {retained}");
    }
    Ok(())
}

/// True if one of `bound` leases of a gateway may be withdrawn, after `lost` others were within ten
/// minutes. Others do not count: those that were earlier, and those of another gateway. Leases may
/// have several entries.
async fn may_withdraw(bound: i32, lost: i32) -> Result<bool> {
    let mut may = false;
    in_database(async |bench| {
        let claim = claim_in_phase(bench, bench.claimed(&ports(&[80], &[])).await?, "bound").await?;
        bench.offer_on("ngw-1", "eip-1", 1, 4000).await?;
        bench.offer_on("ngw-2", "eip-2", 1, 4000).await?;
        let rows = "WITH made AS (
             INSERT INTO lease (lease_id, cluster_id, kind, namespace, pod_name, pod_uid, request, phase, due_at, loss_reported_at)
             SELECT CASE WHEN n = 0 AND gateway = 1 THEN $1 ELSE gen_random_uuid() END, cluster_id, 'dnat', 'ns', gateway || '-' || n, gen_random_uuid(), '{}',
               'bound', now() + interval '1 hour', CASE WHEN n = 0 THEN NULL WHEN n <= $3 THEN now() - interval '9 minutes' ELSE now() - interval '11 minutes' END
             FROM cluster, generate_series(1, 2) gateway, generate_series(0, CASE gateway WHEN 1 THEN $2 - 1 ELSE 500 END) n
             ON CONFLICT (lease_id) DO NOTHING RETURNING lease_id, pod_name),
           held AS (
             SELECT lease_id, split_part(pod_name, '-', 1) AS gateway, split_part(pod_name, '-', 2)::int AS n FROM made UNION ALL SELECT $1, '1', 0)
           UPDATE port SET state = 'held', lease_id = held.lease_id, range_start = port.port, target_port = port.port
           FROM held WHERE port.allocation_id = 'eip-' || gateway AND port.proto = 6 AND port.port IN (1 + 2 * n, 2 + 2 * n)";
        sqlx::query(rows).bind(claim.lease_id.0).bind(bound).bind(lost).execute(&bench.pool).await?;
        let gateway = NatGatewayId::new("ngw-1");
        may = bench.store.under_claim(&claim).try_count_loss(&gateway).await?;
        Ok(())
    })
    .await?;
    Ok(may)
}

#[tokio::test]
async fn five_pods_of_a_gateway_or_a_twentieth_of_them_may_be_withdrawn() -> Result<()> {
    for (bound, lost, may) in [
        (5, 4, true),
        (10, 5, false),
        (119, 5, false),
        (120, 5, true),
        (120, 6, false),
        (1000, 49, true),
        (1000, 50, false),
    ] {
        assert_eq!(may_withdraw(bound, lost).await?, may, "{lost} of {bound}");
    }
    Ok(())
}
