//! The admission policy of all three endpoints: the configuration, and the users that may write
//! addresses.

use crate::objects::{Map, Pod};
use waygate_core::annotations::{Owner, ParsedAnnotations, Problem};
use waygate_core::config::{AdmissionMode, Config};
use waygate_core::request::Kind;

/// Rules by which every review is decided.
#[derive(Debug)]
pub struct AdmissionPolicy {
    config: Config,
    writers: Vec<String>,
}

impl AdmissionPolicy {
    /// Policy from a configuration; `writers` are the users that may write allocated addresses onto
    /// pods.
    pub fn new(config: Config, writers: Vec<String>) -> Self {
        Self { config, writers }
    }

    /// Parses a pod's annotations, for a namespace and the pod's controller.
    pub(crate) fn parse_pod(
        &self,
        pod: &Pod,
        namespace: &str,
        owner: Option<Owner>,
    ) -> ParsedAnnotations {
        self.parse_annotations_on(pod.metadata.annotations(), pod, namespace, owner)
    }

    /// Parses other annotations as if they were on this pod.
    pub(crate) fn parse_annotations_on(
        &self,
        annotations: &Map,
        pod: &Pod,
        namespace: &str,
        owner: Option<Owner>,
    ) -> ParsedAnnotations {
        self.config.read_annotations(
            annotations,
            namespace,
            owner,
            pod.spec.host_network.unwrap_or_default(),
        )
    }

    pub(crate) fn is_stateful(&self, owner: Option<Owner>) -> bool {
        owner.is_some_and(|owner| self.config.is_stateful(owner.kind))
    }

    /// True if addresses of this kind are switched on.
    pub(crate) fn serves_kind(&self, kind: Kind) -> bool {
        self.config.enables_kind(kind)
    }

    pub(crate) fn rejects_invalid(&self) -> bool {
        self.config.admission == AdmissionMode::Reject
    }

    /// True if a user may write allocated addresses onto a living pod: the worker, and service
    /// accounts of kube-system, such as the original controller, beside which Waygate may be tried.
    pub(crate) fn may_write_addresses(&self, user: &str) -> bool {
        user.starts_with("system:serviceaccount:kube-system:")
            || self.writers.iter().any(|writer| writer == user)
    }
}

/// Warning that addresses of a kind are switched off in the configuration.
pub(crate) fn not_served_warning(kind: Kind) -> String {
    let (what, controller) = match kind {
        Kind::Eip => ("EIPs", "eip"),
        Kind::Dnat => ("DNAT", "natgw"),
    };
    format!(
        "Waygate does not serve {what} in this cluster: {controller} is not among enableControllers, so this pod gets no address"
    )
}

/// Renders problems as warning texts.
pub(crate) fn problem_texts(problems: &[Problem]) -> impl Iterator<Item = String> {
    problems.iter().map(ToString::to_string)
}
