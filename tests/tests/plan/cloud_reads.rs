//! Reads of the cloud, as a worker makes them.

use crate::cloud::{Cloud, Gateway, Pairs, parameter};
use jiff::Timestamp;
use serde_json::Value;
use simulator::cloud::{EntryStatus, ForwardEntry as Entry};
use std::net::Ipv4Addr;
use waygate_core::cloud_facts::{
    Eip, EipBinding, EipStatus, Eni, ForwardEntry, ForwardEntryStatus,
};
use waygate_core::ids::{
    AllocationId, BandwidthPackageId, EniId, ForwardEntryId, ForwardTableId, NatGatewayId,
    VSwitchId, VpcId, ZoneId,
};

/// A gateway as a look at it shows it.
pub(crate) struct GatewayView {
    /// True if the gateway takes changes.
    pub usable: bool,
    /// EIPs of the gateway; true if SNAT uses the address, too.
    pub eips: Vec<(Gateway, bool)>,
}

impl Cloud {
    pub(crate) fn read_eip(&mut self, now: Timestamp, id: &AllocationId) -> Option<Eip> {
        self.read_eips(now, vec![parameter("AllocationId", id)]).pop()
    }

    pub(crate) fn read_eips_by_tag(&mut self, now: Timestamp, key: &str, value: &str) -> Vec<Eip> {
        self.read_eips(now, vec![parameter("Tag.1.Key", key), parameter("Tag.1.Value", value)])
    }

    /// All EIPs of the account, which are fewer than a page.
    pub(crate) fn list_eips(&mut self, now: Timestamp) -> Vec<Eip> {
        self.read_eips(now, Vec::new())
    }

    fn read_eips(&mut self, now: Timestamp, mut pairs: Pairs) -> Vec<Eip> {
        pairs.push(parameter("PageSize", 100));
        let body = self.call_describe(now, "2016-04-28", "DescribeEipAddresses", pairs);
        list_rows(&body, "EipAddresses", "EipAddress").iter().map(parse_eip).collect()
    }

    pub(crate) fn read_interface(&mut self, now: Timestamp, ip: Ipv4Addr) -> Option<Eni> {
        let body = self.call_describe(
            now,
            "2014-05-26",
            "DescribeNetworkInterfaces",
            vec![parameter("PrivateIpAddress.1", ip)],
        );
        let shown = list_rows(&body, "NetworkInterfaceSets", "NetworkInterfaceSet");
        shown.iter().find(|row| interface_has_ip(row, ip)).map(parse_interface)
    }

    /// All entries of a gateway. Taken from the machine as they stand: written as JSON and read
    /// again they cost half of a history's time.
    pub(crate) fn read_entries(
        &mut self,
        now: Timestamp,
        gateway: &NatGatewayId,
    ) -> Vec<ForwardEntry> {
        let machine = self.at_time(now);
        let table = machine.forward_table(gateway.as_str());
        machine
            .forward_entries()
            .filter(|entry| Some(entry.table.as_str()) == table)
            .map(convert_entry)
            .collect()
    }

    /// A gateway and its EIPs; none if it is not there.
    pub(crate) fn read_gateway(
        &mut self,
        now: Timestamp,
        gateway: &NatGatewayId,
    ) -> Option<GatewayView> {
        let body = self.call_describe(
            now,
            "2016-04-28",
            "DescribeNatGateways",
            vec![parameter("NatGatewayId", gateway)],
        );
        let row = list_rows(&body, "NatGateways", "NatGateway").first()?;
        let usable = row["Status"] == "Available" && row["BusinessStatus"] == "Normal";
        let table_id = ForwardTableId::new(
            row["ForwardTableIds"]["ForwardTableId"][0].as_str().unwrap_or_default(),
        );
        let eips = list_rows(row, "IpLists", "IpList").iter().map(|eip| {
            let snat = matches!(
                eip["UsingStatus"].as_str(),
                Some("UsedBySnatTable" | "UsedByForwardSnatTable")
            );
            let allocation_id = AllocationId::new(row_text(eip, "AllocationId"));
            (
                Gateway {
                    id: gateway.clone(),
                    table_id: table_id.clone(),
                    eip: allocation_id,
                    address: row_address(eip, "IpAddress"),
                },
                snat,
            )
        });
        Some(GatewayView { usable, eips: eips.collect() })
    }

