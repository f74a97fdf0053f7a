//! Lanes: one process at a time changes a gateway's entries.
//!
//! ```text
//! free ─ take_lanes ─▶ held ─ renew_lanes ─▶ held … ─ leave_lanes, or no sign of life ─▶ free
//! ```
//!
//! A lane lapses like a claim. Whoever takes it next sends nothing before every send of the former
//! holder has been answered or given up: [`Store::next_in_lane`] makes the lane outlast what it
//! marks.

use crate::error::Error;
use crate::lease::wake::wake_leases;
use crate::store::Store;
use std::time::Duration;
use uuid::Uuid;
use waygate_core::ids::NatGatewayId;
use waygate_core::rules::timing::GATEWAY_LOCK;

/// A gateway's lane that is ours for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// The gateway.
    pub gateway_id: NatGatewayId,
    pub(crate) owner: Uuid,
    pub(crate) epoch: i64,
}

impl Lane {
    fn of(gateway_id: String, owner: Uuid, epoch: i64) -> Self {
        Self { gateway_id: NatGatewayId::new(gateway_id), owner, epoch }
    }
}

/// How long a gateway that is in nobody's configuration any more waits for somebody who has it
/// there.
const ORPHANED: Duration = Duration::from_mins(1);

impl Store {
    /// Takes the free lanes of these gateways, and of those with a queue that nobody has served for
    /// a minute: they are in no configuration any more, and what stands there must go. Leases whose
    /// changes were under way when a lane lapsed are woken.
    pub async fn take_lanes(
        &self,
        owner: Uuid,
        gateways: &[NatGatewayId],
    ) -> Result<Vec<Lane>, Error> {
        let ours: Vec<_> = gateways.iter().map(|gateway| gateway.as_str().to_owned()).collect();
        sqlx::query!(
            "INSERT INTO lane (gateway_id) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING",
            &ours
        )
        .execute(&self.pool)
        .await?;
        let rows = sqlx::query_file!(
            "src/queries/take_free_lanes.sql",
            owner,
            &ours,
            GATEWAY_LOCK.as_secs_f64(),
            ORPHANED.as_secs_f64(),
        )
        .fetch_all(&self.pool)
        .await?;
        let taken: Vec<_> = rows.iter().map(|row| row.gateway_id.clone()).collect();
        wake_leases!("lease_id IN (SELECT lease_id FROM operation WHERE lane = ANY($1) AND outcome IS NULL AND NOT queued)", &taken)
            .execute(&self.pool)
            .await?;
        Ok(rows.into_iter().map(|row| Lane::of(row.gateway_id, owner, row.epoch)).collect())
    }

    /// Extends those of these lanes of `owner` that still hold, and says which these are. Those
    /// that have lapsed stay lapsed.
    pub async fn renew_lanes(
        &self,
        owner: Uuid,
        gateways: &[NatGatewayId],
    ) -> Result<Vec<Lane>, Error> {
        let served: Vec<_> = gateways.iter().map(|gateway| gateway.as_str().to_owned()).collect();
        let rows = sqlx::query!(
            "UPDATE lane SET until = now() + make_interval(secs => $2) WHERE owner = $1 AND until > now() AND gateway_id = ANY($3)
             RETURNING gateway_id, epoch",
            owner,
            GATEWAY_LOCK.as_secs_f64(),
            &served,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|row| Lane::of(row.gateway_id, owner, row.epoch)).collect())
    }

    /// Gives lanes back: the next process need not wait until they lapse.
    pub async fn leave_lanes(&self, owner: Uuid) -> Result<(), Error> {
        sqlx::query!("UPDATE lane SET owner = NULL, until = now() WHERE owner = $1", owner)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Forgets turns taken longer ago than `age`: a namespace without one comes first.
    pub async fn prune_turns(&self, age: Duration) -> Result<u64, Error> {
        let done = sqlx::query!(
            "DELETE FROM turn WHERE taken_at < now() - make_interval(secs => $1)",
            age.as_secs_f64()
        )
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
    }
}
