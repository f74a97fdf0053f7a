//! Registers the cluster and identifies the store.

use crate::error::Error;
use crate::store::Store;
use sqlx::error::DatabaseError;
use uuid::Uuid;
use waygate_core::ownership::Owner;

/// A cluster that is registered in this store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cluster {
    pub(crate) id: i32,
    /// Store and cluster, as written into tags and names of resources in the cloud.
    pub owner: Owner,
}

impl Store {
    /// Registers the cluster, or finds it again by `uid`, the UID of its kube-system namespace.
    /// `name` is the configured cluster ID: changing it renames the cluster. Fails if another
    /// cluster is registered under that name.
    pub async fn register_cluster(&self, uid: Uuid, name: &str) -> Result<Cluster, Error> {
        sqlx::query!(
            "INSERT INTO cluster (cluster_uid, name) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            uid,
            name
        )
        .execute(&self.pool)
        .await?;
        // Renaming is allowed; using another cluster's name is not.
        let renamed =
            sqlx::query!("UPDATE cluster SET name = $2 WHERE cluster_uid = $1", uid, name)
                .execute(&self.pool)
                .await;
        let name_in_use = match renamed {
            Ok(done) => done.rows_affected() == 0,
            Err(error)
                if error.as_database_error().is_some_and(DatabaseError::is_unique_violation) =>
            {
                true
            }
            Err(error) => return Err(error.into()),
        };
        if name_in_use {
            let uid = sqlx::query_scalar!("SELECT cluster_uid FROM cluster WHERE name = $1", name)
                .fetch_one(&self.pool)
                .await?;
            return Err(Error::ClusterNameInUse { name: name.to_owned(), uid });
        }
        let row = sqlx::query!(
            "SELECT c.cluster_id, s.store_id FROM cluster c, store s WHERE c.cluster_uid = $1",
            uid
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(Cluster { id: row.cluster_id, owner: Owner { store: row.store_id, cluster: uid } })
    }
}
