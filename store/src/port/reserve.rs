//! Reserves the ports of a lease: all or none, on one EIP.

use crate::claimed::{Claimed, ensure_claim_held, write_under_claim};
use crate::error::Error;
use crate::port::allocate::PortAllocation;
use crate::port::choose::{MissingPorts, order_by_room};
use sqlx::PgConnection;
use waygate_core::ids::{AllocationId, LeaseId, NatGatewayId};
use waygate_core::lease::PortReservation;
use waygate_core::request::{DnatRequest, ExposedPort, Protocol};

/// The result of trying one EIP.
enum EipAttempt {
    Allocated,
    NoPorts,
    GatewayFull(NatGatewayId),
}

impl Claimed<'_> {
    /// Reserves the ports that the lease still lacks, all on one EIP: the one that has its other
    /// ports, else one of `candidates`. Candidates come in groups, the preferred first, each in
    /// random order; within a group the better of each two is tried first, until one has room.
    pub async fn reserve_ports(
        &self,
        request: &DnatRequest,
        candidates: &[Vec<AllocationId>],
    ) -> Result<PortReservation, Error> {
        let mut transaction = self.store.pool.begin().await?;
        // Locks the lease's row, so that the claim cannot pass to another worker before this
        // commits.
        let locked = sqlx::query_scalar!(
            "UPDATE lease SET vacating = false WHERE lease_id = $1 AND owner = $2 AND epoch = $3 AND phase <> 'releasing' RETURNING lease_id",
            self.claim.lease_id.0,
            self.claim.owner,
            self.claim.epoch,
        )
        .fetch_optional(&mut *transaction)
        .await?;
        ensure_claim_held(u64::from(locked.is_some()))?;
        let held = sqlx::query!(
            r#"SELECT p.allocation_id, p.proto, p.target_port AS "target!" FROM port p WHERE p.lease_id = $1"#,
            self.claim.lease_id.0
        )
        .fetch_all(&mut *transaction)
        .await?;
        let has = |asked: &ExposedPort| {
            held.iter().any(|row| {
                row.proto == asked.protocol.ip_protocol_number()
                    && row.target == i32::from(asked.port)
            })
        };
        let missing: Vec<_> = request.ports.iter().filter(|asked| !has(asked)).copied().collect();
        let same_eip: Vec<_> = held
            .iter()
            .take(1)
            .map(|row| vec![AllocationId::new(row.allocation_id.clone())])
            .collect();
        let candidates = if same_eip.is_empty() { candidates } else { &same_eip };
        let missing_counts = MissingPorts::count_by_protocol(&missing);
        let mut full = Vec::new();
        for two in candidates.iter().flat_map(|group| group.chunks(2)) {
            for eip in order_by_room(&mut transaction, two, &missing_counts).await? {
                match allocate_missing(
                    &mut transaction,
                    self.claim.lease_id,
                    &eip,
                    &missing,
                    request.same_port,
                )
                .await?
                {
                    EipAttempt::Allocated => {
                        transaction.commit().await?;
                        return Ok(PortReservation::Reserved);
                    }
                    EipAttempt::NoPorts => {}
                    EipAttempt::GatewayFull(gateway) if full.contains(&gateway) => {}
                    EipAttempt::GatewayFull(gateway) => full.push(gateway),
                }
            }
        }
        Ok(if full.is_empty() { PortReservation::NoRoom } else { PortReservation::QuotaFull(full) })
    }

    /// Starts vacating: the lease gives back its ports on its gateway. Ends when the lease reserves
    /// again.
    pub async fn start_vacating(&self) -> Result<(), Error> {
        write_under_claim!(
            self,
            "UPDATE lease SET vacating = true WHERE lease_id = $1 AND owner = $2 AND epoch = $3",
        )
    }
}

/// Allocates all of `missing` on this EIP, or none: the savepoint undoes a partial allocation, and
/// releases the lock on the gateway.
async fn allocate_missing(
    connection: &mut PgConnection,
    lease_id: LeaseId,
    eip: &AllocationId,
    missing: &[ExposedPort],
    same_port: bool,
) -> Result<EipAttempt, Error> {
    let mut savepoint = sqlx::Connection::begin(connection).await?;
    // Locked before the ports are taken: no other reservation may count until this one commits.
    let limit = entry_limit(&mut savepoint, eip).await?;
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let targets: Vec<u16> =
            missing.iter().filter(|p| p.protocol == protocol).map(|p| p.port).collect();
        if targets.is_empty() {
            continue;
        }
        let allocation = PortAllocation { lease_id, eip, protocol };
        let allocated = if same_port {
            allocation.allocate_same(&mut savepoint, &targets).await?
        } else {
            allocation.allocate_any(&mut savepoint, &targets).await?
        };
        if !allocated {
            savepoint.rollback().await?;
            return Ok(EipAttempt::NoPorts);
        }
    }
    if let Some(limit) = limit
        && limit.count_held_entries(&mut savepoint).await? > limit.max_entries
    {
        savepoint.rollback().await?;
        return Ok(EipAttempt::GatewayFull(limit.gateway_id));
    }
    savepoint.commit().await?;
    Ok(EipAttempt::Allocated)
}

/// The number of this store's entries that a gateway has room for. The gateway's row stays locked
/// until the transaction ends, so that no other reservation counts at the same time.
struct EntryLimit {
    gateway_id: NatGatewayId,
    max_entries: i64,
}

/// Reads and locks the limit of an EIP's gateway. None, and nothing locked, if the cloud has never
/// refused an entry there, or not lately.
async fn entry_limit(
    connection: &mut PgConnection,
    eip: &AllocationId,
) -> Result<Option<EntryLimit>, Error> {
    let row = sqlx::query!(
        r#"SELECT g.gateway_id, (g.entries_when_full - g.foreign_entries)::bigint AS "max_entries!" FROM gateway g JOIN gateway_eip e USING (gateway_id)
         WHERE e.allocation_id = $1 AND g.entries_when_full IS NOT NULL AND g.full_until > now() FOR UPDATE OF g"#,
        eip.as_str(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| EntryLimit {
        gateway_id: NatGatewayId::new(row.gateway_id),
        max_entries: row.max_entries,
    }))
}

impl EntryLimit {
    /// Counts the held entries, created in the cloud or not. A statement of its own: it must see
    /// what was committed before the gateway's row was locked.
    async fn count_held_entries(&self, connection: &mut PgConnection) -> Result<i64, Error> {
        let held = sqlx::query_scalar!(
            r#"SELECT count(*) AS "held!" FROM port WHERE gateway_id = $1 AND range_start = port"#,
            self.gateway_id.as_str()
        );
        Ok(held.fetch_one(connection).await?)
    }
}
