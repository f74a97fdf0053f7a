//! Parses the DNAT keys: the ports to expose and how they are forwarded.

use super::context::Context;
use super::keys::Key;
use super::reader::Reader;
use super::values::{self, ValueError, refuse_value};
use crate::request::{DnatRequest, ExposedPort, Kind, Protocol};
use crate::text::escape_for_message;
use std::ops::RangeInclusive;

const PORTS: &str = "ports 1–65535 with commas between, each once, such as 80,443 or 443,53/udp";

/// The DNAT request; none if DNAT is off, or if the ports cannot be parsed.
pub(super) fn read_dnat_request(reader: &mut Reader, context: &Context) -> Option<DnatRequest> {
    reader.parse_value(Key::PodDnat, values::parse_flag);
    if !reader.requests_kind(Kind::Dnat) {
        return None;
    }
    let protocol = reader.parse_value(Key::ExposeProtocol, parse_protocol).unwrap_or(Protocol::Tcp);
    let same_port = reader.parse_value(Key::SamePort, values::parse_bool).unwrap_or(false);
    let fixed = read_fixed(reader, context);
    if !reader.has_key(Key::ExposePort) {
        reader.add_problem(Key::ExposePort, "is required for DNAT", PORTS);
    }
    let ports = reader.parse_value(Key::ExposePort, |text| parse_ports(text, protocol))?;
    if let Some(Err(ValueError { why, allowed })) =
        context.port_ranges.map(|ranges| check_ports_fit(&ports, same_port, ranges))
    {
        reader.add_problem(Key::ExposePort, &why, &allowed);
    }
    Some(DnatRequest { ports, fixed, same_port })
}

fn read_fixed(reader: &mut Reader, context: &Context) -> bool {
    let fixed = reader.parse_value(Key::Fixed, values::parse_flag).unwrap_or(false);
    if fixed && !context.stateful {
        reader.add_warning(
            Key::Fixed,
            "has no effect on a pod that is not stateful: its replacement gets another name",
        );
    }
    fixed && context.stateful
}

fn parse_protocol(text: &str) -> Result<Protocol, ValueError> {
    values::parse_word(
        text.to_ascii_lowercase().as_str(),
        &[Protocol::Tcp, Protocol::Udp].map(|protocol| (protocol.as_str(), protocol)),
    )
}

/// Parses `80,443`, or `PORT/PROTOCOL` where a port's protocol differs from `usual`. The error
/// names several wrong items, not only the first.
fn parse_ports(text: &str, usual: Protocol) -> Result<Vec<ExposedPort>, ValueError> {
    /// At most this many wrong items are named; the pod's author sees the pattern.
    const NAMED: usize = 5;
    let mut ports = Vec::new();
    let mut wrong = Vec::new();
    for item in text.split(',').map(str::trim) {
        match parse_port(item, usual) {
            Some(port) => ports.push(port),
            None => wrong.push(format!("\"{}\"", escape_for_message(item))),
        }
    }
    let twice: Vec<String> =
        values::find_repeated(&ports).iter().take(NAMED).map(ToString::to_string).collect();
    wrong.truncate(NAMED);
    let mut faults = Vec::new();
    if !wrong.is_empty() {
        faults.push(format!("contains invalid ports: {}", wrong.join(", ")));
    }
    if !twice.is_empty() {
        faults.push(format!("contains duplicate ports: {}", twice.join(", ")));
    }
    if faults.is_empty() { Ok(ports) } else { refuse_value(faults.join(" and "), PORTS) }
}

fn parse_port(item: &str, usual: Protocol) -> Option<ExposedPort> {
    let (number, protocol) = match item.split_once('/') {
        Some((number, word)) => (number, parse_protocol(word).ok()?),
        None => (item, usual),
    };
    // `parse` alone would accept a leading `+`.
    let digits = number.bytes().all(|byte| byte.is_ascii_digit());
    let port = number.parse().ok().filter(|port| digits && *port > 0)?;
    Some(ExposedPort { port, protocol })
}

/// Checks that some gateway could hold these ports at all. All ports of a pod share one external
/// address, on which TCP and UDP have separate port ranges.
fn check_ports_fit(
    ports: &[ExposedPort],
    same_port: bool,
    ranges: &[RangeInclusive<u16>],
) -> Result<(), ValueError> {
    if ranges.is_empty() {
        let why = "cannot be given in this namespace: every NAT gateway of the pool serves other namespaces";
        return refuse_value(why, "a namespace that networkController.natGwPool serves");
    }
    if same_port {
        return if ranges.iter().any(|range| ports.iter().all(|port| range.contains(&port.port))) {
            Ok(())
        } else {
            refuse_value(
                "cannot keep the same external ports (waygate.dev/same-port): no gateway has all of them",
                describe_ranges(ranges),
            )
        };
    }
    let most = ranges.iter().map(ExactSizeIterator::len).max().unwrap_or_default();
    let asked = [Protocol::Tcp, Protocol::Udp]
        .map(|protocol| ports.iter().filter(|port| port.protocol == protocol).count());
    match asked.into_iter().max() {
        Some(asked) if asked > most => refuse_value(
            format!("requests {asked} ports of one protocol, more than any address has"),
            format!("at most {most}"),
        ),
        _ => Ok(()),
    }
}

fn describe_ranges(ranges: &[RangeInclusive<u16>]) -> String {
    let ranges: Vec<String> =
        ranges.iter().map(|range| format!("{}–{}", range.start(), range.end())).collect();
    format!("ports of one of {}", ranges.join(", "))
}
