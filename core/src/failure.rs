//! Failures of calls to the cloud, classified as far as a decision depends on the class.

use std::time::Duration;

/// Meaning of a failed call for the worker that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// Transport error, 5xx or unreadable answer: the outcome is unknown; send the same token
    /// again.
    Transient,
    /// Too many calls: send the same token later.
    Throttled,
    /// The resource, or its parent, is busy or in the wrong state: try later, as a new operation.
    Conflict,
    /// An earlier send of the same token is still being processed: send the same token later.
    Processing,
    /// The requested state is reached already.
    AlreadyDone,
    /// The resource does not exist: a code known to mean just that, so that it may count as proof.
    NotFound,
    /// A quota or the region's stock is used up.
    Quota,
    /// The account lacks a right: RAM policy, keys, money, risk control.
    Denied,
    /// Permanent: the same request will get the same answer again.
    Permanent,
}

/// Extent of a refusal: which other changes would be refused for the same reason now. An unknown
/// extent counts as [`FailureScope::Change`]: a change that is tried in vain costs a call, a change
/// that is deferred without need costs a pod its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureScope {
    /// The change alone, for its parameters, or for the EIP, interface, address pool or bandwidth
    /// package that it names.
    Change,
    /// A forward entry, the same or another one, at a gateway that waits until none of its entries
    /// is changing.
    Entry,
    /// Every change at the NAT gateway.
    Gateway,
    /// Every call of the account, or every call of this action: rate, quota, rights, keys, money,
    /// region, and the cloud itself.
    Account,
}

/// A change that the cloud did not confirm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallFailure {
    /// Class of the failure.
    pub class: FailureClass,
    /// True if the cloud certainly has not carried the change out, and will not.
    pub definite: bool,
    /// True if the request left this process; a refusal before that proves nothing about earlier
    /// sends.
    pub sent: bool,
    /// Extent of the refusal; none if no answer came that says so.
    pub scope: Option<FailureScope>,
    /// CamelCase reason for the pod's condition.
    pub reason: &'static str,
    /// Message for people; the same for every try, so that a repeated refusal does not change the
    /// pod's condition.
    pub message: String,
    /// Time that the cloud asks its caller to wait, if the answer names one.
    pub retry_after: Option<Duration>,
}

impl CallFailure {
    /// True if nothing was sent because the account's rate had no permit free in time.
    pub fn lacks_permit(&self) -> bool {
        !self.sent && self.class == FailureClass::Throttled
    }

    /// True if a NAT gateway refused the change only because other changes are under way or entries
    /// are still changing.
    pub fn is_gateway_busy(&self) -> bool {
        self.class == FailureClass::Conflict
            && matches!(self.scope, Some(FailureScope::Gateway | FailureScope::Entry))
    }
}
