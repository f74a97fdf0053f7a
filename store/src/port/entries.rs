//! Forward entries on a lease's ports: its own, foreign, or removed.

use crate::claimed::{Claimed, fenced, write_fenced};
use crate::columns::key;
use crate::error::Error;
use std::time::Duration;
use waygate_core::ids::ForwardEntryId;
use waygate_core::lease::{PortKey, PortSpan};
use waygate_core::request::Protocol;

impl Claimed<'_> {
    /// Records the entry that a read showed on a range of ports.
    pub async fn note_entry(&self, run: &PortKey, entry: &ForwardEntryId) -> Result<(), Error> {
        let (eip, proto, head) = key(run);
        write_fenced!(
            self,
            "WITH l AS MATERIALIZED (SELECT lease_id FROM lease WHERE lease_id = $1 AND owner = $2 AND epoch = $3 FOR UPDATE)
             UPDATE port SET entry_id = $7, deleted = false
             FROM l WHERE port.lease_id = l.lease_id AND port.allocation_id = $4 AND port.proto = $5 AND port.head = $6",
            eip,
            proto,
            head,
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
            span.protocol.map(Protocol::number),
            first,
            last,
        )
        .fetch_one(&self.store.pool)
        .await?;
        fenced(marked.unsigned_abs())
    }

    /// Releases the ports of a range after its entry is proven gone. No lease gets them during
    /// `quiet`, so that late packets of old clients do not reach another pod.
    pub async fn quiet_port(&self, run: &PortKey, quiet: Duration) -> Result<(), Error> {
        let (eip, proto, head) = key(run);
        write_fenced!(
            self,
            "WITH l AS MATERIALIZED (SELECT lease_id FROM lease WHERE lease_id = $1 AND owner = $2 AND epoch = $3 FOR UPDATE)
             UPDATE port SET state = 'quiet', lease_id = NULL, head = NULL, target = NULL, private_ip = NULL, entry_id = NULL, deleted = false,
               quiet_until = now() + make_interval(secs => $7)
             FROM l WHERE port.lease_id = l.lease_id AND port.allocation_id = $4 AND port.proto = $5 AND port.head = $6",
            eip,
            proto,
            head,
            quiet.as_secs_f64(),
        )
    }
}
