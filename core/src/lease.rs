//! Leases as the store holds them: the EIP or ports held, the target, and the constraints between
//! leases.

use crate::cloud_facts::Eni;
use crate::ids::{
    AllocationId, EniId, ForwardEntryId, ForwardTableId, LeaseId, NatGatewayId, PodUid, VSwitchId,
    VpcId, ZoneId,
};
use crate::request::{ExposedPort, Kind, Protocol, Request};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

/// An EIP, or a set of ports, held for one pod; a row of the store, which is the job, too.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// Random ID, part of every tag and entry name.
    pub id: LeaseId,
    /// Kind of address: EIP or DNAT.
    pub kind: Kind,
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod, and of the custom resource.
    pub pod_name: String,
    /// UID of the pod that holds the lease: a pod of the same name with another UID is another pod.
    pub pod_uid: PodUid,
    /// `Kind/name` of the pod's controller: only pods of the same controller succeed one another.
    pub controller: Option<String>,
    /// Request that the lease follows, as last taken from the pod's annotations.
    pub request: Request,
    /// Phase of the lease's life.
    pub phase: Phase,
    /// EIP that the lease has; none for DNAT.
    pub eip: Option<LeasedEip>,
    /// Ports that the lease has; none for an EIP.
    pub ports: Vec<LeasedPort>,
    /// Private address that the EIP or the entries point at; set before the first call that binds
    /// or forwards, cleared when nothing can point there any more.
    pub target: Option<Target>,
    /// Generation of the target: grows by one with every target.
    pub generation: i32,
    /// True if this lease is the one that writes the custom resource of its name.
    pub owns_custom_resource: bool,
    /// Definite reads in a row that did not show what was published.
    pub missed_reads: i32,
    /// Vacating: the gateway had no room for all entries, and those that exist there are being
    /// deleted.
    pub vacating: bool,
    /// True if the address was published, to this pod or to a former one.
    pub was_published: bool,
    /// `namespace/name` of the pod that preempted this one and has its given EIP for good.
    pub preempted_by: Option<String>,
    /// Start of the handover: the pod is gone, its entries stay for a successor; none before, and
    /// after the entries point elsewhere.
    pub handover_since: Option<Timestamp>,
    /// Creation time, or the time when the present pod took the lease over.
    pub created_at: Timestamp,
    /// When a look first did not find the pod; none once a look has found it, or another of its
    /// name.
    pub pod_missing_since: Option<Timestamp>,
    /// End of the retention; none if only a person can end it, and in the other phases.
    pub retained_until: Option<Timestamp>,
}

/// Phase of a lease's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Announced at admission; no pod has been observed yet, and perhaps none will be.
    Announced,
    /// A pod asks for the address; some of it is still missing.
    Provisioning,
    /// The address works and was published.
    Bound,
    /// The pod is gone; the EIP or the ports wait, unbound, for a successor of its name.
    Retained,
    /// Releasing: everything is given back; final.
    Releasing,
}

impl Phase {
    /// Phase as the store writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Announced => "announced",
            Self::Provisioning => "provisioning",
            Self::Bound => "bound",
            Self::Retained => "retained",
            Self::Releasing => "releasing",
        }
    }
}

/// EIP of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeasedEip {
    /// Instance ID of the EIP, `eip-…`.
    pub allocation_id: AllocationId,
    /// Public IPv4 address of the EIP.
    pub ip_address: Ipv4Addr,
    /// True if managed: allocated by Waygate, so Waygate's to release. A given EIP is not.
    pub managed: bool,
    /// When the cloud accepted the release; none before. The EIP is gone once a read does not show
    /// it any more.
    pub release_accepted_at: Option<Timestamp>,
}

