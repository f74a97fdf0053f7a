//! What is read of the cloud for one lease, and how fresh a shared list must be.

use super::timing::{POLLED_LIST, RESTING_LIST};
use crate::change::Change;
use crate::condition::Reason;
use crate::facts::ForwardEntry;
use crate::ids::{AllocationId, NatGatewayId};
use crate::lease::{Lease, PortSpan};
use crate::names::Owner;
use crate::operation::{Operation, Sending};
use crate::plan::PodFact;
use crate::request::{EipRequest, EipSource, Request};
use std::net::Ipv4Addr;
use std::time::Duration;

/// The reads that a lease's plan needs; each is none where it is not needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloudReads<'a> {
    /// The EIP that the lease has, or the one its pod names.
    pub eip: Option<&'a AllocationId>,
    /// The EIPs that carry the lease's tag: the effect of an allocation whose answer was lost.
    pub tagged: bool,
    /// The EIPs of the pool that the pod takes one from.
    pub pool: Option<&'a str>,
    /// The interface that owns the pod's address.
    pub interface: Option<Ipv4Addr>,
    /// The entries of the gateway on which the lease's ports stand.
    pub entries: Option<&'a NatGatewayId>,
}

/// What must be read for this lease.
pub fn needed<'a>(lease: &'a Lease, operations: &[Operation], pod: &PodFact) -> CloudReads<'a> {
    let source = match &lease.request {
        Request::Eip(EipRequest { source, .. }) if lease.eip.is_none() => Some(source),
        Request::Eip(_) | Request::Dnat(_) => None,
    };
    let given = if let Some(EipSource::Given(id)) = source { Some(id) } else { None };
    let allocates = |operation: &Operation| {
        matches!(
            operation.change,
            Change::AllocateEipAddress { .. } | Change::AllocateEipAddressPro { .. }
        )
    };
    CloudReads {
        eip: lease.eip.as_ref().map(|leased| &leased.allocation_id).or(given),
        tagged: operations.iter().any(allocates),
        pool: if let Some(EipSource::Pool(pool)) = source { Some(pool) } else { None },
        interface: pod_ip(pod)
            .filter(|ip| lease.target.as_ref().is_none_or(|target| target.private_ip != *ip)),
        entries: lease.ports.first().map(|port| &port.gateway_id),
    }
}

/// The pod's address, while it is there.
pub fn pod_ip(pod: &PodFact) -> Option<Ipv4Addr> {
    if let PodFact::Here(here) = pod { here.ip } else { None }
}

/// How old a list of entries may be that this lease shares with others: lists are long, and leases
/// at a busy gateway many. Zero: one of its own, since an answer was lost or a read was doubted,
/// and the next read decides. `reason` is what the lease waited for last.
pub fn max_list_age(lease: &Lease, operations: &[Operation], reason: Option<&str>) -> Duration {
    let only_queued = operations.iter().all(|operation| operation.sending == Sending::Queued);
    let polls = [Reason::EntriesPending, Reason::PortForwardedElsewhere]
        .map(|polled| Some(polled.as_str()))
        .contains(&reason);
    match lease.doubts {
        0 if only_queued && polls => POLLED_LIST,
        0 if only_queued => RESTING_LIST,
        _ => Duration::ZERO,
    }
}

/// The entries of a gateway that are not this store's.
pub fn foreign_entries(owner: Owner, entries: &[ForwardEntry]) -> Vec<&ForwardEntry> {
    entries.iter().filter(|entry| !owner.shares_store(&entry.name)).collect()
}

/// The ports that these entries occupy on the given addresses.
pub fn occupied_ports(
    entries: &[&ForwardEntry],
    eips: &[(&AllocationId, Ipv4Addr)],
) -> Vec<PortSpan> {
    let span = |entry: &&ForwardEntry| {
        let (id, _) = eips.iter().find(|(_, address)| *address == entry.external_ip)?;
        Some(PortSpan {
            allocation_id: (*id).clone(),
            protocol: entry.protocol(),
            ports: entry.external_ports(),
        })
    };
    entries.iter().filter_map(span).collect()
}
