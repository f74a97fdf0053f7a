//! The configuration file: the original controller's format, with a few settings added.
//!
//! ```text
//! YAML ─▶ tree ─▶ checks, path by path ─▶ Config, or every error at once
//! ```
//!
//! Invariant: nothing in this module shows a secret. Errors name paths and the values that stand
//! there, never the file's text, and no value at all under `credential`.

mod cursor;
mod pool;
mod scope;
mod shapes;
#[cfg(test)]
mod tests;

pub use cursor::Finding;
pub use pool::Gateway;

use crate::annotations::{self, Context, Owner, ParsedAnnotations};
use crate::ids::{RegionId, VpcId};
use crate::request::Kind;
use crate::selector::LabelSelector;
use crate::text::Text;
use cursor::{Cursor, Findings};
use secrecy::SecretString;
use serde_json::Value;
use shapes::{is_id, is_place};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;

/// A validated configuration file.
#[derive(Clone, Debug)]
pub struct Config {
    /// `clusterID`: names this cluster in messages and in the store.
    pub cluster_id: String,
    /// `regionID`: the cloud region of the cluster, such as `cn-hangzhou`.
    pub region_id: RegionId,
    /// `vpcID`: the VPC of the cluster's nodes and pods.
    pub vpc_id: VpcId,
    /// `enableControllers`: the kinds of address that are served.
    pub controllers: BTreeSet<Controller>,
    /// `natGwPool`: the NAT gateways whose ports pods share; empty unless DNAT is on.
    pub gateways: Vec<Gateway>,
    /// `eipController`: preemption of given EIPs, and two numbers without effect.
    pub eip: EipController,
    /// Kinds of controllers, beside StatefulSet, whose pods keep their names.
    pub stateful_kinds: BTreeSet<String>,
    /// The AccessKey pair; none if credentials come from elsewhere, such as RRSA.
    pub credential: Option<Credential>,
    /// `serve.namespaceSelector`: selects the namespaces to serve by their labels.
    pub namespace_selector: LabelSelector,
    /// `admission.mode`: rejects pods with invalid annotations, or only warns.
    pub admission: AdmissionMode,
}

/// A controller that `enableControllers` can switch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    /// DNAT on NAT gateways (`natgw`).
    Natgw,
    /// EIPs for single pods (`eip`).
    Eip,
}

/// Settings under `networkController.eipController`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EipController {
    /// `maxConcurrentReconciles`: checked, and without effect; the cloud's rates bound the speed.
    pub max_concurrent_reconciles: u32,
    /// `garbageCollectionPeriodInMinutes`: checked, and without effect; retentions end by
    /// Postgres' clock.
    pub garbage_collection_minutes: u32,
    /// `allowTakeover`: true if a given EIP may pass from an older pod, or from a foreign
    /// interface, to the pod that names it.
    pub allow_takeover: bool,
}

impl Default for EipController {
    fn default() -> Self {
        Self { max_concurrent_reconciles: 1, garbage_collection_minutes: 1, allow_takeover: false }
    }
}

/// An AccessKey pair for the cloud's API.
#[derive(Clone, Debug)]
pub struct Credential {
    /// AccessKey ID (`accessKey`); secret here as well.
    pub access_key: SecretString,
    /// Secret of the AccessKey (`accessSecret`).
    pub access_secret: SecretString,
}

/// The admission server's reaction to invalid annotations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AdmissionMode {
    /// Reject the pod, and say why.
    #[default]
    Reject,
    /// Admit the pod with warnings; useful during a migration.
    Warn,
}

/// Every error of a configuration file, with paths.
#[derive(Debug, thiserror::Error)]
pub struct Errors(pub Vec<Finding>);

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid configuration:")?;
        self.0.iter().try_for_each(|finding| write!(f, "\n  {finding}"))
    }
}

