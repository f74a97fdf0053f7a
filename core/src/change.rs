//! Changes to ask of the cloud: pure values, frozen in the store before they are sent.
//!
//! A change is serialised into its operation row as it is, and a repeat reads the row back, so that
//! every send of one operation carries the same parameters and the same `ClientToken`.

use crate::cloud_facts::format_ports;
use crate::ids::{AllocationId, BandwidthPackageId, EniId, ForwardEntryId, ForwardTableId};
use crate::request::{EipSpec, Protocol};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// A change of a single resource in the cloud.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action")]
pub enum Change {
    /// Buys an EIP; the answer carries the ID.
    AllocateEipAddress {
        /// Bandwidth, billing and the other settings that the EIP is bought with.
        spec: EipSpec,
        /// Waygate's own tags, beside the user's in `spec`; set in the same call, so that no EIP of
        /// Waygate's is ever without an owner.
        tags: BTreeMap<String, String>,
    },
    /// Buys back the EIP with this address, which the account has held less than seven days ago;
    /// the answer carries a new ID.
    AllocateEipAddressPro {
        /// Public address to buy back.
        ip_address: Ipv4Addr,
        /// Settings to buy it with. The action takes no name and no description: both are set
        /// afterwards.
        spec: EipSpec,
        /// Waygate's own tags, as with a new EIP.
        tags: BTreeMap<String, String>,
    },
    /// Binds an EIP to one private address of an interface, in bind mode `NAT`.
    AssociateEipAddress {
        /// EIP to bind, `eip-…`.
        allocation_id: AllocationId,
        /// Interface that owns `private_ip`.
        eni_id: EniId,
        /// Address of the interface to bind to.
        private_ip: Ipv4Addr,
    },
    /// Unbinds an EIP from exactly this address, and from nothing else.
    UnassociateEipAddress {
        /// EIP to unbind, `eip-…`.
        allocation_id: AllocationId,
        /// Interface that the EIP was bound to.
        eni_id: EniId,
        /// Address of the interface to unbind from.
        private_ip: Ipv4Addr,
    },
    /// Gives an EIP back for good. Takes no token: repeating the call is safe, and `NotFound` is
    /// the proof that the EIP is gone.
    ReleaseEipAddress {
        /// EIP to release, `eip-…`.
        allocation_id: AllocationId,
    },
    /// Lets an EIP join a shared bandwidth package.
    AddCommonBandwidthPackageIp {
        /// EIP that joins, `eip-…`.
        allocation_id: AllocationId,
        /// Shared bandwidth package to join, `cbwp-…`.
        package_id: BandwidthPackageId,
    },
    /// Takes an EIP out of a shared bandwidth package.
    RemoveCommonBandwidthPackageIp {
        /// EIP that leaves, `eip-…`.
        allocation_id: AllocationId,
        /// Shared bandwidth package to leave, `cbwp-…`.
        package_id: BandwidthPackageId,
    },
    /// Sets attributes to absolute values; `None` leaves one as it is. Takes no token.
    ModifyEipAddressAttribute {
        /// EIP to change, `eip-…`.
        allocation_id: AllocationId,
        /// Peak bandwidth in Mbit/s.
        bandwidth: Option<u32>,
        /// New name of the EIP.
        name: Option<String>,
        /// New description of the EIP.
        description: Option<String>,
    },
    /// Adds a DNAT entry; the answer carries the ID.
    CreateForwardEntry(ForwardEntrySpec),
    /// Points an existing entry elsewhere; the entry keeps its ID.
    ModifyForwardEntry {
        /// Entry to change, `fwd-…`.
        entry_id: ForwardEntryId,
        /// Content of the entry afterwards.
        forward: ForwardEntrySpec,
    },
    /// Removes a DNAT entry.
    DeleteForwardEntry {
        /// DNAT table that holds the entry.
        table_id: ForwardTableId,
        /// Entry to delete, `fwd-…`.
        entry_id: ForwardEntryId,
    },
}

/// The content of one DNAT entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardEntrySpec {
    /// DNAT table of the gateway, `ftb-…`.
    pub table_id: ForwardTableId,
    /// Entry name, which carries ownership: `wg2.<store>.<cluster>.<lease>.<generation>`.
    pub name: String,
    /// Public address of an EIP that is bound to the gateway.
    pub external_ip: Ipv4Addr,
    /// First of the external ports.
    pub external_port: u16,
    /// IPv4 address of the pod.
    pub internal_ip: Ipv4Addr,
    /// First of the pod's ports.
    pub internal_port: u16,
    /// Number of adjacent ports, mapped position by position; 1 for a single port.
    pub ports: u16,
    /// TCP or UDP, on both sides.
    pub protocol: Protocol,
    /// Allows ports above 1024 on an EIP that SNAT uses too.
    pub port_break: bool,
}

