//! EIPs: the annotation that asks for one, the gate, and the annotation with the address.

/// The readiness gate of pods with an EIP, and the condition that answers it.
pub const GATE: &str = "k8s.aliyun.com/eip";
/// The annotation by which a pod asks for an EIP of its own.
pub const WITH_EIP: (&str, &str) = ("k8s.aliyun.com/pod-with-eip", "true");
/// The annotation with the address of a pod's EIP.
pub const ADDRESS_KEY: &str = "k8s.aliyun.com/allocated-eipAddress";