/// A port of a lease, with a forward entry of its own or as part of one that covers several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeasedPort {
    /// EIP of the gateway, `eip-…`.
    pub allocation_id: AllocationId,
    /// Public address of that EIP.
    pub external_ip: Ipv4Addr,
    /// External port of this one port.
    pub external_port: u16,
    /// First external port of the entry that covers this port; equal to `external_port` unless the
    /// entry covers adjacent ports.
    pub range_start: u16,
    /// The pod's port, and the protocol of both ends.
    pub exposed: ExposedPort,
    /// NAT gateway that forwards the port, `ngw-…`.
    pub gateway_id: NatGatewayId,
    /// DNAT table of the gateway, `ftb-…`.
    pub table_id: ForwardTableId,
    /// Forward entry, once an answer or a read has named it.
    pub entry_id: Option<ForwardEntryId>,
    /// True if the cloud has accepted the deletion of the entry.
    pub deleted: bool,
}

impl LeasedPort {
    /// Protocol of both ends of the port.
    pub fn protocol(&self) -> Protocol {
        self.exposed.protocol
    }

    /// True if one forward entry covers both ports.
    fn shares_entry_with(&self, other: &Self) -> bool {
        (self.range_start, self.protocol(), &self.allocation_id)
            == (other.range_start, other.protocol(), &other.allocation_id)
    }
}

/// Port range of one forward entry: a port, or adjacent ports that are mapped position by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange<'a> {
    /// First port of the range, with its external and internal end.
    pub first: &'a LeasedPort,
    /// Number of ports in the range, at least 1.
    pub count: u16,
}

impl PortRange<'_> {
    /// External ports of the range.
    pub fn external_ports(&self) -> RangeInclusive<u16> {
        self.first.external_port
            ..=self.first.external_port.saturating_add(self.count.saturating_sub(1))
    }

    /// Pod's ports of the range.
    pub fn internal_ports(&self) -> RangeInclusive<u16> {
        self.first.exposed.port
            ..=self.first.exposed.port.saturating_add(self.count.saturating_sub(1))
    }
}

/// Duration of a handover: a StatefulSet makes the successor within a second, and until the
/// successor has an IP the entries forward to an address that may soon be another pod's.
const HANDOVER_DURATION: SignedDuration = SignedDuration::from_secs(15);

impl Lease {
    /// `namespace/name` of the pod.
    pub fn pod_full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.pod_name)
    }

    /// True if the lease has an EIP or ports.
    pub fn holds_something(&self) -> bool {
        self.eip.is_some() || !self.ports.is_empty()
    }

    /// End of the handover, up to which the entries stay for a successor; none while the pod
    /// exists, and after the entries point elsewhere.
    pub fn handover_until(&self) -> Option<Timestamp> {
        self.handover_since.map(|since| since + HANDOVER_DURATION)
    }

    /// Port ranges that the lease's ports make, one per forward entry, in the order of their first
    /// ports.
    pub fn port_ranges(&self) -> Vec<PortRange<'_>> {
        let firsts = self.ports.iter().filter(|port| port.external_port == port.range_start);
        let count = |first: &LeasedPort| {
            self.ports.iter().filter(|port| port.shares_entry_with(first)).count()
        };
        firsts
            .map(|first| PortRange {
                first,
                count: u16::try_from(count(first)).unwrap_or(u16::MAX),
            })
            .collect()
    }
}

/// The private address that a lease points at, with the interface that owns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Interface that owns `private_ip`, `eni-…`.
    pub eni_id: EniId,
    /// vSwitch of the interface, `vsw-…`.
    pub vswitch_id: VSwitchId,
    /// Zone of the interface.
    pub zone_id: ZoneId,
    /// VPC of the interface.
    pub vpc_id: VpcId,
    /// IPv4 address of the pod.
    pub private_ip: Ipv4Addr,
    /// True if it is the interface's primary address, which the API leaves out of a binding.
    pub primary: bool,
}

impl Target {
    /// Target for `private_ip` on the interface that owns it.
    pub fn from_eni(eni: &Eni, private_ip: Ipv4Addr) -> Self {
        Self {
            eni_id: eni.eni_id.clone(),
            vswitch_id: eni.vswitch_id.clone(),
            zone_id: eni.zone_id.clone(),
            vpc_id: eni.vpc_id.clone(),
            private_ip,
            primary: eni.primary_ip == private_ip,
        }
    }
}

