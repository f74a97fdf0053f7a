//! Pool of NAT gateways (`networkController.natGwPool`).

use super::cursor::{Cursor, Findings};
use super::shapes::{is_id, is_place};
use crate::ids::{NatGatewayId, ZoneId};
use crate::text::{Text, escape_for_message};
use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

/// A NAT gateway whose EIPs and ports pods share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Instance ID of the gateway, `ngw-…`.
    pub nat_gateway_id: NatGatewayId,
    /// Optional name for messages, unique in the pool.
    pub name: Option<String>,
    /// Zone of the gateway, such as `cn-hangzhou-j`; pods of the same zone prefer it.
    pub zone_id: ZoneId,
    /// External ports that may be given to pods.
    pub ports: RangeInclusive<u16>,
    /// EIPs of the gateway to use; empty means all.
    pub eips: Vec<Ipv4Addr>,
    /// Namespaces served exclusively by the entries that name them; empty means every namespace
    /// that no entry of the pool names.
    pub namespaces: BTreeSet<String>,
}

/// Shown in messages as name, if there is one, and ID.
impl fmt::Display for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} ({})", self.nat_gateway_id),
            None => self.nat_gateway_id.fmt(f),
        }
    }
}

/// The pool entries that serve a namespace. Entries that name the namespace come first; only if
/// there are none, the entries without namespaces serve it.
pub(super) fn gateways_serving<'a>(pool: &'a [Gateway], namespace: &str) -> Vec<&'a Gateway> {
    let own: Vec<_> =
        pool.iter().filter(|gateway| gateway.namespaces.contains(namespace)).collect();
    if own.is_empty() {
        pool.iter().filter(|gateway| gateway.namespaces.is_empty()).collect()
    } else {
        own
    }
}

pub(super) fn read_gateways(cursor: &Cursor, findings: &mut Findings) -> Vec<Gateway> {
    let items = cursor.list_items(findings);
    if items.is_empty() {
        findings.add_error(cursor, "is required while natgw is enabled: a list of NAT gateways");
    }
    let mut seen = UniqueTexts::default();
    let gateways: Vec<_> =
        items.iter().filter_map(|item| read_gateway(item, &mut seen, findings)).collect();
    if !gateways.is_empty() && gateways.iter().all(|gateway| !gateway.namespaces.is_empty()) {
        findings.add_warning(
            cursor,
            "has no entry without namespaces: pods of all other namespaces get no ports",
        );
    }
    gateways
}

/// Texts that may occur only once in the pool, such as IDs, names and addresses.
#[derive(Default)]
struct UniqueTexts<'a>(BTreeSet<&'a str>);

impl<'a> UniqueTexts<'a> {
    fn check_unique(&mut self, at: &Cursor, text: &'a str, findings: &mut Findings) {
        if !self.0.insert(text) {
            findings.add_error(at, format!("is a duplicate of {text}"));
        }
    }
}

fn read_gateway<'a>(
    cursor: &Cursor<'a>,
    seen: &mut UniqueTexts<'a>,
    findings: &mut Findings,
) -> Option<Gateway> {
    cursor.check_keys(
        &["natgwId", "zoneId", "portRangeStart", "portRangeEnd", "eips", "name", "namespaces"],
        &[],
        findings,
    );
    let id = cursor.at_key("natgwId").read_matching(
        |text| Text::GatewayId.allows(text) && is_id(text, "ngw-"),
        "ngw-…",
        findings,
    );
    if let Some(id) = id {
        seen.check_unique(&cursor.at_key("natgwId"), id, findings);
    }
    let zone = cursor.at_key("zoneId").read_matching(
        |text| Text::GatewayZone.allows(text) && is_place(text),
        "a zone such as cn-hangzhou-j",
        findings,
    );
    let start = read_port(&cursor.at_key("portRangeStart"), findings);
    let end = read_port(&cursor.at_key("portRangeEnd"), findings);
    let eips = read_eips(&cursor.at_key("eips"), seen, findings);
    let name = read_gateway_name(&cursor.at_key("name"), seen, findings);
    let namespaces = read_namespaces(&cursor.at_key("namespaces"), findings);
    // All fields are read before the first `?`, so that every error is reported at once.
    let (start, end) = (start?, end?);
    if start > end {
        findings.add_error(
            cursor,
            format!("has a portRangeStart of {start} above its portRangeEnd of {end}"),
        );
    }
    Some(Gateway {
        nat_gateway_id: NatGatewayId::new(id?),
        name,
        zone_id: ZoneId::new(zone?),
        ports: start..=end,
        eips,
        namespaces,
    })
}

fn read_gateway_name<'a>(
    cursor: &Cursor<'a>,
    seen: &mut UniqueTexts<'a>,
    findings: &mut Findings,
) -> Option<String> {
    if cursor.is_absent() {
        return None;
    }
    let name = cursor.read_matching(
        |text| Text::GatewayName.allows(text),
        "1 to 63 lower-case letters, digits and hyphens",
        findings,
    )?;
    seen.check_unique(cursor, name, findings);
    Some(name.to_owned())
}

/// Different entries may name the same namespace; a repetition within one entry is probably a
/// typing error for another namespace.
fn read_namespaces(cursor: &Cursor, findings: &mut Findings) -> BTreeSet<String> {
    let mut seen = UniqueTexts::default();
    let named = cursor.read_matching_items(
        |text| Text::GatewayNamespace.allows(text),
        "a namespace: 1 to 63 lower-case letters, digits and hyphens",
        findings,
    );
    for (item, namespace) in &named {
        seen.check_unique(item, namespace, findings);
    }
    named.into_iter().map(|(_, namespace)| namespace.to_owned()).collect()
}

fn read_port(cursor: &Cursor, findings: &mut Findings) -> Option<u16> {
    if cursor.is_absent() {
        findings.add_error(cursor, "is required: a port from 1 to 65535");
    }
    cursor.read_number(1..=u64::from(u16::MAX), findings).and_then(|port| u16::try_from(port).ok())
}

fn read_eips<'a>(
    cursor: &Cursor<'a>,
    seen: &mut UniqueTexts<'a>,
    findings: &mut Findings,
) -> Vec<Ipv4Addr> {
    let mut eips = Vec::new();
    for item in cursor.list_items(findings) {
        let Some(text) = item.read_string(findings) else { continue };
        if text.is_empty() || text.starts_with('<') {
            // The documents' sample contains such a placeholder:
            // "<auto config all nat gateway eips if not config. 0.0.0.0 >".
            findings.add_warning(&item, "is a placeholder and ignored: all EIPs of the gateway are used, unless others are listed");
        } else if let Ok(eip) = text.parse() {
            seen.check_unique(&item, text, findings);
            eips.push(eip);
        } else {
            findings.add_error(
                &item,
                format!("is \"{}\": must be an IPv4 address", escape_for_message(text)),
            );
        }
    }
    eips
}
