//! What can be asked of the cloud to change: pure values, frozen in the store before they are sent.
//!
//! A change is serialised into its operation row as it is, and a repeat reads it back from there,
//! so that every send of one operation carries the same parameters and the same `ClientToken`.

use crate::facts::port_text;
use crate::ids::{AllocationId, BandwidthPackageId, EniId, ForwardEntryId, ForwardTableId};
use crate::request::{EipSpec, Protocol};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// One change of one thing in the cloud.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action")]
pub enum Change {
    /// Buys an EIP; its ID comes with the answer.
    AllocateEipAddress {
        /// What it should be like.
        spec: EipSpec,
        /// Ours, beside the user's in `spec`; set in the same call, so that no EIP of ours is ever
        /// without an owner.
        tags: BTreeMap<String, String>,
    },
    /// Buys back the EIP with this address, which the account has held less than seven days ago;
    /// its ID is a new one.
    AllocateEipAddressPro {
        /// Which.
        ip_address: Ipv4Addr,
        /// What it should be like. The action knows no name and no description: they are set
        /// afterwards.
        spec: EipSpec,
        /// Ours, as with a new one.
        tags: BTreeMap<String, String>,
    },
    /// Binds an EIP to one private address of an interface, in bind mode `NAT`.
    AssociateEipAddress {
        /// The EIP.
        allocation_id: AllocationId,
        /// The interface.
        eni_id: EniId,
        /// Which of its addresses.
        private_ip: Ipv4Addr,
    },
    /// Unbinds an EIP from exactly this address, and from nothing else.
    UnassociateEipAddress {
        /// The EIP.
        allocation_id: AllocationId,
        /// The interface it was bound to.
        eni_id: EniId,
        /// Which of its addresses.
        private_ip: Ipv4Addr,
    },
    /// Gives an EIP back for good. Takes no token: repeating it is safe, and `NotFound` is the
    /// proof that it is gone.
    ReleaseEipAddress {
        /// The EIP.
        allocation_id: AllocationId,
    },
    /// Lets an EIP join a shared bandwidth package.
    AddCommonBandwidthPackageIp {
        /// The EIP.
        allocation_id: AllocationId,
        /// The package.
        package_id: BandwidthPackageId,
    },
    /// Takes an EIP out of a shared bandwidth package.
    RemoveCommonBandwidthPackageIp {
        /// The EIP.
        allocation_id: AllocationId,
        /// The package.
        package_id: BandwidthPackageId,
    },
    /// Sets attributes to absolute values; `None` leaves one as it is. Takes no token.
    ModifyEipAddressAttribute {
        /// The EIP.
        allocation_id: AllocationId,
        /// Peak bandwidth in Mbit/s.
        bandwidth: Option<u32>,
        /// Name.
        name: Option<String>,
        /// Description.
        description: Option<String>,
    },
    /// Adds a DNAT entry; its ID comes with the answer.
    CreateForwardEntry(Forward),
    /// Points an existing entry elsewhere; its ID stays.
    ModifyForwardEntry {
        /// The entry.
        entry_id: ForwardEntryId,
        /// What it should be afterwards.
        forward: Forward,
    },
    /// Removes a DNAT entry.
    DeleteForwardEntry {
        /// The table it stands in.
        table_id: ForwardTableId,
        /// The entry.
        entry_id: ForwardEntryId,
    },
}

/// The content of one DNAT entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// The gateway's DNAT table.
    pub table_id: ForwardTableId,
    /// Carries ownership: `wg2.<store>.<cluster>.<lease>.<generation>`.
    pub name: String,
    /// An address bound to the gateway.
    pub external_ip: Ipv4Addr,
    /// First external port.
    pub external_port: u16,
    /// The pod's address.
    pub internal_ip: Ipv4Addr,
    /// First port of the pod.
    pub internal_port: u16,
    /// How many adjacent ports, mapped position by position; 1 for a single port.
    pub ports: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Allows ports above 1024 on an EIP that SNAT uses too.
    pub port_break: bool,
}

impl Forward {
    /// The external ports as the API writes them.
    pub fn external_ports(&self) -> String {
        port_text(self.external_port, self.ports)
    }

    /// The pod's ports as the API writes them.
    pub fn internal_ports(&self) -> String {
        port_text(self.internal_port, self.ports)
    }
}

impl Change {
    /// The API action, as the cloud and its rate limits name it.
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

    /// The DNAT table it changes, if it does: a gateway takes such changes in turns.
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

    /// Whether the action knows `ClientToken`. Those that do not are absolute or idempotent by
    /// nature.
    pub fn takes_token(&self) -> bool {
        !matches!(self, Self::ReleaseEipAddress { .. } | Self::ModifyEipAddressAttribute { .. })
    }
}

/// What the cloud answered to a change: a fact, recorded whoever holds the claim by then.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The call's ID, for the cloud's support.
    pub request_id: String,
    /// The EIP that AllocateEipAddress made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocation_id: Option<AllocationId>,
    /// Its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_address: Option<Ipv4Addr>,
    /// The entry that CreateForwardEntry made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry_id: Option<ForwardEntryId>,
}
