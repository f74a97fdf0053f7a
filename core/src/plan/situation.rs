//! The plan's input.

use crate::cloud_facts::{Eip, Eni, ForwardEntry};
use crate::condition::ConditionState;
use crate::ids::{LeaseId, PodUid};
use crate::lease::{EipSources, GatewayState, Lease};
use crate::operation::{Operation, Refusal, Rejection};
use crate::ownership::Owner;
use crate::request::Request;
use crate::resources::{POD_UID_ANNOTATION, PodDNAT, PodEIP};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// All facts about a lease at one moment. The reads of pod and cloud began after the last answer to
/// any of its operations; only queued and sent operations may have changed the cloud since
/// `operations` was loaded.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// Owner of what the lease makes in the cloud.
    pub owner: Owner,
    /// True if the configuration serves leases of this kind (`enableControllers`).
    pub served: bool,
    /// Lease to plan for, as claimed.
    pub lease: &'a Lease,
    /// Operations of the lease whose outcome is not known.
    pub operations: &'a [Operation],
    /// Rejection of a queued change, until the pod's condition reports it.
    pub rejection: Option<&'a Rejection>,
    /// The last refusal that was reported; its change is not asked for again for a while.
    pub refusal: Option<&'a Refusal>,
    /// Pod of the lease, by a live read.
    pub pod: &'a PodState,
    /// Custom resource of the lease's name, by a live read.
    pub custom_resource: &'a CustomResourceState,
    /// Pod of the same name with another UID, while the lease's own pod is absent.
    pub successor: Option<&'a Successor>,
    /// Sources of an EIP, while the lease has none.
    pub sources: &'a EipSources,
    /// Results of the cloud reads.
    pub cloud: &'a CloudFacts,
    /// Present time, by Postgres' clock.
    pub now: Timestamp,
}

/// Pod of a lease, by a live read.
#[derive(Clone, Debug)]
pub enum PodState {
    /// Proven absent: the name belongs to a pod with another UID.
    Absent,
    /// The API server has no pod of the name, by one read. Two looks that read this prove a pod
    /// absent whose lease holds something.
    NotFound,
    /// The pod with the lease's UID is there.
    Present(Box<PodView>),
}

/// The plan's view of a pod that is there.
#[derive(Clone, Debug)]
pub struct PodView {
    /// IPv4 address of the pod; none until its sandbox has one.
    pub ip: Option<Ipv4Addr>,
    /// Node of the pod, once scheduled.
    pub node: Option<String>,
    /// True in phase `Succeeded` or `Failed`.
    pub exited: bool,
    /// True if the pod has a deletion timestamp.
    pub terminating: bool,
    /// True if the pod has the readiness gate of the lease's kind.
    pub has_gate: bool,
    /// Desired address: the request that the annotations make now.
    pub desired: Desired,
    /// State of Waygate's condition on the pod; none if the pod has none.
    pub condition: Option<ConditionState>,
    /// Value of Waygate's `allocated-…` annotation on the pod.
    pub annotation: Option<String>,
}

/// A pod of the lease's name that is not the lease's own.
#[derive(Clone, Debug, PartialEq)]
pub struct Successor {
    /// UID of the successor, `metadata.uid`.
    pub uid: PodUid,
    /// `Kind/name` of the successor's controller.
    pub controller: Option<String>,
    /// Request of the successor's annotations.
    pub request: Request,
}

/// Desired address of a pod, as its annotations say now.
#[derive(Clone, Debug, PartialEq)]
pub enum Desired {
    /// A valid request of this lease's kind.
    Request(Box<Request>),
    /// No request of this lease's kind.
    Nothing,
    /// An invalid request, with the problems as text for people.
    Invalid(String),
}

