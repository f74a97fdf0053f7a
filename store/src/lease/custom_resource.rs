//! Which lease writes the custom resource of a name: one at a time, by unique index (`lease_name`).

use crate::claimed::{Claimed, write_fenced};
use crate::error::Error;
use crate::store::Store;
use waygate_core::ids::LeaseId;

/// Says if a lease writes the custom resource of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnsCustomResource {
    /// This lease writes the custom resource.
    Yes,
    /// The lease does not write it, or no longer does.
    No,
}

impl Store {
    /// Filters the leases that exist in the store, to recognize custom resources of deleted ones.
    pub async fn filter_existing(&self, leases: &[LeaseId]) -> Result<Vec<LeaseId>, Error> {
        let ids: Vec<_> = leases.iter().map(|lease| lease.0).collect();
        let rows = sqlx::query_scalar!("SELECT lease_id FROM lease WHERE lease_id = ANY($1)", &ids)
            .fetch_all(&self.pool)
            .await?;
        Ok(rows.into_iter().map(LeaseId).collect())
    }
}

impl Claimed<'_> {
    /// Makes the lease the writer of its custom resource, or ends that. [`Error::Conflict`] by
    /// `CustomResource`: an earlier pod's lease still writes it.
    pub async fn set_owns_custom_resource(&self, writes: OwnsCustomResource) -> Result<(), Error> {
        write_fenced!(
            self,
            "UPDATE lease SET owns_custom_resource = $4 WHERE lease_id = $1 AND owner = $2 AND epoch = $3",
            writes == OwnsCustomResource::Yes,
        )
    }
}
