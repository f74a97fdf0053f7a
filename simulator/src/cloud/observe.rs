//! The observer's view: all resources, with the API's field names, not paged and without its
//! quirks.

use serde_json::{Value, json};

use super::{Cloud, Eip, ForwardEntry};

impl Cloud {
    /// All of it, as the admin's `GET /state` shows it.
    pub fn state(&self) -> Value {
        let eips = self.eips.values().map(|eip| {
            let private = eip.binding.as_ref().and_then(|binding| binding.private_address);
            self.eip_json(eip, &private.map(|address| address.to_string()).unwrap_or_default())
        });
        json!({
            "now": self.now.to_string(),
            "quotas": {
                "eips": self.quotas.eips, "entriesPerGateway": self.quotas.entries_per_gateway,
                "eipsPerGateway": self.quotas.eips_per_gateway,
            },
            "eips": eips.collect::<Vec<_>>(),
            "forwardEntries": self.entries.values().map(|entry| self.entry_json(entry)).collect::<Vec<_>>(),
            "natGateways": self.gateways.values().map(|gateway| self.gateway_json(gateway)).collect::<Vec<_>>(),
            "networkInterfaces": self.interfaces_json(),
            "snatEntries": self.snat_json(),
            "bandwidthPackages": self.packages_json(),
        })
    }

    /// All EIPs, in the order of their allocation.
    pub fn eips(&self) -> impl Iterator<Item = &Eip> {
        self.eips.values()
    }

    /// All forward entries, in the order of their making.
    pub fn forward_entries(&self) -> impl Iterator<Item = &ForwardEntry> {
        self.entries.values()
    }

    /// The DNAT table of a gateway that is there.
    pub fn forward_table(&self, gateway: &str) -> Option<&str> {
        self.gateways.get(gateway).map(|gateway| gateway.table.as_str())
    }

    /// Returns the number of entries that an existing gateway may have.
    pub fn entry_quota(&self, gateway: &str) -> Option<usize> {
        Some(self.gateways.get(gateway)?.entry_quota.unwrap_or(self.quotas.entries_per_gateway))
    }

    /// The gateways of the ready line: ids, tables, zones and EIPs.
    pub fn gateway_summary(&self) -> Vec<Value> {
        let eips = |id: &str| -> Vec<Value> {
            self.eips_on(id)
                .map(|eip| json!({"allocationId": eip.id, "ipAddress": eip.address}))
                .collect()
        };
        let gateways = self.gateways.values();
        gateways.map(|it| json!({"natGatewayId": it.id, "forwardTableId": it.table, "zoneId": it.zone, "eips": eips(&it.id)})).collect()
    }
}
