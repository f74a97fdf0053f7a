//! A database for one test, and the operations that nearly every test needs.

use anyhow::{Context as _, Result, ensure};
use futures::FutureExt as _;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection};
use std::net::Ipv4Addr;
use std::panic::AssertUnwindSafe;
use std::time::Duration;
use uuid::Uuid;
use waygate_core::change::{Change, action_gives};
use waygate_core::ids::{
    AllocationId, EniId, ForwardTableId, LeaseId, NatGatewayId, VSwitchId, VpcId, ZoneId,
};
use waygate_core::lease::Target;
use waygate_core::lease::{PortKey, PortSpan};
use waygate_core::operation::{ChangeRequest, Operation, Priority};
use waygate_core::request::{
    DnatRequest, EipRequest, EipSource, EipSpec, ExposedPort, Protocol, ReleaseStrategy, Request,
};
use waygate_store::{
    AccountQueue, Claim, Cluster, DequeuedChange, Finish, GatewayEip, Loaded, OfferedPorts,
    PodObservation, RefusalHistory, Store, UnconfiguredQueues, Work, WorkerLock,
};

/// Longer than any test works under one claim.
pub(crate) const CLAIM: Duration = Duration::from_mins(1);
/// Connections of one test: enough for real races, few enough that several tests fit into the
/// hundred connections of a server.
const CONNECTIONS: u32 = 16;

/// A new database without a schema.
pub(crate) struct Database {
    /// The store under test.
    pub store: Store,
    /// Direct access, for rows that the store has no function to write or read.
    pub pool: PgPool,
}

