//! Errors that stop a step of a lease, with the reason that the lease records and the policy by
//! which it retries.

pub(crate) use waygate_core::error::error_chain;

use std::time::Duration;
use waygate_core::condition::Reason;
use waygate_core::retry::RetryPolicy;

/// Failure of a step, by the system that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Failure of a statement at the lease store.
    #[error(transparent)]
    Store(#[from] waygate_store::Error),
    /// Failure of a request to the Kubernetes API.
    #[error("Kubernetes API request failed")]
    Kube(#[source] Box<kube::Error>),
    /// Failure of a read of the cloud; a failed change is recorded instead.
    #[error(transparent)]
    Cloud(#[from] waygate_cloud::Error),
    /// A read is out of date: the object to be written has changed or gone since it was read, or a
    /// shared read of the cloud began before the lease was loaded.
    #[error("the last read of the object or of the cloud is out of date; reading again")]
    Changed,
}

impl From<kube::Error> for Error {
    /// Maps a write whose precondition (UID, resource version) no longer holds, or whose object is
    /// gone, to [`Error::Changed`]; all else to [`Error::Kube`].
    fn from(error: kube::Error) -> Self {
        match &error {
            kube::Error::Api(status) if matches!(status.code, 404 | 409) => Self::Changed,
            // The API server takes a patch of another UID for an attempt to change the UID.
            kube::Error::Api(status)
                if status.code == 422 && status.message.contains("metadata.uid") =>
            {
                Self::Changed
            }
            _ => Self::Kube(Box::new(error)),
        }
    }
}

impl Error {
    /// CamelCase reason that the lease records and pod conditions show.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Store(_) => Reason::StoreUnavailable.as_str(),
            Self::Kube(_) => Reason::KubernetesUnavailable.as_str(),
            Self::Cloud(error) => error.reason(),
            Self::Changed => Reason::ObjectChanged.as_str(),
        }
    }

    /// Shortest wait before a retry, where the cloud's answer names one.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        if let Self::Cloud(error) = self { error.retry_after() } else { None }
    }

    /// Retry policy: at once where a read is out of date, else with growing pauses.
    pub(crate) fn retry_policy(&self) -> RetryPolicy {
        match self {
            Self::Changed => RetryPolicy::Poll,
            Self::Store(_) | Self::Kube(_) | Self::Cloud(_) => RetryPolicy::Event,
        }
    }
}
