//! How a call to the cloud can fail, as far as anything is decided on it.

use std::time::Duration;

/// What the outcome of a call means for the process that asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// Transport, 5xx, nonsense: the outcome is unknown; the same token again.
    Transient,
    /// Too many calls; the same token later.
    Throttled,
    /// The thing, or its parent, is busy or not in the right state: later, as a new operation.
    Conflict,
    /// An earlier send of the same token is still at work: the same token later.
    Processing,
    /// What was asked for is already so.
    Done,
    /// The thing is not there: a code known to mean just that, so that it may count as proof.
    NotFound,
    /// A quota or the region's stock is used up.
    Quota,
    /// The account may not: RAM, its keys, its money, risk control.
    Denied,
    /// Asking again will give the same answer.
    Permanent,
}

/// Whom a refusal concerns: what else would be refused for the same reason now. Where that is not
/// known it is [`FailureScope::Change`]: a change that is tried in vain costs a call, one that is
/// held back for nothing costs a pod its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureScope {
    /// This change alone: what it asks for, or the EIP, interface, address pool or bandwidth
    /// package that it names.
    Change,
    /// A forward entry: this one, or at a gateway that waits until all of them are at rest, another
    /// one.
    Entry,
    /// Every change at the NAT gateway.
    Gateway,
    /// Every call of the account, or every one of this action: its rate, quota, rights, keys and
    /// money, its region, and the cloud itself.
    Account,
}

/// A change that the cloud did not confirm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallFailure {
    /// What it means.
    pub class: FailureClass,
    /// Whether the cloud surely did not, and will not, carry the change out.
    pub definite: bool,
    /// Whether the request left this process; a refusal before that says nothing of earlier sends.
    pub sent: bool,
    /// Whom it concerns, this change or more; none where no answer came that says so.
    pub scope: Option<FailureScope>,
    /// One word in CamelCase for a condition.
    pub reason: &'static str,
    /// For people; the same for every try, so that a repeated refusal does not change the pod's
    /// condition.
    pub message: String,
    /// How long the cloud asks us to wait, where it said so.
    pub retry_after: Option<Duration>,
}

impl CallFailure {
    /// Whether nothing was sent, because the account's rate left no call in time.
    pub fn lacks_permit(&self) -> bool {
        !self.sent && self.class == FailureClass::Throttled
    }

    /// Whether a NAT gateway refused it for nothing but other changes under way, or entries that
    /// are not at rest yet.
    pub fn is_gateway_busy(&self) -> bool {
        self.class == FailureClass::Conflict
            && matches!(self.scope, Some(FailureScope::Gateway | FailureScope::Entry))
    }
}
