//! Parses a pod's annotations into a request, and collects every problem in one pass.
//!
//! ```text
//! annotations ─▶ keys (two prefixes, several spellings) ─▶ values ─▶ eip | dnat ─▶ Reading
//! ```
//!
//! Invariant: a [`Reading`] that holds a request holds no problem. No input panics, valid or not:
//! the webhook reads annotations before the API server has validated them.

mod context;
mod dnat;
mod eip;
mod keys;
mod problem;
#[cfg(test)]
mod properties;
mod reader;
#[cfg(test)]
mod tests;
mod values;

pub use context::Context;
pub use keys::{ALLOCATED_DNAT, ALLOCATED_EIP, LABEL, OURS, PREFIXES, is_allocated, is_ours};
pub use problem::Problem;

use crate::request::{EipSource, Kind, Request, Requests};
use keys::Key;
use reader::Reader;
use std::collections::BTreeMap;

/// The result of parsing a pod's annotations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The address requested; empty while there is any problem.
    pub requests: Requests,
    /// Every problem found, each a reason to reject the pod.
    pub problems: Vec<Problem>,
    /// Oddities that do no harm, such as unknown keys and settings without effect.
    pub warnings: Vec<Problem>,
    /// The value of `waygate.dev/readiness-gate`.
    pub gate: GateWish,
}

/// The pod's preference for a readiness gate, from `waygate.dev/readiness-gate`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GateWish {
    /// The annotation is absent: add a gate unless the pod could block its own rollout.
    #[default]
    Default,
    /// `"false"`: never add a gate.
    Never,
    /// `"true"`: always add a gate.
    Always,
}

/// Parses and checks a pod's annotations; every problem is reported, not only the first.
pub fn read(annotations: &BTreeMap<String, String>, context: &Context) -> Reading {
    let mut reader = Reader::gather(annotations);
    let eip = eip::read(&mut reader, context);
    let dnat = dnat::read(&mut reader, context);
    let gate = gate_wish(&mut reader);
    not_served_yet(&mut reader);
    exclude_each_other(&mut reader);
    refuse_host_network(&mut reader, context);
    warn_of_settings_without_feature(&mut reader);
    let (problems, warnings) = reader.finish();
    let address = eip.map(Request::Eip).or(dnat.map(Request::Dnat)).filter(|_| problems.is_empty());
    Reading { requests: Requests { address }, problems, warnings, gate }
}

/// True if the annotations switch an address on, valid or not: a cheap test for scans of many pods.
pub fn wants_address(annotations: &BTreeMap<String, String>) -> bool {
    wanted_kind(annotations).is_some()
}

/// The kind of address that the annotations switch on, valid or not; the EIP if both are on.
pub fn wanted_kind(annotations: &BTreeMap<String, String>) -> Option<Kind> {
    let switched_on = annotations.iter().filter_map(|(key, value)| match Key::of(key)? {
        // An unreadable switch counts as on, so that the pod is reported and not ignored.
        Key::PodDnat => values::flag(value).unwrap_or(true).then_some(Kind::Dnat),
        Key::PodWithEip => values::boolean(value).unwrap_or(true).then_some(Kind::Eip),
        Key::PodEipInstanceId => (!value.is_empty()).then_some(Kind::Eip),
        _ => None,
    });
    switched_on.min()
}

/// The readiness gate to add for a request; none if the pod declines it.
///
/// By default a given EIP gets no gate on a pod that is not stateful. A rolling Deployment would
/// deadlock: the new pod waits for the EIP, and the old pod keeps the EIP until the new one is
/// Ready.
pub fn gate_for(request: &Request, wish: GateWish, stateful: bool) -> Option<Kind> {
    let waits_for_itself = !stateful
        && matches!(request, Request::Eip(eip) if matches!(eip.source, EipSource::Given(_)));
    match wish {
        GateWish::Never => None,
        GateWish::Default if waits_for_itself => None,
        GateWish::Default | GateWish::Always => Some(request.kind()),
    }
}

fn gate_wish(reader: &mut Reader) -> GateWish {
    match reader.parse(Key::ReadinessGate, values::boolean) {
        None => GateWish::Default,
        Some(false) => GateWish::Never,
        Some(true) => GateWish::Always,
    }
}

/// Checks the values of keys that have no effect yet, and warns where one is set.
fn not_served_yet(reader: &mut Reader) {
    const NOT_YET: &str = "is not served yet and has no effect";
    if reader.parse(Key::OnTimeout, values::on_timeout).is_some_and(|policy| policy != "hold") {
        reader.warn(Key::OnTimeout, NOT_YET);
    }
    if reader.parse(Key::ReadyTimeout, values::duration).is_some() {
        reader.warn(Key::ReadyTimeout, NOT_YET);
    }
    if reader.parse(Key::WaitForAddress, values::boolean) == Some(true) {
        reader.warn(Key::WaitForAddress, NOT_YET);
    }
    if reader.parse(Key::Paused, values::boolean) == Some(true) {
        reader.warn(Key::Paused, NOT_YET);
    }
}

fn exclude_each_other(reader: &mut Reader) {
    if reader.on(Kind::Eip) && reader.on(Kind::Dnat) {
        let why = "cannot be combined with an EIP: the cloud binds no EIP where DNAT entries exist";
        reader.refuse(Key::PodDnat, why, "either an EIP or DNAT");
    }
}

fn refuse_host_network(reader: &mut Reader, context: &Context) {
    if !context.host_network {
        return;
    }
    for key in [Key::PodDnat, Key::PodWithEip, Key::PodEipInstanceId] {
        if reader.switched_on_by(key) {
            reader.refuse(
                key,
                "cannot be served on hostNetwork, where the pod's IP is its node's",
                "pods with an IP of their own",
            );
        }
    }
}

fn warn_of_settings_without_feature(reader: &mut Reader) {
    for key in Key::ALL {
        let feature = key.feature();
        let without = match feature {
            Some(kind) => !reader.on(kind),
            None => !reader.on(Kind::Eip) && !reader.on(Kind::Dnat),
        };
        if without && reader.has(key) && !key.is_switch() {
            let switch = feature.map_or("an EIP or DNAT", |kind| match kind {
                Kind::Eip => "k8s.aliyun.com/pod-with-eip",
                Kind::Dnat => "k8s.aliyun.com/pod-dnat",
            });
            reader.warn(key, &format!("has no effect while {switch} is off"));
        }
    }
}
