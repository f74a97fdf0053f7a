//! What must not befall many leases at once: kept ones that are released, entries that are lost.
//! Counted under a lock, one at a time, since many come together.

use crate::claimed::Claimed;
use crate::columns::phase;
use crate::error::Error;
use sqlx::PgConnection;
use waygate_core::ids::NatGatewayId;
use waygate_core::lease::Phase;
use waygate_core::rules::timing::LOSSES_COUNTED;

/// So many kept leases of a cluster end within [`LOSSES_COUNTED`] because their custom resources
/// were deleted, or a twentieth of those kept.
const RELEASES: i64 = 20;
/// So many pods of a gateway are told within [`LOSSES_COUNTED`] that their entries are lost, or a
/// twentieth of those that have some.
const LOSSES: i64 = 5;

impl Claimed<'_> {
    /// Holds the lease's row, so that its claim cannot pass to somebody else before this commits;
    /// says in which phase it is.
    async fn lock_claim(&self, connection: &mut PgConnection) -> Result<Phase, Error> {
        let locked = sqlx::query_scalar!(
            "SELECT phase FROM lease WHERE lease_id = $1 AND owner = $2 AND epoch = $3 FOR UPDATE",
            self.claim.lease_id.0,
            self.claim.owner,
            self.claim.epoch,
        )
        .fetch_optional(connection)
        .await?;
        phase(&locked.ok_or(Error::ClaimLost)?)
    }

    /// A person deleted the custom resource of a kept lease: it ends, unless more than 20 of the
    /// cluster, or 5 % of those kept, went within ten minutes: nobody deletes so many one by one,
    /// but uninstalling another controller does. Says whether it ends.
    pub async fn release_kept(&self) -> Result<bool, Error> {
        let mut transaction = self.store.pool.begin().await?;
        if self.lock_claim(&mut transaction).await? != Phase::Kept {
            return Err(Error::ClaimLost);
        }
        // Counted one at a time: many are deleted together.
        sqlx::query!("SELECT one FROM store FOR UPDATE").fetch_one(&mut *transaction).await?;
        let done = sqlx::query_file!(
            "src/queries/release_kept.sql",
            self.claim.lease_id.0,
            self.claim.owner,
            self.claim.epoch,
            RELEASES,
            LOSSES_COUNTED.as_secs_f64(),
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    /// Whether the pod may be told that its entries at the gateway are lost; it is counted then,
    /// once in ten minutes. False: so many were told that no more are for now, see
    /// [`waygate_core::lease::GatewayFact::losses_held`].
    pub async fn lose(&self, gateway: &NatGatewayId) -> Result<bool, Error> {
        let mut transaction = self.store.pool.begin().await?;
        self.lock_claim(&mut transaction).await?;
        // Counted one at a time: many are lost together.
        sqlx::query!(
            "INSERT INTO gateway (gateway_id) VALUES ($1) ON CONFLICT DO NOTHING",
            gateway.as_str()
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!(
            "SELECT gateway_id FROM gateway WHERE gateway_id = $1 FOR UPDATE",
            gateway.as_str()
        )
        .fetch_one(&mut *transaction)
        .await?;
        let told = sqlx::query_file_scalar!(
            "src/queries/count_loss.sql",
            self.claim.lease_id.0,
            gateway.as_str(),
            LOSSES,
            LOSSES_COUNTED.as_secs_f64(),
        )
        .fetch_one(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(told)
    }
}