/// Runs a test in an empty database, which is dropped afterwards, even if the test fails.
pub(crate) async fn in_empty_database(
    test: impl AsyncFnOnce(&Database) -> Result<()>,
) -> Result<()> {
    let admin: PgConnectOptions = std::env::var_os("DATABASE_URL")
        .and_then(|url| url.into_string().ok())
        .context("this test needs a Postgres: use `make test`, or set DATABASE_URL to one where databases may be created")?
        .parse()?;
    let name = format!("waygate_test_{}", Uuid::new_v4().simple());
    administer(&admin, format!("CREATE DATABASE {name}")).await?;
    let url = admin.clone().database(&name).to_url_lossy();
    let store = Store::connect_lazy(&url.as_str().into(), CONNECTIONS, "store test")?;
    let pool = PgPoolOptions::new().max_connections(2).connect_lazy(url.as_str())?;
    let database = Database { store, pool };
    let result = AssertUnwindSafe(test(&database)).catch_unwind().await;
    administer(&admin, format!("DROP DATABASE {name} WITH (FORCE)")).await?;
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

async fn administer(admin: &PgConnectOptions, statement: String) -> Result<()> {
    let mut connection =
        PgConnection::connect_with(admin).await.context("reaching Postgres at DATABASE_URL")?;
    sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await?;
    connection.close().await?;
    Ok(())
}

/// The account's queue of an action, at this rate.
pub(crate) fn account_queue(action: &'static str, rate: u32) -> AccountQueue {
    AccountQueue { action, rate, gives: action_gives(action) }
}

/// The VPC of every target here.
pub(crate) fn vpc() -> VpcId {
    target(1).vpc_id
}

/// A migrated database with one registered cluster.
pub(crate) struct Bench {
    database: Database,
    /// The cluster registered as `c1`.
    pub cluster: Cluster,
}

impl std::ops::Deref for Bench {
    type Target = Database;

    fn deref(&self) -> &Database {
        &self.database
    }
}

/// Runs a test in a migrated database with the cluster `c1`.
pub(crate) async fn in_database(test: impl AsyncFnOnce(&Bench) -> Result<()>) -> Result<()> {
    in_empty_database(async |database: &Database| {
        database.store.migrate().await?;
        let cluster = database.store.register_cluster(Uuid::new_v4(), "c1").await?;
        let database = Database { store: database.store.clone(), pool: database.pool.clone() };
        test(&Bench { database, cluster }).await
    })
    .await
}

impl Bench {
    /// Observes a pod of the cluster `c1` with this request.
    pub(crate) async fn observe(&self, pod_uid: Uuid, request: &Request) -> Result<()> {
        self.observe_in(self.cluster, pod_uid, request).await
    }

    /// Observes a pod of the given cluster with this request.
    pub(crate) async fn observe_in(
        &self,
        cluster: Cluster,
        pod_uid: Uuid,
        request: &Request,
    ) -> Result<()> {
        let pod_name = pod_uid.to_string();
        Ok(self
            .store
            .observe_pod(
                cluster,
                &PodObservation {
                    namespace: "ns",
                    pod_name: &pod_name,
                    pod_uid,
                    controller: None,
                    pod_created_at: None,
                    request,
                },
            )
            .await?)
    }

    /// Acquires the lock on the events of the cluster's pods, as a new worker; a former one's lock has
    /// expired.
    pub(crate) async fn listen(&self) -> Result<WorkerLock> {
        let expire = "UPDATE worker_lock SET held_until = now() WHERE name LIKE 'pods:%'";
        sqlx::query(expire).execute(&self.pool).await?;
        let work = [Work::PodEvents(self.cluster.owner.cluster)];
        let acquired =
            self.store.acquire_worker_locks(Uuid::new_v4(), &work, UnconfiguredQueues::Leave);
        acquired.await?.pop().context("another listens")
    }

    /// Claims the only due lease, as a new worker.
    pub(crate) async fn claim_one(&self) -> Result<Claim> {
        let claims = self
            .store
            .claim_due_leases(self.cluster, Uuid::new_v4(), 100, Duration::ZERO, CLAIM)
            .await?;
        ensure!(claims.len() == 1, "{} leases are due", claims.len());
        claims.into_iter().next().context("no lease is due")
    }

    /// Makes a lease and claims it.
    pub(crate) async fn claimed(&self, request: &Request) -> Result<Claim> {
        self.observe(Uuid::new_v4(), request).await?;
        self.claim_one().await
    }

    /// Loads the lease as its claim holder.
    pub(crate) async fn load(&self, claim: &Claim) -> Result<Loaded> {
        Ok(self.store.under_claim(claim).load(CLAIM).await?)
    }

    /// Queues a change of the lease's EIP. False if another change of the resource is unresolved.
    pub(crate) async fn queue(
        &self,
        claim: &Claim,
        resource: &str,
        change: &Change,
    ) -> Result<bool, waygate_store::Error> {
        let request = ChangeRequest { resource: resource.to_owned(), change: change.clone() };
        self.store.under_claim(claim).queue_eip_change(&request, Priority::Normal).await
    }

    /// Queues a change and marks it as sent, as the account's sender does.
    pub(crate) async fn send(
        &self,
        claim: &Claim,
        resource: &str,
        change: &Change,
    ) -> Result<Operation> {
        self.load(claim).await?;
        ensure!(self.queue(claim, resource, change).await?, "{resource} is being changed");
        Ok(self.dequeue(change).await?.operation)
    }

    /// Marks the next change like this one as sent.
    pub(crate) async fn dequeue(&self, change: &Change) -> Result<DequeuedChange> {
        let queue = account_queue(change.action(), 2000);
        let mut batch = self.store.dequeue_account_changes(self.cluster, queue, 1).await?;
        batch.changes.pop().with_context(|| format!("no {} was dequeued", change.action()))
    }

    /// Counts the due leases.
    pub(crate) async fn due(&self) -> Result<i64> {
        Ok(sqlx::query_scalar("SELECT count(*) FROM lease WHERE due_at <= now()")
            .fetch_one(&self.pool)
            .await?)
    }

    /// Moves due times and fences back by `time`, as if that time had passed.
    pub(crate) async fn pass(&self, time: Duration) -> Result<()> {
        sqlx::query("UPDATE lease SET due_at = due_at - make_interval(secs => $1)")
            .bind(time.as_secs_f64())
            .execute(&self.pool)
            .await?;
        self.pass_fence(time).await
    }

    /// Moves fences back by `time`; claims stay as they are.
    pub(crate) async fn pass_fence(&self, time: Duration) -> Result<()> {
        let fences = "UPDATE operation SET fence_until = fence_until - make_interval(secs => $1)";
        sqlx::query(fences).bind(time.as_secs_f64()).execute(&self.pool).await?;
        Ok(())
    }

    /// Moves the end of port cooldowns back by `time`; claims stay as they are.
    pub(crate) async fn pass_cooldown(&self, time: Duration) -> Result<()> {
        let cooldown = "UPDATE port SET cooldown_until = cooldown_until - make_interval(secs => $1) WHERE state = 'cooldown'";
        sqlx::query(cooldown).bind(time.as_secs_f64()).execute(&self.pool).await?;
        Ok(())
    }

    /// Returns all rows of leases, ports and operations, to compare.
    pub(crate) async fn contents(&self) -> Result<Vec<String>> {
        let rows = "SELECT to_jsonb(l)::text FROM lease l UNION ALL SELECT to_jsonb(o)::text FROM operation o
                    UNION ALL SELECT to_jsonb(p)::text FROM port p WHERE state <> 'free' ORDER BY 1";
        Ok(sqlx::query_scalar(rows).fetch_all(&self.pool).await?)
    }

    /// Offers ports on an EIP of gateway `ngw-1`.
    pub(crate) async fn offer(&self, eip: &str, first: u16, last: u16) -> Result<AllocationId> {
        self.offer_on("ngw-1", eip, first, last).await
    }

    /// Offers ports on an EIP of the given gateway.
    pub(crate) async fn offer_on(
        &self,
        gateway: &str,
        eip: &str,
        first: u16,
        last: u16,
    ) -> Result<AllocationId> {
        let allocation_id = AllocationId::new(eip);
        let gateway_eip = GatewayEip {
            allocation_id: allocation_id.clone(),
            address: address_of(eip),
            gateway_id: NatGatewayId::new(gateway),
            table_id: ForwardTableId::new(gateway.replace("ngw", "ftb")),
            zone_id: ZoneId::new("z-1"),
            snat: false,
        };
        self.store.offer_ports(&gateway_eip, OfferedPorts { first, last }).await?;
        Ok(allocation_id)
    }
}

/// An address derived from the EIP's name.
fn address_of(eip: &str) -> Ipv4Addr {
    Ipv4Addr::from_bits(eip.bytes().fold(0xC612_0000, |bits, byte| bits + u32::from(byte)))
}

/// A request for an EIP that is allocated for the pod.
pub(crate) fn bought() -> Request {
    Request::Eip(EipRequest {
        source: EipSource::Allocate(EipSpec::default()),
        release: ReleaseStrategy::Follow,
    })
}

/// A request for these ports.
pub(crate) fn ports(tcp: &[u16], udp: &[u16]) -> Request {
    Request::Dnat(dnat(tcp, udp))
}

/// A DNAT request for these ports.
pub(crate) fn dnat(tcp: &[u16], udp: &[u16]) -> DnatRequest {
    let of = |ports: &[u16], protocol| {
        ports.iter().map(|port| ExposedPort { port: *port, protocol }).collect::<Vec<_>>()
    };
    DnatRequest {
        ports: [of(tcp, Protocol::Tcp), of(udp, Protocol::Udp)].concat(),
        fixed: false,
        same_port: false,
    }
}

/// A target with this last octet in its address.
pub(crate) fn target(last: u8) -> Target {
    Target {
        eni_id: EniId::new("eni-1"),
        vswitch_id: VSwitchId::new("vsw-1"),
        zone_id: ZoneId::new("z-1"),
        vpc_id: VpcId::new("vpc-1"),
        private_ip: Ipv4Addr::new(10, 0, 0, last),
        primary: false,
    }
}

/// The change that releases an EIP.
pub(crate) fn release(eip: &str) -> Change {
    Change::ReleaseEipAddress { allocation_id: AllocationId::new(eip) }
}

/// The keys of the lease's forward entries.
pub(crate) fn keys(loaded: &Loaded) -> Vec<PortKey> {
    let key = |port: &waygate_core::lease::LeasedPort| PortKey {
        allocation_id: port.allocation_id.clone(),
        protocol: port.protocol(),
        port: port.external_port,
    };
    loaded.lease.ports.iter().map(key).collect()
}

/// The span of this one port.
pub(crate) fn span(key: &PortKey) -> PortSpan {
    PortSpan {
        allocation_id: key.allocation_id.clone(),
        protocol: Some(key.protocol),
        ports: key.port..=key.port,
    }
}

/// The end of a claim; the lease is due again after `again`.
pub(crate) fn finish(wake: i64, again: Duration) -> Finish<'static> {
    Finish {
        wake,
        retry_in: again,
        tries: 0,
        reason: "Test",
        message: "a test said so",
        looked_at: None,
        pod_missing: None,
        history: RefusalHistory::Unchanged,
    }
}

/// The lease IDs of these claims, sorted.
pub(crate) fn leases(claims: &[Claim]) -> Vec<LeaseId> {
    let mut ids: Vec<_> = claims.iter().map(|claim| claim.lease_id).collect();
    ids.sort();
    ids
}
