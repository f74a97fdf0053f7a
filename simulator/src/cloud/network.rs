//! The VPC and its vSwitches, as the topology has them. They never change.

use serde_json::{Value, json};

use super::{Cloud, Outcome, dispatch::Context, gateways::RESOURCE_GROUP};
use crate::{refusal::Refusal, topology::VSwitch};

/// The account everything belongs to.
pub(super) const ACCOUNT: &str = "1234567890123456";

/// When everything that never changes was made.
pub(super) const CREATED: &str = "2024-01-01T00:00:00Z";

impl Cloud {
    /// The system route table's id.
    pub(super) fn system_route_table(&self) -> String {
        self.topology.vpc.id.replacen("vpc-", "vtb-", 1)
    }

    pub(super) fn describe_v_switches(&mut self, context: &Context<'_>) -> Outcome {
        let params = context.params;
        let page = params.get_page(50)?;
        if params.get("RegionId").or(params.get("VpcId")).is_none() {
            return Err(Refusal::missing_parameter("RegionId"));
        }
        let is = |name: &str, value: &str| params.get(name).is_none_or(|wanted| wanted == value);
        let shown = self.topology.v_switches.iter().filter(|v_switch| {
            is("VpcId", &self.topology.vpc.id)
                && is("VSwitchId", &v_switch.id)
                && is("ZoneId", &v_switch.zone)
                && is("VSwitchName", &v_switch.id)
                && is("RouteTableId", &self.system_route_table())
                && params.get_tags().is_empty()
        });
        Ok(page.wrap_items(shown.collect(), "VSwitches", "VSwitch", |v_switch| {
            self.v_switch_json(v_switch)
        }))
    }

    fn v_switch_json(&self, v_switch: &VSwitch) -> Value {
        json!({
            "VSwitchId": v_switch.id, "VSwitchName": v_switch.id, "VpcId": self.topology.vpc.id,
            "CidrBlock": v_switch.cidr, "ZoneId": v_switch.zone, "Status": "Available",
            "AvailableIpAddressCount": v_switch.cidr.size().saturating_sub(4),
            "RouteTable": {"RouteTableId": self.system_route_table(), "RouteTableType": "System"},
            "Ipv6CidrBlock": "", "EnabledIpv6": false, "IsDefault": false, "NetworkAclId": "", "ShareType": "",
            "OwnerId": ACCOUNT.parse::<u64>().unwrap_or_default(), "ResourceGroupId": RESOURCE_GROUP, "CreationTime": CREATED,
            "Description": "", "Tags": {"Tag": []},
        })
    }

    pub(super) fn describe_vpcs(&mut self, context: &Context<'_>) -> Outcome {
        let params = context.params;
        let page = params.get_page(50)?;
        let vpc = &self.topology.vpc;
        let named = params.get_comma_list("VpcId").is_none_or(|ids| ids.contains(&vpc.id.as_str()));
        let shown = named
            && params.get("VpcName").is_none()
            && params.get_tags().is_empty()
            && !params.get_bool("IsDefault");
        let v_switches: Vec<&str> =
            self.topology.v_switches.iter().map(|it| it.id.as_str()).take(300).collect();
        let gateways: Vec<&str> = self.gateways.keys().map(String::as_str).collect();
        let row = json!({
            "VpcId": vpc.id, "VpcName": "", "CidrBlock": vpc.cidr, "SecondaryCidrBlocks": {"SecondaryCidrBlock": []},
            "UserCidrs": {"UserCidr": []}, "Ipv6CidrBlock": "", "Ipv6CidrBlocks": {"Ipv6CidrBlock": []},
            "NatGatewayIds": {"NatGatewayIds": gateways}, "RouterTableIds": {"RouterTableIds": [self.system_route_table()]},
            "VSwitchIds": {"VSwitchId": v_switches}, "VRouterId": vpc.id.replacen("vpc-", "vrt-", 1),
            "Status": "Available", "IsDefault": false, "OwnerId": ACCOUNT.parse::<u64>().unwrap_or_default(),
            "RegionId": self.topology.region, "ResourceGroupId": RESOURCE_GROUP, "CreationTime": CREATED, "Description": "",
            "CenStatus": "Detached", "DhcpOptionsSetId": "", "DhcpOptionsSetStatus": "", "DnsHostnameStatus": "DISABLED",
            "EnabledIpv6": false,
            "Tags": {"Tag": []},
        });
        Ok(page.wrap_items(if shown { vec![row] } else { Vec::new() }, "Vpcs", "Vpc", |row| row))
    }
}
