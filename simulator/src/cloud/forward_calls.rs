//! The actions on forward entries: describe, create, modify, delete.

use std::{fmt::Display, net::Ipv4Addr};

use serde_json::json;

use super::{
    Cloud, EipStatus, EntryStatus, ForwardEntry, Outcome, Ports, Protocol, Target,
    dispatch::Context, resources::Gateway,
};
use crate::{params::Params, refusal::Refusal};

impl Cloud {
    pub(super) fn describe_forward_table_entries(&mut self, context: &Context<'_>) -> Outcome {
        let params = context.params;
        let page = params.get_page(50)?;
        let table = match (params.get("ForwardTableId"), params.get("NatGatewayId")) {
            (Some(table), _) => Some(self.gateway_of_table(table)?.table.clone()),
            (None, Some(gateway)) => {
                self.gateways.get(gateway).map(|gateway| gateway.table.clone())
            }
            (None, None) => return Err(Refusal::missing_parameter("ForwardTableId")),
        };
        let is = |name: &str, value: &dyn Display| {
            params.get(name).is_none_or(|wanted| wanted.eq_ignore_ascii_case(&value.to_string()))
        };
        let shown = self.entries.values().filter(|entry| {
            Some(&entry.table) == table.as_ref()
                && params.get("NatGatewayId").is_none_or(|id| {
                    self.gateways.get(id).is_some_and(|it| it.table == entry.table)
                })
                && params.get("ForwardEntryName").is_none_or(|name| name == entry.name)
                && is("ForwardEntryId", &entry.id)
                && is("ExternalIp", &entry.external_ip)
                && is("ExternalPort", &entry.external_ports)
                && is("InternalIp", &entry.internal_ip)
                && is("InternalPort", &entry.internal_ports)
                && is("IpProtocol", &entry.protocol)
        });
        Ok(page.wrap_items(shown.collect(), "ForwardTableEntries", "ForwardTableEntry", |entry| {
            self.entry_json(entry)
        }))
    }

    pub(super) fn create_forward_entry(&mut self, context: &Context<'_>) -> Outcome {
        let params = context.params;
        let blank = ForwardEntry {
            id: String::new(),
            table: params.get_required("ForwardTableId")?.to_owned(),
            name: String::new(),
            external_ip: Ipv4Addr::UNSPECIFIED,
            external_ports: Ports::Any,
            internal_ip: Ipv4Addr::UNSPECIFIED,
            internal_ports: Ports::Any,
            protocol: Protocol::Any,
            port_break: false,
            status: EntryStatus::Pending,
            settles_at: None,
        };
        let mut entry = with_params(blank, params)?;
        let gateway = self.gateway_of_table(&entry.table)?;
        let gateway_id = gateway.id.clone();
        self.check_writable(gateway)?;
        self.check_entry(&entry, gateway)?;
        let present = self.entries.values().filter(|other| other.table == entry.table).count();
        if present >= gateway.entry_quota.unwrap_or(self.quotas.entries_per_gateway) {
            return Err(Refusal::bad_request(
                "QuotaExceeded",
                "Forward entry quota exceeded in this route table.",
            ));
        }
        entry.id = self.next_id("fwd");
        let id = entry.id.clone();
        self.entries.insert(id.clone(), entry);
        self.start_entry(&id, EntryStatus::Pending, self.pace.entry_pending);
        self.hold_gateway(&gateway_id, context.answered_at);
        Ok(json!({"ForwardEntryId": id}))
    }

    pub(super) fn modify_forward_entry(&mut self, context: &Context<'_>) -> Outcome {
        let params = context.params;
        let gateway = self.gateway_of_table(params.get_required("ForwardTableId")?)?;
        let gateway_id = gateway.id.clone();
        let id = params.get_required("ForwardEntryId")?;
        let old = self
            .entries
            .get(id)
            .filter(|entry| entry.table == gateway.table)
            .ok_or_else(no_such_entry)?;
        self.check_writable(gateway)?;
        check_stable(old)?;
        let entry = with_params(old.clone(), params)?;
        self.check_entry(&entry, gateway)?;
        self.entries.insert(entry.id.clone(), entry);
        self.start_entry(id, EntryStatus::Pending, self.pace.entry_pending);
        self.hold_gateway(&gateway_id, context.answered_at);
        Ok(json!({}))
    }

    pub(super) fn delete_forward_entry(&mut self, context: &Context<'_>) -> Outcome {
        let params = context.params;
        let gateway = self.gateway_of_table(params.get_required("ForwardTableId")?)?;
        let gateway_id = gateway.id.clone();
        let id = params.get_required("ForwardEntryId")?;
        let Some(entry) = self.entries.get(id).filter(|entry| entry.table == gateway.table) else {
            return Err(self.deletes_nothing());
        };
        self.check_writable(gateway)?;
        check_stable(entry)?;
        self.start_entry(id, EntryStatus::Deleting, self.pace.entry_deleting);
        self.hold_gateway(&gateway_id, context.answered_at);
        Ok(json!({}))
    }

    /// The two answers the API has for deleting what is not there; which one comes is the seed's
    /// choice.
    fn deletes_nothing(&mut self) -> Refusal {
        if self.dice.draw_chance(0.5) {
            return no_such_entry();
        }
        Refusal::bad_request(
            "IncorretForwardEntryStatus",
            "The Specified forwardEntry is not exist",
        )
    }

