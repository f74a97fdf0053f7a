//! Answers about VPCs, vSwitches and routes.

use super::{Chain, Page, list, number, present, required, text, texts};
use crate::network::{NextHop, RouteEntry, RouteTable, VSwitch, Vpc};
use serde::Deserialize;
use waygate_core::ids::{VSwitchId, VpcId, ZoneId};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Vpcs {
    #[serde(deserialize_with = "number")]
    total_count: u32,
    #[serde(deserialize_with = "list")]
    vpcs: Vec<WireVpc>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireVpc {
    #[serde(deserialize_with = "text")]
    vpc_id: String,
    #[serde(deserialize_with = "text")]
    cidr_block: String,
    #[serde(default, deserialize_with = "texts")]
    secondary_cidr_blocks: Vec<String>,
}

impl Page for Vpcs {
    type Item = Vpc;

    fn total(&self) -> u32 {
        self.total_count
    }

    fn items(self) -> Result<Vec<Vpc>, String> {
        let fact = |vpc: WireVpc| {
            let cidrs = std::iter::once(vpc.cidr_block).chain(vpc.secondary_cidr_blocks).collect();
            Ok(Vpc { vpc_id: VpcId::new(required("VpcId", vpc.vpc_id)?), cidrs })
        };
        self.vpcs.into_iter().map(fact).collect()
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct VSwitches {
    #[serde(deserialize_with = "number")]
    total_count: u32,
    #[serde(deserialize_with = "list")]
    v_switches: Vec<WireVSwitch>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireVSwitch {
    #[serde(deserialize_with = "text")]
    v_switch_id: String,
    #[serde(deserialize_with = "text")]
    vpc_id: String,
    #[serde(deserialize_with = "text")]
    zone_id: String,
    #[serde(default, deserialize_with = "text")]
    cidr_block: String,
    #[serde(default)]
    route_table: Option<WireTableRef>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireTableRef {
    #[serde(default, deserialize_with = "text")]
    route_table_id: String,
}

impl Page for VSwitches {
    type Item = VSwitch;

    fn total(&self) -> u32 {
        self.total_count
    }

    fn items(self) -> Result<Vec<VSwitch>, String> {
        let fact = |vswitch: WireVSwitch| {
            Ok(VSwitch {
                vswitch_id: VSwitchId::new(required("VSwitchId", vswitch.v_switch_id)?),
                vpc_id: VpcId::new(vswitch.vpc_id),
                zone_id: ZoneId::new(vswitch.zone_id),
                cidr: vswitch.cidr_block,
                route_table_id: vswitch.route_table.and_then(|table| present(table.route_table_id)),
            })
        };
        self.v_switches.into_iter().map(fact).collect()
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct RouteTables {
    #[serde(deserialize_with = "number")]
    total_count: u32,
    #[serde(deserialize_with = "list")]
    router_table_list: Vec<WireTable>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireTable {
    #[serde(deserialize_with = "text")]
    route_table_id: String,
    #[serde(default, deserialize_with = "text")]
    route_table_type: String,
    #[serde(default, deserialize_with = "texts")]
    v_switch_ids: Vec<String>,
}

impl Page for RouteTables {
    type Item = RouteTable;

    fn total(&self) -> u32 {
        self.total_count
    }

    fn items(self) -> Result<Vec<RouteTable>, String> {
        let fact = |table: WireTable| {
            Ok(RouteTable {
                route_table_id: required("RouteTableId", table.route_table_id)?,
                system: table.route_table_type == "System",
                vswitch_ids: table.v_switch_ids.into_iter().map(VSwitchId::new).collect(),
            })
        };
        self.router_table_list.into_iter().map(fact).collect()
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct RouteEntries {
    #[serde(default, deserialize_with = "text")]
    next_token: String,
    #[serde(deserialize_with = "list")]
    route_entrys: Vec<WireRoute>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireRoute {
    #[serde(deserialize_with = "text")]
    destination_cidr_block: String,
    #[serde(default, deserialize_with = "text")]
    status: String,
    #[serde(default, deserialize_with = "list")]
    next_hops: Vec<WireHop>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireHop {
    #[serde(default, deserialize_with = "text")]
    next_hop_type: String,
    #[serde(default, deserialize_with = "text")]
    next_hop_id: String,
}

impl Chain for RouteEntries {
    type Item = RouteEntry;

    fn next(&mut self) -> Option<String> {
        present(std::mem::take(&mut self.next_token))
    }

    fn items(self) -> Result<Vec<RouteEntry>, String> {
        let hop = |hop: WireHop| NextHop { kind: hop.next_hop_type, id: hop.next_hop_id };
        let fact = |route: WireRoute| RouteEntry {
            destination: route.destination_cidr_block,
            available: route.status == "Available",
            next_hops: route.next_hops.into_iter().map(hop).collect(),
        };
        Ok(self.route_entrys.into_iter().map(fact).collect())
    }
}
