//! Conditions that answer Waygate's readiness gates, and every reason that they can carry.

/// State of Waygate's condition on a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionState {
    /// Status of the condition: True or False.
    pub status: bool,
    /// Reason in CamelCase, for programs.
    pub reason: String,
    /// Message for people: the state, what is awaited, what the reader can do.
    pub message: String,
}

impl ConditionState {
    /// State with one of Waygate's own reasons; a rejected change carries the cloud's reason
    /// instead.
    pub fn new(status: bool, reason: Reason, message: impl Into<String>) -> Self {
        Self { status, reason: reason.as_str().to_owned(), message: message.into() }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal),+ $(,)?) => {
        /// Reason of a pod condition, of an event and of a lease's wait. The set is closed:
        /// `docs/reference.md` documents it and a metric uses it as a label.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[$doc])* $name),+ }
        impl Reason {
            /// Every reason, in the order of declaration.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Reason as the condition carries it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }
        }
    };
}

reasons! {
    /// The EIP works. The text is the original controller's, which its users' tools look for.
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
    EipHeldByAnotherPod = "EipHeldByAnotherPod",
    /// A younger pod has preempted this one and has the given EIP now.
    EipPreempted = "EipTakenOver",
    /// No EIP of the pool is free.
    EipPoolExhausted = "EipPoolExhausted",
    /// The EIP is bound to something foreign.
    EipBoundElsewhere = "EipBoundElsewhere",
    /// A former pod's EIP or forward entry still leads to the pod's IP.
    PrivateIpInUse = "PrivateIPTaken",
    /// No EIP of the gateways has room for all of the pod's ports.
    NoFreePort = "NoFreePort",
    /// The gateways take no more forward entries.
    QuotaExceeded = "QuotaExceeded",
    /// The gateway is gone or locked, or the EIP is not bound to it any more.
    GatewayUnavailable = "NATGatewayUnavailable",
    /// A change of the EIP is queued: the account may call the action only so often a minute.
    RateLimited = "RateLimited",
    /// The forward entries are queued at the gateway, which takes changes one after the other.
    WaitingForGateway = "WaitingForGateway",
    /// Many pods of the gateway lost their entries at once: the loss limit leaves this one True
    /// while the entries are put back.
    WithdrawalsLimited = "WithdrawalsLimited",
    /// Another entry forwards to the pod's port.
    PortForwardedElsewhere = "PortForwardedElsewhere",
    /// The custom resource of the pod's name belongs to another lease or another controller.
    CustomResourceTaken = "CustomResourceTaken",
    /// A published address no longer shows in the cloud.
    AddressLost = "AddressLost",
    /// The API server does not know the pod; what the lease holds stays until a second look.
    PodMissing = "PodMissing",
    /// The pod is terminating.
    PodTerminating = "PodTerminating",
    /// The address is being released.
    Released = "Released",
    /// The pod is gone, and its addresses are retained for its successor.
    RetainedForSuccessor = "RetainedForSuccessor",
    /// Many retained custom resources were deleted at once; their addresses stay until a person
    /// confirms the release.
    ReleasesLimited = "ReleasesLimited",
    /// The pod asks for another address now.
    Replacing = "Replacing",
    /// The cloud's answer to a change is under way, or was lost and the effect does not show yet.
    WaitingForAnswer = "WaitingForAnswer",
    /// A PrePaid EIP stays allocated until it expires.
    PrePaidNotReleased = "PrePaidNotReleased",
    /// One read did not show what was published or recorded; the next one decides.
    RereadPending = "RereadPending",
    /// Postgres did not answer.
    StoreUnavailable = "LeaseStoreUnavailable",
    /// Postgres refuses what is to be recorded of the pod, each time again.
    StoreRefused = "LeaseStoreRefused",
    /// The API server did not answer, or refused a call.
    KubernetesUnavailable = "KubernetesUnavailable",
    /// The pod or its custom resource changed while a step worked on it.
    ObjectChanged = "ObjectChanged",
}
