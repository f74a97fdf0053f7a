//! Resources of an account: plain values, on which the calls in the other files act.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    net::Ipv4Addr,
};

use jiff::{SignedDuration, Timestamp};

use super::ports::{Ports, Protocol};
use crate::{cidr::Cidr, refusal::Refusal};

/// Retention of a released address for the account that had it.
const RELEASE_RETENTION: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Addresses that were released not long ago, and the ids they had.
#[derive(Clone, Debug, Default)]
pub(super) struct Released {
    pub(super) known: BTreeMap<Ipv4Addr, (String, Timestamp)>,
    pub(super) order: VecDeque<(Timestamp, Ipv4Addr)>,
}

impl Released {
    pub(super) fn note_release(&mut self, id: &str, address: Ipv4Addr, at: Timestamp) {
        self.forget_expired(at);
        self.known.insert(address, (id.to_owned(), at));
        self.order.push_back((at, address));
    }

    pub(super) fn forget_expired(&mut self, now: Timestamp) {
        while let Some((at, address)) = self
            .order
            .front()
            .copied()
            .filter(|(at, _)| now.duration_since(*at) > RELEASE_RETENTION)
        {
            self.order.pop_front();
            // Released again since: the later release counts.
            if self.known.get(&address).is_some_and(|(_, last)| *last == at) {
                self.known.remove(&address);
            }
        }
    }
}

/// State of an EIP, as in the API's `Status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EipStatus {
    /// Allocated and bound to nothing.
    Available,
    /// On its way to its target.
    Associating,
    /// Bound and in effect.
    InUse,
    /// On its way off its target.
    Unassociating,
    /// On its way out of existence.
    Releasing,
}

impl EipStatus {
    /// Returns the API's spelling of the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Available => "Available",
            Self::Associating => "Associating",
            Self::InUse => "InUse",
            Self::Unassociating => "Unassociating",
            Self::Releasing => "Releasing",
        }
    }
}

/// Kind of resource that an EIP can be bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// An ECS instance, by its `i-…`.
    EcsInstance,
    /// An internet NAT gateway.
    Nat,
    /// A private address of a network interface.
    NetworkInterface,
}

impl Target {
    /// Returns the API's spelling of the type.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EcsInstance => "EcsInstance",
            Self::Nat => "Nat",
            Self::NetworkInterface => "NetworkInterface",
        }
    }
}

/// Binding of an EIP to its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The kind of target.
    pub target: Target,
    /// ID of the target, such as `ngw-…` or `eni-…`.
    pub instance_id: String,
    /// Which private address of an interface.
    pub private_address: Option<Ipv4Addr>,
    /// True if that address is its interface's primary one, which DescribeEipAddresses does not
    /// show.
    pub is_primary: bool,
    /// `NAT`, `MULTI_BINDED` or `BINDED`.
    pub mode: String,
}

/// An allocated elastic IP address.
#[derive(Clone, Debug)]
pub struct Eip {
    /// ID of the EIP, `eip-…`.
    pub id: String,
    /// Public IPv4 address of the EIP.
    pub address: Ipv4Addr,
    /// Current state of the EIP.
    pub status: EipStatus,
    /// Target, from Associating to the end of Unassociating.
    pub binding: Option<Binding>,
    /// Tags by their keys.
    pub tags: BTreeMap<String, String>,
    pub(super) membership: Option<Membership>,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) bandwidth: u32,
    pub(super) internet_charge_type: String,
    /// Until when it is paid for; none where it is paid by use.
    pub(super) expires_at: Option<Timestamp>,
    pub(super) isp: String,
    pub(super) resource_group: String,
    pub(super) pool: String,
    pub(super) security_protection: Vec<String>,
    pub(super) allocated_at: Timestamp,
    pub(super) settles_at: Option<Timestamp>,
    pub(super) busy_until: Timestamp,
    pub(super) usable_from: Timestamp,
}

impl Eip {
    /// True if the EIP is bound, or about to be bound, to this target.
    pub(super) fn is_on(&self, instance_id: &str) -> bool {
        self.binding.as_ref().is_some_and(|binding| binding.instance_id == instance_id)
    }

    pub(super) fn charge_type(&self) -> &'static str {
        if self.expires_at.is_some() { "PrePaid" } else { "PostPaid" }
    }

    /// True if the paid time is over: the EIP is then locked, and may be released.
    pub(super) fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|expires| expires <= now)
    }
}

