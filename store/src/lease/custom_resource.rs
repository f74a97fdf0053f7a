//! Which lease owns the custom resource of a name: one at a time, by unique index
//! (`lease_custom_resource`).

use crate::claimed::{Claimed, write_under_claim};
use crate::error::Error;
use crate::store::Store;
use waygate_core::ids::LeaseId;

/// Ownership of the custom resource of a name: only the lease that owns it writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnsCustomResource {
    /// This lease owns the custom resource and writes it.
    Yes,
    /// The lease does not own it, or no longer does.
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
    /// Makes the lease the owner of its custom resource, or ends that. [`Error::Conflict`] by
    /// `CustomResource`: a former pod's lease still owns it.
    pub async fn set_owns_custom_resource(&self, owns: OwnsCustomResource) -> Result<(), Error> {
        write_under_claim!(
            self,
            "UPDATE lease SET owns_custom_resource = $4 WHERE lease_id = $1 AND owner = $2 AND epoch = $3",
            owns == OwnsCustomResource::Yes,
        )
    }
}
