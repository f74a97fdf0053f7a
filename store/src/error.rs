//! The store's errors, and which of them are transient.

mod sqlstate;

pub use sqlstate::Transience;

use sqlstate::classify_sqlstate;
use sqlx::Error as Cause;
use waygate_core::lease::Constraint;

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The claim expired or passed to another worker: decisions made under it have no effect.
    #[error(
        "the claim on the lease expired or passed to another worker; this decision has no effect"
    )]
    ClaimLost,
    /// The gateway lock expired or passed to another process, which alone sends from now on.
    #[error("the gateway lock expired or passed to another process, which sends from now on")]
    GatewayLockLost,
    /// The worker lock expired or passed to another process, which does its work from now on.
    #[error(
        "the worker lock expired or passed to another process, which does its work from now on"
    )]
    WorkerLockLost,
    /// A unique index rejected the write: another lease holds the resource.
    #[error("conflict: another lease holds the resource (unique index {})", .0.index_name())]
    Conflict(Constraint),
    /// No worker has registered the cluster yet.
    #[error(
        "cluster \"{name}\" is not registered in this lease store; its worker registers it when it first starts"
    )]
    UnknownCluster {
        /// The configured cluster ID (`clusterID`).
        name: String,
    },
    /// Two clusters are configured with the same cluster ID.
    #[error(
        "clusterID \"{name}\" belongs to another cluster in this lease store (kube-system UID {uid}); give each cluster its own clusterID"
    )]
    ClusterNameInUse {
        /// The configured cluster ID (`clusterID`).
        name: String,
        /// UID of the kube-system namespace of the cluster that has the ID.
        uid: uuid::Uuid,
    },
    /// The database's schema is older than this program needs.
    #[error(
        "the lease store's schema is at version {found}, this program needs {needed}: run `waygate-worker migrate`"
    )]
    Schema {
        /// The version of the newest migration applied to the database.
        found: i64,
        /// The version of the newest migration in this program.
        needed: i64,
    },
    /// The server may lose transactions that it has acknowledged.
    #[error(
        "PostgreSQL runs with fsync=off and may lose leases that were acknowledged; turn fsync on"
    )]
    FsyncOff,
    /// The URL cannot be parsed. The message leaves it out because it contains a password.
    #[error("DATABASE_URL cannot be read as postgres://USER:PASSWORD@HOST:PORT/DATABASE")]
    BadUrl,
    /// A stored value cannot be converted to the type that this program expects.
    #[error("lease store holds what this program cannot read: {what}")]
    Corrupt {
        /// The value, and what it should be.
        what: String,
    },
    /// Postgres cannot be reached, or rejected the statement.
    #[error("lease store: statement failed")]
    Database(#[source] Cause),
    /// A migration could not be applied.
    #[error("lease store: migration failed")]
    Migration(#[from] sqlx::migrate::MigrateError),
}

impl Error {
    /// Chance that the same call succeeds later. Errors about the statement or its values are
    /// permanent.
    pub fn transience(&self) -> Transience {
        let Self::Database(cause) = self else { return Transience::Permanent };
        match cause {
            Cause::Io(_)
            | Cause::Tls(_)
            | Cause::Protocol(_)
            | Cause::PoolTimedOut
            | Cause::PoolClosed
            | Cause::WorkerCrashed
            | Cause::BeginFailed => Transience::Outage,
            Cause::Database(refusal) => refusal
                .code()
                .map_or(Transience::Permanent, |sqlstate| classify_sqlstate(&sqlstate)),
            _ => Transience::Permanent,
        }
    }

    /// True if the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        self.transience() != Transience::Permanent
    }

    /// The violated constraint, if the error is a conflict with another lease.
    pub fn violated_constraint(&self) -> Option<Constraint> {
        if let Self::Conflict(constraint) = self { Some(*constraint) } else { None }
    }

    pub(crate) fn corrupt_value(what: impl std::fmt::Display) -> Self {
        Self::Corrupt { what: what.to_string() }
    }
}

impl From<Cause> for Error {
    fn from(error: Cause) -> Self {
        let index = error
            .as_database_error()
            .filter(|e| e.is_unique_violation())
            .and_then(|e| e.constraint());
        match index.and_then(find_constraint) {
            Some(constraint) => Self::Conflict(constraint),
            None => Self::Database(error),
        }
    }
}

/// The constraint of this index. None for an index that no other lease's write can violate.
fn find_constraint(index: &str) -> Option<Constraint> {
    Constraint::ALL.iter().copied().find(|constraint| constraint.index_name() == index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::error::{DatabaseError, ErrorKind};
    use std::borrow::Cow;
    use std::error::Error as StdError;

    /// A database error with this SQLSTATE.
    #[derive(Debug, thiserror::Error)]
    #[error("refused: {0}")]
    struct Refusal(&'static str);

    impl DatabaseError for Refusal {
        fn message(&self) -> &str {
            self.0
        }
        fn code(&self) -> Option<Cow<'_, str>> {
            Some(self.0.into())
        }
        fn kind(&self) -> ErrorKind {
            ErrorKind::Other
        }
        fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
            self
        }
        fn as_error_mut(&mut self) -> &mut (dyn StdError + Send + Sync + 'static) {
            self
        }
        fn into_error(self: Box<Self>) -> Box<dyn StdError + Send + Sync + 'static> {
            self
        }
    }

    #[test]
    fn a_sqlstate_decides_whether_a_refusal_passes() {
        let passing = [
            "08000", "08003", "08006", "28P01", "3D000", "40001", "40P01", "53100", "53200",
            "53300", "55006", "55P03", "57014", "57P01", "57P02", "57P03", "57P05", "58000",
            "58030", "25006", "25P03", "25P04",
        ];
        let lasting = [
            "0A000", "21000", "22003", "22021", "22P02", "22P05", "23502", "23503", "23514",
            "25001", "25P02", "42501", "42601", "42703", "42P01", "54000", "P0001", "XX000",
            "XX001", "",
        ];
        for (codes, passes) in [(&passing[..], true), (&lasting[..], false)] {
            for code in codes {
                assert_eq!(
                    Error::from(Cause::Database(Box::new(Refusal(code)))).is_transient(),
                    passes,
                    "{code}"
                );
            }
        }
    }

    #[test]
    fn a_broken_connection_passes_and_what_cannot_be_read_or_written_does_not() {
        let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let passing = [
            Cause::Io(broken),
            Cause::Tls("no certificate".into()),
            Cause::Protocol("nonsense".to_owned()),
            Cause::PoolTimedOut,
            Cause::PoolClosed,
            Cause::WorkerCrashed,
            Cause::BeginFailed,
        ];
        assert!(passing.into_iter().all(|cause| Error::from(cause).is_transient()));
        let lasting = [
            Cause::RowNotFound,
            Cause::Encode("too large".into()),
            Cause::Decode("no number".into()),
        ];
        assert!(lasting.into_iter().all(|cause| !Error::from(cause).is_transient()));
        assert!(
            ![Error::ClaimLost, Error::FsyncOff, Error::corrupt_value("x")]
                .iter()
                .any(Error::is_transient)
        );
    }
}
