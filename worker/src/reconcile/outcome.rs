//! Outcome of a step: the next step, or a pause with its reason.

use crate::errors::{Error, chain};
use std::borrow::Cow;
use std::time::Duration;
use waygate_core::operation::Refused;
use waygate_core::plan::Wait;
use waygate_core::retry::Patience;

/// Outcome of a step, for the loop over a lease's steps.
pub(crate) enum After {
    /// Continue: load the lease again and plan its next step.
    Next,
    /// End: the lease is deleted.
    Gone,
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
    pub patience: Patience,
    /// Shortest pause, by the cloud's answer or the fence; zero for none.
    pub at_least: Duration,
}

impl Pause {
    /// Creates a pause whose length the retry policy alone determines.
    pub(crate) fn new(
        reason: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
        patience: Patience,
    ) -> Self {
        Self { reason: reason.into(), message: message.into(), patience, at_least: Duration::ZERO }
    }
}

impl From<&Error> for Pause {
    fn from(error: &Error) -> Self {
        let at_least = error.retry_after().unwrap_or_default();
        Self { at_least, ..Self::new(error.reason(), chain(error), error.patience()) }
    }
}

impl From<Wait> for Pause {
    fn from(wait: Wait) -> Self {
        Self::new(wait.reason.as_str(), wait.message, wait.patience)
    }
}

impl From<Refused> for Pause {
    fn from(refused: Refused) -> Self {
        let at_least = Duration::from_secs(refused.at_least_seconds.into());
        Self { at_least, ..Self::new(refused.reason, refused.message, refused.patience) }
    }
}

impl After {
    /// Pauses until another read can decide, with the reason `Doubtful`.
    pub(crate) fn reread(message: &str, patience: Patience) -> Self {
        Self::Pause(Pause::new("Doubtful", message, patience))
    }
}
