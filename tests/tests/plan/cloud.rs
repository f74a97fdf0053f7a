//! The simulator's state machine behind the few calls a worker makes: no socket, and time is an argument.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use simulator::cidr::Cidr;
use simulator::cloud::{Call, Cloud as Machine, Quotas, Settings};
use simulator::params::Params;
use simulator::profile::{Pace, Profile};
use simulator::topology::Topology;
use std::net::Ipv4Addr;
use std::sync::Arc;
use waygate_cloud::{Error, Refusal};
use waygate_core::change::{Answer, Change, Forward};
use waygate_core::facts::{Eip, EipBinding, EipStatus, Eni, ForwardEntry, ForwardEntryStatus};
use waygate_core::ids::{AllocationId, BandwidthPackageId, EniId, ForwardEntryId, ForwardTableId, NatGatewayId, VSwitchId, VpcId, ZoneId};
use waygate_core::lease::Operation;

/// `Name=value` of one call.
type Pairs = Vec<(String, String)>;

/// A gateway with its only EIP.
#[derive(Clone, Debug)]
pub(crate) struct Gateway {
    pub id: NatGatewayId,
    pub table_id: ForwardTableId,
    pub eip: AllocationId,
    pub address: Ipv4Addr,
}

/// A send that is still on its way through the network.
struct Late {
    arrives: Timestamp,
    operation: Operation,
}

/// The cloud, and what has been sent to it and has not arrived.
pub(crate) struct Cloud {
    machine: Machine,
    key: String,
    late: Vec<Late>,
    /// What DNAT has to offer.
    pub gateways: Vec<Gateway>,
    /// Bandwidth package of the topology.
    pub package: BandwidthPackageId,
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
        let package = BandwidthPackageId::new(topology.bandwidth_packages.first().map(|it| it.id.clone()).unwrap_or_default());
        let machine = Machine::new(Settings { topology, pace, quotas: Quotas::default(), seed, start });
        let key = machine.first_access_key().map(|key| key.id.clone()).unwrap_or_default();
        let gateways = machine.gateway_summary().iter().map(gateway).collect();
        Self { machine, key, late: Vec::new(), gateways, package }
    }

    /// Addresses that pods get, the first of which is its interface's primary one.
    pub(crate) fn pod_network(&self) -> Option<Cidr> {
        self.machine.topology().nodes.first().map(|node| node.pod_cidr)
    }

    /// Lets what is on its way arrive; says how much did. Its answer goes to nobody.
    pub(crate) fn arrive(&mut self, now: Timestamp) -> usize {
        self.machine.advance(now);
        let (due, late) = std::mem::take(&mut self.late).into_iter().partition(|it| it.arrives <= now);
        self.late = late;
        let due: Vec<Late> = due;
        for it in &due {
            drop(self.change(it.arrives.max(now), &it.operation));
        }
        due.len()
    }

    /// Sends a change that arrives after a while.
    pub(crate) fn change_later(&mut self, arrives: Timestamp, operation: Operation) {
        self.late.push(Late { arrives, operation });
    }

    /// Whether anything is still on its way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.late.is_empty()
    }

    /// Sends a change; gives the answer and how long it takes.
    pub(crate) fn change(&mut self, now: Timestamp, operation: &Operation) -> (Result<Answer, Error>, SignedDuration) {
        let change = &operation.change;
        let mut pairs = parameters(change);
        if change.takes_token() {
            pairs.push(pair("ClientToken", operation.id));
        }
        let (outcome, latency) = self.call(now, "2016-04-28", change.action(), pairs);
        (outcome.map(|body| answer(&body)).map_err(|refusal| refused(change.action(), &refusal)), latency)
    }

    /// Somebody at the console does something; whether it was possible is theirs to care about.
    pub(crate) fn by_hand(&mut self, action: &str, parameters: &[(&str, String)]) -> Option<Value> {
        self.machine.by_hand(action, &Params::new(parameters.iter().map(|(name, value)| pair(name, value)))).ok()
    }

    pub(crate) fn eip(&mut self, now: Timestamp, id: &AllocationId) -> Option<Eip> {
        self.eips(now, vec![pair("AllocationId", id)]).pop()
    }

    pub(crate) fn eips_by_tag(&mut self, now: Timestamp, key: &str, value: &str) -> Vec<Eip> {
        self.eips(now, vec![pair("Tag.1.Key", key), pair("Tag.1.Value", value)])
    }

    pub(crate) fn all_eips(&mut self, now: Timestamp) -> Vec<Eip> {
        self.eips(now, Vec::new())
    }

    fn eips(&mut self, now: Timestamp, mut pairs: Pairs) -> Vec<Eip> {
        pairs.push(pair("PageSize", 100));
        let body = self.read(now, "2016-04-28", "DescribeEipAddresses", pairs);
        rows(&body, "EipAddresses", "EipAddress").iter().map(eip).collect()
    }

    pub(crate) fn eni(&mut self, now: Timestamp, ip: Ipv4Addr) -> Option<Eni> {
        let body = self.read(now, "2014-05-26", "DescribeNetworkInterfaces", vec![pair("PrivateIpAddress.1", ip)]);
        let shown = rows(&body, "NetworkInterfaceSets", "NetworkInterfaceSet");
        shown.iter().find(|row| owns(row, ip)).map(eni)
    }

    pub(crate) fn entries(&mut self, now: Timestamp, gateway: &NatGatewayId) -> Vec<ForwardEntry> {
        let mut entries = Vec::new();
        for page in 1.. {
            let pairs = vec![pair("NatGatewayId", gateway), pair("PageSize", 50), pair("PageNumber", page)];
            let body = self.read(now, "2016-04-28", "DescribeForwardTableEntries", pairs);
            let shown = rows(&body, "ForwardTableEntries", "ForwardTableEntry");
            entries.extend(shown.iter().map(entry));
            if shown.len() < 50 {
                break;
            }
        }
        entries
    }

    fn read(&mut self, now: Timestamp, version: &str, action: &str, pairs: Pairs) -> Value {
        let (outcome, _) = self.call(now, version, action, pairs);
        outcome.unwrap_or_else(|refusal| unreachable!("{action}: {refusal}"))
    }

    fn call(
        &mut self,
        now: Timestamp,
        version: &str,
        action: &str,
        mut pairs: Pairs,
    ) -> (Result<Value, simulator::refusal::Refusal>, SignedDuration) {
        pairs.push(pair("RegionId", &self.machine.topology().region));
        let params = Params::new(pairs);
        let reply = self.machine.handle(&Call { action, version, params: &params, caller: Some(&self.key) }, now);
        (reply.outcome, SignedDuration::try_from(reply.latency).unwrap_or_default())
    }
}

