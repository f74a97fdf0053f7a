//! SNAT entries, which share a gateway's addresses with DNAT. Only the console makes them.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::resources::SnatEntry;
use super::{Cloud, Outcome, dispatch::Context};
use crate::{params::Params, refusal::Refusal};

impl Cloud {
    pub(super) fn is_snat_source(&self, address: Ipv4Addr) -> bool {
        self.snat.values().any(|entry| entry.addresses.contains(&address))
    }

    pub(super) fn snat_of<'a>(&'a self, gateway: &'a str) -> impl Iterator<Item = &'a SnatEntry> {
        self.snat.values().filter(move |entry| entry.gateway == gateway)
    }

    pub(super) fn drop_snat_of(&mut self, address: Ipv4Addr) {
        self.snat.retain(|_, entry| !entry.addresses.contains(&address));
    }

    pub(super) fn drop_snat_of_gateway(&mut self, gateway: &str) {
        self.snat.retain(|_, entry| entry.gateway != gateway);
    }

    /// The console's hand: `NatGatewayId`, `SnatIp` (commas) and `SourceCIDR` or `SourceVSwitchId`.
    pub fn create_snat_entry(&mut self, params: &Params) -> Outcome {
        let gateway = params.get_required("NatGatewayId")?;
        let parse =
            |text: &str| text.parse::<Ipv4Addr>().map_err(|_| Refusal::invalid_parameter("SnatIp"));
        let addresses =
            params.get_required("SnatIp")?.split(',').map(parse).collect::<Result<Vec<_>, _>>()?;
        if !addresses
            .iter()
            .all(|address| self.eip_at(*address).is_some_and(|eip| eip.is_on(gateway)))
        {
            return Err(Refusal::bad_request(
                "InvalidIp.NotInNatgw",
                "The specified IP is not bound to the NAT gateway.",
            ));
        }
        let entry = SnatEntry {
            id: self.next_id("snat"),
            gateway: gateway.to_owned(),
            addresses,
            source_cidr: params.get_or_empty("SourceCIDR"),
            source_v_switch: params.get_or_empty("SourceVSwitchId"),
        };
        let answer = json!({"SnatEntryId": entry.id});
        self.snat.insert(entry.id.clone(), entry);
        Ok(answer)
    }

    /// Deletes an SNAT entry, as an operator at the console does.
    pub fn delete_snat_entry(&mut self, params: &Params) -> Outcome {
        let removed = self.snat.remove(params.get_required("SnatEntryId")?);
        removed.map(|_| json!({})).ok_or_else(|| {
            Refusal::not_found("InvalidSnatEntryId.NotFound", "There is no such SNAT entry.")
        })
    }

    pub(super) fn describe_snat_table_entries(&mut self, context: &Context<'_>) -> Outcome {
        let params = context.params;
        let page = params.get_page(50)?;
        let rows = self.snat_json();
        let is =
            |row: &Value, name: &str| params.get(name).is_none_or(|wanted| row[name] == wanted);
        let filters = [
            "SnatTableId",
            "NatGatewayId",
            "SnatEntryId",
            "SnatIp",
            "SourceCIDR",
            "SourceVSwitchId",
            "SnatEntryName",
        ];
        let shown =
            rows.into_iter().filter(|row| filters.iter().all(|name| is(row, name))).collect();
        Ok(page.wrap_items(shown, "SnatTableEntries", "SnatTableEntry", |row| row))
    }

    pub(super) fn snat_json(&self) -> Vec<Value> {
        let one = |entry: &SnatEntry| {
            let table =
                self.gateways.get(&entry.gateway).map_or("", |gateway| gateway.snat_table.as_str());
            let addresses: Vec<String> = entry.addresses.iter().map(Ipv4Addr::to_string).collect();
            json!({
                "SnatEntryId": entry.id, "SnatTableId": table, "NatGatewayId": entry.gateway, "SnatIp": addresses.join(","),
                "SourceCIDR": entry.source_cidr, "SourceVSwitchId": entry.source_v_switch, "SnatEntryName": "",
                "Status": "Available", "EipAffinity": "0", "NetworkInterfaceId": "",
            })
        };
        self.snat.values().map(one).collect()
    }
}
