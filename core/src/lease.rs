//! What the store knows of one lease: what is held, where it points, and what has been asked of the
//! cloud and not been answered.

use crate::facts::Eni;
use crate::ids::{
    AllocationId, EniId, ForwardEntryId, ForwardTableId, LeaseId, NatGatewayId, PodUid, VSwitchId,
    VpcId, ZoneId,
};
use crate::request::{ExposedPort, Kind, Protocol, Request};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

/// One thing held for one pod, as the store has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// Its ID.
    pub id: LeaseId,
    /// EIP or DNAT.
    pub kind: Kind,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name, and that of the custom resource.
    pub pod_name: String,
    /// The pod it is for: a pod of the same name with another UID is another pod.
    pub pod_uid: PodUid,
    /// `Kind/name` of the pod's controller: only its pods succeed one another.
    pub controller: Option<String>,
    /// What the pod asks for, as last taken over.
    pub request: Request,
    /// Where it stands in its life.
    pub phase: Phase,
    /// The EIP held; none for DNAT.
    pub eip: Option<LeasedEip>,
    /// The ports held; none for an EIP.
    pub ports: Vec<LeasedPort>,
    /// Where it points; set before the first call that binds or forwards, cleared when nothing can
    /// point there any more.
    pub target: Option<Target>,
    /// Grows with every target.
    pub generation: i32,
    /// Whether this lease is the one that writes the custom resource of its name.
    pub resource: bool,
    /// Definite reads in a row that did not show what was published.
    pub doubts: i32,
    /// Its gateway had no room for all its entries: what it has there is given back.
    pub spilling: bool,
    /// What it has was published, to this pod or to a former one.
    pub told: bool,
    /// `namespace/name` of the pod that took its given EIP over, for good.
    pub lost_to: Option<String>,
    /// Since when its pod is gone while its entries stand for a successor to take them over; until
    /// they point elsewhere.
    pub parted_at: Option<Timestamp>,
    /// When it was made, or taken over by its pod.
    pub created_at: Timestamp,
    /// While kept: when it ends; none while only a person can end it.
    pub ends_at: Option<Timestamp>,
}

/// Where a lease stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Announced at admission; no pod has been seen yet, and perhaps none will be.
    Headstart,
    /// A pod asks for it; not all of it is there yet.
    Wanted,
    /// The address works and was published.
    Held,
    /// The pod is gone; what it had waits, bound to nothing, for a successor of its name.
    Kept,
    /// On its way out, for good.
    Ending,
}

impl Phase {
    /// As the store writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Headstart => "headstart",
            Self::Wanted => "wanted",
            Self::Held => "held",
            Self::Kept => "kept",
            Self::Ending => "ending",
        }
    }
}

/// The EIP of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeasedEip {
    /// Its ID.
    pub allocation_id: AllocationId,
    /// Its address.
    pub ip_address: Ipv4Addr,
    /// Allocated by us, and so ours to release. A given one is not.
    pub ours: bool,
}

/// One port of a lease, with a forward entry of its own or as part of one that covers several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeasedPort {
    /// The gateway's EIP.
    pub allocation_id: AllocationId,
    /// Its address.
    pub external_ip: Ipv4Addr,
    /// The external port.
    pub external_port: u16,
    /// The first external port of its entry: its own, unless the entry covers adjacent ports.
    pub head: u16,
    /// The pod's port, and the protocol of both.
    pub exposed: ExposedPort,
    /// The gateway.
    pub gateway_id: NatGatewayId,
    /// Its DNAT table.
    pub table_id: ForwardTableId,
    /// The entry, once the cloud has named it.
    pub entry_id: Option<ForwardEntryId>,
    /// The cloud has accepted the entry's deletion.
    pub deleted: bool,
}

impl LeasedPort {
    /// The protocol of both ends.
    pub fn protocol(&self) -> Protocol {
        self.exposed.protocol
    }

    /// Whether one forward entry covers both.
    fn shares_entry_with(&self, other: &Self) -> bool {
        (self.head, self.protocol(), &self.allocation_id)
            == (other.head, other.protocol(), &other.allocation_id)
    }
}

/// What one forward entry covers: a port, or adjacent ones that are mapped position by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run<'a> {
    /// The first port, outside and inside.
    pub head: &'a LeasedPort,
    /// How many there are.
    pub ports: u16,
}

impl Run<'_> {
    /// The external ports.
    pub fn external(&self) -> RangeInclusive<u16> {
        self.head.external_port
            ..=self.head.external_port.saturating_add(self.ports.saturating_sub(1))
    }

    /// The pod's ports.
    pub fn internal(&self) -> RangeInclusive<u16> {
        self.head.exposed.port..=self.head.exposed.port.saturating_add(self.ports.saturating_sub(1))
    }
}

/// How long entries stand for a successor: a StatefulSet makes it within a second, and until it has
/// an IP they forward to one that may soon be another pod's.
const HANDOVER: SignedDuration = SignedDuration::from_secs(15);

