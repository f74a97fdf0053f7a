//! Ports of a lease: taken all or none, on one EIP.
//!
//! ```text
//! free ─ reserve ─▶ held ─ quiet ─▶ quiet ─ end_quiet ─▶ free        held ─ mark_foreign ─▶ foreign
//! ```
//!
//! Each write locks its lease's row before the port's: a claim that was read but not locked could pass to another while the write waits.

use crate::jobs::fenced;
use crate::leases::key;
use crate::{Claim, Error, Store};
use rand::RngExt as _;
use sqlx::PgConnection;
use std::time::Duration;
use waygate_core::ids::{AllocationId, ForwardEntryId};
use waygate_core::plan::PortKey;
use waygate_core::request::{DnatRequest, ExposedPort, Protocol};

/// Whether there was room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// The lease has its ports.
    Yes,
    /// No EIP has room for all of them.
    NoRoom,
}

impl Store {
    /// Reserves what the lease still lacks, all on one EIP: on the one it has ports of already, else on the first of `candidates` with room.
    pub async fn reserve_ports(&self, claim: &Claim, request: &DnatRequest, candidates: &[AllocationId]) -> Result<Reserved, Error> {
        let mut transaction = self.pool.begin().await?;
        let held =
            sqlx::query!(r#"SELECT p.allocation_id, p.proto, p.target AS "target!" FROM port p WHERE p.lease_id = $1"#, claim.lease_id.0)
                .fetch_all(&mut *transaction)
                .await?;
        // The claim's row is locked, so that it cannot pass to somebody else before this commits.
        let locked = sqlx::query_scalar!(
            "SELECT lease_id FROM lease WHERE lease_id = $1 AND owner = $2 AND epoch = $3 AND phase <> 'ending' FOR UPDATE",
            claim.lease_id.0,
            claim.owner,
            claim.epoch,
        )
        .fetch_optional(&mut *transaction)
        .await?;
        if locked.is_none() {
            return Err(Error::ClaimLost);
        }
        let has = |asked: &ExposedPort| held.iter().any(|row| row.proto == asked.protocol.number() && row.target == i32::from(asked.port));
        let missing: Vec<_> = request.ports.iter().filter(|asked| !has(asked)).copied().collect();
        let same_eip: Vec<_> = held.iter().take(1).map(|row| AllocationId::new(row.allocation_id.clone())).collect();
        let candidates = if same_eip.is_empty() { candidates } else { &same_eip };
        for eip in candidates {
            if self.take_all(&mut transaction, claim, eip, &missing, request.same_port).await? {
                transaction.commit().await?;
                return Ok(Reserved::Yes);
            }
        }
        Ok(Reserved::NoRoom)
    }

    /// All of `missing` on this EIP, or none: a savepoint takes back the half that was found.
    async fn take_all(
        &self,
        connection: &mut PgConnection,
        claim: &Claim,
        eip: &AllocationId,
        missing: &[ExposedPort],
        same_port: bool,
    ) -> Result<bool, Error> {
        let mut savepoint = sqlx::Connection::begin(connection).await?;
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let targets: Vec<i32> = missing.iter().filter(|p| p.protocol == protocol).map(|p| i32::from(p.port)).collect();
            if targets.is_empty() {
                continue;
            }
            let taken = if same_port {
                take_equal(&mut savepoint, claim, eip, protocol, &targets).await?
            } else {
                let start = rand::rng().random_range(0.0..1.0);
                match take_any(&mut savepoint, claim, eip, protocol, &targets, start).await? {
                    0 => take_any(&mut savepoint, claim, eip, protocol, &targets, 0.0).await?,
                    taken => taken,
                }
            };
            if taken != targets.len() as u64 {
                savepoint.rollback().await?;
                return Ok(false);
            }
        }
        savepoint.commit().await?;
        Ok(true)
    }

    /// Somebody else's entry stands on a port of the lease: nobody is given it until a person has looked.
    pub async fn mark_foreign(&self, claim: &Claim, port: &PortKey) -> Result<(), Error> {
        let (eip, proto, number) = key(port);
        let done = sqlx::query!(
            "WITH l AS MATERIALIZED (SELECT lease_id FROM lease WHERE lease_id = $1 AND owner = $2 AND epoch = $3 FOR UPDATE)
             UPDATE port SET state = 'foreign', lease_id = NULL, target = NULL, private_ip = NULL, entry_id = NULL, deleted = false
             FROM l WHERE port.lease_id = l.lease_id AND port.allocation_id = $4 AND port.proto = $5 AND port.port = $6",
            claim.lease_id.0,
            claim.owner,
            claim.epoch,
            eip,
            proto,
            number,
        )
        .execute(&self.pool)
        .await?;
        fenced(done.rows_affected())
    }

