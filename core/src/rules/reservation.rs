//! What a pod waits for whose ports could not be reserved.

use crate::condition::Reason;
use crate::config::Gateway;
use crate::ids::AllocationId;
use crate::lease::Reserved;
use crate::plan::Wait;
use crate::retry::Patience;

/// Where ports were looked for.
#[derive(Clone, Copy, Debug)]
pub struct Searched<'a> {
    /// The gateways that serve the pod's namespace.
    pub gateways: &'a [&'a Gateway],
    /// All gateways of the configuration: those that a lease's ports stand on may serve other
    /// namespaces by now.
    pub configured: &'a [Gateway],
    /// The EIPs that were tried, in groups.
    pub candidates: &'a [Vec<AllocationId>],
    /// How many ports the pod asks for.
    pub ports: usize,
}

/// What the lease waits for; none where it has its ports.
pub fn wait_for(reserved: &Reserved, searched: &Searched<'_>) -> Option<Wait> {
    let gateways = listed(searched.gateways.iter().copied());
    let (reason, message) = match reserved {
        Reserved::Yes => return None,
        Reserved::NoRoom if searched.candidates.is_empty() => (
            Reason::GatewayUnavailable,
            format!(
                "none of the pool's NAT gateways is there, takes changes and has an EIP that may be used: {gateways}"
            ),
        ),
        Reserved::NoRoom => (
            Reason::NoFreePort,
            format!(
                "no EIP of {gateways} has {} free ports ({} looked at); add EIPs or widen the port range, or wait until others are freed",
                searched.ports,
                searched.candidates.iter().map(Vec::len).sum::<usize>(),
            ),
        ),
        Reserved::QuotaFull(full) => {
            let full = listed(
                searched.configured.iter().filter(|gateway| full.contains(&gateway.nat_gateway_id)),
            );
            let message = format!(
                "no gateway of the pool has room for the pod's forward entries, and those that have the ports are at their quota ({full}); \
                 raise it (natgw_quota_dnat_entry_num) or add a gateway, or wait until others are freed"
            );
            (Reason::QuotaExceeded, message)
        }
    };
    Some(Wait { reason, message, patience: Patience::Event })
}

/// Entries of the pool as people are told of them.
fn listed<'a>(gateways: impl Iterator<Item = &'a Gateway>) -> String {
    gateways.map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
