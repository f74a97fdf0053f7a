//! NAT gateways: their state in the topology, and the rule for writing to them.

use std::{collections::BTreeMap, net::Ipv4Addr};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::resources::Gateway;
use super::{
    Binding, Cloud, Eip, EipStatus, Outcome, Target, dispatch::Context, is_busy, iso_time,
    tags::matches_tags,
};
use crate::{refusal::Refusal, topology::Eips};

/// The default resource group.
pub(super) const RESOURCE_GROUP: &str = "rg-acfmwaygate00000";

impl Cloud {
    pub(super) fn build_gateways(&mut self) {
        for wanted in self.topology.nat_gateways.clone() {
            let snat_table = self.next_id("stb");
            let v_switch =
                self.topology.v_switches.iter().find(|v_switch| v_switch.zone == wanted.zone);
            let own_address =
                v_switch.and_then(|it| it.cidr.nth(u32::try_from(it.cidr.size() - 6).unwrap_or(0)));
            let gateway = Gateway {
                id: wanted.id.clone(),
                snat_table,
                table: wanted.table,
                zone: wanted.zone,
                v_switch: v_switch.map(|it| it.id.clone()).unwrap_or_default(),
                own_address: own_address.unwrap_or(Ipv4Addr::UNSPECIFIED),
                tags: BTreeMap::new(),
                is_locked: false,
                entry_quota: None,
                busy_until: self.now,
                created_at: self.now,
            };
            self.gateways.insert(gateway.id.clone(), gateway);
            let eips: Vec<(String, Ipv4Addr)> = match wanted.eips {
                Eips::Count(count) => {
                    (0..count).map(|_| (self.next_id("eip"), self.free_address())).collect()
                }
                Eips::Listed(eips) => {
                    eips.into_iter().map(|eip| (eip.allocation_id, eip.ip_address)).collect()
                }
            };
            for (id, address) in eips {
                let eip = self.gateway_eip(id, address, &wanted.id);
                self.eips.insert(eip.id.clone(), eip);
            }
        }
    }

    fn gateway_eip(&self, id: String, address: Ipv4Addr, gateway: &str) -> Eip {
        let binding = Binding {
            target: Target::Nat,
            instance_id: gateway.to_owned(),
            private_address: None,
            is_primary: false,
            mode: "MULTI_BINDED".to_owned(),
        };
        Eip {
            id,
            address,
            status: EipStatus::InUse,
            binding: Some(binding),
            tags: BTreeMap::new(),
            membership: None,
            name: String::new(),
            description: String::new(),
            bandwidth: 200,
            internet_charge_type: "PayByTraffic".to_owned(),
            expires_at: None,
            isp: "BGP".to_owned(),
            resource_group: RESOURCE_GROUP.to_owned(),
            pool: String::new(),
            security_protection: Vec::new(),
            allocated_at: self.now,
            settles_at: None,
            busy_until: self.now,
            usable_from: self.now,
        }
    }

    /// The gateway that owns this DNAT table.
    pub(super) fn gateway_of_table(&self, table: &str) -> Result<&Gateway, Refusal> {
        let found = self.gateways.values().find(|gateway| gateway.table == table);
        found.ok_or_else(|| {
            Refusal::not_found(
                "InvalidForwardTableId.NotFound",
                "Specified forward table does not exist.",
            )
        })
    }

    /// Refuses a change while the gateway takes none.
    pub(super) fn check_writable(&self, gateway: &Gateway) -> Result<(), Refusal> {
        if gateway.is_locked {
            return Err(Refusal::bad_request(
                "Forbidden.FinancialLocked",
                "The NAT gateway is locked for financial reasons.",
            ));
        }
        if is_busy(gateway.busy_until, self) {
            let message =
                "Operations against this instance are too frequent. Please try again later.";
            return Err(Refusal::new(409, "OperationConflict", message));
        }
        let mut entries = self.entries.values().filter(|entry| entry.table == gateway.table);
        if self.pace.stable_entries_only
            && entries.any(|entry| entry.status != super::EntryStatus::Available)
        {
            return Err(Refusal::bad_request(
                "IncorretForwardEntryStatus",
                "Some Forward entry status blocked this operation.",
            ));
        }
        Ok(())
    }

    pub(super) fn hold_gateway(&mut self, id: &str, until: Timestamp) {
        if let Some(gateway) = self.gateways.get_mut(id) {
            gateway.busy_until = until;
        }
    }

    pub(super) fn describe_nat_gateways(&mut self, context: &Context<'_>) -> Outcome {
        let params = context.params;
        let page = params.get_page(50)?;
        let is = |name: &str, value: &str| {
            params.get(name).is_none_or(|wanted| wanted.eq_ignore_ascii_case(value))
        };
        let shown = self.gateways.values().filter(|gateway| {
            is("NatGatewayId", &gateway.id)
                && is("VpcId", &self.topology.vpc.id)
                && is("ZoneId", &gateway.zone)
                && is("NatType", "Enhanced")
                && is("NetworkType", "internet")
                && is("Status", "Available")
                && is("InstanceChargeType", "PostPaid")
                && is("Name", "")
                && matches_tags(&gateway.tags, &params.get_tags())
        });
        Ok(page.wrap_items(shown.collect(), "NatGateways", "NatGateway", |gateway| {
            self.gateway_json(gateway)
        }))
    }

