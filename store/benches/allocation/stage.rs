//! A database with a given number of leases, and a pool filled to a given part. Rows are inserted
//! by SQL, many at once, as the store's functions would leave them.

use anyhow::{Context as _, Result};
use futures::FutureExt as _;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection};
use std::net::Ipv4Addr;
use std::panic::AssertUnwindSafe;
use std::time::Duration;
use uuid::Uuid;
use waygate_core::ids::{AllocationId, ForwardTableId, NatGatewayId, ZoneId};
use waygate_core::request::{DnatRequest, Request};
use waygate_store::{Cluster, GatewayEip, OfferedPorts, Store};

/// Clients at a time, on each stage.
pub(crate) const CLIENTS: u32 = 64;

/// The clients' application name on the server.
const CLIENT: &str = "allocation bench";

/// EIPs in the pool, each on its own gateway.
const POOL: u8 = 4;

/// Ports offered on each EIP.
const PORTS: OfferedPorts = OfferedPorts { first: 10_001, last: 30_000 };

/// Inserts leases numbered from $1 to $2, with two ports each on EIPs that the clients do not use.
const ELSEWHERE: &str = "
  WITH made AS (
    INSERT INTO lease (cluster_id, kind, namespace, pod_name, pod_uid, request, phase, due_at,
                       eni_id, vswitch_id, zone_id, vpc_id, private_ip, primary_ip, generation, owns_custom_resource)
    SELECT c.cluster_id, 'dnat', 'ns-' || n % 500, 'pod-' || n, gen_random_uuid(), $3, 'bound', now() + interval '1 year',
           'eni-' || n / 20, 'vsw-1', 'z-1', 'vpc-1', '10.0.0.0'::inet + n, false, 1, true
    FROM cluster c, generate_series($1::bigint + 1, $2) n RETURNING lease_id, private_ip, private_ip - '10.0.0.0'::inet AS n)
  INSERT INTO port (allocation_id, proto, port, gateway_id, state, lease_id, range_start, target_port, private_ip, entry_id)
  SELECT 'eip-far-' || n * 2 / 60000, 6, 1 + (n * 2 + i) % 60000, 'ngw-far-' || n * 2 / 60000, 'held', lease_id, 1 + (n * 2 + i) % 60000,
         CASE i WHEN 0 THEN 80 ELSE 443 END, private_ip, 'fwd-' || n || '-' || i
  FROM made, generate_series(0, 1) i";

/// Holds ports of the pool, spread at random, by existing leases.
const HELD: &str = "
  WITH holder AS MATERIALIZED (SELECT lease_id, row_number() OVER () - 1 AS n FROM (SELECT lease_id FROM lease WHERE phase = 'bound' LIMIT 1000) l),
   wanted AS MATERIALIZED (
     SELECT allocation_id, port, hashtext(allocation_id || port) AS h FROM port WHERE allocation_id = ANY($1) AND proto = 6)
  UPDATE port SET state = 'held', lease_id = holder.lease_id, range_start = port.port, target_port = port.port, entry_id = 'fwd-' || port.port
  FROM wanted, holder
  WHERE port.allocation_id = wanted.allocation_id AND port.port = wanted.port AND port.proto = 6 AND port.state = 'free'
    AND abs(h % 1000) < $2 * 10 AND holder.n = abs(h / 1000 % 1000)";

/// Frees the other ports of the pool.
const FREE: &str = "
  UPDATE port SET state = 'free', lease_id = NULL, range_start = NULL, target_port = NULL, entry_id = NULL
  WHERE allocation_id = ANY($1) AND proto = 6 AND state = 'held' AND abs(hashtext(allocation_id || port) % 1000) >= $2 * 10";

/// The environment of the benchmark.
pub(crate) struct Stage {
    /// The store under test.
    pub store: Store,
    /// The cluster that has the leases.
    pub cluster: Cluster,
    /// Direct access, for statements outside the store.
    pub pool: PgPool,
    /// The offered EIPs.
    pub eips: Vec<AllocationId>,
}

