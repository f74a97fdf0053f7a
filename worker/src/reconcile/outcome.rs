//! Outcome of a step: the next step, or a pause with its reason.

use crate::errors::{Error, error_chain};
use std::borrow::Cow;
use std::time::Duration;
use waygate_core::operation::Rejection;
use waygate_core::plan::Wait;
use waygate_core::retry::RetryPolicy;

/// Outcome of a step, for the loop over a lease's steps.
pub(crate) enum StepOutcome {
    /// Continue: load the lease again and plan its next step.
    Continue,
    /// End: the lease is deleted.
    Deleted,
    /// Give the claim back and look again later.
    Pause(Pause),
}

/// Reason and length of a lease's pause, as the store records them.
pub(crate) struct Pause {
    /// CamelCase reason, also that of the pod's condition.
    pub reason: Cow<'static, str>,
    /// Sentence for the pod's owner and operators.
    pub message: String,
    /// Retry policy: the back-off curve of the pause.
    pub retry_policy: RetryPolicy,
    /// Shortest pause, by the cloud's answer or the fence; zero for none.
    pub min_wait: Duration,
}

impl Pause {
    /// Creates a pause whose length the retry policy alone determines.
    pub(crate) fn new(
        reason: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
        retry_policy: RetryPolicy,
    ) -> Self {
        Self {
            reason: reason.into(),
            message: message.into(),
            retry_policy,
            min_wait: Duration::ZERO,
        }
    }
}

impl From<&Error> for Pause {
    fn from(error: &Error) -> Self {
        let min_wait = error.retry_after().unwrap_or_default();
        Self { min_wait, ..Self::new(error.reason(), error_chain(error), error.retry_policy()) }
    }
}

impl From<Wait> for Pause {
    fn from(wait: Wait) -> Self {
        Self::new(wait.reason.as_str(), wait.message, wait.retry_policy)
    }
}

impl From<Rejection> for Pause {
    fn from(rejection: Rejection) -> Self {
        let min_wait = Duration::from_secs(rejection.min_wait_seconds.into());
        Self { min_wait, ..Self::new(rejection.reason, rejection.message, rejection.retry_policy) }
    }
}

impl StepOutcome {
    /// Pauses without a word to the pod.
    pub(crate) fn pause(wait: Wait) -> Self {
        Self::Pause(Pause::from(wait))
    }
}
