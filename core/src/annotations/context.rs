//! Facts about a pod, beside its annotations, that validation needs.

use std::ops::RangeInclusive;

/// The facts about a pod and its namespace that annotations are validated against.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context<'a> {
    /// The pod uses its node's network, so it has no address of its own to bind.
    pub host_network: bool,
    /// The pod's controller; none if it has none, or if its author's workload is not known yet.
    pub owner: Option<Owner<'a>>,
    /// True if controlled by a StatefulSet or a kind of `customStatefulWorkloadKinds`.
    pub stateful: bool,
    /// The external port range of every gateway that serves the pod's namespace; none disables the
    /// checks against them.
    pub port_ranges: Option<&'a [RangeInclusive<u16>]>,
}

/// The controller of a pod, as its owner reference names it. The API server checks owner references
/// for nothing but their presence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner<'a> {
    /// Kind of the controller.
    pub kind: &'a str,
    /// Name of the controller.
    pub name: &'a str,
}
