//! What can stop a step, and what it means for the lease: whose turn it is, and what the pod's
//! owner is told.

pub(crate) use waygate_core::error::chain;

use std::time::Duration;
use waygate_core::retry::Patience;

/// Why a step could not be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The lease store.
    #[error(transparent)]
    Store(#[from] waygate_store::Error),
    /// The cluster.
    #[error("Kubernetes")]
    Kube(#[source] Box<kube::Error>),
    /// The cloud, while reading.
    #[error(transparent)]
    Cloud(#[from] waygate_cloud::Error),
    /// What we were about to change has changed: read again.
    #[error("the object changed meanwhile")]
    Changed,
}

impl From<kube::Error> for Error {
    /// A write whose precondition (UID, resource version) no longer holds, or whose object is gone,
    /// means "read again".
    fn from(error: kube::Error) -> Self {
        match &error {
            kube::Error::Api(status) if matches!(status.code, 404 | 409) => Self::Changed,
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
    /// For programs.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Store(_) => "LeaseStoreUnavailable",
            Self::Kube(_) => "KubernetesUnavailable",
            Self::Cloud(error) => error.reason(),
            Self::Changed => "ObjectChanged",
        }
    }

    /// Not before this has passed.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        if let Self::Cloud(error) = self { error.retry_after() } else { None }
    }

    /// When to try again.
    pub(crate) fn patience(&self) -> Patience {
        match self {
            Self::Changed => Patience::Poll,
            Self::Store(_) | Self::Kube(_) | Self::Cloud(_) => Patience::Event,
        }
    }
}