impl Config {
    /// Parses and checks a configuration file. On success, warnings for the log come with it; on
    /// failure, every error.
    pub fn from_yaml(text: &str) -> Result<(Self, Vec<Finding>), Errors> {
        let root = parse_yaml(text).map_err(|finding| Errors(vec![finding]))?;
        let mut findings = Findings::default();
        let config = read_config(&Cursor::at_root(&root), &mut findings);
        match config {
            Some(config) if findings.errors.is_empty() => Ok((config, findings.warnings)),
            _ => Err(Errors(findings.errors)),
        }
    }

    /// True if `enableControllers` switches on addresses of this kind.
    pub fn enables_kind(&self, kind: Kind) -> bool {
        self.controllers.contains(&match kind {
            Kind::Eip => Controller::Eip,
            Kind::Dnat => Controller::Natgw,
        })
    }

    /// Parses the annotations of a pod in this namespace, whose controller this is.
    pub fn read_annotations(
        &self,
        annotations: &BTreeMap<String, String>,
        namespace: &str,
        owner: Option<Owner>,
        host_network: bool,
    ) -> ParsedAnnotations {
        let port_ranges = self.port_ranges(namespace);
        let stateful = owner.is_some_and(|owner| self.is_stateful(owner.kind));
        annotations::parse_annotations(
            annotations,
            &Context { host_network, owner, stateful, port_ranges: port_ranges.as_deref() },
        )
    }

    /// True if pods controlled by this kind keep their names, and may therefore keep their
    /// addresses.
    pub fn is_stateful(&self, kind: &str) -> bool {
        kind == "StatefulSet" || self.stateful_kinds.contains(kind)
    }

    /// The gateways whose ports pods of a namespace may get; empty if every pool entry names other
    /// namespaces.
    pub fn gateways_of(&self, namespace: &str) -> Vec<&Gateway> {
        pool::gateways_serving(&self.gateways, namespace)
    }

    /// External port ranges of those gateways, for the validation of annotations; none while DNAT
    /// is off, so that no port is checked.
    pub fn port_ranges(&self, namespace: &str) -> Option<Vec<RangeInclusive<u16>>> {
        let on = self.controllers.contains(&Controller::Natgw);
        on.then(|| {
            self.gateways_of(namespace).into_iter().map(|gateway| gateway.ports.clone()).collect()
        })
    }
}

/// Parses YAML. The parser's own messages quote the file, so an error only gives the position.
fn parse_yaml(text: &str) -> Result<Value, Finding> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let place = error.location().map_or_else(String::new, |at| {
            format!(" at line {}, column {}", at.line(), at.column())
        });
        Finding {
            path: "file".to_owned(),
            message: format!("is not valid YAML, or contains a key twice{place}"),
        }
    })
}

fn read_config(root: &Cursor, findings: &mut Findings) -> Option<Config> {
    /// Keys of the same file that only the original's Helm chart reads.
    const OF_THE_CHART: [&str; 2] = ["affinity", "vpcid"];
    const KNOWN: [&str; 8] = [
        "clusterID",
        "regionID",
        "vpcID",
        "enableControllers",
        "networkController",
        "credential",
        "serve",
        "admission",
    ];
    root.check_keys(&KNOWN, &OF_THE_CHART, findings);
    let cluster_id = root.at_key("clusterID").read_matching(
        |text| Text::ClusterId.allows(text),
        "1 to 64 letters, digits, hyphens and underscores",
        findings,
    );
    let region_id = root.at_key("regionID").read_matching(
        |text| Text::RegionId.allows(text) && is_place(text),
        "a region such as cn-hangzhou",
        findings,
    );
    let vpc_id = root.at_key("vpcID").read_matching(
        |text| Text::VpcId.allows(text) && is_id(text, "vpc-"),
        "vpc-…",
        findings,
    );
    let controllers = read_controllers(&root.at_key("enableControllers"), findings);
    let network = root.at_key("networkController");
    network.check_keys(
        &["natGwPool", "eipController", "customStatefulWorkloadKinds"],
        &[],
        findings,
    );
    let pool = network.at_key("natGwPool");
    let gateways = if controllers.contains(&Controller::Natgw) {
        pool::read_gateways(&pool, findings)
    } else {
        Vec::new()
    };
    let eip = read_eip_controller(&network.at_key("eipController"), findings);
    let stateful_kinds = network.at_key("customStatefulWorkloadKinds").read_matching_items(
        |text| Text::StatefulKind.allows(text),
        "a kind such as CloneSet",
        findings,
    );
    let credential = read_credential(&root.at_key("credential"), findings);
    let namespace_selector = scope::read_selector(&root.at_key("serve"), findings);
    let admission = read_admission_mode(&root.at_key("admission"), findings);
    // All sections are read before the first `?`, so that every error is reported at once.
    Some(Config {
        cluster_id: cluster_id?.to_owned(),
        region_id: RegionId::new(region_id?),
        vpc_id: VpcId::new(vpc_id?),
        controllers,
        gateways,
        eip,
        stateful_kinds: stateful_kinds.into_iter().map(|(_, kind)| kind.to_owned()).collect(),
        credential,
        namespace_selector,
        admission,
    })
}

