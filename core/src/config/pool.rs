//! The pool of NAT gateways.

use super::cursor::{Cursor, Findings};
use super::{is_id, is_place};
use crate::ids::{NatGatewayId, ZoneId};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

/// One NAT gateway whose EIPs and ports pods share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Its ID.
    pub nat_gateway_id: NatGatewayId,
    /// Its zone: pods of the same zone prefer it.
    pub zone_id: ZoneId,
    /// The external ports that may be handed out.
    pub ports: RangeInclusive<u16>,
    /// Which of its addresses to use; empty means all.
    pub eips: Vec<Ipv4Addr>,
}

pub(super) fn read(cursor: &Cursor, findings: &mut Findings) -> Vec<Gateway> {
    let items = cursor.items(findings);
    if items.is_empty() {
        findings.error(cursor, "is required while natgw is enabled: a list of NAT gateways");
    }
    let mut seen = Seen::default();
    items.iter().filter_map(|item| gateway(item, &mut seen, findings)).collect()
}

/// What may stand in the pool only once, and where it stood first.
#[derive(Default)]
struct Seen<'a>(BTreeMap<&'a str, usize>);

impl<'a> Seen<'a> {
    fn check(&mut self, at: &Cursor, text: &'a str, findings: &mut Findings) {
        let next = self.0.len();
        if self.0.insert(text, next).is_some() {
            findings.error(at, format!("names {text} a second time"));
        }
    }
}

fn gateway<'a>(cursor: &Cursor<'a>, seen: &mut Seen<'a>, findings: &mut Findings) -> Option<Gateway> {
    cursor.check_keys(&["natgwId", "zoneId", "portRangeStart", "portRangeEnd", "eips"], &[], findings);
    let id = cursor.at("natgwId").shaped(|text| is_id(text, "ngw-"), "ngw-…", findings);
    if let Some(id) = id {
        seen.check(&cursor.at("natgwId"), id, findings);
    }
    let zone = cursor.at("zoneId").shaped(is_place, "a zone such as cn-hangzhou-j", findings);
    let start = port(&cursor.at("portRangeStart"), findings);
    let end = port(&cursor.at("portRangeEnd"), findings);
    let eips = eips(&cursor.at("eips"), seen, findings);
    let (start, end) = (start?, end?);
    if start > end {
        findings.error(cursor, format!("has a portRangeStart of {start} above its portRangeEnd of {end}"));
    }
    Some(Gateway { nat_gateway_id: NatGatewayId::new(id?), zone_id: ZoneId::new(zone?), ports: start..=end, eips })
}

fn port(cursor: &Cursor, findings: &mut Findings) -> Option<u16> {
    if cursor.is_absent() {
        findings.error(cursor, "is required: a port from 1 to 65535");
    }
    cursor.number(1..=u64::from(u16::MAX), findings).and_then(|port| u16::try_from(port).ok())
}

fn eips<'a>(cursor: &Cursor<'a>, seen: &mut Seen<'a>, findings: &mut Findings) -> Vec<Ipv4Addr> {
    let mut eips = Vec::new();
    for item in cursor.items(findings) {
        let Some(text) = item.text(findings) else { continue };
        if text.is_empty() || text.starts_with('<') {
            // The documents' sample as it is: "<auto config all nat gateway eips if not config. 0.0.0.0 >".
            findings.warn(&item, "is a placeholder and taken as empty: all EIPs of the gateway, unless others are named");
        } else if let Ok(eip) = text.parse() {
            seen.check(&item, text, findings);
            eips.push(eip);
        } else {
            findings.error(&item, format!("is \"{}\": must be an IPv4 address", text.escape_debug().take(64).collect::<String>()));
        }
    }
    eips
}
