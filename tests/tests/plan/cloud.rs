//! The simulator's state machine behind the few calls a worker makes: no socket, and time is an
//! argument.

use crate::cloud_reads;
use crate::port_ledger::PortLedger;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use simulator::cidr::Cidr;
use simulator::cloud::{Call, Cloud as Machine, EntryStatus, Quotas, Settings};
use simulator::params::Params;
use simulator::profile::{Pace, Profile};
use simulator::topology::Topology;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use waygate_cloud::{Error, Refusal};
use waygate_core::change::{Answer, Change, ForwardEntrySpec};
use waygate_core::ids::{
    AllocationId, BandwidthPackageId, EniId, ForwardEntryId, ForwardTableId, NatGatewayId,
};
use waygate_core::operation::Operation;
use waygate_core::request::{EipSpec, InstanceChargeType};

/// `Name=value` of one call.
pub(crate) type Pairs = Vec<(String, String)>;

/// A gateway, and an EIP on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gateway {
    pub id: NatGatewayId,
    pub table_id: ForwardTableId,
    pub eip: AllocationId,
    pub address: Ipv4Addr,
}

/// A send that is still on its way through the network.
struct LateCall {
    arrives: Timestamp,
    operation: Operation,
}

/// The cloud, and what has been sent to it and has not arrived.
pub(crate) struct Cloud {
    machine: Machine,
    key: String,
    late: Vec<LateCall>,
    /// True if gateways take no change while one of their entries is changing.
    pub strict: bool,
    /// The gateways of the configuration, each with the EIP it has at the beginning.
    pub gateways: Vec<Gateway>,
    /// Bandwidth package of the topology.
    pub package: BandwidthPackageId,
    /// Leases by the external ports that they have used.
    pub ledger: PortLedger,
    /// A port that was given on too soon.
    pub reused: Option<String>,
}

impl Cloud {
    pub(crate) fn new(strict: bool, seed: u64, start: Timestamp) -> Self {
        let profile = if strict { Profile::Strict } else { Profile::Realistic };
        // Rates are the client's business; the plan meets throttling as a fault.
        let pace = Pace { rates: &[], ..profile.pace() };
        let mut topology = Topology::built_in();
        topology.nodes.truncate(1);
        for gateway in &mut topology.nat_gateways {
            gateway.eips = simulator::topology::Eips::Count(1);
        }
        let package = BandwidthPackageId::new(
            topology.bandwidth_packages.first().map(|it| it.id.clone()).unwrap_or_default(),
        );
        let machine =
            Machine::new(Settings { topology, pace, quotas: Quotas::default(), seed, start });
        let key = machine.first_access_key().map(|key| key.id.clone()).unwrap_or_default();
        let gateways = machine.gateway_summary().iter().map(cloud_reads::parse_gateway).collect();
        Self {
            machine,
            key,
            late: Vec::new(),
            strict,
            gateways,
            package,
            ledger: PortLedger::default(),
            reused: None,
        }
    }

    /// Addresses that pods get, the first of which is its interface's primary one.
    pub(crate) fn pod_network(&self) -> Option<Cidr> {
        self.machine.topology().nodes.first().map(|node| node.pod_cidr)
    }

    /// Things in the console that no action of the API does.
    pub(crate) fn console_access(&mut self) -> &mut Machine {
        &mut self.machine
    }

    /// Everything in it, as it is at this moment.
    pub(crate) fn at_time(&mut self, now: Timestamp) -> &Machine {
        self.machine.advance_to(now);
        &self.machine
    }

    /// True if all entries of the gateway are Available.
    pub(crate) fn is_settled(&mut self, now: Timestamp, gateway: &NatGatewayId) -> bool {
        let machine = self.at_time(now);
        let table = machine.forward_table(gateway.as_str());
        let mut entries =
            machine.forward_entries().filter(|entry| Some(entry.table.as_str()) == table);
        entries.all(|entry| entry.status == EntryStatus::Available)
    }