impl ForwardEntrySpec {
    /// External ports as the API writes them: `80`, or `80/89` for a range.
    pub fn external_ports(&self) -> String {
        format_ports(self.external_port, self.ports)
    }

    /// Pod's ports as the API writes them: `80`, or `80/89` for a range.
    pub fn internal_ports(&self) -> String {
        format_ports(self.internal_port, self.ports)
    }
}

/// Actions that change EIPs. Their changes wait in the account's queues, one for each action;
/// changes of forward entries wait at their gateway.
pub const EIP_ACTIONS: [&str; 8] = [
    "AllocateEipAddress",
    "AllocateEipAddressPro",
    "AssociateEipAddress",
    "UnassociateEipAddress",
    "ReleaseEipAddress",
    "AddCommonBandwidthPackageIp",
    "RemoveCommonBandwidthPackageIp",
    "ModifyEipAddressAttribute",
];

/// True if the action gives something: it buys, binds or sets. Such a change is sent only after a
/// recent look at its lease, because what it gives may not be wanted any more; a change that takes
/// away is right however late it comes.
pub fn action_gives(action: &str) -> bool {
    !matches!(
        action,
        "UnassociateEipAddress"
            | "ReleaseEipAddress"
            | "RemoveCommonBandwidthPackageIp"
            | "DeleteForwardEntry"
    )
}

impl Change {
    /// Name of the API action, by which the cloud and its rate limits know the change.
    pub fn action(&self) -> &'static str {
        match self {
            Self::AllocateEipAddress { .. } => "AllocateEipAddress",
            Self::AllocateEipAddressPro { .. } => "AllocateEipAddressPro",
            Self::AssociateEipAddress { .. } => "AssociateEipAddress",
            Self::UnassociateEipAddress { .. } => "UnassociateEipAddress",
            Self::ReleaseEipAddress { .. } => "ReleaseEipAddress",
            Self::AddCommonBandwidthPackageIp { .. } => "AddCommonBandwidthPackageIp",
            Self::RemoveCommonBandwidthPackageIp { .. } => "RemoveCommonBandwidthPackageIp",
            Self::ModifyEipAddressAttribute { .. } => "ModifyEipAddressAttribute",
            Self::CreateForwardEntry(_) => "CreateForwardEntry",
            Self::ModifyForwardEntry { .. } => "ModifyForwardEntry",
            Self::DeleteForwardEntry { .. } => "DeleteForwardEntry",
        }
    }

    /// DNAT table that the change touches; none where it touches none. The sender of that table's
    /// gateway sends such changes.
    pub fn forward_table(&self) -> Option<&ForwardTableId> {
        match self {
            Self::CreateForwardEntry(forward) | Self::ModifyForwardEntry { forward, .. } => {
                Some(&forward.table_id)
            }
            Self::DeleteForwardEntry { table_id, .. } => Some(table_id),
            Self::AllocateEipAddress { .. }
            | Self::AllocateEipAddressPro { .. }
            | Self::AssociateEipAddress { .. }
            | Self::UnassociateEipAddress { .. }
            | Self::ReleaseEipAddress { .. }
            | Self::AddCommonBandwidthPackageIp { .. }
            | Self::RemoveCommonBandwidthPackageIp { .. }
            | Self::ModifyEipAddressAttribute { .. } => None,
        }
    }

    /// True if the change gives something; see [`action_gives`].
    pub fn gives(&self) -> bool {
        action_gives(self.action())
    }

    /// True if the action takes a `ClientToken`. Actions without one set absolute values or are
    /// idempotent by nature.
    pub fn takes_token(&self) -> bool {
        !matches!(self, Self::ReleaseEipAddress { .. } | Self::ModifyEipAddressAttribute { .. })
    }
}

/// The cloud's answer to a successful change: a fact, recorded no matter which worker holds the
/// claim by then.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// ID of the call, which the cloud's support asks for.
    pub request_id: String,
    /// EIP that an allocation made, `eip-…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocation_id: Option<AllocationId>,
    /// Public address of that EIP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_address: Option<Ipv4Addr>,
    /// Entry that CreateForwardEntry made, `fwd-…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry_id: Option<ForwardEntryId>,
}
