//! What can go wrong between us and Postgres, and what it means.

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another worker has the lease now, or nobody: whatever was decided on it is void.
    #[error("the claim on the lease was lost; whoever holds it now decides")]
    ClaimLost,
    /// Another process has the gateway's lane now, or nobody: nothing more is sent from here.
    #[error("the gateway's lane was lost; whoever holds it now sends")]
    LaneLost,
    /// A unique constraint says no: somebody else holds the thing.
    #[error("taken: {constraint}")]
    Taken {
        /// The constraint's name.
        constraint: String,
    },
    /// The cluster has not been registered by its worker yet.
    #[error("cluster \"{name}\" is not registered in this lease store; its worker registers it when it first starts")]
    UnknownCluster {
        /// The configured cluster ID.
        name: String,
    },
    /// Two clusters with one configured ID.
    #[error(
        "clusterID \"{name}\" belongs to another cluster in this lease store (kube-system UID {uid}); give each cluster its own clusterID"
    )]
    ClusterNameTaken {
        /// The configured cluster ID.
        name: String,
        /// The UID it is registered for.
        uid: uuid::Uuid,
    },
    /// The database's schema is not the one this program was built for.
    #[error("the lease store's schema is at version {found}, this program needs {needed}: run `waygate-worker migrate`")]
    Schema {
        /// What the database has.
        found: i64,
        /// What we were built with.
        needed: i64,
    },
    /// The server may lose what it has acknowledged.
    #[error("PostgreSQL runs with fsync=off and may lose leases that were acknowledged; turn fsync on")]
    Unsafe,
    /// The URL cannot be read. It is not shown: it holds a password.
    #[error("DATABASE_URL cannot be read as postgres://USER:PASSWORD@HOST:PORT/DATABASE")]
    BadUrl,
    /// What stands in the store cannot be read.
    #[error("lease store holds what this program cannot read: {what}")]
    Corrupt {
        /// Column and value.
        what: String,
    },
    /// Postgres is away, or refused.
    #[error("lease store")]
    Database(#[source] sqlx::Error),
    /// A migration failed.
    #[error("migration")]
    Migration(#[from] sqlx::migrate::MigrateError),
}

impl Error {
    /// Whether the same call may go through later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Database(_))
    }

    /// The constraint that said no, if one did.
    pub fn taken(&self) -> Option<&str> {
        if let Self::Taken { constraint } = self { Some(constraint) } else { None }
    }

    pub(crate) fn corrupt(what: impl std::fmt::Display) -> Self {
        Self::Corrupt { what: what.to_string() }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let constraint = error.as_database_error().filter(|e| e.is_unique_violation()).and_then(|e| e.constraint());
        match constraint {
            Some(constraint) => Self::Taken { constraint: constraint.to_owned() },
            None => Self::Database(error),
        }
    }
}