    /// Forbids the account an action, such as `vpc:ModifyForwardEntry`.
    pub(crate) fn deny_action(&mut self, action: &str) {
        if let Ok(key) = self.machine.access_key_mut(&self.key) {
            key.denied.push(action.to_owned());
        }
    }

    /// Lets late calls arrive, and counts them. Their answers are lost.
    pub(crate) fn deliver_late_calls(&mut self, now: Timestamp) -> usize {
        self.machine.advance_to(now);
        let (due, late) =
            std::mem::take(&mut self.late).into_iter().partition(|it| it.arrives <= now);
        self.late = late;
        let due: Vec<LateCall> = due;
        for it in &due {
            drop(self.send_change(it.arrives.max(now), &it.operation));
        }
        due.len()
    }

    /// Sends a change that arrives after a while.
    pub(crate) fn send_late(&mut self, arrives: Timestamp, operation: Operation) {
        self.late.push(LateCall { arrives, operation });
    }

    /// True if no call is still in the network.
    pub(crate) fn has_no_late_calls(&self) -> bool {
        self.late.is_empty()
    }

    /// Sends a change; gives the answer and how long it takes.
    pub(crate) fn send_change(
        &mut self,
        now: Timestamp,
        operation: &Operation,
    ) -> (Result<Answer, Error>, SignedDuration) {
        let change = &operation.change;
        let mut pairs = change_parameters(change);
        if change.takes_token() {
            pairs.push(parameter("ClientToken", operation.id));
        }
        let (outcome, latency) = self.call_machine(now, "2016-04-28", change.action(), pairs);
        if change.action().ends_with("ForwardEntry") {
            self.update_ledger(now);
        }
        (
            outcome
                .map(|body| parse_answer(&body))
                .map_err(|refusal| to_client_error(change.action(), &refusal)),
            latency,
        )
    }

    /// Changes the cloud as an operator at its console would; a refusal is ignored.
    pub(crate) fn change_at_console(
        &mut self,
        action: &str,
        parameters: &[(&str, String)],
    ) -> Option<Value> {
        self.machine.apply_as_console(action, &console_params(parameters)).ok()
    }

    /// The ledger is brought up to date.
    pub(crate) fn update_ledger(&mut self, now: Timestamp) {
        self.machine.advance_to(now);
        let reused = self.ledger.record_entries(now, self.machine.forward_entries());
        self.reused = self.reused.take().or(reused);
    }

    pub(crate) fn call_machine(
        &mut self,
        now: Timestamp,
        version: &str,
        action: &str,
        mut pairs: Pairs,
    ) -> (Result<Value, simulator::refusal::Refusal>, SignedDuration) {
        pairs.push(parameter("RegionId", &self.machine.topology().region));
        let params = Params::new(pairs);
        let reply = self
            .machine
            .handle_call(&Call { action, version, params: &params, caller: Some(&self.key) }, now);
        (reply.outcome, SignedDuration::try_from(reply.latency).unwrap_or_default())
    }
}

/// Parameters of a change at the console.
pub(crate) fn console_params(parameters: &[(&str, String)]) -> Params {
    Params::new(parameters.iter().map(|(name, value)| parameter(name, value)))
}

/// The simulator's refusal in the client's words, so that the client's own table says what it
/// means.
fn to_client_error(action: &'static str, refusal: &simulator::refusal::Refusal) -> Error {
    refuse_with(action, refusal.status, &refusal.code, &refusal.message)
}

/// A refusal that never came near the cloud's memory, as a fault makes it.
pub(crate) fn refuse_with(action: &'static str, status: u16, code: &str, message: &str) -> Error {
    Error::Refused(Arc::new(Refusal {
        action,
        status,
        code: code.to_owned(),
        message: message.to_owned(),
        request_id: String::new(),
        denied_action: None,
        retry_after: None,
    }))
}

pub(crate) fn parameter(name: &str, value: impl std::fmt::Display) -> (String, String) {
    (name.to_owned(), value.to_string())
}

