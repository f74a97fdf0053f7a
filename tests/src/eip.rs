//! EIPs, as pods ask for them and are told of them.

/// The readiness gate of pods with an EIP, and the condition that answers it.
pub const GATE: &str = "k8s.aliyun.com/eip";
/// The annotation by which a pod asks for an EIP of its own.
pub const WITH_EIP: (&str, &str) = ("k8s.aliyun.com/pod-with-eip", "true");
/// The annotation that tells a pod its EIP's address.
pub const ADDRESS: &str = "k8s.aliyun.com/allocated-eipAddress";
