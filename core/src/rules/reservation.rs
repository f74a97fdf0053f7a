//! Waits of a pod whose ports could not be reserved.

use crate::condition::Reason;
use crate::config::Gateway;
use crate::ids::AllocationId;
use crate::lease::PortReservation;
use crate::plan::Wait;
use crate::retry::RetryPolicy;

/// Extent of a search for free ports.
#[derive(Clone, Copy, Debug)]
pub struct PortSearch<'a> {
    /// Gateways that serve the pod's namespace.
    pub gateways: &'a [&'a Gateway],
    /// All gateways of the configuration: the gateway of a lease's ports may serve other namespaces
    /// by now.
    pub configured: &'a [Gateway],
    /// EIPs that were tried, in groups of equal preference.
    pub candidates: &'a [Vec<AllocationId>],
    /// Number of ports that the pod asks for.
    pub ports: usize,
}

/// Wait of the lease after the search; none if its ports are reserved.
pub fn wait_after_reservation(
    reserved: &PortReservation,
    searched: &PortSearch<'_>,
) -> Option<Wait> {
    let gateways = join_gateways(searched.gateways.iter().copied());
    let (reason, message) = match reserved {
        PortReservation::Reserved => return None,
        PortReservation::NoRoom if searched.candidates.is_empty() => (
            Reason::GatewayUnavailable,
            format!(
                "no NAT gateway of the pool exists, takes changes and has a usable EIP; check them \
                 in the console and in natGwPool: {gateways}"
            ),
        ),
        PortReservation::NoRoom => (
            Reason::NoFreePort,
            format!(
                "no EIP of {gateways} has {} free ports ({} checked); add EIPs or widen the port \
                 range, or wait until ports are freed",
                searched.ports,
                searched.candidates.iter().map(Vec::len).sum::<usize>(),
            ),
        ),
        PortReservation::QuotaFull(full) => {
            let full = join_gateways(
                searched.configured.iter().filter(|gateway| full.contains(&gateway.nat_gateway_id)),
            );
            let message = format!(
                "no gateway of the pool has room for the pod's forward entries, and those with \
                 free ports are at their quota ({full}); raise it (natgw_quota_dnat_entry_num) or \
                 add a gateway, or wait until entries are freed"
            );
            (Reason::QuotaExceeded, message)
        }
    };
    Some(Wait { reason, message, retry_policy: RetryPolicy::Event })
}

/// Gateways by the names that messages use, separated by commas.
fn join_gateways<'a>(gateways: impl Iterator<Item = &'a Gateway>) -> String {
    gateways.map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
