//! The pod condition that answers a readiness gate of ours, and every reason that it can carry.

/// What our condition on a pod says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `True`.
    pub status: bool,
    /// For programs.
    pub reason: String,
    /// For people.
    pub message: String,
}

impl Verdict {
    /// What is told for one of our own reasons.
    pub fn new(status: bool, reason: Reason, message: impl Into<String>) -> Self {
        Self { status, reason: reason.as_str().to_owned(), message: message.into() }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal),+ $(,)?) => {
        /// Reason of a pod condition, of an event and of a lease. Closed: it is documented and a
        /// metric's label.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[$doc])* $name),+ }
        impl Reason {
            /// As it stands in the condition.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }
        }
    };
}

reasons! {
    /// An EIP works. The words are the original controller's, which its users' tools look for.
    EipAssociated = "Associate eip succeed",
    /// Every forward entry works.
    EntriesAvailable = "ForwardEntriesAvailable",
    /// The pod does not ask for an address of this kind.
    NotRequested = "NotRequested",
    /// Addresses of this kind are switched off in the configuration.
    NotServed = "NotServed",
    /// The pod's annotations cannot be followed.
    InvalidAnnotations = "InvalidAnnotations",
    /// The pod has no IP yet.
    WaitingForPodIp = "WaitingForPodIP",
    /// No network interface shows the pod's IP yet.
    WaitingForInterface = "WaitingForNetworkInterface",
    /// The EIP is being bound or unbound.
    EipChanging = "EipChanging",
    /// The forward entries are being made.
    EntriesPending = "ForwardEntriesPending",
    /// The given EIP does not exist.
    EipNotFound = "EipNotFound",
    /// The EIP is held by another pod.
    EipHeld = "EipHeldByAnotherPod",
    /// A younger pod has taken the given EIP over.
    EipTakenOver = "EipTakenOver",
    /// No EIP of the pool is free.
    EipPoolExhausted = "EipPoolExhausted",
    /// The EIP is bound to something that is not ours.
    EipBoundElsewhere = "EipBoundElsewhere",
    /// The pod's IP still has somebody else's EIP.
    PrivateIpTaken = "PrivateIPTaken",
    /// No gateway has room for all ports on one IP.
    NoFreePort = "NoFreePort",
    /// The gateways take no more forward entries.
    QuotaExceeded = "QuotaExceeded",
    /// The gateway is gone or locked, or the EIP is not bound to it any more.
    GatewayUnavailable = "NATGatewayUnavailable",
    /// The forward entries wait for their turn at the gateway.
    WaitingForGateway = "WaitingForGateway",
    /// Many pods of the gateway lost their entries at once: this one stays ready while they are
    /// mended.
    LossesHeld = "LossesHeld",
    /// Another entry forwards to the pod's port.
    PortForwardedElsewhere = "PortForwardedElsewhere",
    /// The custom resource of the pod's name is somebody else's.
    ResourceTaken = "CustomResourceTaken",
    /// What was published no longer shows in the cloud.
    AddressLost = "AddressLost",
    /// The pod is terminating.
    PodTerminating = "PodTerminating",
    /// The address is being released.
    Released = "Released",
    /// The pod is gone, and what it had is kept for its successor.
    Kept = "KeptForSuccessor",
    /// Many kept custom resources were deleted at once; what they stand for stays until a person
    /// says release.
    ReleaseHeld = "ReleaseHeldBack",
    /// The pod asks for another address now.
    Replacing = "Replacing",
    /// An answer has not come yet, or was lost and its effect does not show yet.
    Unanswered = "WaitingForAnswer",
    /// A PrePaid EIP stays until it expires.
    PrePaid = "PrePaidNotReleased",
}
