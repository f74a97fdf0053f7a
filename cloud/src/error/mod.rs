//! What can go wrong with a call, and what that means for whoever asked.
//!
//! The one distinction everything hangs on: did the cloud *surely not* carry the change out
//! ([`Error::is_definite`]), or is its outcome unknown? An unknown outcome is settled by the same
//! `ClientToken` or by a read, never by a new operation.

mod codes;

pub use waygate_core::failure::{FailureClass as Class, FailureScope as Scope};

use codes::Verdict;
use std::sync::Arc;
use std::time::Duration;
use waygate_core::failure::CallFailure;

/// Why a call did not give what it was asked for. Cheap to clone, because the waiters of one batch
/// share it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The cloud answered, and the answer was no.
    #[error("{0}")]
    Refused(Arc<Refusal>),
    /// The connection failed. Whether the cloud saw the request is unknown.
    #[error("{action}: the connection to the cloud failed")]
    Transport {
        /// What was called.
        action: &'static str,
        /// What the HTTP client saw; without the URL, which may hold parameters.
        #[source]
        source: Arc<reqwest::Error>,
    },
    /// Sent, and not answered in time.
    #[error("{action}: no answer from the cloud before the deadline")]
    Deadline {
        /// What was called.
        action: &'static str,
    },
    /// The deadline passed, or something needed was missing, before anything was sent.
    #[error("{action}: not sent: {waiting}")]
    NotSent {
        /// What would have been called.
        action: &'static str,
        /// What it waited for.
        waiting: Waiting,
    },
    /// An answer that is none of the API's: not JSON, too long, or without a field that decides.
    #[error("{action}: HTTP {status} with an answer that cannot be read: {detail}")]
    Unreadable {
        /// What was called.
        action: &'static str,
        /// The HTTP status.
        status: u16,
        /// What is wrong with it.
        detail: String,
    },
    /// The client cannot be made from these settings.
    #[error("the cloud client cannot be set up: {0}")]
    Setup(String),
}

/// The cloud's own words for a refusal.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{action}: the cloud refused: {code}: {message} (HTTP {status}, request {request_id})")]
pub struct Refusal {
    /// What was called.
    pub action: &'static str,
    /// HTTP status.
    pub status: u16,
    /// The API's error code, misspellings and all.
    pub code: String,
    /// The API's message, cut to a length fit for a condition.
    pub message: String,
    /// For the cloud's support.
    pub request_id: String,
    /// The RAM action that is not allowed, where the answer names it.
    pub denied_action: Option<String>,
    /// How long the cloud asks us to wait.
    pub retry_after: Option<Duration>,
}

/// What a call was waiting for when its time was up, before it was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Waiting {
    /// A permit of the account's rate.
    #[error("the account's rate leaves no call in time; it is asked for again when one is likely")]
    Permit {
        /// When that is, where it is known.
        retry_after: Option<Duration>,
    },
    /// Credentials.
    #[error("no credentials: {problem}")]
    Credentials {
        /// Why there are none.
        problem: String,
        /// What that means: their source may be away for a moment, or refuse us for good.
        class: Class,
    },
}

impl Error {
    /// What it means for the one who asked.
    pub fn class(&self) -> Class {
        match self {
            Self::Refused(refusal) => refusal.verdict().class,
            Self::NotSent { waiting: Waiting::Credentials { class, .. }, .. } => *class,
            Self::NotSent { .. } => Class::Throttled,
            Self::Transport { .. } | Self::Deadline { .. } | Self::Unreadable { .. } => {
                Class::Transient
            }
            Self::Setup(_) => Class::Permanent,
        }
    }

    /// Whether asking again later, with nothing changed by anybody, may help.
    pub fn is_transient(&self) -> bool {
        match self.class() {
            Class::Transient | Class::Throttled | Class::Conflict | Class::Processing => true,
            Class::Done | Class::NotFound | Class::Quota | Class::Denied | Class::Permanent => {
                false
            }
        }
    }

    /// Whether the cloud surely did not, and will not, carry it out.
    pub fn is_definite(&self) -> bool {
        match self {
            Self::NotSent { .. } | Self::Setup(_) => true,
            Self::Transport { .. } | Self::Deadline { .. } | Self::Unreadable { .. } => false,
            Self::Refused(refusal) => {
                refusal.status < 500
                    && !matches!(
                        self.class(),
                        Class::Transient | Class::Throttled | Class::Processing
                    )
            }
        }
    }

    /// Whom it concerns, this change or more; none where no answer came that says so.
    pub fn scope(&self) -> Option<Scope> {
        match self {
            Self::Refused(refusal) => Some(refusal.verdict().scope),
            Self::NotSent { .. } | Self::Setup(_) => Some(Scope::Account),
            Self::Transport { .. } | Self::Deadline { .. } | Self::Unreadable { .. } => None,
        }
    }

    /// Whether a NAT gateway refused it for nothing but other changes under way, or entries that
    /// are not at rest yet.
    pub fn is_gateway_busy(&self) -> bool {
        self.failure().is_gateway_busy()
    }

    /// All that is decided on a change that failed like this.
    pub fn failure(&self) -> CallFailure {
        CallFailure {
            class: self.class(),
            definite: self.is_definite(),
            sent: !matches!(self, Self::NotSent { .. }),
            scope: self.scope(),
            reason: self.reason(),
            message: self.message(),
            retry_after: self.retry_after(),
        }
    }

    /// What a pod is told: without the request's ID, which is another each time. A condition that
    /// changes with every try is an event of the pod, and that would wake the lease for the next
    /// try at once.
    fn message(&self) -> String {
        if let Self::Refused(refusal) = self {
            return format!(
                "{}: the cloud refused: {}: {}",
                refusal.action, refusal.code, refusal.message
            );
        }
        waygate_core::error::chain(self)
    }

    /// How long to wait at least: as the cloud asks, or until the account's rate is likely to leave
    /// a call.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::NotSent { waiting: Waiting::Permit { retry_after }, .. } => *retry_after,
            _ => self.refusal().and_then(|refusal| refusal.retry_after),
        }
    }

    /// One word in CamelCase for a condition.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.verdict().reason,
            Self::Transport { .. } => "CloudUnreachable",
            Self::Deadline { .. } => "CloudTimeout",
            Self::NotSent { waiting: Waiting::Permit { .. }, .. } => "RateLimited",
            Self::NotSent { waiting: Waiting::Credentials { .. }, .. } => "NoCredentials",
            Self::Unreadable { .. } => "CloudAnswerUnreadable",
            Self::Setup(_) => "InvalidCloudSettings",
        }
    }

    /// The cloud's error code.
    pub fn code(&self) -> Option<&str> {
        self.refusal().map(|refusal| refusal.code.as_str())
    }

    /// The call's ID, for the cloud's support.
    pub fn request_id(&self) -> Option<&str> {
        self.refusal().map(|refusal| refusal.request_id.as_str())
    }

    /// The RAM action that is missing, as a policy names it, such as `vpc:CreateForwardEntry`.
    pub fn denied_action(&self) -> Option<&str> {
        self.refusal().and_then(|refusal| refusal.denied_action.as_deref())
    }

    fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }
}

impl Refusal {
    fn verdict(&self) -> Verdict {
        codes::verdict(self.action, self.status, &self.code, &self.message)
    }
}