/// The simulator's refusal in the client's words, so that the client's own table says what it means.
fn refused(action: &'static str, refusal: &simulator::refusal::Refusal) -> Error {
    refused_with(action, refusal.status, &refusal.code, &refusal.message)
}

/// A refusal that never came near the cloud's memory, as a fault makes it.
pub(crate) fn refused_with(action: &'static str, status: u16, code: &str, message: &str) -> Error {
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

fn pair(name: &str, value: impl std::fmt::Display) -> (String, String) {
    (name.to_owned(), value.to_string())
}

fn parameters(change: &Change) -> Pairs {
    let binding = |allocation_id: &AllocationId, eni_id: &EniId, ip: &Ipv4Addr| {
        vec![
            pair("AllocationId", allocation_id),
            pair("InstanceId", eni_id),
            pair("InstanceType", "NetworkInterface"),
            pair("PrivateIpAddress", ip),
        ]
    };
    let member = |allocation_id: &AllocationId, package_id: &BandwidthPackageId| {
        vec![pair("IpInstanceId", allocation_id), pair("BandwidthPackageId", package_id)]
    };
    match change {
        Change::AllocateEipAddress { spec, tags } | Change::AllocateEipAddressPro { spec, tags, .. } => {
            let mut pairs = vec![pair("Bandwidth", spec.bandwidth), pair("InternetChargeType", spec.internet_charge_type.as_str())];
            for (index, (key, value)) in tags.iter().enumerate() {
                pairs.push(pair(&format!("Tag.{}.Key", index + 1), key));
                pairs.push(pair(&format!("Tag.{}.Value", index + 1), value));
            }
            pairs
        }
        Change::AssociateEipAddress { allocation_id, eni_id, private_ip }
        | Change::UnassociateEipAddress { allocation_id, eni_id, private_ip } => binding(allocation_id, eni_id, private_ip),
        Change::ReleaseEipAddress { allocation_id } => vec![pair("AllocationId", allocation_id)],
        Change::ModifyEipAddressAttribute { allocation_id, bandwidth, name, .. } => {
            let mut pairs = vec![pair("AllocationId", allocation_id)];
            pairs.extend(bandwidth.map(|bandwidth| pair("Bandwidth", bandwidth)));
            pairs.extend(name.as_ref().map(|name| pair("Name", name)));
            pairs
        }
        Change::AddCommonBandwidthPackageIp { allocation_id, package_id }
        | Change::RemoveCommonBandwidthPackageIp { allocation_id, package_id } => member(allocation_id, package_id),
        Change::CreateForwardEntry(forward) => forward_pairs(forward),
        Change::ModifyForwardEntry { entry_id, forward } => [forward_pairs(forward), vec![pair("ForwardEntryId", entry_id)]].concat(),
        Change::DeleteForwardEntry { table_id, entry_id } => vec![pair("ForwardTableId", table_id), pair("ForwardEntryId", entry_id)],
    }
}

fn forward_pairs(forward: &Forward) -> Pairs {
    vec![
        pair("ForwardTableId", &forward.table_id),
        pair("ForwardEntryName", &forward.name),
        pair("ExternalIp", forward.external_ip),
        pair("ExternalPort", forward.external_port),
        pair("InternalIp", forward.internal_ip),
        pair("InternalPort", forward.internal_port),
        pair("IpProtocol", forward.protocol.as_str().to_ascii_uppercase()),
    ]
}

fn answer(body: &Value) -> Answer {
    let maybe = |name: &str| body[name].as_str().map(str::to_owned);
    Answer {
        request_id: String::new(),
        allocation_id: maybe("AllocationId").map(AllocationId::new),
        ip_address: body["EipAddress"].as_str().and_then(|text| text.parse().ok()),
        entry_id: maybe("ForwardEntryId").map(ForwardEntryId::new),
    }
}

fn rows<'a>(body: &'a Value, outer: &str, inner: &str) -> &'a [Value] {
    body[outer][inner].as_array().map_or(&[], Vec::as_slice)
}

