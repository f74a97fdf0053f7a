//! Errors of calls, and their classification.
//!
//! Callers depend on one distinction: either the cloud definitely did not carry out the change
//! ([`Error::is_definite`]), or the outcome is unknown. Only the same `ClientToken` or a read
//! settles an unknown outcome, never a new operation.

pub(crate) mod codes;

pub use waygate_core::failure::{FailureClass as Class, FailureScope as Scope};

use codes::ErrorRule;
use std::sync::Arc;
use std::time::Duration;
use waygate_core::failure::CallFailure;

/// Why a call failed. Cheap to clone, because the waiters of one batch share the error.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The cloud answered with an error code.
    #[error("{0}")]
    Refused(Arc<Refusal>),
    /// The connection failed; the cloud may have received the request.
    #[error("{action}: the connection to the cloud failed")]
    Transport {
        /// The API action called.
        action: &'static str,
        /// The HTTP client's error, without the URL, which may hold parameters.
        #[source]
        source: Arc<reqwest::Error>,
    },
    /// Sent, but not answered before the deadline; the outcome is unknown.
    #[error("{action}: no answer from the cloud before the deadline")]
    Deadline {
        /// The API action called.
        action: &'static str,
    },
    /// The call was not sent, for lack of a permit or credentials.
    #[error("{action}: not sent: {cause}")]
    NotSent {
        /// The API action not called.
        action: &'static str,
        /// The missing permit or credentials.
        cause: NotSentCause,
    },
    /// The answer is not one of the API's: not JSON, too long, or without a required field.
    #[error("{action}: the answer cannot be read (HTTP {status}): {detail}")]
    Unreadable {
        /// The API action called.
        action: &'static str,
        /// HTTP status of the answer, 200 included.
        status: u16,
        /// The defect of the answer, for logs.
        detail: String,
    },
    /// The settings, the environment or a credentials file are unusable.
    #[error("the cloud client cannot be set up: {0}")]
    Setup(String),
}

/// An error answer of the cloud, in the cloud's own words.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{action}: the cloud refused: {code}: {message} (HTTP {status}, request {request_id})")]
pub struct Refusal {
    /// The API action called.
    pub action: &'static str,
    /// HTTP status of the answer.
    pub status: u16,
    /// The API's error code, with the API's misspellings.
    pub code: String,
    /// The API's message, cut to a length fit for a condition.
    pub message: String,
    /// The ID that the cloud's support asks for.
    pub request_id: String,
    /// The RAM action that the policy denies, where the answer names one.
    pub denied_action: Option<String>,
    /// The delay that the cloud asks for before the next call.
    pub retry_after: Option<Duration>,
}

/// The reason why a call was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSentCause {
    /// The account's rate leaves no permit before the deadline.
    #[error("the account's call rate is used up; the call is tried again later")]
    Permit {
        /// Delay after which a permit is likely, where known.
        retry_after: Option<Duration>,
    },
    /// The moment passed by which the call had to be written, because the process was held up.
    #[error("the process was held up for too long; the call is tried again")]
    Late,
    /// No credentials to sign the call.
    #[error("no credentials: {problem}")]
    Credentials {
        /// The failure of the credentials' source.
        problem: String,
        /// `Transient` for a source that is briefly unavailable, `Denied` for one that refuses.
        class: Class,
    },
}

impl Error {
    /// The class, which decides how the caller reacts.
    pub fn class(&self) -> Class {
        match self {
            Self::Refused(refusal) => refusal.error_rule().class,
            Self::NotSent { cause: NotSentCause::Credentials { class, .. }, .. } => *class,
            Self::NotSent { .. } => Class::Throttled,
            Self::Transport { .. } | Self::Deadline { .. } | Self::Unreadable { .. } => {
                Class::Transient
            }
            Self::Setup(_) => Class::Permanent,
        }
    }

    /// True if the same call may succeed later without a change of configuration or resources.
    pub fn is_transient(&self) -> bool {
        match self.class() {
            Class::Transient | Class::Throttled | Class::Conflict | Class::Processing => true,
            Class::AlreadyDone
            | Class::NotFound
            | Class::Quota
            | Class::Denied
            | Class::Permanent => false,
        }
    }

    /// True if the cloud definitely did not carry out the call, and will not.
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

    /// The scope that the error concerns: this change, its entry, gateway or account. `None` where
    /// no readable answer came.
    pub fn scope(&self) -> Option<Scope> {
        match self {
            Self::Refused(refusal) => Some(refusal.error_rule().scope),
            Self::NotSent { .. } | Self::Setup(_) => Some(Scope::Account),
            Self::Transport { .. } | Self::Deadline { .. } | Self::Unreadable { .. } => None,
        }
    }

    /// True if a NAT gateway refused only because of other changes under way or entries that are
    /// not settled yet.
    pub fn is_gateway_busy(&self) -> bool {
        self.call_failure().is_gateway_busy()
    }

    /// The facts of the failure that the plan decides on.
    pub fn call_failure(&self) -> CallFailure {
        CallFailure {
            class: self.class(),
            definite: self.is_definite(),
            sent: !matches!(self, Self::NotSent { .. }),
            scope: self.scope(),
            reason: self.reason(),
            message: self.condition_message(),
            retry_after: self.retry_after(),
        }
    }

    /// The message for the pod's condition, without the request ID, which differs in each attempt.
    /// A condition that changed with every attempt would be a pod event, and would wake the lease
    /// for the next attempt at once.
    fn condition_message(&self) -> String {
        if let Self::Refused(refusal) = self {
            return format!(
                "{}: the cloud refused: {}: {}",
                refusal.action, refusal.code, refusal.message
            );
        }
        waygate_core::error::error_chain(self)
    }

    /// The least delay before the next attempt: as the cloud asks, or until the account's rate is
    /// likely to leave a permit.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::NotSent { cause: NotSentCause::Permit { retry_after }, .. } => *retry_after,
            _ => self.as_refusal().and_then(|refusal| refusal.retry_after),
        }
    }

    /// The condition's reason, in CamelCase.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.error_rule().reason,
            Self::Transport { .. } => "CloudUnreachable",
            Self::Deadline { .. } => "CloudTimeout",
            Self::NotSent { cause: NotSentCause::Permit { .. } | NotSentCause::Late, .. } => {
                "RateLimited"
            }
            Self::NotSent { cause: NotSentCause::Credentials { .. }, .. } => "NoCredentials",
            Self::Unreadable { .. } => "CloudAnswerUnreadable",
            Self::Setup(_) => "InvalidCloudSettings",
        }
    }

    /// The cloud's error code, where the cloud answered.
    pub fn code(&self) -> Option<&str> {
        self.as_refusal().map(|refusal| refusal.code.as_str())
    }

    /// The request ID for the cloud's support, where the cloud answered.
    pub fn request_id(&self) -> Option<&str> {
        self.as_refusal().map(|refusal| refusal.request_id.as_str())
    }

    /// The denied RAM action as a policy names it, such as `vpc:CreateForwardEntry`.
    pub fn denied_action(&self) -> Option<&str> {
        self.as_refusal().and_then(|refusal| refusal.denied_action.as_deref())
    }

    fn as_refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }
}

impl Refusal {
    fn error_rule(&self) -> ErrorRule {
        codes::classify_code(self.action, self.status, &self.code, &self.message)
    }
}
