//! Ports of a lease: taken all or none, on one EIP.
//!
//! ```text
//! free ─ reserve ─▶ held ─ quiet ─▶ quiet ─ end_quiet ─▶ free        held, free, quiet ─ mark_foreign ─▶ foreign
//! ```
//!
//! Each write locks its lease's row before the port's: a claim that was read but not locked could pass to another while the write waits.

use crate::jobs::fenced;
use crate::leases::key;
use crate::room::{Asked, better_first};
use crate::take::Take;
use crate::{Claim, Error, Store};
use sqlx::PgConnection;
use std::time::Duration;
use waygate_core::ids::{AllocationId, ForwardEntryId, NatGatewayId};
use waygate_core::lease::{PortKey, PortSpan, Reserved};
use waygate_core::request::{DnatRequest, ExposedPort, Protocol};

/// What came of one EIP.
enum Tried {
    Taken,
    NoPorts,
    GatewayFull(NatGatewayId),
}

impl Store {
    /// Reserves what the lease still lacks, all on one EIP: on the one it has ports of already, else on one of `candidates`. Those come in groups,
    /// the preferred first, each in random order; within a group the better of two is tried first, and so on until one has room.
    pub async fn reserve_ports(&self, claim: &Claim, request: &DnatRequest, candidates: &[Vec<AllocationId>]) -> Result<Reserved, Error> {
        let mut transaction = self.pool.begin().await?;
        // The claim's row is locked, so that it cannot pass to somebody else before this commits.
        let locked = sqlx::query_scalar!(
            "UPDATE lease SET spilling = false WHERE lease_id = $1 AND owner = $2 AND epoch = $3 AND phase <> 'ending' RETURNING lease_id",
            claim.lease_id.0,
            claim.owner,
            claim.epoch,
        )
        .fetch_optional(&mut *transaction)
        .await?;
        if locked.is_none() {
            return Err(Error::ClaimLost);
        }
        let held =
            sqlx::query!(r#"SELECT p.allocation_id, p.proto, p.target AS "target!" FROM port p WHERE p.lease_id = $1"#, claim.lease_id.0)
                .fetch_all(&mut *transaction)
                .await?;
        let has = |asked: &ExposedPort| held.iter().any(|row| row.proto == asked.protocol.number() && row.target == i32::from(asked.port));
        let missing: Vec<_> = request.ports.iter().filter(|asked| !has(asked)).copied().collect();
        let same_eip: Vec<_> = held.iter().take(1).map(|row| vec![AllocationId::new(row.allocation_id.clone())]).collect();
        let candidates = if same_eip.is_empty() { candidates } else { &same_eip };
        let asked = Asked::of(&missing);
        let mut full = Vec::new();
        for two in candidates.iter().flat_map(|group| group.chunks(2)) {
            for eip in better_first(&mut transaction, two, &asked).await? {
                match take_all(&mut transaction, claim, &eip, &missing, request.same_port).await? {
                    Tried::Taken => {
                        transaction.commit().await?;
                        return Ok(Reserved::Yes);
                    }
                    Tried::NoPorts => {}
                    Tried::GatewayFull(gateway) if full.contains(&gateway) => {}
                    Tried::GatewayFull(gateway) => full.push(gateway),
                }
            }
        }
        Ok(if full.is_empty() { Reserved::NoRoom } else { Reserved::QuotaFull(full) })
    }

    /// The lease gives back what it has on its gateway. Over once it reserves again.
    pub async fn spill(&self, claim: &Claim) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE lease SET spilling = true WHERE lease_id = $1 AND owner = $2 AND epoch = $3",
            claim.lease_id.0,
            claim.owner,
            claim.epoch,
        )
        .execute(&self.pool)
        .await?;
        fenced(done.rows_affected())
    }

    /// Somebody else's entry stands on these ports: nobody is given them while it does. Those of the lease are no longer its own; what is
    /// left of a run they were in is an entry, or two, to be made anew.
    pub async fn mark_foreign(&self, claim: &Claim, span: &PortSpan) -> Result<(), Error> {
        let (first, last) = (i32::from(*span.ports.start()), i32::from(*span.ports.end()));
        let marked = sqlx::query_scalar!(
            r#"WITH l AS MATERIALIZED (SELECT lease_id FROM lease WHERE lease_id = $1 AND owner = $2 AND epoch = $3 FOR UPDATE),
             rest AS (
               UPDATE port SET head = CASE WHEN port.port > $7 THEN $7 + 1 ELSE port.head END, entry_id = NULL, deleted = false
               FROM l WHERE port.lease_id = l.lease_id AND port.allocation_id = $4 AND ($5::smallint IS NULL OR port.proto = $5)
                 AND port.port NOT BETWEEN $6 AND $7
                 AND EXISTS (SELECT FROM port x WHERE x.allocation_id = $4 AND x.proto = port.proto AND x.port BETWEEN $6 AND $7
                             AND x.lease_id = l.lease_id AND x.head = port.head)),
             marked AS (
               UPDATE port SET state = 'foreign', lease_id = NULL, head = NULL, target = NULL, private_ip = NULL, entry_id = NULL,
                 deleted = false, quiet_until = NULL
               FROM l WHERE port.allocation_id = $4 AND ($5::smallint IS NULL OR port.proto = $5) AND port.port BETWEEN $6 AND $7
                 AND (port.lease_id = l.lease_id OR port.state IN ('free', 'quiet'))
               RETURNING port.port)
             SELECT count(*) AS "count!" FROM marked"#,
            claim.lease_id.0,
            claim.owner,
            claim.epoch,
            span.allocation_id.as_str(),
            span.protocol.map(Protocol::number),
            first,
            last,
        )
        .fetch_one(&self.pool)
        .await?;
        fenced(marked.unsigned_abs())
    }

    /// Records the entry that a read showed on a run of ports.
    pub async fn note_entry(&self, claim: &Claim, run: &PortKey, entry: &ForwardEntryId) -> Result<(), Error> {
        let (eip, proto, head) = key(run);
        let done = sqlx::query!(
            "WITH l AS MATERIALIZED (SELECT lease_id FROM lease WHERE lease_id = $1 AND owner = $2 AND epoch = $3 FOR UPDATE)
             UPDATE port SET entry_id = $7, deleted = false
             FROM l WHERE port.lease_id = l.lease_id AND port.allocation_id = $4 AND port.proto = $5 AND port.head = $6",
            claim.lease_id.0,
            claim.owner,
            claim.epoch,
            eip,
            proto,
            head,
            entry.as_str(),
        )
        .execute(&self.pool)
        .await?;
        fenced(done.rows_affected())
    }

    /// The entry of a run is proven gone: nobody gets its ports for `quiet`, so that late packets of old clients meet nobody new.
    pub async fn quiet_port(&self, claim: &Claim, run: &PortKey, quiet: Duration) -> Result<(), Error> {
        let (eip, proto, head) = key(run);
        let done = sqlx::query!(
            "WITH l AS MATERIALIZED (SELECT lease_id FROM lease WHERE lease_id = $1 AND owner = $2 AND epoch = $3 FOR UPDATE)
             UPDATE port SET state = 'quiet', lease_id = NULL, head = NULL, target = NULL, private_ip = NULL, entry_id = NULL, deleted = false,
               quiet_until = now() + make_interval(secs => $7)
             FROM l WHERE port.lease_id = l.lease_id AND port.allocation_id = $4 AND port.proto = $5 AND port.head = $6",
            claim.lease_id.0,
            claim.owner,
            claim.epoch,
            eip,
            proto,
            head,
            quiet.as_secs_f64(),
        )
        .execute(&self.pool)
        .await?;
        fenced(done.rows_affected())
    }
}

