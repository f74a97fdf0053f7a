//! Forward entries: the DNAT rules of a gateway.
//!
//! ```text
//! (created) ─▶ Pending ─▶ Available ─▶ Deleting ─▶ gone
//!                 ▲───modified───┘
//! ```
//! Invariant: on one gateway no two entries overlap in (external address, ports, protocol) nor in
//! (internal address, ports, protocol).

use jiff::Timestamp;
use serde_json::{Value, json};

use super::resources::{EntryStatus, ForwardEntry};
use super::{Cloud, timeline::Event};
use crate::{profile::Span, refusal::Refusal};

impl Cloud {
    /// Starts a passing state that ends after a time drawn from `span`.
    pub(super) fn start_entry(&mut self, id: &str, status: EntryStatus, span: Span) {
        let settles_at = self.now + self.draw_duration(span);
        if let Some(entry) = self.entries.get_mut(id) {
            entry.status = status;
            entry.settles_at = Some(settles_at);
            self.timeline.push_event(settles_at, Event::Entry(id.to_owned()));
        }
    }

    pub(super) fn settle_entry(&mut self, id: &str, due: Timestamp) {
        let Some(entry) = self.entries.get_mut(id).filter(|entry| entry.settles_at == Some(due))
        else {
            return;
        };
        entry.settles_at = None;
        match entry.status {
            EntryStatus::Pending => entry.status = EntryStatus::Available,
            EntryStatus::Deleting => {
                self.entries.remove(id);
            }
            EntryStatus::Available => {}
        }
    }

    /// Refuses an entry that would share a tuple, or an address mapped whole, with another of its
    /// table.
    pub(super) fn check_unique(&self, new: &ForwardEntry) -> Result<(), Refusal> {
        let others =
            self.entries.values().filter(|other| other.table == new.table && other.id != new.id);
        for other in others.filter(|other| other.protocol.overlaps(new.protocol)) {
            if other.external_ip == new.external_ip
                && other.external_ports.overlaps(new.external_ports)
            {
                return Err(Refusal::bad_request(
                    "OperationUnsupported.ForwardEntry",
                    "The external IP, port and protocol are already in use.",
                ));
            }
            if other.internal_ip == new.internal_ip
                && other.internal_ports.overlaps(new.internal_ports)
            {
                return Err(Refusal::bad_request(
                    "Forbidden.Already.Bounded",
                    "The internal IP, port and protocol are already in use.",
                ));
            }
        }
        Ok(())
    }

    /// The entry as DescribeForwardTableEntries shows it.
    pub(super) fn entry_json(&self, entry: &ForwardEntry) -> Value {
        let gateway = self.gateway_of_table(&entry.table).map_or("", |gateway| gateway.id.as_str());
        let protocol = entry.protocol.to_string();
        json!({
            "ForwardEntryId": entry.id, "ForwardTableId": entry.table, "NatGatewayId": gateway,
            "ForwardEntryName": entry.name, "ExternalIp": entry.external_ip, "ExternalPort": entry.external_ports.to_string(),
            "InternalIp": entry.internal_ip, "InternalPort": entry.internal_ports.to_string(),
            "IpProtocol": if self.pace.quirks { protocol.to_ascii_lowercase() } else { protocol }, "Status": entry.status.as_str(),
        })
    }
}
