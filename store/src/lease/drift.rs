//! What the lists of the cloud are compared with: the records of bound leases, of all clusters. A
//! comparison wakes leases, and decides nothing.

use crate::columns::{
    parse_address, port_from_column, protocol_from_number, timestamp_from_seconds,
};
use crate::error::Error;
use crate::lease::wake::wake_leases;
use crate::store::Store;
use crate::worker_lock::WorkerLock;
use uuid::Uuid;
use waygate_core::ids::{AllocationId, EniId, LeaseId, NatGatewayId};
use waygate_core::ownership::Owner;
use waygate_core::request::Request;
use waygate_core::rules::drift::{EipRecord, EntryRecord};

/// The moment before a list was asked for, by Postgres' clock.
#[derive(Clone, Copy, Debug)]
pub struct ListStart(f64);

/// Records that follow one another, and where the next ones begin.
#[derive(Clone, Debug)]
pub struct RecordPage<R, K> {
    /// Records of which the list says something.
    pub records: Vec<R>,
    /// Key of the last row that was read; none if there are no more.
    pub last: Option<K>,
}

/// A row of `read_eip_records.sql`.
struct EipRow {
    lease_id: Uuid,
    allocation_id: String,
    eni_id: Option<String>,
    private_ip: Option<String>,
    primary_ip: Option<bool>,
    request: serde_json::Value,
    settled_at: Option<f64>,
    comparable: bool,
}

/// A row of `read_entry_records.sql`.
struct EntryRow {
    lease_id: Uuid,
    cluster_uid: Uuid,
    generation: i32,
    address: String,
    proto: i16,
    port: i32,
    target_port: i32,
    private_ip: Option<String>,
    ports: i64,
    settled_at: Option<f64>,
    comparable: bool,
}

/// The records that can be read. A lease whose row cannot be read is set aside by its claim holder;
/// the others are compared all the same.
fn keep_readable<R>(records: impl Iterator<Item = Result<Option<R>, Error>>) -> Vec<R> {
    records.filter_map(|record| record.ok().flatten()).collect()
}

impl Store {
    /// The present moment, before a list is asked for.
    pub async fn start_list(&self) -> Result<ListStart, Error> {
        let seconds = sqlx::query_scalar!(
            r#"SELECT extract(epoch FROM clock_timestamp())::float8 AS "seconds!""#
        );
        Ok(ListStart(seconds.fetch_one(&self.pool).await?))
    }

    /// Reads the EIPs that bound leases should have, a page of them after the EIP `after`.
    pub async fn eip_records(
        &self,
        start: ListStart,
        after: Option<&AllocationId>,
    ) -> Result<RecordPage<EipRecord, AllocationId>, Error> {
        let rows = sqlx::query_file_as!(
            EipRow,
            "src/queries/read_eip_records.sql",
            after.map_or("", AllocationId::as_str),
            start.0
        )
        .fetch_all(&self.pool)
        .await?;
        let last = rows.last().map(|row| AllocationId::new(row.allocation_id.clone()));
        let record = |row: EipRow| -> Result<Option<EipRecord>, Error> {
            let request = serde_json::from_value(row.request).map_err(Error::corrupt_value)?;
            let (Some(eni), Some(ip), Request::Eip(request)) =
                (row.eni_id, row.private_ip, request)
            else {
                return Ok(None);
            };
            Ok(Some(EipRecord {
                lease: LeaseId(row.lease_id),
                allocation_id: AllocationId::new(row.allocation_id),
                eni_id: EniId::new(eni),
                private_ip: parse_address(&ip)?,
                primary: row.primary_ip.unwrap_or(false),
                request,
                settled_at: row.settled_at.map(timestamp_from_seconds).transpose()?,
            }))
        };
        let comparable = rows.into_iter().filter(|row| row.comparable);
        let records = keep_readable(comparable.map(record));
        Ok(RecordPage { records, last })
    }

    /// Reads the forward entries that bound leases should have at a gateway, a page of them after
    /// the lease `after`. `store` is this store's ID, which is part of the entries' names.
    pub async fn entry_records(
        &self,
        gateway: &NatGatewayId,
        store: Uuid,
        start: ListStart,
        after: Option<LeaseId>,
    ) -> Result<RecordPage<EntryRecord, LeaseId>, Error> {
        let rows = sqlx::query_file_as!(
            EntryRow,
            "src/queries/read_entry_records.sql",
            gateway.as_str(),
            after.map_or(Uuid::nil(), |lease| lease.0),
            start.0
        )
        .fetch_all(&self.pool)
        .await?;
        let last = rows.last().map(|row| LeaseId(row.lease_id));
        let record = |row: EntryRow| -> Result<Option<EntryRecord>, Error> {
            let (lease, Some(ip)) = (LeaseId(row.lease_id), row.private_ip) else {
                return Ok(None);
            };
            Ok(Some(EntryRecord {
                lease,
                name: Owner { store, cluster: row.cluster_uid }.entry_name(lease, row.generation),
                external_ip: parse_address(&row.address)?,
                external_port: port_from_column(row.port)?,
                internal_ip: parse_address(&ip)?,
                internal_port: port_from_column(row.target_port)?,
                ports: u16::try_from(row.ports).map_err(Error::corrupt_value)?,
                protocol: protocol_from_number(row.proto),
                settled_at: row.settled_at.map(timestamp_from_seconds).transpose()?,
            }))
        };
        let comparable = rows.into_iter().filter(|row| row.comparable);
        let records = keep_readable(comparable.map(record));
        Ok(RecordPage { records, last })
    }

    /// Wakes those of these leases that are still bound, have no unresolved operation, and settled
    /// none since the list. No effect once the lock has expired or passed to another process.
    pub async fn wake_drifted(
        &self,
        lock: &WorkerLock,
        start: ListStart,
        leases: &[LeaseId],
    ) -> Result<u64, Error> {
        let ids: Vec<_> = leases.iter().map(|lease| lease.0).collect();
        let done = wake_leases!(
            "lease_id = ANY($1) AND phase = 'bound'
                AND EXISTS (SELECT FROM worker_lock WHERE name = $2 AND owner = $3 AND epoch = $4 AND held_until > now())
                AND NOT EXISTS (SELECT FROM operation o
                  WHERE o.lease_id = lease.lease_id AND (o.settled_at IS NULL OR o.settled_at >= to_timestamp($5)))",
            &ids,
            lock.work.name(),
            lock.owner,
            lock.epoch,
            start.0
        )
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
    }
}
