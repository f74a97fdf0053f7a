//! Targets: the network interface behind the pod's IP.

use super::situation::PodView;
use super::step::Step;
use crate::condition::Reason;
use crate::retry::RetryPolicy;
use std::net::Ipv4Addr;

/// Waits until the cloud shows an interface with the pod's IP.
pub(super) fn wait_for_interface(pod: &PodView, ip: Ipv4Addr, what: &str) -> Step {
    let node = pod.node.as_deref().unwrap_or("?");
    let message = format!(
        "{what} waits for the network interface of pod IP {ip} on node {node}: the cloud does not \
         show one yet; nodes whose pods have no address in the VPC (virtual nodes, overlay \
         networks) are not supported"
    );
    Step::wait_for(Reason::WaitingForInterface, RetryPolicy::Appearance, message)
}