fn text(row: &Value, name: &str) -> String {
    row[name].as_str().unwrap_or_default().to_owned()
}

fn address(row: &Value, name: &str) -> Ipv4Addr {
    text(row, name).parse().unwrap_or(Ipv4Addr::UNSPECIFIED)
}

fn gateway(row: &Value) -> Gateway {
    Gateway {
        id: NatGatewayId::new(text(row, "natGatewayId")),
        table_id: ForwardTableId::new(text(row, "forwardTableId")),
        eip: AllocationId::new(text(&row["eips"][0], "allocationId")),
        address: address(&row["eips"][0], "ipAddress"),
    }
}

fn eip(row: &Value) -> Eip {
    let present = |name: &str| Some(text(row, name)).filter(|text| !text.is_empty());
    let tags = rows(row, "Tags", "Tag").iter().map(|tag| (text(tag, "Key"), text(tag, "Value")));
    Eip {
        allocation_id: AllocationId::new(text(row, "AllocationId")),
        ip_address: address(row, "IpAddress"),
        status: match text(row, "Status").as_str() {
            "Available" => EipStatus::Available,
            "Associating" => EipStatus::Associating,
            "InUse" => EipStatus::InUse,
            "Unassociating" => EipStatus::Unassociating,
            "Releasing" => EipStatus::Releasing,
            _ => EipStatus::Other,
        },
        binding: present("InstanceId").map(|instance_id| EipBinding {
            instance_type: text(row, "InstanceType"),
            instance_id,
            private_ip: text(row, "PrivateIpAddress").parse().ok(),
        }),
        description: text(row, "Description"),
        bandwidth_package: present("BandwidthPackageId").map(BandwidthPackageId::new),
        bandwidth: text(row, "Bandwidth").parse().unwrap_or_default(),
        internet_charge_type: text(row, "InternetChargeType"),
        charge_type: text(row, "ChargeType"),
        expires_at: text(row, "ExpiredTime").parse().ok(),
        isp: text(row, "ISP"),
        resource_group_id: text(row, "ResourceGroupId"),
        name: text(row, "Name"),
        public_ip_address_pool_id: String::new(),
        tags: tags.collect(),
    }
}

fn owns(row: &Value, ip: Ipv4Addr) -> bool {
    let listed = rows(row, "PrivateIpSets", "PrivateIpSet").iter().any(|set| address(set, "PrivateIpAddress") == ip);
    listed || address(row, "PrivateIpAddress") == ip
}

fn eni(row: &Value) -> Eni {
    Eni {
        eni_id: EniId::new(text(row, "NetworkInterfaceId")),
        vswitch_id: VSwitchId::new(text(row, "VSwitchId")),
        zone_id: ZoneId::new(text(row, "ZoneId")),
        vpc_id: VpcId::new(text(row, "VpcId")),
        primary_ip: address(row, "PrivateIpAddress"),
        associated: std::collections::BTreeMap::new(),
    }
}

fn entry(row: &Value) -> ForwardEntry {
    ForwardEntry {
        entry_id: ForwardEntryId::new(text(row, "ForwardEntryId")),
        table_id: ForwardTableId::new(text(row, "ForwardTableId")),
        name: text(row, "ForwardEntryName"),
        external_ip: address(row, "ExternalIp"),
        external_port: text(row, "ExternalPort"),
        internal_ip: address(row, "InternalIp"),
        internal_port: text(row, "InternalPort"),
        ip_protocol: text(row, "IpProtocol").to_ascii_lowercase(),
        status: match text(row, "Status").as_str() {
            "Pending" => ForwardEntryStatus::Pending,
            "Available" => ForwardEntryStatus::Available,
            "Deleting" => ForwardEntryStatus::Deleting,
            _ => ForwardEntryStatus::Other,
        },
    }
}
