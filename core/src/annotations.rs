//! Parses a pod's annotations into a request, and collects every problem in one pass.
//!
//! ```text
//! annotations ─▶ keys (prefixes, spellings) ─▶ values ─▶ eip | dnat ─▶ ParsedAnnotations
//! ```
//!
//! Invariant: [`ParsedAnnotations`] with a request have no problem. No input panics, valid or not:
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

pub use context::{Context, Owner};
pub use keys::{
    ALLOCATED_DNAT, ALLOCATED_EIP, ORIGINAL_PREFIXES, POD_LABEL, WAYGATE_PREFIX, is_allocated_key,
    is_waygate_key,
};
pub use problem::Problem;

use crate::request::{EipSource, Kind, Request, Requests};
use crate::text::Text;
use keys::Key;
use reader::Reader;
use std::collections::BTreeMap;

/// The result of parsing a pod's annotations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedAnnotations {
    /// The address requested; empty while there is any problem.
    pub requests: Requests,
    /// Every problem found, each a reason to reject the pod.
    pub problems: Vec<Problem>,
    /// Oddities that do no harm, such as unknown keys and settings without effect.
    pub warnings: Vec<Problem>,
    /// The value of `waygate.dev/readiness-gate`.
    pub gate: GatePreference,
}

/// The pod's preference for a readiness gate, from `waygate.dev/readiness-gate`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GatePreference {
    /// The annotation is absent: add a gate unless the pod could block its own rollout.
    #[default]
    Default,
    /// `"false"`: never add a gate.
    Never,
    /// `"true"`: always add a gate.
    Always,
}

/// Parses and checks a pod's annotations; every problem is reported, not only the first.
pub fn parse_annotations(
    annotations: &BTreeMap<String, String>,
    context: &Context,
) -> ParsedAnnotations {
    let mut reader = Reader::from_annotations(annotations);
    let eip = eip::read_eip_request(&mut reader, context);
    let dnat = dnat::read_dnat_request(&mut reader, context);
    let gate = read_gate_preference(&mut reader);
    check_unserved_keys(&mut reader);
    refuse_eip_beside_dnat(&mut reader);
    refuse_host_network(&mut reader, context);
    check_owner(&mut reader, context);
    warn_of_settings_without_feature(&mut reader);
    let (problems, warnings) = reader.into_findings();
    let address = eip.map(Request::Eip).or(dnat.map(Request::Dnat)).filter(|_| problems.is_empty());
    ParsedAnnotations { requests: Requests { address }, problems, warnings, gate }
}

/// True if the annotations switch an address on, valid or not: a cheap test for scans of many pods.
pub fn requests_address(annotations: &BTreeMap<String, String>) -> bool {
    requested_kind(annotations).is_some()
}

/// The kind of address that the annotations switch on, valid or not; the EIP if both are on.
pub fn requested_kind(annotations: &BTreeMap<String, String>) -> Option<Kind> {
    let switched_on =
        annotations.iter().filter_map(|(key, value)| match Key::from_annotation(key)? {
            // An unreadable switch counts as on, so that the pod is reported and not ignored.
            Key::PodDnat => values::parse_flag(value).unwrap_or(true).then_some(Kind::Dnat),
            Key::PodWithEip => values::parse_bool(value).unwrap_or(true).then_some(Kind::Eip),
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
pub fn readiness_gate_for(request: &Request, wish: GatePreference, stateful: bool) -> Option<Kind> {
    let waits_for_itself = !stateful
        && matches!(request, Request::Eip(eip) if matches!(eip.source, EipSource::Given(_)));
    match wish {
        GatePreference::Never => None,
        GatePreference::Default if waits_for_itself => None,
        GatePreference::Default | GatePreference::Always => Some(request.kind()),
    }
}

fn read_gate_preference(reader: &mut Reader) -> GatePreference {
    match reader.parse_value(Key::ReadinessGate, values::parse_bool) {
        None => GatePreference::Default,
        Some(false) => GatePreference::Never,
        Some(true) => GatePreference::Always,
    }
}

/// Checks the values of keys that have no effect yet, and warns where one is set.
fn check_unserved_keys(reader: &mut Reader) {
    const NOT_YET: &str = "is not served yet and has no effect";
    if reader
        .parse_value(Key::OnTimeout, values::parse_timeout_policy)
        .is_some_and(|policy| policy != "hold")
    {
        reader.add_warning(Key::OnTimeout, NOT_YET);
    }
    if reader.parse_value(Key::ReadyTimeout, values::parse_duration).is_some() {
        reader.add_warning(Key::ReadyTimeout, NOT_YET);
    }
    if reader.parse_value(Key::WaitForAddress, values::parse_bool) == Some(true) {
        reader.add_warning(Key::WaitForAddress, NOT_YET);
    }
    if reader.parse_value(Key::Paused, values::parse_bool) == Some(true) {
        reader.add_warning(Key::Paused, NOT_YET);
    }
}

fn refuse_eip_beside_dnat(reader: &mut Reader) {
    if reader.requests_kind(Kind::Eip) && reader.requests_kind(Kind::Dnat) {
        let why = "cannot be combined with an EIP: the cloud binds no EIP where DNAT entries exist";
        reader.add_problem(Key::PodDnat, why, "either an EIP or DNAT");
    }
}

fn refuse_host_network(reader: &mut Reader, context: &Context) {
    if !context.host_network {
        return;
    }
    for key in [Key::PodDnat, Key::PodWithEip, Key::PodEipInstanceId] {
        if reader.switched_on_by(key) {
            reader.add_problem(
                key,
                "cannot be served on hostNetwork, where the pod's IP is its node's",
                "pods with an IP of their own",
            );
        }
    }
}

/// Refuses a controller whose kind or name no object of Kubernetes has: both are stored with the
/// lease, by which successors find it.
fn check_owner(reader: &mut Reader, context: &Context) {
    let requests = Kind::ALL.into_iter().any(|kind| reader.requests_kind(kind));
    let Some(owner) = context.owner.filter(|_| requests) else { return };
    for (text, value) in [(Text::OwnerKind, owner.kind), (Text::OwnerName, owner.name)] {
        if let Err(fault) = text.check(value) {
            reader.add_other_problem(Problem::from_fault(text, value, fault));
        }
    }
}

fn warn_of_settings_without_feature(reader: &mut Reader) {
    for key in Key::all_keys() {
        let feature = key.address_kind();
        let without = match feature {
            Some(kind) => !reader.requests_kind(kind),
            None => !reader.requests_kind(Kind::Eip) && !reader.requests_kind(Kind::Dnat),
        };
        if without && reader.has_key(key) && !key.is_switch() {
            let switch = feature.map_or("an EIP or DNAT", |kind| match kind {
                Kind::Eip => "k8s.aliyun.com/pod-with-eip",
                Kind::Dnat => "k8s.aliyun.com/pod-dnat",
            });
            reader.add_warning(key, &format!("has no effect while {switch} is off"));
        }
    }
}