fn change_parameters(change: &Change) -> Pairs {
    let binding = |allocation_id: &AllocationId, eni_id: &EniId, ip: &Ipv4Addr| {
        vec![
            parameter("AllocationId", allocation_id),
            parameter("InstanceId", eni_id),
            parameter("InstanceType", "NetworkInterface"),
            parameter("PrivateIpAddress", ip),
        ]
    };
    let member = |allocation_id: &AllocationId, package_id: &BandwidthPackageId| {
        vec![parameter("IpInstanceId", allocation_id), parameter("BandwidthPackageId", package_id)]
    };
    match change {
        Change::AllocateEipAddressPro { ip_address, spec, tags } => {
            [allocation_parameters(spec, tags), vec![parameter("IpAddress", ip_address)]].concat()
        }
        Change::AllocateEipAddress { spec, tags } => allocation_parameters(spec, tags),
        Change::AssociateEipAddress { allocation_id, eni_id, private_ip }
        | Change::UnassociateEipAddress { allocation_id, eni_id, private_ip } => {
            binding(allocation_id, eni_id, private_ip)
        }
        Change::ReleaseEipAddress { allocation_id } => {
            vec![parameter("AllocationId", allocation_id)]
        }
        Change::ModifyEipAddressAttribute { allocation_id, bandwidth, name, .. } => {
            let mut pairs = vec![parameter("AllocationId", allocation_id)];
            pairs.extend(bandwidth.map(|bandwidth| parameter("Bandwidth", bandwidth)));
            pairs.extend(name.as_ref().map(|name| parameter("Name", name)));
            pairs
        }
        Change::AddCommonBandwidthPackageIp { allocation_id, package_id }
        | Change::RemoveCommonBandwidthPackageIp { allocation_id, package_id } => {
            member(allocation_id, package_id)
        }
        Change::CreateForwardEntry(forward) => forward_parameters(forward),
        Change::ModifyForwardEntry { entry_id, forward } => {
            [forward_parameters(forward), vec![parameter("ForwardEntryId", entry_id)]].concat()
        }
        Change::DeleteForwardEntry { table_id, entry_id } => {
            vec![parameter("ForwardTableId", table_id), parameter("ForwardEntryId", entry_id)]
        }
    }
}

fn allocation_parameters(spec: &EipSpec, tags: &BTreeMap<String, String>) -> Pairs {
    let mut pairs = vec![
        parameter("Bandwidth", spec.bandwidth),
        parameter("InternetChargeType", spec.internet_charge_type.as_str()),
        parameter("InstanceChargeType", spec.instance_charge_type.as_str()),
    ];
    if spec.instance_charge_type == InstanceChargeType::PrePaid {
        pairs.extend([
            parameter("PricingCycle", "Month"),
            parameter("Period", 1),
            parameter("AutoPay", true),
        ]);
    }
    for (index, (key, value)) in tags.iter().enumerate() {
        pairs.push(parameter(&format!("Tag.{}.Key", index + 1), key));
        pairs.push(parameter(&format!("Tag.{}.Value", index + 1), value));
    }
    pairs
}

fn forward_parameters(forward: &ForwardEntrySpec) -> Pairs {
    let mut pairs = vec![
        parameter("ForwardTableId", &forward.table_id),
        parameter("ForwardEntryName", &forward.name),
        parameter("ExternalIp", forward.external_ip),
        parameter("ExternalPort", forward.external_ports()),
        parameter("InternalIp", forward.internal_ip),
        parameter("InternalPort", forward.internal_ports()),
        parameter("IpProtocol", forward.protocol.as_str().to_ascii_uppercase()),
    ];
    pairs.extend(forward.port_break.then(|| parameter("PortBreak", true)));
    pairs
}

fn parse_answer(body: &Value) -> Answer {
    let maybe = |name: &str| body[name].as_str().map(str::to_owned);
    Answer {
        request_id: String::new(),
        allocation_id: maybe("AllocationId").map(AllocationId::new),
        ip_address: body["EipAddress"].as_str().and_then(|text| text.parse().ok()),
        entry_id: maybe("ForwardEntryId").map(ForwardEntryId::new),
    }
}