    /// The gateway as DescribeNatGateways shows it.
    pub(super) fn gateway_json(&self, gateway: &Gateway) -> Value {
        let addresses = self.eips_on(&gateway.id).map(|eip| {
            json!({
                "AllocationId": eip.id, "IpAddress": eip.address, "PrivateIpAddress": "", "SnatEntryEnabled": true,
                "UsingStatus": self.using_status(eip.address),
            })
        });
        let tags: Vec<Value> = gateway
            .tags
            .iter()
            .map(|(key, value)| json!({"TagKey": key, "TagValue": value}))
            .collect();
        json!({
            "NatGatewayId": gateway.id, "Name": "", "Description": "", "VpcId": self.topology.vpc.id,
            "RegionId": self.topology.region, "ResourceGroupId": RESOURCE_GROUP,
            "CreationTime": iso_time(gateway.created_at), "ExpiredTime": "",
            "Status": "Available", "BusinessStatus": business_status(gateway),
            "NatType": "Enhanced", "NetworkType": "internet", "EipBindMode": "MULTI_BINDED",
            "ForwardTableIds": {"ForwardTableId": [gateway.table]}, "SnatTableIds": {"SnatTableId": [gateway.snat_table]},
            "FullNatTableIds": {"FullNatTableId": []}, "IpLists": {"IpList": addresses.collect::<Vec<_>>()},
            "NatGatewayPrivateInfo": {
                "EniInstanceId": format!("eni-{}", gateway.id), "EniType": "Primary", "IzNo": gateway.zone,
                "PrivateIpAddress": gateway.own_address, "VswitchId": gateway.v_switch,
                "MaxBandwidth": 5120, "MaxSessionQuota": 2_000_000, "MaxSessionEstablishRate": 100_000,
            },
            "DeletionProtection": false, "EcsMetricEnabled": false, "IcmpReplyEnabled": true, "PrivateLinkEnabled": false,
            "SecurityProtectionEnabled": false, "AutoPay": false, "InternetChargeType": "PayByLcu", "Spec": "",
            "InstanceChargeType": "PostPaid", "Tags": {"Tag": tags}, "IpPrefixList": {"IpPrefixList": []},
            "EnableSessionLog": "false",
            "AccessMode": {"ModeValue": "route", "TunnelType": ""}, "AvailabilityMode": "", "PrivateLinkMode": "",
        })
    }

    fn using_status(&self, address: Ipv4Addr) -> &'static str {
        match (
            self.entries.values().any(|entry| entry.external_ip == address),
            self.is_snat_source(address),
        ) {
            (true, true) => "UsedByForwardSnatTable",
            (true, false) => "UsedByForwardTable",
            (false, true) => "UsedBySnatTable",
            (false, false) => "Idle",
        }
    }

    pub(super) fn get_nat_gateway_attribute(&mut self, context: &Context<'_>) -> Outcome {
        let id = context.params.get_required("NatGatewayId")?;
        let not_found = || {
            Refusal::not_found(
                "InvalidNatGatewayId.NotFound",
                "Specified NAT gateway does not exist.",
            )
        };
        let gateway = self.gateways.get(id).ok_or_else(not_found)?;
        let addresses = self.eips_on(id).map(|eip| {
            // A second quirk: the API spells "Idle" in lower case in this field.
            let using = self.using_status(eip.address);
            json!({"AllocationId": eip.id, "IpAddress": eip.address, "UsingStatus": if using == "Idle" { "idle" } else { using }})
        });
        let entries = self.entries.values().filter(|entry| entry.table == gateway.table).count();
        Ok(json!({
            "NatGatewayId": gateway.id, "Name": "", "Description": "", "VpcId": self.topology.vpc.id,
            "RegionId": self.topology.region, "ResourceGroupId": RESOURCE_GROUP, "Status": "Available",
            "BusinessStatus": business_status(gateway), "NatType": "Enhanced", "NetworkType": "internet",
            "CreationTime": iso_time(gateway.created_at), "ExpiredTime": "", "EcsMetricEnabled": false, "PrivateLinkEnabled": false,
            "ForwardTable": {"ForwardTableId": gateway.table, "ForwardEntryCount": entries},
            "SnatTable": {"SnatTableId": gateway.snat_table, "SnatEntryCount": self.snat_of(id).count()},
            "FullNatTable": {"FullNatTableId": "", "FullNatEntryCount": 0}, "IpList": addresses.collect::<Vec<_>>(),
            "BillingConfig": {"AutoPay": "false", "InstanceChargeType": "PostPaid", "InternetChargeType": "PayByLcu", "Spec": ""},
            "DeletionProtectionInfo": {"Enabled": false}, "EnableSessionLog": false, "PrivateLinkMode": "",
            "AccessMode": {"ModeValue": "route", "TunnelType": ""}, "AvailabilityMode": "",
            "LogDelivery": {"LogDeliveryType": "", "LogDestination": "", "DeliveryStatus": "", "DeliverLogsErrorMessage": ""},
            "PrivateInfo": {
                "EniInstanceId": format!("eni-{}", gateway.id), "EniType": "Primary", "IzNo": gateway.zone,
                "PrivateIpAddress": gateway.own_address, "VswitchId": gateway.v_switch, "MaxBandwidth": 5120,
            },
        }))
    }
}

fn business_status(gateway: &Gateway) -> &'static str {
    if gateway.is_locked { "FinancialLocked" } else { "Normal" }
}
