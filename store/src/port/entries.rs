//! Forward entries on a lease's ports: its own, foreign, or removed.

use crate::claimed::{Claimed, ensure_claim_held, write_under_claim};
use crate::columns::port_key_columns;
use crate::error::Error;
use std::time::Duration;
use waygate_core::ids::ForwardEntryId;
use waygate_core::lease::{PortKey, PortSpan};
use waygate_core::request::Protocol;

impl Claimed<'_> {
    /// Records the entry that a read showed on a range of ports.
    pub async fn record_entry(&self, range: &PortKey, entry: &ForwardEntryId) -> Result<(), Error> {
        let (eip, proto, range_start) = port_key_columns(range);
        write_under_claim!(
            self,
            "WITH l AS MATERIALIZED (SELECT lease_id FROM lease WHERE lease_id = $1 AND owner = $2 AND epoch = $3 FOR UPDATE)
             UPDATE port SET entry_id = $7, deleted = false
             FROM l WHERE port.lease_id = l.lease_id AND port.allocation_id = $4 AND port.proto = $5 AND port.range_start = $6",
            eip,
            proto,
            range_start,
            entry.as_str(),
        )
    }

    /// Marks ports as foreign: they carry a foreign entry, and no lease gets them while it exists.
    /// The lease loses those that it had; the rest of their range becomes one or two entries to
    /// create anew.
    pub async fn mark_foreign(&self, span: &PortSpan) -> Result<(), Error> {
        let (first, last) = (i32::from(*span.ports.start()), i32::from(*span.ports.end()));
        let marked = sqlx::query_file_scalar!(
            "src/queries/mark_foreign_ports.sql",
            self.claim.lease_id.0,
            self.claim.owner,
            self.claim.epoch,
            span.allocation_id.as_str(),
            span.protocol.map(Protocol::ip_protocol_number),
            first,
            last,
        )
        .fetch_one(&self.store.pool)
        .await?;
        ensure_claim_held(marked.unsigned_abs())
    }

    /// Releases the ports of a range after its entry is proven gone. No lease gets them during
    /// `cooldown`, so that late packets of old clients do not reach another pod.
    pub async fn start_cooldown(&self, range: &PortKey, cooldown: Duration) -> Result<(), Error> {
        let (eip, proto, range_start) = port_key_columns(range);
        write_under_claim!(
            self,
            "WITH l AS MATERIALIZED (SELECT lease_id FROM lease WHERE lease_id = $1 AND owner = $2 AND epoch = $3 FOR UPDATE)
             UPDATE port SET state = 'cooldown', lease_id = NULL, range_start = NULL, target_port = NULL, private_ip = NULL, entry_id = NULL, deleted = false,
               cooldown_until = now() + make_interval(secs => $7)
             FROM l WHERE port.lease_id = l.lease_id AND port.allocation_id = $4 AND port.proto = $5 AND port.range_start = $6",
            eip,
            proto,
            range_start,
            cooldown.as_secs_f64(),
        )
    }
}
