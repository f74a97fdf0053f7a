//! Parses the DNAT keys: the ports to expose and how they are forwarded.

use super::context::Context;
use super::keys::Key;
use super::problem::shown;
use super::reader::Reader;
use super::values::{self, Refusal, refusal};
use crate::request::{DnatRequest, ExposedPort, Kind, Protocol};
use std::ops::RangeInclusive;

const PORTS: &str = "ports 1–65535 with commas between, each once, such as 80,443 or 443,53/udp";

/// The DNAT request; none if DNAT is off, or if the ports cannot be parsed.
pub(super) fn read(reader: &mut Reader, context: &Context) -> Option<DnatRequest> {
    reader.parse(Key::PodDnat, values::flag);
    if !reader.on(Kind::Dnat) {
        return None;
    }
    let protocol = reader.parse(Key::ExposeProtocol, protocol).unwrap_or(Protocol::Tcp);
    let same_port = reader.parse(Key::SamePort, values::boolean).unwrap_or(false);
    let fixed = fixed(reader, context);
    if !reader.has(Key::ExposePort) {
        reader.refuse(Key::ExposePort, "is required for DNAT", PORTS);
    }
    let ports = reader.parse(Key::ExposePort, |text| ports(text, protocol))?;
    if let Some(Err(Refusal { why, allowed })) =
        context.port_ranges.map(|ranges| fits(&ports, same_port, ranges))
    {
        reader.refuse(Key::ExposePort, &why, &allowed);
    }
    Some(DnatRequest { ports, fixed, same_port })
}

fn fixed(reader: &mut Reader, context: &Context) -> bool {
    let fixed = reader.parse(Key::Fixed, values::flag).unwrap_or(false);
    if fixed && !context.stateful {
        reader.warn(
            Key::Fixed,
            "has no effect on a pod that is not stateful: its replacement gets another name",
        );
    }
    fixed && context.stateful
}

fn protocol(text: &str) -> Result<Protocol, Refusal> {
    values::one_of(
        text.to_ascii_lowercase().as_str(),
        &[Protocol::Tcp, Protocol::Udp].map(|protocol| (protocol.as_str(), protocol)),
    )
}

/// Parses `80,443`, or `PORT/PROTOCOL` where a port's protocol differs from `usual`. The error
/// names several wrong items, not only the first.
fn ports(text: &str, usual: Protocol) -> Result<Vec<ExposedPort>, Refusal> {
    /// At most this many wrong items are named; the pod's author sees the pattern.
    const NAMED: usize = 5;
    let mut ports = Vec::new();
    let mut wrong = Vec::new();
    for item in text.split(',').map(str::trim) {
        match port(item, usual) {
            Some(port) => ports.push(port),
            None => wrong.push(format!("\"{}\"", shown(item))),
        }
    }
    let twice: Vec<String> =
        values::repeated(&ports).iter().take(NAMED).map(ToString::to_string).collect();
    wrong.truncate(NAMED);
    let mut faults = Vec::new();
    if !wrong.is_empty() {
        faults.push(format!("contains invalid ports: {}", wrong.join(", ")));
    }
    if !twice.is_empty() {
        faults.push(format!("contains duplicate ports: {}", twice.join(", ")));
    }
    if faults.is_empty() { Ok(ports) } else { refusal(faults.join(" and "), PORTS) }
}

fn port(item: &str, usual: Protocol) -> Option<ExposedPort> {
    let (number, protocol) = match item.split_once('/') {
        Some((number, word)) => (number, protocol(word).ok()?),
        None => (item, usual),
    };
    // `parse` alone would accept a leading `+`.
    let digits = number.bytes().all(|byte| byte.is_ascii_digit());
    let port = number.parse().ok().filter(|port| digits && *port > 0)?;
    Some(ExposedPort { port, protocol })
}

/// Checks that some gateway could hold these ports at all. All ports of a pod share one external
/// address, on which TCP and UDP have separate port ranges.
fn fits(
    ports: &[ExposedPort],
    same_port: bool,
    ranges: &[RangeInclusive<u16>],
) -> Result<(), Refusal> {
    if ranges.is_empty() {
        let why = "cannot be given in this namespace: every NAT gateway of the pool serves other namespaces";
        return refusal(why, "a namespace that networkController.natGwPool serves");
    }
    if same_port {
        return if ranges.iter().any(|range| ports.iter().all(|port| range.contains(&port.port))) {
            Ok(())
        } else {
            refusal(
                "cannot keep the same external ports (waygate.dev/same-port): no gateway has all of them",
                shown_ranges(ranges),
            )
        };
    }
    let most = ranges.iter().map(ExactSizeIterator::len).max().unwrap_or_default();
    let asked = [Protocol::Tcp, Protocol::Udp]
        .map(|protocol| ports.iter().filter(|port| port.protocol == protocol).count());
    match asked.into_iter().max() {
        Some(asked) if asked > most => refusal(
            format!("requests {asked} ports of one protocol, more than any address has"),
            format!("at most {most}"),
        ),
        _ => Ok(()),
    }
}

fn shown_ranges(ranges: &[RangeInclusive<u16>]) -> String {
    let ranges: Vec<String> =
        ranges.iter().map(|range| format!("{}–{}", range.start(), range.end())).collect();
    format!("ports of one of {}", ranges.join(", "))
}
