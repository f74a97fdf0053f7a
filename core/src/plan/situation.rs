//! What the plan looks at.

use crate::condition::Verdict;
use crate::facts::{Eip, Eni, ForwardEntry};
use crate::ids::{LeaseId, PodUid};
use crate::lease::{EipSources, GatewayFact, Lease};
use crate::names::Owner;
use crate::operation::{Operation, Refused};
use crate::request::Request;
use crate::resources::{POD_UID_ANNOTATION, PodDNAT, PodEIP};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// Everything known of one lease at one moment. The reads of pod and cloud began after the last
/// answer to any of its operations; only what waits in a queue or is under way may have changed the
/// cloud since `operations` was loaded.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// On whose behalf things are made.
    pub owner: Owner,
    /// The configuration switches leases of this kind on (`enableControllers`).
    pub served: bool,
    /// The lease.
    pub lease: &'a Lease,
    /// Its operations whose end is not known.
    pub operations: &'a [Operation],
    /// Why a queued change of it was not carried out, while its pod has not been told.
    pub rejection: Option<&'a Refused>,
    /// Its pod, by a live read.
    pub pod: &'a PodFact,
    /// The custom resource of its name.
    pub resource: &'a ResourceFact,
    /// A pod of the same name with another UID, while the lease's own is gone.
    pub successor: Option<&'a Successor>,
    /// Where its EIP may come from, while it has none.
    pub sources: &'a EipSources,
    /// The cloud.
    pub cloud: &'a CloudFacts,
    /// Postgres' clock.
    pub now: Timestamp,
}

/// The pod of a lease, by a live read.
#[derive(Clone, Debug)]
pub enum PodFact {
    /// Its name is absent, or stands for another UID.
    Gone,
    /// It is there.
    Here(Box<PodHere>),
}

/// A pod that is there.
#[derive(Clone, Debug)]
pub struct PodHere {
    /// Its IPv4 address.
    pub ip: Option<Ipv4Addr>,
    /// Its node, once scheduled.
    pub node: Option<String>,
    /// Phase `Succeeded` or `Failed`.
    pub exited: bool,
    /// It has a deletion timestamp.
    pub terminating: bool,
    /// It has the readiness gate of the lease's kind.
    pub gated: bool,
    /// What it asks for now.
    pub asks: Asks,
    /// What our condition on it says.
    pub verdict: Option<Verdict>,
    /// What our annotation on it says.
    pub announced: Option<String>,
}

/// A pod of the lease's name that is not the lease's.
#[derive(Clone, Debug, PartialEq)]
pub struct Successor {
    /// Its UID.
    pub uid: PodUid,
    /// `Kind/name` of its controller.
    pub controller: Option<String>,
    /// What it asks for.
    pub request: Request,
}

/// What a pod asks for now.
#[derive(Clone, Debug, PartialEq)]
pub enum Asks {
    /// This.
    For(Box<Request>),
    /// Nothing of this lease's kind.
    Nothing,
    /// Something that cannot be; why.
    Wrong(String),
}

/// The custom resource of the lease's name.
#[derive(Clone, Debug)]
pub enum ResourceFact {
    /// There is none.
    Absent,
    /// It is this lease's.
    Mine(Object, Removal),
    /// It is a lease's that the store does not know any more: a write that came too late, by a
    /// process that had lost its claim.
    Stray,
    /// It is another lease's: of a former pod of this name, or kept for its controller's next one.
    Another {
        /// Whose, and what must happen, for people.
        what: String,
    },
    /// It was not made by Waygate: another controller serves the pod, and has told it what its
    /// condition and annotation say.
    Foreign {
        /// What it is, and what must happen, for people.
        what: String,
    },
}

impl ResourceFact {
    /// Whether another controller made it.
    pub fn is_foreign(&self) -> bool {
        matches!(self, Self::Foreign { .. })
    }

    /// Whether its status shows an address.
    pub fn shows_address(&self) -> bool {
        match self {
            Self::Absent | Self::Stray | Self::Another { .. } | Self::Foreign { .. } => false,
            Self::Mine(Object::Eip(object), _) => object
                .status
                .as_ref()
                .is_some_and(|s| s.eip_address.is_some() || s.private_ip_address.is_some()),
            Self::Mine(Object::Dnat(object), _) => object
                .status
                .as_ref()
                .is_some_and(|s| s.entries.as_ref().is_some_and(|e| !e.is_empty())),
        }
    }
}

/// What a person, or an uninstallation, has done to a custom resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Nothing.
    None,
    /// It was deleted: what it stands for is to be released, once its pod is gone.
    Asked,
    /// It was deleted along with its namespace or its definition, which says nothing about what it
    /// stands for.
    Swept,
}

/// A custom resource of either kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// Of an EIP lease.
    Eip(Box<PodEIP>),
    /// Of a DNAT lease.
    Dnat(Box<PodDNAT>),
}

impl Object {
    /// The pod it speaks of.
    pub fn pod_uid(&self) -> Option<&str> {
        self.metadata().annotations.as_ref()?.get(POD_UID_ANNOTATION).map(String::as_str)
    }

    /// Whether a pod owns it, so that it is deleted along with that.
    pub fn is_owned(&self) -> bool {
        self.metadata().owner_references.iter().flatten().any(|owner| owner.kind == "Pod")
    }

    fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Eip(object) => &object.metadata,
            Self::Dnat(object) => &object.metadata,
        }
    }
}

/// What reads of the cloud showed; only what the lease refers to was read.
#[derive(Clone, Debug, Default)]
pub struct CloudFacts {
    /// The lease's EIP, or the given one it asks for.
    pub eip: Seen<Eip>,
    /// EIPs that carry the lease's tag; read only while an allocation is unresolved.
    pub tagged: Vec<Eip>,
    /// EIPs that carry the tag of the pool the pod asks for; read only while the lease has none.
    pub pool: Vec<Eip>,
    /// The interface that owns the pod's IP.
    pub eni: Seen<Eni>,
    /// All entries of the gateway on which the lease's ports stand.
    pub entries: Vec<ForwardEntry>,
    /// That gateway.
    pub gateway: GatewayFact,
    /// Leases named by entries that are in our way and that the store knows: their own claimants
    /// will delete them.
    pub known_leases: BTreeSet<LeaseId>,
}

/// A thing that was looked for.
#[derive(Clone, Debug, Default)]
pub enum Seen<T> {
    /// Not looked for.
    #[default]
    NotRead,
    /// The cloud says there is none.
    Absent,
    /// There it is.
    There(T),
}

impl<T> Seen<T> {
    /// What a read gave.
    pub fn from_read(value: Option<T>) -> Self {
        value.map_or(Self::Absent, Self::There)
    }
}
