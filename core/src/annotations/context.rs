//! Facts about a pod, beside its annotations, that validation needs.

use std::ops::RangeInclusive;

/// The facts about a pod and its namespace that annotations are validated against.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context<'a> {
    /// The pod uses its node's network, so it has no address of its own to bind.
    pub host_network: bool,
    /// True if controlled by a StatefulSet or a kind of `customStatefulWorkloadKinds`.
    pub stateful: bool,
    /// The external port range of every gateway that serves the pod's namespace; none disables the
    /// checks against them.
    pub port_ranges: Option<&'a [RangeInclusive<u16>]>,
}
