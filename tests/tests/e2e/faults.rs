//! What other controllers were seen to do wrong, where it takes the whole to show it;
//! `docs/faults.md` has all of it. Each of these holds for EIPs and for DNAT, and is shown for
//! both.

mod ending;
mod gone;
mod hundred;
mod telling;

/// A kind of address, as a pod asks for it.
pub(crate) struct Kind {
    /// The pod's name.
    pub name: &'static str,
    /// What it asks for.
    pub asks: &'static [(&'static str, &'static str)],
    /// Its readiness gate.
    pub gate: &'static str,
    /// The annotation that tells it its address.
    pub told: &'static str,
    /// What makes its address.
    pub made_by: &'static str,
    /// What lets traffic through.
    pub programmed_by: &'static str,
    /// What shows that it does.
    pub proven_by: &'static str,
}

/// Both kinds.
pub(crate) const KINDS: [Kind; 2] = [
    Kind {
        name: "with-eip",
        asks: &[("k8s.aliyun.com/pod-with-eip", "true")],
        gate: "k8s.aliyun.com/eip",
        told: "k8s.aliyun.com/allocated-eipAddress",
        made_by: "AllocateEipAddress",
        programmed_by: "AssociateEipAddress",
        proven_by: "DescribeEipAddresses",
    },
    Kind {
        name: "with-dnat",
        asks: &[
            ("k8s.aliyun.com/pod-dnat", "true"),
            ("k8s.aliyun.com/pod-dnat-expose-port", "80,443"),
        ],
        gate: "k8s.aliyun.com/dnat",
        told: "k8s.aliyun.com/allocated-dnat",
        made_by: "CreateForwardEntry",
        programmed_by: "CreateForwardEntry",
        proven_by: "DescribeForwardTableEntries",
    },
];
