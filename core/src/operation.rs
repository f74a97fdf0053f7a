//! One change of the cloud on its way: intended, queued at its gateway or sent, and settled once
//! its end is known.

use crate::change::Change;
use crate::retry::Patience;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A change to ask of the cloud.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// What is changed: at most one unresolved operation stands on it.
    pub resource: String,
    /// The change.
    pub change: Change,
}

/// A change that was intended and whose end is not known yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// Its ID, which is its `ClientToken`.
    pub id: Uuid,
    /// What it changes.
    pub resource: String,
    /// The change, as every send of it carries it.
    pub change: Change,
    /// Whether it is on its way to the cloud.
    pub sending: Sending,
    /// No send of it is expected to take effect after this.
    pub fence_until: Timestamp,
    /// Reads after the fence that showed no effect.
    pub misses: i32,
    /// Its last send was refused for sure, and an earlier one may still take effect: it is not sent
    /// again, and ends when that can arrive no more.
    pub waits_out: bool,
}

/// Where an unresolved operation is on its way to the cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// It waits in its gateway's lane, and may be withdrawn.
    Queued,
    /// It was sent, and somebody waits for the answer.
    Sent,
    /// It was sent, and whoever waited for the answer did not get one, or is no more.
    Unanswered,
}

/// Why a queued operation was not carried out, for the lease to tell and to wait for; written by
/// the lane that asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// For programs.
    pub reason: String,
    /// For people.
    pub message: String,
    /// When to try again.
    pub patience: Patience,
    /// Not before so many seconds have passed.
    pub at_least_seconds: u32,
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The cloud said so, or a read shows its effect.
    Done,
    /// A definite refusal, with no other send unanswered.
    Refused,
    /// Its fence has passed and two reads show no effect.
    Void,
}

impl Outcome {
    /// As the store writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Void => "void",
        }
    }
}