    /// Records the entry that a read showed on a port.
    pub async fn note_entry(&self, claim: &Claim, port: &PortKey, entry: &ForwardEntryId) -> Result<(), Error> {
        let (eip, proto, number) = key(port);
        let done = sqlx::query!(
            "WITH l AS MATERIALIZED (SELECT lease_id FROM lease WHERE lease_id = $1 AND owner = $2 AND epoch = $3 FOR UPDATE)
             UPDATE port SET entry_id = $7, deleted = false
             FROM l WHERE port.lease_id = l.lease_id AND port.allocation_id = $4 AND port.proto = $5 AND port.port = $6",
            claim.lease_id.0,
            claim.owner,
            claim.epoch,
            eip,
            proto,
            number,
            entry.as_str(),
        )
        .execute(&self.pool)
        .await?;
        fenced(done.rows_affected())
    }

    /// The entry of a port is proven gone: nobody gets the port for `quiet`, so that late packets of old clients meet nobody new.
    pub async fn quiet_port(&self, claim: &Claim, port: &PortKey, quiet: Duration) -> Result<(), Error> {
        let (eip, proto, number) = key(port);
        let done = sqlx::query!(
            "WITH l AS MATERIALIZED (SELECT lease_id FROM lease WHERE lease_id = $1 AND owner = $2 AND epoch = $3 FOR UPDATE)
             UPDATE port SET state = 'quiet', lease_id = NULL, target = NULL, private_ip = NULL, entry_id = NULL, deleted = false,
               quiet_until = now() + make_interval(secs => $7)
             FROM l WHERE port.lease_id = l.lease_id AND port.allocation_id = $4 AND port.proto = $5 AND port.port = $6",
            claim.lease_id.0,
            claim.owner,
            claim.epoch,
            eip,
            proto,
            number,
            quiet.as_secs_f64(),
        )
        .execute(&self.pool)
        .await?;
        fenced(done.rows_affected())
    }
}

/// As many free ports as there are targets, from `start` (a fraction of the range on offer) upwards; all or none. Rows others are taking are
/// passed over, so nobody waits.
async fn take_any(
    connection: &mut PgConnection,
    claim: &Claim,
    eip: &AllocationId,
    protocol: Protocol,
    targets: &[i32],
    start: f64,
) -> Result<u64, Error> {
    let done = sqlx::query!(
        "WITH r AS MATERIALIZED (
           SELECT first_port + floor($3::float8 * (last_port - first_port + 1))::int AS start, last_port FROM gateway_eip WHERE allocation_id = $1),
         c AS MATERIALIZED (
           SELECT allocation_id, proto, port FROM port
           WHERE allocation_id = $1 AND proto = $2 AND state = 'free'
             AND port BETWEEN (SELECT start FROM r) AND (SELECT last_port FROM r) ORDER BY port LIMIT cardinality($4::int[])
           FOR UPDATE SKIP LOCKED),
         n AS (SELECT allocation_id, proto, port, row_number() OVER (ORDER BY port) AS place FROM c)
         UPDATE port SET state = 'held', lease_id = $5, target = w.target,
           private_ip = (SELECT private_ip FROM lease WHERE lease_id = $5)
         FROM n JOIN unnest($4::int[]) WITH ORDINALITY w (target, place) USING (place)
         WHERE port.allocation_id = n.allocation_id AND port.proto = n.proto AND port.port = n.port
           AND (SELECT count(*) FROM c) = cardinality($4::int[])",
        eip.as_str(),
        protocol.number(),
        start,
        targets,
        claim.lease_id.0,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// The ports with the targets' own numbers; all or none.
async fn take_equal(
    connection: &mut PgConnection,
    claim: &Claim,
    eip: &AllocationId,
    protocol: Protocol,
    targets: &[i32],
) -> Result<u64, Error> {
    let done = sqlx::query!(
        "WITH c AS MATERIALIZED (
           SELECT allocation_id, proto, port FROM port
           WHERE allocation_id = $1 AND proto = $2 AND state = 'free' AND port = ANY($3)
             AND EXISTS (SELECT FROM gateway_eip e WHERE e.allocation_id = $1 AND port.port BETWEEN e.first_port AND e.last_port)
           ORDER BY port FOR UPDATE SKIP LOCKED)
         UPDATE port SET state = 'held', lease_id = $4, target = c.port,
           private_ip = (SELECT private_ip FROM lease WHERE lease_id = $4)
         FROM c WHERE port.allocation_id = c.allocation_id AND port.proto = c.proto AND port.port = c.port
           AND (SELECT count(*) FROM c) = cardinality($3::int[])",
        eip.as_str(),
        protocol.number(),
        targets,
        claim.lease_id.0,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}