/// Identifies the ports of one forward entry by the first of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortKey {
    /// EIP of the gateway, `eip-…`.
    pub allocation_id: AllocationId,
    /// TCP or UDP, on both ends.
    pub protocol: Protocol,
    /// First external port of the entry.
    pub port: u16,
}

/// Adjacent external ports of an EIP, free or in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSpan {
    /// EIP of the gateway, `eip-…`.
    pub allocation_id: AllocationId,
    /// TCP or UDP; none stands for both.
    pub protocol: Option<Protocol>,
    /// External ports of the span.
    pub ports: RangeInclusive<u16>,
}

/// Addresses that other leases leave or hold for a lease that has no EIP yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EipSources {
    /// True if the configuration lets a younger pod take a given EIP from an older one, or from a
    /// foreign interface (`eipController.allowTakeover`).
    pub preemption_allowed: bool,
    /// Current holder: the lease that has the given EIP.
    pub current_holder: Option<CurrentHolder>,
    /// Reusable prepaid EIP: a lease in phase releasing that leaves a PrePaid EIP with the same
    /// settings unused until it expires.
    pub reusable_prepaid: Option<LeaseId>,
    /// Former address: the EIP address of a lease of this pod's name whose retention expired less
    /// than seven days ago.
    pub former_address: Option<Ipv4Addr>,
}

/// Current holder of the given EIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrentHolder {
    /// `namespace/name` of the holder's pod.
    pub pod: String,
    /// State that decides if the holder can be preempted.
    pub state: HolderState,
}

/// State of the given EIP's holder, as seen from a pod that names the same EIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HolderState {
    /// The holder's pod is older, and names the EIP as this pod does; preemption is possible.
    Older,
    /// The holder's pod is younger, or did not name the EIP.
    Younger,
    /// The holder's lease is giving the EIP up.
    Releasing,
}

/// Facts from earlier reads and refusals about the gateway on which a lease's ports lie.
#[derive(Clone, Debug, Default)]
pub struct GatewayState {
    /// Number of entries at the gateway's last quota refusal; none if that is long ago.
    pub entries_when_full: Option<usize>,
    /// True if SNAT uses the lease's EIP, too.
    pub snat: bool,
    /// Unavailable reason: why the gateway or the EIP takes no changes, as text for people.
    pub unavailable_reason: Option<String>,
    /// True if the account may not modify entries, only create and delete them.
    pub modify_denied: bool,
    /// True while the loss limit holds: many pods of the gateway have lost their entries within a
    /// few minutes, so no more conditions go False. Either one mistake hit all pods or the reads
    /// are wrong; Services inside the cluster need no forward entry, and would lose all their
    /// endpoints at once.
    pub withdrawals_limited: bool,
}

macro_rules! constraints {
    ($($(#[$doc:meta])* $name:ident = $index:literal),+ $(,)?) => {
        /// Unique index of the store that a write of one lease can violate because of another
        /// lease.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Constraint { $($(#[$doc])* $name),+ }
        impl Constraint {
            /// Every constraint, in the order of declaration.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Name of the index in the store's schema.
            pub fn index_name(self) -> &'static str {
                match self { $(Self::$name => $index),+ }
            }
        }
    };
}

constraints! {
    /// A pod has one live lease of a kind.
    LeaseOfPod = "lease_pod",
    /// A custom resource of a name is written by one lease.
    CustomResource = "lease_custom_resource",
    /// An EIP is held by one lease.
    LeasedEip = "lease_eip",
    /// A private address has one EIP bound to it.
    BoundIp = "lease_target",
    /// A name and controller have one retained lease.
    RetainedLease = "lease_retained",
    /// A port of a private address has one entry that forwards to it.
    ForwardedPort = "port_internal",
    /// A resource in the cloud has one unresolved change at a time.
    UnresolvedOperation = "operation_unresolved",
}

/// Result of reserving a lease's ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortReservation {
    /// All of the lease's ports are reserved.
    Reserved,
    /// No EIP has enough free ports for all of them.
    NoRoom,
    /// No EIP has room, and the gateways in this list, at least, take no more forward entries.
    QuotaFull(Vec<NatGatewayId>),
}
