//! What the plan can say.

use super::situation::{Object, Successor};
use crate::change::{Answer, Change};
use crate::condition::Reason;
use crate::ids::{AllocationId, ForwardEntryId, LeaseId, NatGatewayId, ZoneId};
use crate::lease::{PortKey, PortSpan, Target};
use crate::operation::{Ask, Outcome, Refused};
use crate::request::Request;
use crate::resources::{PodDnatSpec, PodDnatStatus, PodEipSpec, PodEipStatus};
use crate::retry::Patience;
use std::net::Ipv4Addr;
use uuid::Uuid;

/// One step. Decisions on the lease, then changes in the cloud, then writes to the cluster, then
/// waiting.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// The pod of a head start is there: phase `wanted`.
    Want,
    /// Nothing is left of it: the row goes.
    Forget,
    /// Phase `ending`, for good.
    End(EndReason),
    /// The pod asks for something else that the lease can become.
    Adjust(Box<Request>),
    /// Phase `kept`: nothing points anywhere, and a successor may come within so many seconds, or
    /// ever.
    Keep(Option<u64>),
    /// The pod is gone; its entries stand for a while, for a successor to take them over.
    Part,
    /// A kept lease, or one whose entries stand, becomes the successor's.
    Succeed(Box<Successor>),
    /// A person deleted the custom resource of a kept lease: phase `ending`, unless suspiciously
    /// many go at once.
    ReleaseKept,
    /// Names an EIP that was not bought for it as the lease's: the first of these that no other
    /// lease has; the wait is for where all have one.
    TakeEip(Vec<(AllocationId, Ipv4Addr)>, Wait),
    /// Asks the older pod that holds the given EIP to give it up, for good.
    TakeOver(AllocationId),
    /// Takes the PrePaid EIP that this lease, on its way out, leaves unused.
    TakeSpare(LeaseId),
    /// The lease's EIP is proven gone.
    ForgetEip,
    /// Reserves all ports on one EIP, gateways of this zone first.
    ReservePorts {
        /// The pod's zone.
        zone: ZoneId,
    },
    /// Somebody else's entry stands on these ports: nobody is given them, and the lease reserves
    /// others for those it had among them.
    MarkForeign(PortSpan),
    /// Records the entry that a read showed on a run of ports.
    NoteEntry(PortKey, ForwardEntryId),
    /// The entry of a run of ports is proven gone: the ports are quiet for a while, then free.
    QuietPort(PortKey),
    /// Its gateway has no room for all its entries: from here on it gives back what it has there,
    /// to start anew elsewhere.
    Spill,
    /// From here on something may be bound or forwarded to this address.
    SetTarget(Target),
    /// Nothing is bound or forwarded any more, and nothing can be.
    ClearTarget,
    /// Becomes the one lease that writes the custom resource of this name.
    ClaimResource,
    /// Its custom resource is gone: another lease may write one of this name.
    YieldResource,
    /// A published address did not show in a definite read; the next read decides.
    Doubt,

    /// Asks for a change, as a new operation.
    Change {
        /// What is changed: at most one unresolved operation stands on it.
        resource: String,
        /// The change.
        change: Change,
    },
    /// Puts changes of forward entries into the queue of their gateway's lane, each as a new
    /// operation.
    Queue {
        /// The gateway.
        gateway: NatGatewayId,
        /// The changes: of different entries, so that none contradicts another.
        asks: Vec<Ask>,
    },
    /// Takes an operation back that waits in a queue: it is not wanted any more.
    Unqueue(Uuid),
    /// Puts an unresolved operation back into its gateway's queue: same token, same parameters.
    Requeue(Uuid),
    /// Sends an unresolved operation again: same token, same parameters.
    Resend(Uuid),
    /// A read shows how an operation ended.
    Settle {
        /// Which.
        operation: Uuid,
        /// How.
        outcome: Outcome,
        /// What the read showed in place of the lost answer.
        answer: Option<Answer>,
    },
    /// A read after its fence shows no effect of an operation; the second makes it void.
    Miss(Uuid),

    /// Writes the custom resource with finalizer and spec, before anything is bound or forwarded.
    WriteResource(Content),
    /// Custom resource status, pod annotation, pod condition True, in this order.
    Publish(Publication),
    /// Custom resource status, pod annotation and condition taken back, in this order.
    Withdraw(Withdrawal),
    /// The same for entries that a gateway does not show any more; unless many of its pods are told
    /// so at once.
    WithdrawLost(Withdrawal),
    /// Takes the finalizer off the custom resource and deletes it.
    RemoveResource,

    /// Tells the pod why a queued change was not carried out, and waits as the refusal asks.
    Report(Refused),
    /// Nothing can be done now.
    Wait(Wait),
}