fn read_controllers(cursor: &Cursor, findings: &mut Findings) -> BTreeSet<Controller> {
    const KNOWN: [&str; 3] = ["natgw", "eip", "ipv6gw"];
    let mut controllers = BTreeSet::new();
    if cursor.is_absent() {
        findings.add_error(cursor, "is required: a list of natgw and eip");
    }
    for (item, name) in cursor.read_choices(&KNOWN, findings) {
        match name {
            "natgw" => controllers.insert(Controller::Natgw),
            "eip" => controllers.insert(Controller::Eip),
            _ => {
                findings.add_warning(&item, "names ipv6gw, which is not served yet");
                true
            }
        };
    }
    if controllers.is_empty() {
        findings.add_warning(cursor, "enables no controller that is served");
    }
    controllers
}

fn read_eip_controller(cursor: &Cursor, findings: &mut Findings) -> EipController {
    cursor.check_keys(
        &["maxConcurrentReconciles", "garbageCollectionPeriodInMinutes", "allowTakeover"],
        &[],
        findings,
    );
    let usual = EipController::default();
    let number = |key, most, usual, findings: &mut Findings| {
        cursor
            .at_key(key)
            .read_number(1..=most, findings)
            .and_then(|number| u32::try_from(number).ok())
            .unwrap_or(usual)
    };
    EipController {
        // The original's number of pods worked on at once: more than this is a typing error.
        max_concurrent_reconciles: number(
            "maxConcurrentReconciles",
            1000,
            usual.max_concurrent_reconciles,
            findings,
        ),
        // At most a day: the original's retained EIPs cost money until its next scan.
        garbage_collection_minutes: number(
            "garbageCollectionPeriodInMinutes",
            1440,
            usual.garbage_collection_minutes,
            findings,
        ),
        allow_takeover: cursor
            .at_key("allowTakeover")
            .read_bool(findings)
            .unwrap_or(usual.allow_takeover),
    }
}

/// Both halves of the AccessKey pair, or none: the documents' sample leaves both empty.
fn read_credential(cursor: &Cursor, findings: &mut Findings) -> Option<Credential> {
    cursor.check_keys(&["accessKey", "accessSecret"], &[], findings);
    let mut half = |key, text: Text| {
        let at = cursor.at_key(key);
        let value = at.read_string(findings).filter(|value| !value.is_empty())?;
        // The fault does not quote the value.
        if let Err(fault) = text.check(value) {
            findings.add_error(&at, fault.to_string());
        }
        Some(SecretString::from(value))
    };
    match (half("accessKey", Text::AccessKey), half("accessSecret", Text::AccessSecret)) {
        (Some(access_key), Some(access_secret)) => Some(Credential { access_key, access_secret }),
        (None, None) => None,
        _ => {
            findings.add_error(cursor, "is incomplete: set accessKey and accessSecret, or neither");
            None
        }
    }
}

fn read_admission_mode(cursor: &Cursor, findings: &mut Findings) -> AdmissionMode {
    cursor.check_keys(&["mode"], &[], findings);
    match cursor.at_key("mode").read_choice(&["reject", "warn"], findings) {
        Some("warn") => AdmissionMode::Warn,
        _ => AdmissionMode::Reject,
    }
}
