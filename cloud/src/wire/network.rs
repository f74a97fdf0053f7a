//! Answers about VPCs, vSwitches and routes.

use super::{
    Chain, Page, non_empty, required_id, scalar_number, scalar_text, text_list, wrapped_list,
};
use crate::network::{NextHop, RouteEntry, RouteTable, VSwitch, Vpc};
use serde::Deserialize;
use waygate_core::ids::{VSwitchId, VpcId, ZoneId};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Vpcs {
    #[serde(deserialize_with = "scalar_number")]
    total_count: u32,
    #[serde(deserialize_with = "wrapped_list")]
    vpcs: Vec<WireVpc>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireVpc {
    #[serde(deserialize_with = "scalar_text")]
    vpc_id: String,
    #[serde(deserialize_with = "scalar_text")]
    cidr_block: String,
    #[serde(default, deserialize_with = "text_list")]
    secondary_cidr_blocks: Vec<String>,
}

impl Page for Vpcs {
    type Item = Vpc;

    fn total_count(&self) -> u32 {
        self.total_count
    }

    fn into_page_items(self) -> Result<Vec<Vpc>, String> {
        let fact = |vpc: WireVpc| {
            let cidrs = std::iter::once(vpc.cidr_block).chain(vpc.secondary_cidr_blocks).collect();
            Ok(Vpc { vpc_id: VpcId::new(required_id("VpcId", vpc.vpc_id)?), cidrs })
        };
        self.vpcs.into_iter().map(fact).collect()
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct VSwitches {
    #[serde(deserialize_with = "scalar_number")]
    total_count: u32,
    #[serde(deserialize_with = "wrapped_list")]
    v_switches: Vec<WireVSwitch>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireVSwitch {
    #[serde(deserialize_with = "scalar_text")]
    v_switch_id: String,
    #[serde(deserialize_with = "scalar_text")]
    vpc_id: String,
    #[serde(deserialize_with = "scalar_text")]
    zone_id: String,
    #[serde(default, deserialize_with = "scalar_text")]
    cidr_block: String,
    #[serde(default)]
    route_table: Option<WireTableRef>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireTableRef {
    #[serde(default, deserialize_with = "scalar_text")]
    route_table_id: String,
}

impl Page for VSwitches {
    type Item = VSwitch;

    fn total_count(&self) -> u32 {
        self.total_count
    }

    fn into_page_items(self) -> Result<Vec<VSwitch>, String> {
        let fact = |vswitch: WireVSwitch| {
            Ok(VSwitch {
                vswitch_id: VSwitchId::new(required_id("VSwitchId", vswitch.v_switch_id)?),
                vpc_id: VpcId::new(vswitch.vpc_id),
                zone_id: ZoneId::new(vswitch.zone_id),
                cidr: vswitch.cidr_block,
                route_table_id: vswitch
                    .route_table
                    .and_then(|table| non_empty(table.route_table_id)),
            })
        };
        self.v_switches.into_iter().map(fact).collect()
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct RouteTables {
    #[serde(deserialize_with = "scalar_number")]
    total_count: u32,
    #[serde(deserialize_with = "wrapped_list")]
    router_table_list: Vec<WireTable>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireTable {
    #[serde(deserialize_with = "scalar_text")]
    route_table_id: String,
    #[serde(default, deserialize_with = "scalar_text")]
    route_table_type: String,
    #[serde(default, deserialize_with = "text_list")]
    v_switch_ids: Vec<String>,
}

impl Page for RouteTables {
    type Item = RouteTable;

    fn total_count(&self) -> u32 {
        self.total_count
    }

    fn into_page_items(self) -> Result<Vec<RouteTable>, String> {
        let fact = |table: WireTable| {
            Ok(RouteTable {
                route_table_id: required_id("RouteTableId", table.route_table_id)?,
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
    #[serde(default, deserialize_with = "scalar_text")]
    next_token: String,
    #[serde(deserialize_with = "wrapped_list")]
    route_entrys: Vec<WireRoute>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireRoute {
    #[serde(deserialize_with = "scalar_text")]
    destination_cidr_block: String,
    #[serde(default, deserialize_with = "scalar_text")]
    status: String,
    #[serde(default, deserialize_with = "wrapped_list")]
    next_hops: Vec<WireHop>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireHop {
    #[serde(default, deserialize_with = "scalar_text")]
    next_hop_type: String,
    #[serde(default, deserialize_with = "scalar_text")]
    next_hop_id: String,
}

impl Chain for RouteEntries {
    type Item = RouteEntry;

    fn take_next_token(&mut self) -> Option<String> {
        non_empty(std::mem::take(&mut self.next_token))
    }

    fn into_chain_items(self) -> Result<Vec<RouteEntry>, String> {
        let hop = |hop: WireHop| NextHop { kind: hop.next_hop_type, id: hop.next_hop_id };
        let fact = |route: WireRoute| RouteEntry {
            destination: route.destination_cidr_block,
            available: route.status == "Available",
            next_hops: route.next_hops.into_iter().map(hop).collect(),
        };
        Ok(self.route_entrys.into_iter().map(fact).collect())
    }
}