impl Lease {
    /// `namespace/name` of its pod.
    pub fn pod(&self) -> String {
        format!("{}/{}", self.namespace, self.pod_name)
    }

    /// Until when its entries stand for a successor to take them over; none while its pod is there,
    /// or once they point elsewhere.
    pub fn handover_until(&self) -> Option<Timestamp> {
        self.parted_at.map(|since| since + HANDOVER)
    }

    /// The forward entries that the lease's ports make, in the order of their first ports.
    pub fn runs(&self) -> Vec<Run<'_>> {
        let heads = self.ports.iter().filter(|port| port.external_port == port.head);
        let count = |head: &LeasedPort| {
            self.ports.iter().filter(|port| port.shares_entry_with(head)).count()
        };
        heads
            .map(|head| Run { head, ports: u16::try_from(count(head)).unwrap_or(u16::MAX) })
            .collect()
    }
}

/// The private address a lease points at, and the interface that owns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The interface.
    pub eni_id: EniId,
    /// Its vSwitch.
    pub vswitch_id: VSwitchId,
    /// Its zone.
    pub zone_id: ZoneId,
    /// Its VPC.
    pub vpc_id: VpcId,
    /// The pod's address.
    pub private_ip: Ipv4Addr,
    /// Whether that is the interface's primary address, which the API leaves out where it shows a
    /// binding.
    pub primary: bool,
}

impl Target {
    /// The pod's address on the interface that owns it.
    pub fn of(eni: &Eni, private_ip: Ipv4Addr) -> Self {
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

/// The ports of one forward entry, by the first of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortKey {
    /// The gateway's EIP.
    pub allocation_id: AllocationId,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The first external port.
    pub port: u16,
}

/// Adjacent ports of a pool, whoever has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSpan {
    /// The gateway's EIP.
    pub allocation_id: AllocationId,
    /// None: both.
    pub protocol: Option<Protocol>,
    /// The external ports.
    pub ports: RangeInclusive<u16>,
}

/// What others leave for a lease that has no EIP yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EipSources {
    /// The configuration lets a younger pod take a given EIP from an older one, or from another
    /// interface (`eipController.allowTakeover`).
    pub takeover: bool,
    /// The lease that has the given EIP.
    pub holder: Option<Holder>,
    /// A lease on its way out that leaves a PrePaid EIP, bought just like the one asked for, unused
    /// until it expires.
    pub spare: Option<LeaseId>,
    /// The address that time took from a former lease of this pod's name less than seven days ago.
    pub former: Option<Ipv4Addr>,
}

/// Who has the given EIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// `namespace/name` of its pod.
    pub pod: String,
    /// Whether it will have it much longer.
    pub standing: Standing,
}

/// Whether the holder of a given EIP can be asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its pod is older, and was given the EIP as this one is.
    Older,
    /// Its pod is the younger one, or did not name the EIP.
    Younger,
    /// It is giving it up.
    Leaving,
}

/// What earlier reads and refusals told of the gateway on which a lease's ports stand.
#[derive(Clone, Debug, Default)]
pub struct GatewayFact {
    /// How many entries stood when it last refused another; none once that is long ago.
    pub full_at: Option<usize>,
    /// SNAT uses the lease's EIP, too.
    pub snat: bool,
    /// Why it takes no changes, for people.
    pub trouble: Option<String>,
    /// We may not modify entries, only create and delete them.
    pub modify_denied: bool,
    /// So many of its pods have lost their entries within a few minutes that no more are told: one
    /// mistake hit all, or the reads are wrong. Services inside the cluster need no forward entry,
    /// and would lose all their pods at once.
    pub losses_held: bool,
}

macro_rules! constraints {
    ($($(#[$doc:meta])* $name:ident = $index:literal),+ $(,)?) => {
        /// What the store lets only one lease have: its unique indexes that one lease's write can
        /// meet because of another's.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Constraint { $($(#[$doc])* $name),+ }
        impl Constraint {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The index's name in the store's schema.
            pub fn index(self) -> &'static str {
                match self { $(Self::$name => $index),+ }
            }
        }
    };
}

constraints! {
    /// A pod has one live lease of a kind.
    LeaseOfPod = "lease_pod",
    /// One lease writes the custom resource of a name.
    CustomResource = "lease_name",
    /// An EIP is held by one lease.
    HeldEip = "lease_eip",
    /// One EIP is bound to a private address.
    BoundIp = "lease_target",
    /// One lease is kept for a name and controller.
    KeptLease = "lease_kept",
    /// One entry forwards to a port of a private address.
    ForwardedPort = "port_internal",
    /// One change of a thing in the cloud is unresolved at a time.
    OpenOperation = "operation_unresolved",
}

/// Whether there was room for a lease's ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// The lease has its ports.
    Yes,
    /// No EIP has room for all of them.
    NoRoom,
    /// Nor would it help: these gateways, at least, take no more forward entries.
    QuotaFull(Vec<NatGatewayId>),
}