    fn call_describe(
        &mut self,
        now: Timestamp,
        version: &str,
        action: &str,
        pairs: Pairs,
    ) -> Value {
        let (outcome, _) = self.call_machine(now, version, action, pairs);
        outcome.unwrap_or_else(|refusal| unreachable!("{action}: {refusal}"))
    }
}

/// An entry as the API shows it.
pub(crate) fn convert_entry(entry: &Entry) -> ForwardEntry {
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

fn list_rows<'a>(body: &'a Value, outer: &str, inner: &str) -> &'a [Value] {
    body[outer][inner].as_array().map_or(&[], Vec::as_slice)
}

fn row_text(row: &Value, name: &str) -> String {
    row[name].as_str().unwrap_or_default().to_owned()
}

fn row_address(row: &Value, name: &str) -> Ipv4Addr {
    row_text(row, name).parse().unwrap_or(Ipv4Addr::UNSPECIFIED)
}

/// A gateway of the topology, with its first EIP.
pub(crate) fn parse_gateway(row: &Value) -> Gateway {
    Gateway {
        id: NatGatewayId::new(row_text(row, "natGatewayId")),
        table_id: ForwardTableId::new(row_text(row, "forwardTableId")),
        eip: AllocationId::new(row_text(&row["eips"][0], "allocationId")),
        address: row_address(&row["eips"][0], "ipAddress"),
    }
}

fn parse_eip(row: &Value) -> Eip {
    let present = |name: &str| Some(row_text(row, name)).filter(|text| !text.is_empty());
    let tags = list_rows(row, "Tags", "Tag")
        .iter()
        .map(|tag| (row_text(tag, "Key"), row_text(tag, "Value")));
    Eip {
        allocation_id: AllocationId::new(row_text(row, "AllocationId")),
        ip_address: row_address(row, "IpAddress"),
        status: match row_text(row, "Status").as_str() {
            "Available" => EipStatus::Available,
            "Associating" => EipStatus::Associating,
            "InUse" => EipStatus::InUse,
            "Unassociating" => EipStatus::Unassociating,
            "Releasing" => EipStatus::Releasing,
            _ => EipStatus::Other,
        },
        binding: present("InstanceId").map(|instance_id| EipBinding {
            instance_type: row_text(row, "InstanceType"),
            instance_id,
            private_ip: row_text(row, "PrivateIpAddress").parse().ok(),
        }),
        description: row_text(row, "Description"),
        bandwidth_package: present("BandwidthPackageId").map(BandwidthPackageId::new),
        bandwidth: row_text(row, "Bandwidth").parse().unwrap_or_default(),
        internet_charge_type: row_text(row, "InternetChargeType"),
        charge_type: row_text(row, "ChargeType"),
        expires_at: row_text(row, "ExpiredTime").parse().ok(),
        isp: row_text(row, "ISP"),
        resource_group_id: row_text(row, "ResourceGroupId"),
        name: row_text(row, "Name"),
        public_ip_address_pool_id: String::new(),
        tags: tags.collect(),
    }
}

fn interface_has_ip(row: &Value, ip: Ipv4Addr) -> bool {
    let listed = list_rows(row, "PrivateIpSets", "PrivateIpSet")
        .iter()
        .any(|set| row_address(set, "PrivateIpAddress") == ip);
    listed || row_address(row, "PrivateIpAddress") == ip
}

fn parse_interface(row: &Value) -> Eni {
    Eni {
        eni_id: EniId::new(row_text(row, "NetworkInterfaceId")),
        vswitch_id: VSwitchId::new(row_text(row, "VSwitchId")),
        zone_id: ZoneId::new(row_text(row, "ZoneId")),
        vpc_id: VpcId::new(row_text(row, "VpcId")),
        primary_ip: row_address(row, "PrivateIpAddress"),
        associated: std::collections::BTreeMap::new(),
    }
}
