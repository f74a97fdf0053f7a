//! Reads of the cloud, as a worker makes them.

use crate::cloud::{Cloud, Gateway, Pairs, pair};
use jiff::Timestamp;
use serde_json::Value;
use simulator::cloud::{EntryStatus, ForwardEntry as Entry};
use std::net::Ipv4Addr;
use waygate_core::facts::{Eip, EipBinding, EipStatus, Eni, ForwardEntry, ForwardEntryStatus};
use waygate_core::ids::{
    AllocationId, BandwidthPackageId, EniId, ForwardEntryId, ForwardTableId, NatGatewayId,
    VSwitchId, VpcId, ZoneId,
};

/// A gateway as a look at it shows it.
pub(crate) struct Look {
    /// True if the gateway takes changes.
    pub usable: bool,
    /// EIPs of the gateway; true if SNAT uses the address, too.
    pub eips: Vec<(Gateway, bool)>,
}

impl Cloud {
    pub(crate) fn eip(&mut self, now: Timestamp, id: &AllocationId) -> Option<Eip> {
        self.eips(now, vec![pair("AllocationId", id)]).pop()
    }

    pub(crate) fn eips_by_tag(&mut self, now: Timestamp, key: &str, value: &str) -> Vec<Eip> {
        self.eips(now, vec![pair("Tag.1.Key", key), pair("Tag.1.Value", value)])
    }

    fn eips(&mut self, now: Timestamp, mut pairs: Pairs) -> Vec<Eip> {
        pairs.push(pair("PageSize", 100));
        let body = self.read(now, "2016-04-28", "DescribeEipAddresses", pairs);
        rows(&body, "EipAddresses", "EipAddress").iter().map(eip).collect()
    }

    pub(crate) fn eni(&mut self, now: Timestamp, ip: Ipv4Addr) -> Option<Eni> {
        let body = self.read(
            now,
            "2014-05-26",
            "DescribeNetworkInterfaces",
            vec![pair("PrivateIpAddress.1", ip)],
        );
        let shown = rows(&body, "NetworkInterfaceSets", "NetworkInterfaceSet");
        shown.iter().find(|row| owns(row, ip)).map(eni)
    }

    /// All entries of a gateway. Taken from the machine as they stand: written as JSON and read
    /// again they cost half of a history's time.
    pub(crate) fn entries(&mut self, now: Timestamp, gateway: &NatGatewayId) -> Vec<ForwardEntry> {
        let machine = self.at(now);
        let table = machine.forward_table(gateway.as_str());
        machine
            .forward_entries()
            .filter(|entry| Some(entry.table.as_str()) == table)
            .map(entry)
            .collect()
    }

    /// A gateway and its EIPs; none if it is not there.
    pub(crate) fn look(&mut self, now: Timestamp, gateway: &NatGatewayId) -> Option<Look> {
        let body = self.read(
            now,
            "2016-04-28",
            "DescribeNatGateways",
            vec![pair("NatGatewayId", gateway)],
        );
        let row = rows(&body, "NatGateways", "NatGateway").first()?;
        let usable = row["Status"] == "Available" && row["BusinessStatus"] == "Normal";
        let table_id = ForwardTableId::new(
            row["ForwardTableIds"]["ForwardTableId"][0].as_str().unwrap_or_default(),
        );
        let eips = rows(row, "IpLists", "IpList").iter().map(|eip| {
            let snat = matches!(
                eip["UsingStatus"].as_str(),
                Some("UsedBySnatTable" | "UsedByForwardSnatTable")
            );
            let allocation_id = AllocationId::new(text(eip, "AllocationId"));
            (
                Gateway {
                    id: gateway.clone(),
                    table_id: table_id.clone(),
                    eip: allocation_id,
                    address: address(eip, "IpAddress"),
                },
                snat,
            )
        });
        Some(Look { usable, eips: eips.collect() })
    }

    fn read(&mut self, now: Timestamp, version: &str, action: &str, pairs: Pairs) -> Value {
        let (outcome, _) = self.call(now, version, action, pairs);
        outcome.unwrap_or_else(|refusal| unreachable!("{action}: {refusal}"))
    }
}

/// An entry as the API shows it.
pub(crate) fn entry(entry: &Entry) -> ForwardEntry {
    ForwardEntry {
        entry_id: ForwardEntryId::new(&entry.id),
        table_id: ForwardTableId::new(&entry.table),
        name: entry.name.clone(),
        external_ip: entry.external_ip,
        external_port: entry.external_ports.to_string(),
        internal_ip: entry.internal_ip,
        internal_port: entry.internal_ports.to_string(),
        ip_protocol: entry.protocol.to_string().to_ascii_lowercase(),
        status: match entry.status {
            EntryStatus::Pending => ForwardEntryStatus::Pending,
            EntryStatus::Available => ForwardEntryStatus::Available,
            EntryStatus::Deleting => ForwardEntryStatus::Deleting,
        },
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

/// A gateway of the topology, with its first EIP.
pub(crate) fn gateway(row: &Value) -> Gateway {
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
    let listed = rows(row, "PrivateIpSets", "PrivateIpSet")
        .iter()
        .any(|set| address(set, "PrivateIpAddress") == ip);
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
