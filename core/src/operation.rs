//! Operations: changes on their way to the cloud. Intended, queued at a gateway or sent, and
//! settled once the outcome is known.

use crate::change::Change;
use crate::retry::RetryPolicy;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A change that the plan asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct ChangeRequest {
    /// Resource that is changed: at most one unresolved operation exists for it.
    pub resource: String,
    /// Change to send, with all its parameters.
    pub change: Change,
}

/// A change that was intended and whose outcome is not known yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// Operation ID, which is the `ClientToken` of every send.
    pub id: Uuid,
    /// Resource that the operation changes.
    pub resource: String,
    /// Change, as every send of the operation carries it.
    pub change: Change,
    /// Progress on its way to the cloud.
    pub send_state: SendState,
    /// Number of sends that may have reached the cloud.
    pub sends: i32,
    /// Fence: no send of the operation is expected to take effect after this time.
    pub fence_until: Timestamp,
    /// Reads without effect: reads after the fence that showed none.
    pub reads_without_effect: i32,
    /// True if the operation awaits its fence: the cloud definitely refused the last send, but an
    /// earlier one may still take effect. No more sends follow; the operation ends at the fence.
    pub awaits_fence: bool,
}

/// Progress of an unresolved operation on its way to the cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendState {
    /// Waits in its queue; the plan may take it back.
    Queued,
    /// Sent; a worker waits for the answer.
    Sent {
        /// The worker waits no longer than this.
        answer_by: Timestamp,
    },
    /// Sent, and the answer was lost: the worker that waited got none, or has died.
    Unanswered,
}

/// Priority of a change in its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Another pod has the address that the change frees, or a published address is repaired.
    Urgent,
    /// Everything else that can be used at once.
    Normal,
    /// The pod has no IP yet, so that the address could not be used.
    Early,
}

impl Priority {
    /// Priority as the store writes it; lower numbers are sent first.
    pub fn number(self) -> i16 {
        match self {
            Self::Urgent => 0,
            Self::Normal => 1,
            Self::Early => 2,
        }
    }
}

/// Rejection: why a change was not carried out, and how long to wait. The sender writes it to the
/// lease; the claim holder reports it in the pod's condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// The change that was refused.
    pub change: Change,
    /// Reason in CamelCase, for programs.
    pub reason: String,
    /// Message for people, with the cloud's own words.
    pub message: String,
    /// Back-off curve until the next try.
    pub retry_policy: RetryPolicy,
    /// Least wait before the next try, in seconds.
    pub min_wait_seconds: u32,
}

/// A rejection that was reported, with the moment until which its change is not asked for again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The rejection, as it was reported.
    pub rejection: Rejection,
    /// End of the wait, unless what may lift the refusal ends it before.
    pub until: Timestamp,
}

/// Outcome of a settled operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Carried out: the cloud said so, or a read shows the effect.
    Done,
    /// Definitely refused or never sent, with no other send unanswered.
    Refused,
    /// Without effect: the fence has passed and two reads showed none, or it was cancelled while it
    /// was queued.
    Void,
}

impl Outcome {
    /// Outcome as the store writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Void => "void",
        }
    }
}
