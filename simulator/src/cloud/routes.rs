//! Routes of the VPC's one, system, route table: home, and out by the first NAT gateway.

use serde_json::{Value, json};

use super::{
    Cloud, Outcome,
    dispatch::Context,
    gateways::RESOURCE_GROUP,
    network::{ACCOUNT, CREATED},
    tags::after_token,
};
use crate::refusal::Refusal;

impl Cloud {
    pub(super) fn describe_route_table_list(&mut self, context: &Context<'_>) -> Outcome {
        let params = context.params;
        let page = params.get_page(50)?;
        let is = |name: &str, value: &str| params.get(name).is_none_or(|wanted| wanted == value);
        let (vpc, table) = (&self.topology.vpc, self.system_route_table());
        let router = vpc.id.replacen("vpc-", "vrt-", 1);
        let v_switches: Vec<&str> =
            self.topology.v_switches.iter().map(|it| it.id.as_str()).collect();
        let shown = is("VpcId", &vpc.id)
            && is("RouteTableId", &table)
            && is("RouterId", &router)
            && is("RouterType", "VRouter")
            && is("RouteTableType", "System")
            && is("RouteTableName", "");
        let row = json!({
            "RouteTableId": table, "RouteTableName": "", "RouteTableType": "System", "AssociateType": "VSwitch",
            "VSwitchIds": {"VSwitchId": v_switches}, "GatewayIds": {"GatewayIds": []}, "Status": "Available",
            "ResourceGroupId": RESOURCE_GROUP, "RouterId": router, "RouterType": "VRouter", "VpcId": vpc.id, "RoutePropagationEnable": true,
            "OwnerId": ACCOUNT.parse::<u64>().unwrap_or_default(), "CreationTime": CREATED, "Description": "", "Tags": {"Tag": []},
        });
        Ok(page.wrap_items(
            if shown { vec![row] } else { Vec::new() },
            "RouterTableList",
            "RouterTableListType",
            |row| row,
        ))
    }

    pub(super) fn describe_route_entry_list(&mut self, context: &Context<'_>) -> Outcome {
        let params = context.params;
        if params.get_required("RouteTableId")? != self.system_route_table() {
            return Err(Refusal::not_found(
                "InvalidRouteTableId.NotFound",
                "Specified route table does not exist.",
            ));
        }
        let is = |name: &str, value: &str| params.get(name).is_none_or(|wanted| wanted == value);
        let local =
            self.topology.v_switches.iter().map(|it| (it.cidr.to_string(), "System", "local", ""));
        let out = self
            .gateways
            .keys()
            .next()
            .map(|id| ("0.0.0.0/0".to_owned(), "Custom", "NatGateway", id.as_str()));
        let rows: Vec<Value> = out
            .into_iter()
            .chain(local)
            .filter(|(cidr, kind, hop_kind, hop)| {
                is("DestinationCidrBlock", cidr)
                    && is("RouteEntryType", kind)
                    && is("NextHopType", hop_kind)
                    && is("NextHopId", hop)
            })
            .map(|(cidr, kind, hop_kind, hop)| self.route_json(&cidr, kind, hop_kind, hop))
            .collect();
        let size = params.get_number("MaxResult")?.unwrap_or(10).clamp(1, 100) as usize;
        let total = rows.len();
        let (rows, next) = after_token(rows, params, size)?;
        Ok(json!({"RouteEntrys": {"RouteEntry": rows}, "NextToken": next, "TotalCount": total}))
    }

    fn route_json(&self, cidr: &str, kind: &str, hop_kind: &str, hop: &str) -> Value {
        json!({
            "RouteEntryId": format!("rte-{}", cidr.replace(['.', '/'], "")), "RouteEntryName": "",
            "RouteTableId": self.system_route_table(), "DestinationCidrBlock": cidr, "Type": kind, "Status": "Available",
            "IpVersion": "IPv4", "Origin": "", "Description": "", "GmtModified": CREATED, "ServiceType": "",
            "NextHops": {"NextHop": [{
                "NextHopType": hop_kind, "NextHopId": hop, "NextHopRegionId": self.topology.region, "Enabled": 1, "Weight": 0,
                "NextHopRelatedInfo": {"InstanceId": "", "InstanceType": "", "RegionId": ""},
            }]},
        })
    }
}