impl Step {
    /// A wait that shows in the pod's condition.
    pub fn wait(reason: Reason, patience: Patience, message: String) -> Self {
        Self::Wait(Wait { reason, message, patience })
    }
}

/// Why a lease ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// Its pod is gone, by a live read.
    PodGone,
    /// Its pod succeeded or failed.
    PodExited,
    /// Its pod asks for nothing of the kind any more.
    NotRequested,
    /// Its pod, or the successor it was kept for, asks for what this lease cannot become.
    RequestChanged,
    /// It was kept as long as it was asked to be.
    Expired,
}

/// What a custom resource should say.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Of an EIP lease.
    Eip {
        /// Its spec.
        spec: PodEipSpec,
        /// Its status; none until it works.
        status: Option<Box<PodEipStatus>>,
    },
    /// Of a DNAT lease.
    Dnat {
        /// Its spec.
        spec: Box<PodDnatSpec>,
        /// Its status; none until it works.
        status: Option<PodDnatStatus>,
    },
}

impl Content {
    /// Whether the object's spec says this.
    pub fn spec_is(&self, object: &Object) -> bool {
        match (self, object) {
            (Self::Eip { spec, .. }, Object::Eip(object)) => *spec == object.spec,
            (Self::Dnat { spec, .. }, Object::Dnat(object)) => **spec == object.spec,
            (Self::Eip { .. }, Object::Dnat(_)) | (Self::Dnat { .. }, Object::Eip(_)) => false,
        }
    }

    /// Whether the object says this, spec and status; times in the status aside.
    pub fn is(&self, object: &Object) -> bool {
        self.spec_is(object)
            && match (self, object) {
                (Self::Eip { status, .. }, Object::Eip(object)) => {
                    let timeless =
                        |s: &PodEipStatus| PodEipStatus { pod_last_seen: None, ..s.clone() };
                    status.as_deref().map(timeless) == object.status.as_ref().map(timeless)
                }
                (Self::Dnat { status, .. }, Object::Dnat(object)) => {
                    status.as_ref().map(|s| &s.entries)
                        == object.status.as_ref().map(|s| &s.entries)
                }
                (Self::Eip { .. }, Object::Dnat(_)) | (Self::Dnat { .. }, Object::Eip(_)) => false,
            }
    }
}

/// An address that works, for everyone to read.
#[derive(Clone, Debug, PartialEq)]
pub struct Publication {
    /// The custom resource.
    pub content: Content,
    /// Value of the pod's `allocated-…` annotation.
    pub annotation: String,
    /// Reason of the condition, which is True.
    pub reason: Reason,
    /// Message of the condition.
    pub message: String,
}

/// What is said when an address is taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withdrawal {
    /// Status of the condition: True only where the pod asks for nothing.
    pub status: bool,
    /// Its reason.
    pub reason: Reason,
    /// Its message.
    pub message: String,
}

impl Withdrawal {
    pub(super) fn ending(reason: Reason, message: &str) -> Self {
        Self { status: false, reason, message: message.to_owned() }
    }

    pub(super) fn not_requested(message: &str) -> Self {
        Self { status: true, reason: Reason::NotRequested, message: message.to_owned() }
    }

    pub(super) fn lost(message: String) -> Self {
        Self { status: false, reason: Reason::AddressLost, message }
    }
}

/// Why nothing can be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// For programs.
    pub reason: Reason,
    /// For people.
    pub message: String,
    /// When to look again.
    pub patience: Patience,
}
