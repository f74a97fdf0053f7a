//! Conversion between columns and the core's types.

use crate::error::Error;
use jiff::Timestamp;
use std::net::Ipv4Addr;
use waygate_core::lease::{Phase, PortKey};
use waygate_core::request::{Kind, Protocol, Request, Retention};

pub(crate) fn parse_address(text: &str) -> Result<Ipv4Addr, Error> {
    text.parse().map_err(|_| Error::corrupt_value(format_args!("address \"{text}\"")))
}

pub(crate) fn port_from_column(number: i32) -> Result<u16, Error> {
    u16::try_from(number).map_err(|_| Error::corrupt_value(format_args!("port {number}")))
}

/// The schema allows no third kind, so this cannot fail.
pub(crate) fn parse_kind(text: &str) -> Kind {
    if text == Kind::Eip.as_str() { Kind::Eip } else { Kind::Dnat }
}

pub(crate) fn protocol_from_number(number: i16) -> Protocol {
    if number == Protocol::Udp.ip_protocol_number() { Protocol::Udp } else { Protocol::Tcp }
}

pub(crate) fn timestamp_from_seconds(seconds: f64) -> Result<Timestamp, Error> {
    jiff::SignedDuration::try_from_secs_f64(seconds)
        .and_then(Timestamp::from_duration)
        .map_err(Error::corrupt_value)
}

pub(crate) fn parse_phase(text: &str) -> Result<Phase, Error> {
    [Phase::Announced, Phase::Provisioning, Phase::Bound, Phase::Retained, Phase::Releasing]
        .into_iter()
        .find(|phase| phase.as_str() == text)
        .ok_or_else(|| Error::corrupt_value(format_args!("phase \"{text}\"")))
}

/// The key columns (allocation_id, proto, range start) of an entry's port rows.
pub(crate) fn port_key_columns(port: &PortKey) -> (&str, i16, i32) {
    (port.allocation_id.as_str(), port.protocol.ip_protocol_number(), i32::from(port.port))
}

/// True if the lease outlives its pod: a successor of the same name may get it.
pub(crate) fn outlives_pod(request: &Request) -> bool {
    request.retention() != Retention::None
}

pub(crate) fn request_to_json(request: &Request) -> Result<serde_json::Value, Error> {
    serde_json::to_value(request).map_err(Error::corrupt_value)
}
