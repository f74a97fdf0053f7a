//! Reads of the cloud for one lease, and the age limit of shared lists.

use super::timing::{POLLED_LIST_AGE, SHARED_LIST_AGE};
use crate::change::Change;
use crate::cloud_facts::ForwardEntry;
use crate::condition::Reason;
use crate::ids::{AllocationId, NatGatewayId};
use crate::lease::{Lease, PortSpan};
use crate::operation::{Operation, SendState};
use crate::ownership::Owner;
use crate::plan::PodState;
use crate::request::{EipRequest, EipSource, Request};
use std::net::Ipv4Addr;
use std::time::Duration;

/// Reads that a lease's plan needs; each is none or false where it is not needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloudReads<'a> {
    /// EIP that the lease has, or the one that its pod names.
    pub eip: Option<&'a AllocationId>,
    /// True to read the EIPs that carry the lease's tag: the effect of an allocation whose answer
    /// was lost.
    pub tagged: bool,
    /// Name of the EIP pool that the pod takes an EIP from.
    pub pool: Option<&'a str>,
    /// Pod's address, to find the interface that owns it.
    pub interface: Option<Ipv4Addr>,
    /// Gateway on which the lease's ports lie, to read its entries.
    pub entries: Option<&'a NatGatewayId>,
}

/// Reads that this lease needs now.
pub fn required_reads<'a>(
    lease: &'a Lease,
    operations: &[Operation],
    pod: &PodState,
) -> CloudReads<'a> {
    let source = match &lease.request {
        Request::Eip(EipRequest { source, .. }) if lease.eip.is_none() => Some(source),
        Request::Eip(_) | Request::Dnat(_) => None,
    };
    let given = if let Some(EipSource::Given(id)) = source { Some(id) } else { None };
    let allocates = |operation: &Operation| {
        operation.send_state != SendState::Queued
            && matches!(
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

/// IPv4 address of the pod; none if the pod is gone or has none yet.
pub fn pod_ip(pod: &PodState) -> Option<Ipv4Addr> {
    if let PodState::Present(here) = pod { here.ip } else { None }
}

/// Greatest age of an entry list that this lease shares with others: lists are long, and a busy
/// gateway has many leases. Zero asks for a list of its own: an answer was lost or a read was
/// missed, and the next read decides. `reason` is the reason of the lease's last wait.
pub fn max_list_age(lease: &Lease, operations: &[Operation], reason: Option<&str>) -> Duration {
    let only_queued = operations.iter().all(|operation| operation.send_state == SendState::Queued);
    let polls = [Reason::EntriesPending, Reason::PortForwardedElsewhere]
        .map(|polled| Some(polled.as_str()))
        .contains(&reason);
    match lease.missed_reads {
        0 if only_queued && polls => POLLED_LIST_AGE,
        0 if only_queued => SHARED_LIST_AGE,
        _ => Duration::ZERO,
    }
}

/// Foreign entries of a gateway: not made by this store, in any cluster.
pub fn foreign_entries(owner: Owner, entries: &[ForwardEntry]) -> Vec<&ForwardEntry> {
    entries.iter().filter(|entry| !owner.shares_store(&entry.name)).collect()
}

/// External ports that these entries occupy on the given EIPs.
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
