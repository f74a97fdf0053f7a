//! What annotations are judged by.

use std::ops::RangeInclusive;

/// What must be known of a pod, beside its annotations, to judge them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context<'a> {
    /// The pod uses its node's network: no address of its own could be bound.
    pub host_network: bool,
    /// Controlled by a StatefulSet or one of the configuration's `customStatefulWorkloadKinds`.
    pub stateful: bool,
    /// The external ports of every gateway that serves the pod's namespace. While they are not
    /// known, nothing is judged by them.
    pub port_ranges: Option<&'a [RangeInclusive<u16>]>,
}