    /// Everything about an entry that does not depend on when it is made.
    fn check_entry(&self, entry: &ForwardEntry, gateway: &Gateway) -> Result<(), Refusal> {
        check_form(entry)?;
        if !self.topology.vpc.cidr.contains(entry.internal_ip) {
            let message = "Specified internal IP is out of the VPC CIDR.";
            return Err(Refusal::bad_request("Forbidden.DestnationIpOutOfVpcCIDR", message));
        }
        self.check_external(entry.external_ip, &gateway.id)?;
        self.check_beside_snat(entry)?;
        if self.eip_of_private(entry.internal_ip).is_some() {
            return Err(Refusal::bad_request(
                "Forbindden",
                "The specified instance has its own EIP.",
            ));
        }
        self.check_unique(entry)
    }

    fn check_beside_snat(&self, entry: &ForwardEntry) -> Result<(), Refusal> {
        let shares = !entry.external_ports.is_any()
            && (entry.port_break || entry.external_ports.highest() <= HIGHEST_SHARED);
        if shares || !self.is_snat_source(entry.external_ip) {
            return Ok(());
        }
        Err(Refusal::bad_request(
            "Forbidden.ExternalIp.UsedInSnatTable",
            "The specified external IP is used in a SNAT table.",
        ))
    }

    fn check_external(&self, address: Ipv4Addr, gateway: &str) -> Result<(), Refusal> {
        let Some(eip) = self.eip_at(address) else {
            return Err(Refusal::not_found(
                "InvalidExternalIp.NotFound",
                "Specified external IP address is not found.",
            ));
        };
        let bound = eip
            .binding
            .as_ref()
            .is_some_and(|it| it.target == Target::Nat && it.instance_id == gateway);
        match eip.status {
            EipStatus::InUse if bound && self.now >= eip.usable_from => Ok(()),
            EipStatus::InUse | EipStatus::Associating if bound => Err(Refusal::bad_request(
                "OperationUnsupported.EipInBinding",
                "The EIP is being bound to the NAT gateway.",
            )),
            _ => Err(Refusal::bad_request(
                "InvalidIp.NotInNatgw",
                "The specified IP is not bound to the NAT gateway.",
            )),
        }
    }
}

/// Ports up to here may be shared with SNAT; above, an entry needs `PortBreak`.
const HIGHEST_SHARED: u16 = 1024;

/// The entry with the sent parameters in place of its own.
fn with_params(mut entry: ForwardEntry, params: &Params) -> Result<ForwardEntry, Refusal> {
    let malformed = |name: &str| {
        Refusal::bad_request(
            format!("Invalid{name}.Malformed"),
            format!("The specified {name} is malformed."),
        )
    };
    let ports = |name: &str, own: Ports| {
        params.get(name).map_or(Ok(own), |text| text.parse().map_err(|_| malformed(name)))
    };
    entry.external_ip = params
        .get_address("ExternalIp", "InvalidExternalIp.Malformed")?
        .unwrap_or(entry.external_ip);
    entry.internal_ip = params
        .get_address("InternalIp", "InvalidInternalIp.Malformed")?
        .unwrap_or(entry.internal_ip);
    entry.external_ports = ports("ExternalPort", entry.external_ports)?;
    entry.internal_ports = ports("InternalPort", entry.internal_ports)?;
    if let Some(protocol) = params.get("IpProtocol") {
        let refusal = || {
            Refusal::bad_request(
                "InvalidProtocal.ValueNotSupported",
                "The specified protocol is not supported.",
            )
        };
        entry.protocol = protocol.parse().map_err(|_| refusal())?;
    }
    if let Some(name) = params.get("ForwardEntryName") {
        let length = name.chars().count();
        let starts_well = name.chars().next().is_some_and(char::is_alphabetic);
        if !(2..=128).contains(&length)
            || !starts_well
            || name.starts_with("http://")
            || name.starts_with("https://")
        {
            return Err(Refusal::bad_request(
                "InvalidParameter.Name.Malformed",
                "The specified name is malformed.",
            ));
        }
        name.clone_into(&mut entry.name);
    }
    if params.contains_name("PortBreak") {
        entry.port_break = params.get_bool("PortBreak");
    }
    Ok(entry)
}

fn check_form(entry: &ForwardEntry) -> Result<(), Refusal> {
    let all_any = entry.external_ports.is_any() && entry.internal_ports.is_any();
    if (entry.protocol == Protocol::Any) != all_any {
        return Err(Refusal::bad_request(
            "InvalidProtocal.ValueNotSupported",
            "Protocol Any goes with ports Any, and only with them.",
        ));
    }
    if entry.external_ports.count() != entry.internal_ports.count() {
        return Err(Refusal::bad_request(
            "InvalidInternalPort.Malformed",
            "The external and internal port ranges differ in length.",
        ));
    }
    if entry.external_ip == entry.internal_ip {
        return Err(Refusal::bad_request(
            "InvalidInternalIp.Malformed",
            "The internal IP must differ from the external IP.",
        ));
    }
    Ok(())
}

fn check_stable(entry: &ForwardEntry) -> Result<(), Refusal> {
    if entry.status == EntryStatus::Available {
        return Ok(());
    }
    Err(Refusal::bad_request(
        "IncorretForwardEntryStatus",
        "The status of the specified forward entry is not stable.",
    ))
}

fn no_such_entry() -> Refusal {
    Refusal::not_found(
        "InvalidForwardEntryId.NotFound",
        "Specified forward entry ID does not exist.",
    )
}
