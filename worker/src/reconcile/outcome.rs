//! What follows a step of a lease.

use crate::errors::{Error, chain};
use std::borrow::Cow;
use std::time::Duration;
use waygate_core::operation::Refused;
use waygate_core::plan::Wait;
use waygate_core::retry::Patience;

/// What follows a step.
pub(crate) enum After {
    /// The next one.
    Next,
    /// Nothing: the lease is deleted.
    Gone,
    /// A pause.
    Pause(Pause),
}

/// Why the lease pauses, and how long.
pub(crate) struct Pause {
    /// CamelCase, for programs.
    pub reason: Cow<'static, str>,
    /// For people.
    pub message: String,
    /// When to look again.
    pub patience: Patience,
    /// Not before this has passed.
    pub at_least: Duration,
}

impl Pause {
    /// A pause of no least length.
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
    /// Only the next read tells.
    pub(crate) fn reread(message: &str, patience: Patience) -> Self {
        Self::Pause(Pause::new("Doubtful", message, patience))
    }
}