/// Runs in two new databases, dropped afterwards: the stage, and the one it is compared with.
pub(crate) async fn in_databases(
    benchmark: impl AsyncFnOnce(&Stage, &Stage) -> Result<()>,
) -> Result<()> {
    let admin: PgConnectOptions = std::env::var_os("DATABASE_URL")
        .and_then(|url| url.into_string().ok())
        .context("this benchmark needs a Postgres: use `make bench`, or set DATABASE_URL to one that takes 140 connections")?
        .parse()?;
    let names =
        ["stage", "other"].map(|name| format!("waygate_bench_{name}_{}", Uuid::new_v4().simple()));
    for name in &names {
        administer(&admin, format!("CREATE DATABASE {name}")).await?;
    }
    let [stage, other] = names.each_ref().map(|name| admin.clone().database(name).to_url_lossy());
    let run = async {
        benchmark(&Stage::new(stage.as_str()).await?, &Stage::new(other.as_str()).await?).await
    };
    let result = AssertUnwindSafe(run).catch_unwind().await;
    for name in names {
        administer(&admin, format!("DROP DATABASE {name} WITH (FORCE)")).await?;
    }
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

async fn administer(admin: &PgConnectOptions, statement: String) -> Result<()> {
    let mut connection =
        PgConnection::connect_with(admin).await.context("reaching Postgres at DATABASE_URL")?;
    sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await?;
    Ok(connection.close().await?)
}

impl Stage {
    /// An empty store that offers the pool's EIPs.
    async fn new(url: &str) -> Result<Self> {
        let store = Store::connect_lazy(&url.into(), CLIENTS, CLIENT)?;
        store.migrate().await?;
        store.check_schema().await?;
        let cluster = store.register_cluster(Uuid::new_v4(), "bench").await?;
        let pool = PgPoolOptions::new().max_connections(1).connect(url).await?;
        let mut eips = Vec::new();
        for number in 1..=POOL {
            let eip = GatewayEip {
                allocation_id: AllocationId::new(format!("eip-{number}")),
                address: Ipv4Addr::new(192, 0, 2, number),
                gateway_id: NatGatewayId::new(format!("ngw-{number}")),
                table_id: ForwardTableId::new(format!("ftb-{number}")),
                zone_id: ZoneId::new("z-1"),
                snat: false,
            };
            store.offer_ports(&eip, PORTS).await?;
            eips.push(eip.allocation_id);
        }
        Ok(Self { store, cluster, pool, eips })
    }

    /// Inserts leases, with two ports each elsewhere, up to this number.
    pub(crate) async fn fill_store(&self, leases: i64) -> Result<()> {
        let there: i64 = sqlx::query_scalar("SELECT count(*) FROM lease WHERE phase = 'bound'")
            .fetch_one(&self.pool)
            .await?;
        let request =
            Request::Dnat(DnatRequest { ports: Vec::new(), fixed: false, same_port: false });
        sqlx::query(ELSEWHERE)
            .bind(there)
            .bind(leases)
            .bind(serde_json::to_value(request)?)
            .execute(&self.pool)
            .await?;
        self.settle().await
    }

    /// Holds this percentage of the pool's TCP ports.
    pub(crate) async fn fill_pool(&self, percent: i32) -> Result<()> {
        let eips: Vec<_> = self.eips.iter().map(|eip| eip.as_str().to_owned()).collect();
        for statement in [FREE, HELD] {
            sqlx::query(statement).bind(&eips).bind(percent).execute(&self.pool).await?;
        }
        self.settle().await
    }

    /// Does the work that autovacuum and the checkpointer would do in time.
    async fn settle(&self) -> Result<()> {
        for statement in ["VACUUM (ANALYZE) port", "VACUUM (ANALYZE) lease", "CHECKPOINT"] {
            sqlx::query(statement).execute(&self.pool).await?;
        }
        Ok(())
    }

    /// Processor time that the server's processes for this database have used, from Linux'
    /// scheduler; none if they are not on this machine.
    pub(crate) async fn processor_time(&self) -> Result<Option<Duration>> {
        let processes = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1";
        let processes: Vec<i32> =
            sqlx::query_scalar(processes).bind(CLIENT).fetch_all(&self.pool).await?;
        let of = |process: &i32| {
            let schedstat = std::fs::read_to_string(format!("/proc/{process}/schedstat")).ok()?;
            Some(Duration::from_nanos(schedstat.split(' ').next()?.parse().ok()?))
        };
        Ok(processes.iter().map(of).sum())
    }

    /// Counts all deadlocks in this database. A victim would fail the run as well.
    pub(crate) async fn deadlocks(&self) -> Result<i64> {
        let seen = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
        Ok(sqlx::query_scalar(seen).fetch_one(&self.pool).await?)
    }
}
