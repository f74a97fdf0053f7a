//! Limits on what may happen to many leases at once: releases of retained leases, and withdrawals.
//! Counted one at a time under a row lock, because many requests arrive together.

use crate::claimed::Claimed;
use crate::columns::parse_phase;
use crate::error::Error;
use sqlx::PgConnection;
use waygate_core::ids::NatGatewayId;
use waygate_core::lease::Phase;
use waygate_core::rules::timing::LOSS_WINDOW;

/// Retained leases of a cluster that may end within ten minutes because their custom resources were
/// deleted; or a twentieth of the retained ones, if that is more.
const MAX_RELEASES: i64 = 20;
/// Pods of a gateway for which lost entries may be reported within ten minutes; or a twentieth of
/// the bound ones, if that is more.
const MAX_WITHDRAWALS: i64 = 5;

const _: () = assert!(LOSS_WINDOW.as_secs() == 600, "count_loss.sql says ten minutes");

impl Claimed<'_> {
    /// Locks the lease's row, so that the claim cannot pass to another worker before this
    /// transaction commits, and returns its phase.
    async fn lock_claim(&self, connection: &mut PgConnection) -> Result<Phase, Error> {
        let locked = sqlx::query_scalar!(
            "SELECT phase FROM lease WHERE lease_id = $1 AND owner = $2 AND epoch = $3 FOR UPDATE",
            self.claim.lease_id.0,
            self.claim.owner,
            self.claim.epoch,
        )
        .fetch_optional(connection)
        .await?;
        parse_phase(&locked.ok_or(Error::ClaimLost)?)
    }

    /// Ends a retained lease whose custom resource a person deleted. Returns false, and changes
    /// nothing, if more than 20 leases of the cluster, or 5 % of those retained, were ended so
    /// within ten minutes: uninstalling another controller deletes all custom resources at once, a
    /// person does not.
    pub async fn try_release_retained(&self) -> Result<bool, Error> {
        let mut transaction = self.store.pool.begin().await?;
        if self.lock_claim(&mut transaction).await? != Phase::Retained {
            return Err(Error::ClaimLost);
        }
        // The store's only row is the lock: counts of parallel transactions would not see each
        // other.
        sqlx::query!("SELECT one FROM store FOR UPDATE").fetch_one(&mut *transaction).await?;
        let done = sqlx::query_file!(
            "src/queries/release_retained.sql",
            self.claim.lease_id.0,
            self.claim.owner,
            self.claim.epoch,
            MAX_RELEASES,
            LOSS_WINDOW.as_secs_f64(),
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    /// Counts the withdrawal of the pod's entries at the gateway, once in ten minutes, and returns
    /// true if the condition may be set to False. Returns false while withdrawals at the gateway
    /// are limited: an error that hits all pods of a gateway must not make all of them unready.
    pub async fn try_count_loss(&self, gateway: &NatGatewayId) -> Result<bool, Error> {
        let mut transaction = self.store.pool.begin().await?;
        self.lock_claim(&mut transaction).await?;
        // The gateway's row is the lock: counts of parallel transactions would not see each other.
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
        let counted = sqlx::query_file_scalar!(
            "src/queries/count_loss.sql",
            self.claim.lease_id.0,
            gateway.as_str(),
            MAX_WITHDRAWALS,
        )
        .fetch_one(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(counted)
    }
}
