//! The plan's output.

use super::situation::{CustomResourceObject, Successor};
use crate::change::{Answer, Change};
use crate::condition::Reason;
use crate::ids::{AllocationId, ForwardEntryId, LeaseId, NatGatewayId, ZoneId};
use crate::lease::{PortKey, PortSpan, Target};
use crate::operation::{ChangeRequest, Outcome, Refusal, Rejection};
use crate::request::Request;
use crate::resources::{PodDnatSpec, PodDnatStatus, PodEipSpec, PodEipStatus};
use crate::retry::RetryPolicy;
use std::net::Ipv4Addr;
use uuid::Uuid;

/// The next step of a lease. Variants in this order: decisions on the lease, changes in the cloud,
/// writes to the cluster, waits.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Moves an announced lease to phase provisioning, since its pod is there.
    StartProvisioning,
    /// Deletes the lease's row: the cloud and the cluster hold nothing of the lease any more.
    DeleteLease,
    /// Moves the lease to phase releasing, for good.
    BeginRelease(EndReason),
    /// Takes over a changed request that the lease can follow.
    UpdateRequest(Box<Request>),
    /// Moves the lease to phase retained: everything is unbound; the retention ends after this many
    /// seconds, or never.
    Retain(Option<u64>),
    /// Begins the handover: the pod is gone, and the entries stay a while for a successor.
    BeginHandover,
    /// Transfers a retained lease, or one in handover, to the successor.
    TransferToSuccessor(Box<Successor>),
    /// Releases a retained lease whose custom resource a person deleted, unless suspiciously many
    /// are deleted at once.
    ReleaseRetained,
    /// Adopts an EIP that was not allocated for the lease: the first in the list that no other
    /// lease has; the wait applies if all are in use.
    AdoptEip(Vec<(AllocationId, Ipv4Addr)>, Wait),
    /// Preempts the older pod that has the given EIP, for good.
    PreemptEip(AllocationId),
    /// Adopts the reusable prepaid EIP of this lease, which is in phase releasing.
    AdoptPrepaidEip(LeaseId),
    /// Removes the EIP from the lease: proven gone, or not bound here any more.
    ForgetEip,
    /// Reserves all ports on one EIP, gateways of the given zone first.
    ReservePorts {
        /// Zone of the pod's interface.
        zone: ZoneId,
    },
    /// Marks ports that a foreign entry occupies, so that no lease is given them; the lease
    /// reserves others for those it had among them.
    MarkForeignPorts(PortSpan),
    /// Records the entry that a read showed on a port range.
    RecordEntry(PortKey, ForwardEntryId),
    /// Starts the cooldown of a port range whose entry is proven gone; the ports are free
    /// afterwards.
    CoolDownPorts(PortKey),
    /// Marks the lease as vacating, since its gateway has no room for all entries: everything is
    /// given back there and reserved anew elsewhere.
    VacateGateway,
    /// Sets the target; from this step on something may be bound or forwarded to the address.
    SetTarget(Target),
    /// Clears the target, since nothing is bound or forwarded any more, and nothing can be.
    ClearTarget,
    /// Makes the lease the only writer of the custom resource of its name.
    OwnCustomResource,
    /// Frees the custom resource's name for another lease: the resource is gone.
    DisownCustomResource,
    /// Counts a definite read that did not show a published address; the next read decides.
    CountMissedRead,

    /// Queues a change of an EIP, as a new operation; a sender sends it within the account's rate.
    QueueEipChange {
        /// Resource that is changed: at most one unresolved operation exists for it.
        resource: String,
        /// Change to send, with all its parameters.
        change: Change,
    },
    /// Queues changes of forward entries at their gateway, each as a new operation; the gateway
    /// sender sends them.
    QueueChanges {
        /// Gateway whose sender sends the changes.
        gateway: NatGatewayId,
        /// Changes of different entries, so that no change contradicts another.
        requests: Vec<ChangeRequest>,
    },
    /// Takes back a queued operation that is not wanted any more.
    CancelQueued(Uuid),
    /// Puts an unanswered operation back into its queue: same token, same parameters.
    Requeue(Uuid),
    /// Settles an operation whose outcome reads have shown.
    Settle {
        /// ID of the operation.
        operation: Uuid,
        /// Outcome that the reads prove.
        outcome: Outcome,
        /// Content of the lost answer, as far as the read showed it.
        answer: Option<Answer>,
    },
    /// Counts a read after the fence that showed no effect of an operation; the second makes the
    /// operation void.
    CountReadWithoutEffect(Uuid),

    /// Writes the custom resource with finalizer and spec, before anything is bound or forwarded.
    WriteCustomResource(CustomResourceContent),
    /// Writes custom resource status, pod annotation and pod condition True, in this order.
    Publish(Publication),
    /// Takes back custom resource status, pod annotation and condition, in this order.
    Withdraw(Withdrawal),
    /// Withdraws for entries that a gateway does not show any more, under the loss limit: not if
    /// many of its pods lose their entries at once.
    WithdrawLimited(Withdrawal),
    /// Deletes the custom resource and takes the finalizer off it.
    RemoveCustomResource,

    /// Reports a rejection in the pod's condition, and waits as the rejection
    /// says.
    ReportRejection(Rejection),
    /// Waits until the change that the cloud refused may be asked for again.
    AwaitRetry(Refusal),
    /// Waits: no other step is possible now.
    Wait(Wait),
}

