//! Errors that stop a step of a lease, with the reason that the lease records and the policy by
//! which it retries.

pub(crate) use waygate_core::error::error_chain;

use kube::core::Status;
use kube::core::response::reason;
use std::time::Duration;
use waygate_core::condition::Reason;
use waygate_core::retry::RetryPolicy;
use waygate_store::Transience;

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
    /// gone, to [`Error::Changed`]; all else to [`Error::Kube`], also a 404 that names no object.
    fn from(error: kube::Error) -> Self {
        match &error {
            kube::Error::Api(status) if status.code == 409 || names_missing_object(status) => {
                Self::Changed
            }
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

/// True if the answer is the API server's own, and names the object that is not there.
pub(crate) fn names_missing_object(status: &Status) -> bool {
    status.code == 404
        && status.reason == reason::NOT_FOUND
        && status.details.as_ref().is_some_and(|details| !details.name.is_empty())
}

impl Error {
    /// CamelCase reason that the lease records and pod conditions show.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Store(error) if error.is_transient() => Reason::StoreUnavailable.as_str(),
            Self::Store(_) => Reason::StoreRefused.as_str(),
            Self::Kube(_) => Reason::KubernetesUnavailable.as_str(),
            Self::Cloud(error) => error.reason(),
            Self::Changed => Reason::ObjectChanged.as_str(),
        }
    }

    /// Chance of the same step later. A failure of the cloud counts as an outage: its refusals are
    /// of the account, or are recorded with their own waits.
    pub(crate) fn transience(&self) -> Transience {
        match self {
            Self::Store(error) => error.transience(),
            Self::Kube(error) => classify_kube_error(error),
            Self::Cloud(_) => Transience::Outage,
            Self::Changed => Transience::Passing,
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

/// Transience of a refusal of the API server, or of a failure on the way to it.
fn classify_kube_error(error: &kube::Error) -> Transience {
    match error {
        // 401: a token is being renewed. 408, 429, 502 to 504: the server, or one on the way, is
        // busy, starting or away. 404: of the path or the definition, or not the API server's.
        kube::Error::Api(status) => match status.code {
            401 | 404 | 408 | 429 | 502..=504 => Transience::Outage,
            // 500: above all another webhook that fails for this object.
            500.. => Transience::Passing,
            _ => Transience::Permanent,
        },
        // The object is not what its definition says.
        kube::Error::SerdeError(_) => Transience::Permanent,
        _ => Transience::Outage,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_of_the_object_and_a_busy_server_is_not() {
        for (code, transience) in [
            (403, Transience::Permanent),
            (422, Transience::Permanent),
            (500, Transience::Passing),
            (429, Transience::Outage),
            (503, Transience::Outage),
            (401, Transience::Outage),
            (404, Transience::Outage),
        ] {
            let status = Status::failure("no", "No").with_code(code).boxed();
            assert_eq!(Error::from(kube::Error::Api(status)).transience(), transience, "{code}");
        }
        let undecodable = serde_json::from_str::<u8>("x").unwrap_err();
        let undecodable = Error::from(kube::Error::SerdeError(undecodable));
        assert_eq!(undecodable.transience(), Transience::Permanent);
    }
}
