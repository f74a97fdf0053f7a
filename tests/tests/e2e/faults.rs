//! Faults seen in other controllers that only a whole installation can show; `docs/faults.md` lists
//! all of them. Each test runs for EIPs and for DNAT.

mod lost_resources;
mod missed_ends;
mod publishing;
mod slow_gates;

/// A kind of address, as a pod asks for it.
pub(crate) struct ExamplePod {
    /// Name of the example pod.
    pub name: &'static str,
    /// Annotations that ask for the address.
    pub request: &'static [(&'static str, &'static str)],
    /// Readiness gate of the pod, and the condition that answers it.
    pub gate: &'static str,
    /// The annotation with the allocated address.
    pub address_key: &'static str,
    /// Action of the API that makes the address.
    pub creating_action: &'static str,
    /// Action of the API that lets traffic through.
    pub programming_action: &'static str,
    /// Action of the API whose answer proves that traffic passes.
    pub proving_action: &'static str,
}

/// EIP and DNAT, for tests that run on each.
pub(crate) const KINDS: [ExamplePod; 2] = [
    ExamplePod {
        name: "with-eip",
        request: &[("k8s.aliyun.com/pod-with-eip", "true")],
        gate: "k8s.aliyun.com/eip",
        address_key: "k8s.aliyun.com/allocated-eipAddress",
        creating_action: "AllocateEipAddress",
        programming_action: "AssociateEipAddress",
        proving_action: "DescribeEipAddresses",
    },
    ExamplePod {
        name: "with-dnat",
        request: &[
            ("k8s.aliyun.com/pod-dnat", "true"),
            ("k8s.aliyun.com/pod-dnat-expose-port", "80,443"),
        ],
        gate: "k8s.aliyun.com/dnat",
        address_key: "k8s.aliyun.com/allocated-dnat",
        creating_action: "CreateForwardEntry",
        programming_action: "CreateForwardEntry",
        proving_action: "DescribeForwardTableEntries",
    },
];
