//! The private address a lease points to. Set before the first call that binds or forwards, cleared
//! when nothing can point there any longer.

use crate::claimed::{Claimed, ensure_claim_held};
use crate::error::Error;
use waygate_core::lease::Target;

impl Claimed<'_> {
    /// Sets the target before the first call that may bind or forward to it. Forward entries may be
    /// modified to the new address while they exist; an EIP has one binding, so its old target must
    /// be cleared first. [`Error::Conflict`] by `BoundIp` or `ForwardedPort`: the lease of a
    /// former pod still has this address.
    pub async fn set_target(&self, target: &Target) -> Result<(), Error> {
        let done = sqlx::query!(
            "WITH l AS (
               UPDATE lease SET eni_id = $4, vswitch_id = $5, zone_id = $6, vpc_id = $7, private_ip = $8::text::inet, primary_ip = $9,
                 generation = generation + 1, handover_since = NULL
               WHERE lease_id = $1 AND owner = $2 AND epoch = $3 AND (private_ip IS NULL OR kind = 'dnat') RETURNING lease_id),
             p AS (UPDATE port SET private_ip = $8::text::inet FROM l WHERE port.lease_id = l.lease_id)
             SELECT lease_id FROM l",
            self.claim.lease_id.0,
            self.claim.owner,
            self.claim.epoch,
            target.eni_id.as_str(),
            target.vswitch_id.as_str(),
            target.zone_id.as_str(),
            target.vpc_id.as_str(),
            target.private_ip.to_string(),
            target.primary,
        )
        .fetch_optional(&self.store.pool)
        .await?;
        ensure_claim_held(u64::from(done.is_some()))
    }

    /// Clears the target once no binding or entry points there and no call under way can make one.
    pub async fn clear_target(&self) -> Result<(), Error> {
        let done = sqlx::query!(
            "WITH l AS (
               UPDATE lease SET eni_id = NULL, vswitch_id = NULL, zone_id = NULL, vpc_id = NULL, private_ip = NULL, primary_ip = NULL, handover_since = NULL
               WHERE lease_id = $1 AND owner = $2 AND epoch = $3 RETURNING lease_id),
             p AS (UPDATE port SET private_ip = NULL, entry_id = NULL, deleted = false FROM l WHERE port.lease_id = l.lease_id)
             SELECT lease_id FROM l",
            self.claim.lease_id.0,
            self.claim.owner,
            self.claim.epoch,
        )
        .fetch_optional(&self.store.pool)
        .await?;
        ensure_claim_held(u64::from(done.is_some()))
    }
}
