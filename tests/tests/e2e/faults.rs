//! Faults seen in other controllers that only a whole installation can show; `docs/faults.md` lists
//! all of them. Each test runs for EIPs and for DNAT.

mod ending;
mod gone;
mod hundred;
mod telling;

/// A kind of address, as a pod asks for it.
pub(crate) struct Kind {
    /// Name of the example pod.
    pub name: &'static str,
    /// Annotations that ask for the address.
    pub asks: &'static [(&'static str, &'static str)],
    /// Readiness gate of the pod, and the condition that answers it.
    pub gate: &'static str,
    /// The annotation with the allocated address.
    pub told: &'static str,
    /// Action of the API that makes the address.
    pub made_by: &'static str,
    /// Action of the API that lets traffic through.
    pub programmed_by: &'static str,
    /// Action of the API whose answer proves that traffic passes.
    pub proven_by: &'static str,
}

/// EIP and DNAT, for tests that run on each.
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