/// All of `missing` on this EIP, or none: a savepoint takes back what was found of them, and the lock on the gateway.
async fn take_all(
    connection: &mut PgConnection,
    claim: &Claim,
    eip: &AllocationId,
    missing: &[ExposedPort],
    same_port: bool,
) -> Result<Tried, Error> {
    let mut savepoint = sqlx::Connection::begin(connection).await?;
    let limit = entry_limit(&mut savepoint, eip).await?;
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let targets: Vec<u16> = missing.iter().filter(|p| p.protocol == protocol).map(|p| p.port).collect();
        if targets.is_empty() {
            continue;
        }
        let take = Take { claim, eip, protocol };
        let taken = if same_port { take.equal(&mut savepoint, &targets).await? } else { take.any(&mut savepoint, &targets).await? };
        if !taken {
            savepoint.rollback().await?;
            return Ok(Tried::NoPorts);
        }
    }
    if let Some(limit) = limit
        && limit.entries(&mut savepoint).await? > limit.most
    {
        savepoint.rollback().await?;
        return Ok(Tried::GatewayFull(limit.gateway_id));
    }
    savepoint.commit().await?;
    Ok(Tried::Taken)
}

/// How many entries of this store a gateway has room for. While this lives, nobody else reserves on the gateway.
struct EntryLimit {
    gateway_id: NatGatewayId,
    most: i64,
}

/// The limit of an EIP's gateway; none while the cloud has never refused one there, or not lately. Then nothing is locked either.
async fn entry_limit(connection: &mut PgConnection, eip: &AllocationId) -> Result<Option<EntryLimit>, Error> {
    let row = sqlx::query!(
        r#"SELECT g.gateway_id, (g.full_at - g.others)::bigint AS "most!" FROM gateway g JOIN gateway_eip e USING (gateway_id)
         WHERE e.allocation_id = $1 AND g.full_at IS NOT NULL AND g.full_until > now() FOR UPDATE OF g"#,
        eip.as_str(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| EntryLimit { gateway_id: NatGatewayId::new(row.gateway_id), most: row.most }))
}

impl EntryLimit {
    /// The entries that are held, made or not. A statement of its own: it must see what was committed before the lock was had.
    async fn entries(&self, connection: &mut PgConnection) -> Result<i64, Error> {
        let held =
            sqlx::query_scalar!(r#"SELECT count(*) AS "held!" FROM port WHERE gateway_id = $1 AND head = port"#, self.gateway_id.as_str());
        Ok(held.fetch_one(connection).await?)
    }
}