/// Custom resource of the lease's name, by its owner.
#[derive(Clone, Debug)]
pub enum CustomResourceState {
    /// No custom resource of the name exists.
    Absent,
    /// Owned: written by this lease.
    Owned(CustomResourceObject, Deletion),
    /// Orphaned: the store does not know its lease any more, since a worker that had lost its claim
    /// wrote it late.
    Orphaned,
    /// Written by another lease: a former pod's, or one retained for the next pod of another
    /// controller.
    OtherLease {
        /// Owner, and what must happen, as text for people.
        message: String,
    },
    /// Foreign: another controller made it, serves the pod, and has set the pod's condition and
    /// annotation.
    Foreign {
        /// Maker, and what must happen, as text for people.
        message: String,
    },
}

impl CustomResourceState {
    /// True if another controller made the custom resource.
    pub fn is_foreign(&self) -> bool {
        matches!(self, Self::Foreign { .. })
    }

    /// True if the resource is this lease's and its status shows an address.
    pub fn shows_address(&self) -> bool {
        match self {
            Self::Absent | Self::Orphaned | Self::OtherLease { .. } | Self::Foreign { .. } => false,
            Self::Owned(CustomResourceObject::Eip(object), _) => object
                .status
                .as_ref()
                .is_some_and(|s| s.eip_address.is_some() || s.private_ip_address.is_some()),
            Self::Owned(CustomResourceObject::Dnat(object), _) => object
                .status
                .as_ref()
                .is_some_and(|s| s.entries.as_ref().is_some_and(|e| !e.is_empty())),
        }
    }
}

/// Deletion of a custom resource, by a person or along with its surroundings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// The resource is not being deleted.
    None,
    /// Requested by a person: the address is to be released, once its pod is gone.
    Requested,
    /// Cascaded from the deletion of its namespace or its definition: no decision on the address.
    Cascaded,
}

/// Custom resource of either kind.
#[derive(Clone, Debug, PartialEq)]
pub enum CustomResourceObject {
    /// PodEIP of an EIP lease.
    Eip(Box<PodEIP>),
    /// PodDNAT of a DNAT lease.
    Dnat(Box<PodDNAT>),
}

impl CustomResourceObject {
    /// UID of the pod that the resource describes.
    pub fn pod_uid(&self) -> Option<&str> {
        self.metadata().annotations.as_ref()?.get(POD_UID_ANNOTATION).map(String::as_str)
    }

    /// True if a pod owns the resource, so that Kubernetes deletes it along with the pod.
    pub fn is_owned_by_pod(&self) -> bool {
        self.metadata().owner_references.iter().flatten().any(|owner| owner.kind == "Pod")
    }

    fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Eip(object) => &object.metadata,
            Self::Dnat(object) => &object.metadata,
        }
    }
}

/// Results of the cloud reads; only what the lease refers to was read.
#[derive(Clone, Debug, Default)]
pub struct CloudFacts {
    /// EIP of the lease, or the given EIP that its pod names.
    pub eip: Lookup<Eip>,
    /// EIPs that carry the lease's tag; read only while an allocation is unresolved.
    pub tagged: Vec<Eip>,
    /// EIPs that carry the tag of the pod's EIP pool; read only while the lease has none.
    pub pool: Vec<Eip>,
    /// Interface that owns the pod's IP.
    pub eni: Lookup<Eni>,
    /// All entries of the gateway on which the lease's ports lie.
    pub entries: Vec<ForwardEntry>,
    /// State of that gateway, from earlier reads and refusals.
    pub gateway: GatewayState,
    /// Leases that blocking entries name and that the store knows: the claim holders of those
    /// leases will delete the entries.
    pub known_leases: BTreeSet<LeaseId>,
}

/// Result of looking for one resource in the cloud.
#[derive(Clone, Debug, Default)]
pub enum Lookup<T> {
    /// No read was needed or made.
    #[default]
    NotRead,
    /// The read showed no such resource.
    Absent,
    /// The read showed the resource.
    Present(T),
}

impl<T> Lookup<T> {
    /// Turns the result of a read into an observation.
    pub fn from_read(value: Option<T>) -> Self {
        value.map_or(Self::Absent, Self::Present)
    }
}