/// State of a forward entry, as in the API's `Status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryStatus {
    /// Being made or changed.
    Pending,
    /// In effect: traffic is forwarded.
    Available,
    /// Being removed; traffic may still pass.
    Deleting,
}

impl EntryStatus {
    /// Returns the API's spelling of the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Available => "Available",
            Self::Deleting => "Deleting",
        }
    }
}

/// A DNAT rule of a gateway's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardEntry {
    /// ID of the entry, `fwd-…`.
    pub id: String,
    /// The table it is in.
    pub table: String,
    /// The only place for a mark of ownership.
    pub name: String,
    /// Public address of the EIP that receives the traffic.
    pub external_ip: Ipv4Addr,
    /// Ports on the public address.
    pub external_ports: Ports,
    /// Private address that traffic is forwarded to.
    pub internal_ip: Ipv4Addr,
    /// As many ports on that.
    pub internal_ports: Ports,
    /// Protocol of the forwarded traffic.
    pub protocol: Protocol,
    /// True if ports above 1024 may be shared with SNAT.
    pub port_break: bool,
    /// Current state of the entry.
    pub status: EntryStatus,
    pub(super) settles_at: Option<Timestamp>,
}

/// An internet NAT gateway.
#[derive(Clone, Debug)]
pub(super) struct Gateway {
    pub(super) id: String,
    pub(super) table: String,
    pub(super) snat_table: String,
    pub(super) zone: String,
    pub(super) v_switch: String,
    pub(super) own_address: Ipv4Addr,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) is_locked: bool,
    pub(super) entry_quota: Option<usize>,
    pub(super) busy_until: Timestamp,
    pub(super) created_at: Timestamp,
}

/// A place for an interface on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot {
    pub(super) node: usize,
    pub(super) index: u32,
}

/// Addresses asked for and slots detached, from which interfaces are derived.
#[derive(Clone, Debug, Default)]
pub(super) struct Interfaces {
    pub(super) visible_from: BTreeMap<Ipv4Addr, Timestamp>,
    pub(super) slots: BTreeSet<Slot>,
    pub(super) by_id: BTreeMap<String, Slot>,
    pub(super) generations: BTreeMap<Slot, u32>,
}

/// An interface as the API shows it now.
#[derive(Clone, Debug)]
pub(super) struct Interface {
    pub(super) id: String,
    pub(super) node: usize,
    pub(super) index: u32,
    pub(super) primary: Ipv4Addr,
    pub(super) secondary: Vec<Ipv4Addr>,
    pub(super) prefix: Option<Cidr>,
}

impl Interface {
    /// True if the address is the interface's primary one, a secondary one, or within its prefix.
    pub(super) fn has_address(&self, address: Ipv4Addr) -> bool {
        self.primary == address
            || self.secondary.contains(&address)
            || self.prefix.is_some_and(|it| it.contains(address))
    }
}

/// An EIP's place in a package: BINDING until it settles, BINDED (sic) after.
#[derive(Clone, Debug)]
pub(super) struct Membership {
    pub(super) package: String,
    pub(super) settles_at: Option<Timestamp>,
}

/// A long-lived or temporary access key.
#[derive(Clone)]
pub struct AccessKey {
    /// `LTAI…`, or `STS.…` where temporary.
    pub id: String,
    /// Secret of the key. Invented by the simulator and printed at its start; still left out of
    /// `Debug`.
    pub secret: String,
    /// The token that goes with a temporary key.
    pub security_token: Option<String>,
    /// When a temporary key ends.
    pub expires: Option<Timestamp>,
    /// Denied actions, such as `vpc:ReleaseEipAddress` or `vpc:*`.
    pub denied: Vec<String>,
    /// True if the key is switched off.
    pub is_inactive: bool,
    /// ARN of the user or role session that the key belongs to.
    pub arn: String,
}

impl AccessKey {
    /// Number of the account that the key belongs to, the fourth part of its ARN.
    pub fn account(&self) -> &str {
        self.arn.split(':').nth(3).unwrap_or_default()
    }
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKey")
            .field("id", &self.id)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// Outbound traffic of a vSwitch or CIDR leaves by these addresses.
#[derive(Clone, Debug)]
pub(super) struct SnatEntry {
    pub(super) id: String,
    pub(super) gateway: String,
    pub(super) addresses: Vec<Ipv4Addr>,
    pub(super) source_cidr: String,
    pub(super) source_v_switch: String,
}

/// Answer of an action without its `RequestId`, or its refusal.
pub type Outcome = Result<serde_json::Value, Refusal>;