impl Step {
    /// Builds a wait that shows in the pod's condition.
    pub fn wait_for(reason: Reason, retry_policy: RetryPolicy, message: String) -> Self {
        Self::Wait(Wait { reason, message, retry_policy })
    }
}

/// Reason why a lease enters phase releasing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// A live read showed that the pod is gone.
    PodGone,
    /// The pod has succeeded or failed.
    PodExited,
    /// The pod does not ask for an address of the kind any more.
    NotRequested,
    /// The pod, or the successor of a retained lease, asks for what this lease cannot become.
    RequestChanged,
    /// The retention time is over.
    Expired,
}

impl EndReason {
    /// Word for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PodGone => "PodGone",
            Self::PodExited => "PodExited",
            Self::NotRequested => "NotRequested",
            Self::RequestChanged => "RequestChanged",
            Self::Expired => "Expired",
        }
    }
}

/// Desired content of a custom resource.
#[derive(Clone, Debug, PartialEq)]
pub enum CustomResourceContent {
    /// PodEIP of an EIP lease.
    Eip {
        /// Desired spec of the PodEIP.
        spec: PodEipSpec,
        /// Desired status; none until the EIP works.
        status: Option<Box<PodEipStatus>>,
    },
    /// PodDNAT of a DNAT lease.
    Dnat {
        /// Desired spec of the PodDNAT.
        spec: Box<PodDnatSpec>,
        /// Desired status; none until all entries work.
        status: Option<PodDnatStatus>,
    },
}

impl CustomResourceContent {
    /// True if the object's spec equals this one.
    pub fn matches_spec(&self, object: &CustomResourceObject) -> bool {
        match (self, object) {
            (Self::Eip { spec, .. }, CustomResourceObject::Eip(object)) => *spec == object.spec,
            (Self::Dnat { spec, .. }, CustomResourceObject::Dnat(object)) => **spec == object.spec,
            (Self::Eip { .. }, CustomResourceObject::Dnat(_))
            | (Self::Dnat { .. }, CustomResourceObject::Eip(_)) => false,
        }
    }

    /// True if the object's spec and status equal these; times in the status do not count.
    pub fn matches_object(&self, object: &CustomResourceObject) -> bool {
        self.matches_spec(object)
            && match (self, object) {
                (Self::Eip { status, .. }, CustomResourceObject::Eip(object)) => {
                    let timeless =
                        |s: &PodEipStatus| PodEipStatus { pod_last_seen: None, ..s.clone() };
                    status.as_deref().map(timeless) == object.status.as_ref().map(timeless)
                }
                (Self::Dnat { status, .. }, CustomResourceObject::Dnat(object)) => {
                    status.as_ref().map(|s| &s.entries)
                        == object.status.as_ref().map(|s| &s.entries)
                }
                (Self::Eip { .. }, CustomResourceObject::Dnat(_))
                | (Self::Dnat { .. }, CustomResourceObject::Eip(_)) => false,
            }
    }
}

/// A proven address, in all places where it is published.
#[derive(Clone, Debug, PartialEq)]
pub struct Publication {
    /// Content of the custom resource.
    pub content: CustomResourceContent,
    /// Value of the pod's `allocated-…` annotation.
    pub annotation: String,
    /// Reason of the condition, whose status is True.
    pub reason: Reason,
    /// Message of the condition, with the address.
    pub message: String,
}

/// Condition that goes with the withdrawal of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withdrawal {
    /// Status of the condition: True only if the pod asks for no address.
    pub status: bool,
    /// Reason of the condition.
    pub reason: Reason,
    /// Message of the condition.
    pub message: String,
}

impl Withdrawal {
    pub(super) fn with_reason(reason: Reason, message: &str) -> Self {
        Self { status: false, reason, message: message.to_owned() }
    }

    pub(super) fn not_requested(message: &str) -> Self {
        Self { status: true, reason: Reason::NotRequested, message: message.to_owned() }
    }

    pub(super) fn address_lost(message: String) -> Self {
        Self { status: false, reason: Reason::AddressLost, message }
    }
}

/// A wait of the lease, with its reason and its back-off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Reason of the wait, for programs.
    pub reason: Reason,
    /// Message for people, with what is awaited and what the reader can do.
    pub message: String,
    /// Back-off curve until the next look.
    pub retry_policy: RetryPolicy,
}
