//! Where a lease's EIP comes from when it is not bought for it: named by its pod, from a pool, from
//! an older pod, left over, bought back.
//!
//! One lease has an EIP at a time, by unique index (`lease_eip`); whoever gives one up does so
//! under its own claim, or loses the claim first.

use crate::claimed::{Claimed, fenced, write_fenced};
use crate::columns::address;
use crate::error::Error;
use crate::store::Store;
use std::net::Ipv4Addr;
use waygate_core::ids::{AllocationId, LeaseId};
use waygate_core::lease::{Constraint, EipSources, Holder, Lease, Standing};
use waygate_core::request::{EipSource, Request};
use waygate_core::rules::timing::RECLAIMABLE;

impl Store {
    /// What others leave for a lease that has no EIP yet.
    pub async fn eip_sources(&self, lease: &Lease) -> Result<EipSources, Error> {
        let Request::Eip(request) = &lease.request else { return Ok(EipSources::default()) };
        match &request.source {
            EipSource::Given(id) => {
                Ok(EipSources { holder: self.holder(lease, id).await?, ..EipSources::default() })
            }
            EipSource::Allocate(_) => self.left_over(lease).await,
            EipSource::Pool(_) => Ok(EipSources::default()),
        }
    }

    /// Which lease has the EIP, if another than this one.
    async fn holder(&self, lease: &Lease, id: &AllocationId) -> Result<Option<Holder>, Error> {
        let row = sqlx::query!(
            r#"SELECT h.namespace, h.pod_name, h.phase = 'ending' OR h.lost_to IS NOT NULL AS "leaving!",
                 coalesce(h.request #>> '{eip,source,given}' IS NOT NULL AND (h.pod_created_at, h.pod_uid) < (l.pod_created_at, l.pod_uid), false) AS "older!"
               FROM lease h JOIN lease l ON l.lease_id = $2 WHERE h.allocation_id = $1 AND h.lease_id <> $2"#,
            id.as_str(),
            lease.id.0,
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|row| Holder {
            pod: format!("{}/{}", row.namespace, row.pod_name),
            standing: match (row.leaving, row.older) {
                (true, _) => Standing::Leaving,
                (false, true) => Standing::Older,
                (false, false) => Standing::Younger,
            },
        }))
    }

    async fn left_over(&self, lease: &Lease) -> Result<EipSources, Error> {
        let row = sqlx::query_file!(
            "src/queries/find_left_over_eip.sql",
            lease.id.0,
            RECLAIMABLE.as_secs_f64(),
        )
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(EipSources::default()) };
        Ok(EipSources {
            former: row.former.as_deref().map(address).transpose()?,
            spare: row.spare.map(LeaseId),
            ..EipSources::default()
        })
    }

    /// Forgets addresses that the cloud gives back to nobody any more.
    pub async fn prune_former(&self) -> Result<u64, Error> {
        let done = sqlx::query!(
            "DELETE FROM former_address WHERE released_at < now() - make_interval(secs => $1)",
            RECLAIMABLE.as_secs_f64()
        )
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
    }
}

impl Claimed<'_> {
    /// Takes the first of these EIPs that no lease has, as one that is not ours to release; says
    /// whether there was one. One that another lease takes in this very moment was none.
    pub async fn take_eip(&self, candidates: &[(AllocationId, Ipv4Addr)]) -> Result<bool, Error> {
        let ids: Vec<_> = candidates.iter().map(|(id, _)| id.as_str().to_owned()).collect();
        let addresses: Vec<_> = candidates.iter().map(|(_, address)| address.to_string()).collect();
        let taken = sqlx::query_file!(
            "src/queries/adopt_eip.sql",
            self.claim.lease_id.0,
            self.claim.owner,
            self.claim.epoch,
            &ids,
            &addresses,
        )
        .fetch_one(&self.store.pool)
        .await
        .map_err(Error::from);
        let row = match taken {
            Err(Error::Conflict(Constraint::HeldEip)) => return Ok(false),
            row => row?,
        };
        fenced(u64::from(row.claimed))?;
        Ok(row.taken)
    }

    /// Tells the lease that has the given EIP to give it up to this one's pod, for good, and wakes
    /// it. Nothing happens where that lease's pod is not the older one, or did not name the EIP.
    pub async fn take_over(&self, id: &AllocationId) -> Result<(), Error> {
        let row = sqlx::query_file!(
            "src/queries/preempt_eip.sql",
            self.claim.lease_id.0,
            self.claim.owner,
            self.claim.epoch,
            id.as_str(),
        )
        .fetch_optional(&self.store.pool)
        .await?;
        fenced(u64::from(row.is_some()))
    }

    /// Takes the PrePaid EIP that a lease on its way out leaves unused; says whether it still did.
    /// That lease's claim ends with it: what its worker had in mind for the EIP is fenced off.
    pub async fn take_spare(&self, spare: LeaseId) -> Result<bool, Error> {
        let mut transaction = self.store.pool.begin().await?;
        let locked = sqlx::query_scalar!(
            "SELECT lease_id FROM lease WHERE lease_id = $1 AND owner = $2 AND epoch = $3 AND allocation_id IS NULL FOR UPDATE",
            self.claim.lease_id.0,
            self.claim.owner,
            self.claim.epoch,
        )
        .fetch_optional(&mut *transaction)
        .await?;
        fenced(u64::from(locked.is_some()))?;
        // Locked in a statement of its own: the next one sees every operation that was intended
        // before.
        let left = sqlx::query!(
            r#"SELECT allocation_id AS "allocation_id!", host(eip_address) AS "address!" FROM lease
             WHERE lease_id = $1 AND phase = 'ending' AND ours AND private_ip IS NULL AND NOT resource AND allocation_id IS NOT NULL
             FOR UPDATE SKIP LOCKED"#,
            spare.0,
        )
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(left) = left else { return Ok(false) };
        let done = sqlx::query!(
            "UPDATE lease l SET allocation_id = NULL, eip_address = NULL, ours = false, owner = NULL, epoch = epoch + 1, due_at = now()
             WHERE lease_id = $1 AND NOT EXISTS (SELECT FROM operation o WHERE o.lease_id = l.lease_id AND o.outcome IS NULL)",
            spare.0,
        )
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query!(
            "UPDATE lease SET allocation_id = $2, eip_address = $3::text::inet, ours = true WHERE lease_id = $1",
            self.claim.lease_id.0,
            left.allocation_id,
            left.address,
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// The lease's EIP is given back, or is nothing of ours.
    pub async fn forget_eip(&self) -> Result<(), Error> {
        write_fenced!(
            self,
            "UPDATE lease SET allocation_id = NULL, eip_address = NULL, ours = false WHERE lease_id = $1 AND owner = $2 AND epoch = $3",
        )
    }

    /// The cloud does not give the former address of a lease's name back: a new one is bought.
    pub async fn forget_former(&self) -> Result<(), Error> {
        let done = sqlx::query!(
            "WITH l AS MATERIALIZED (
               SELECT cluster_id, namespace, pod_name FROM lease WHERE lease_id = $1 AND owner = $2 AND epoch = $3 FOR UPDATE),
             f AS (
               DELETE FROM former_address f USING l
               WHERE f.cluster_id = l.cluster_id AND f.namespace = l.namespace AND f.pod_name = l.pod_name)
             SELECT FROM l",
            self.claim.lease_id.0,
            self.claim.owner,
            self.claim.epoch,
        )
        .fetch_all(&self.store.pool)
        .await?;
        fenced(done.len() as u64)
    }
}
