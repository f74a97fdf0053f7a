//! Sources of an EIP other than a purchase: given by the pod, from a pool, preempted from an older
//! pod, a reusable prepaid EIP, a former address that the cloud sells back.
//!
//! One lease has an EIP at a time, by unique index (`lease_eip`). A lease gives its EIP up under
//! its own claim; only a reusable prepaid EIP is taken from a lease by ending that lease's claim
//! first.

use crate::batches::repeat_batches;
use crate::claimed::{Claimed, ensure_claim_held, write_under_claim};
use crate::columns::parse_address;
use crate::error::Error;
use crate::store::Store;
use std::net::Ipv4Addr;
use waygate_core::ids::{AllocationId, LeaseId};
use waygate_core::lease::{Constraint, CurrentHolder, EipSources, HolderState, Lease};
use waygate_core::request::{EipSource, Request};
use waygate_core::rules::timing::RECLAIM_WINDOW;

impl Store {
    /// Reads which EIPs other leases have or leave for a lease that has none yet.
    pub async fn eip_sources(&self, lease: &Lease) -> Result<EipSources, Error> {
        let Request::Eip(request) = &lease.request else { return Ok(EipSources::default()) };
        match &request.source {
            EipSource::Given(id) => Ok(EipSources {
                current_holder: self.find_current_holder(lease, id).await?,
                ..EipSources::default()
            }),
            EipSource::Allocate(_) => self.find_reusable_eip(lease).await,
            EipSource::Pool(_) => Ok(EipSources::default()),
        }
    }

    /// Finds the other lease that has the EIP now, if any.
    async fn find_current_holder(
        &self,
        lease: &Lease,
        id: &AllocationId,
    ) -> Result<Option<CurrentHolder>, Error> {
        let row = sqlx::query!(
            r#"SELECT h.namespace, h.pod_name, h.phase = 'releasing' OR h.preempted_by IS NOT NULL AS "releasing!",
                 coalesce(h.request #>> '{eip,source,given}' IS NOT NULL AND (h.pod_created_at, h.pod_uid) < (l.pod_created_at, l.pod_uid), false) AS "older!"
               FROM lease h JOIN lease l ON l.lease_id = $2 WHERE h.allocation_id = $1 AND h.lease_id <> $2"#,
            id.as_str(),
            lease.id.0,
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|row| CurrentHolder {
            pod: format!("{}/{}", row.namespace, row.pod_name),
            state: match (row.releasing, row.older) {
                (true, _) => HolderState::Releasing,
                (false, true) => HolderState::Older,
                (false, false) => HolderState::Younger,
            },
        }))
    }

    async fn find_reusable_eip(&self, lease: &Lease) -> Result<EipSources, Error> {
        let row = sqlx::query_file!(
            "src/queries/find_reusable_eip.sql",
            lease.id.0,
            RECLAIM_WINDOW.as_secs_f64(),
        )
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(EipSources::default()) };
        Ok(EipSources {
            former_address: row.former_address.as_deref().map(parse_address).transpose()?,
            reusable_prepaid: row.reusable_prepaid.map(LeaseId),
            ..EipSources::default()
        })
    }

    /// Deletes the former address of the lease's name: the cloud has said that it does not sell it
    /// back, so a new EIP is allocated.
    pub async fn delete_former_address(&self, lease: LeaseId) -> Result<(), Error> {
        sqlx::query!(
            "DELETE FROM former_address f USING lease l
             WHERE l.lease_id = $1 AND f.cluster_id = l.cluster_id AND f.namespace = l.namespace AND f.pod_name = l.pod_name",
            lease.0,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Deletes former addresses that are past the time in which the cloud sells them back, a
    /// thousand at a time.
    pub async fn prune_former_addresses(&self) -> Result<u64, Error> {
        let pool = &self.pool;
        repeat_batches(|| {
            sqlx::query!(
                "DELETE FROM former_address WHERE ctid = ANY(ARRAY(
                   SELECT ctid FROM former_address WHERE released_at < now() - make_interval(secs => $1)
                   ORDER BY released_at LIMIT 1000 FOR UPDATE SKIP LOCKED))",
                RECLAIM_WINDOW.as_secs_f64()
            )
            .execute(pool)
        })
        .await
    }
}

impl Claimed<'_> {
    /// Adopts the first of these EIPs that no lease has, as one that is not managed. False if there
    /// was none, which includes the case that another lease adopts it at the same moment.
    pub async fn adopt_eip(&self, candidates: &[(AllocationId, Ipv4Addr)]) -> Result<bool, Error> {
        let ids: Vec<_> = candidates.iter().map(|(id, _)| id.as_str().to_owned()).collect();
        let addresses: Vec<_> = candidates.iter().map(|(_, address)| address.to_string()).collect();
        let adopted = sqlx::query_file!(
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
        let row = match adopted {
            Err(Error::Conflict(Constraint::LeasedEip)) => return Ok(false),
            row => row?,
        };
        ensure_claim_held(u64::from(row.claimed))?;
        Ok(row.adopted)
    }

    /// Marks the lease that has the given EIP as preempted by this lease's pod, for good, and wakes
    /// it. No effect if that lease's pod is not the older one, or did not name the EIP.
    pub async fn preempt_eip(&self, id: &AllocationId) -> Result<(), Error> {
        let row = sqlx::query_file!(
            "src/queries/preempt_eip.sql",
            self.claim.lease_id.0,
            self.claim.owner,
            self.claim.epoch,
            id.as_str(),
        )
        .fetch_optional(&self.store.pool)
        .await?;
        ensure_claim_held(u64::from(row.is_some()))
    }

    /// Adopts the unused PrePaid EIP of a lease that is releasing; false if that lease no longer
    /// has it, or has an unresolved operation. The other lease's claim ends: a decision of its
    /// worker about the EIP comes too late.
    pub async fn adopt_prepaid_eip(&self, releasing: LeaseId) -> Result<bool, Error> {
        let mut transaction = self.store.pool.begin().await?;
        let locked = sqlx::query_scalar!(
            "SELECT lease_id FROM lease WHERE lease_id = $1 AND owner = $2 AND epoch = $3 AND allocation_id IS NULL FOR UPDATE",
            self.claim.lease_id.0,
            self.claim.owner,
            self.claim.epoch,
        )
        .fetch_optional(&mut *transaction)
        .await?;
        ensure_claim_held(u64::from(locked.is_some()))?;
        // A statement of its own, after the lock: the next one sees every operation that was
        // intended before. SKIP LOCKED: no waiting for a second lease while this one is locked.
        let eip = sqlx::query!(
            r#"SELECT allocation_id AS "allocation_id!", host(eip_address) AS "address!" FROM lease
             WHERE lease_id = $1 AND phase = 'releasing' AND managed AND private_ip IS NULL AND NOT owns_custom_resource AND allocation_id IS NOT NULL AND release_accepted_at IS NULL
             FOR UPDATE SKIP LOCKED"#,
            releasing.0,
        )
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(eip) = eip else { return Ok(false) };
        let done = sqlx::query!(
            "UPDATE lease l SET allocation_id = NULL, eip_address = NULL, managed = false, owner = NULL, epoch = epoch + 1, due_at = now()
             WHERE lease_id = $1 AND NOT EXISTS (SELECT FROM operation o WHERE o.lease_id = l.lease_id AND o.settled_at IS NULL)",
            releasing.0,
        )
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query!(
            "UPDATE lease SET allocation_id = $2, eip_address = $3::text::inet, managed = true WHERE lease_id = $1",
            self.claim.lease_id.0,
            eip.allocation_id,
            eip.address,
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Clears the lease's EIP: the cloud has released it, or it is not managed and was unbound. A
    /// managed one whose retention ended can be bought back for seven days.
    pub async fn clear_eip(&self) -> Result<(), Error> {
        write_under_claim!(
            self,
            "WITH l AS MATERIALIZED (
               SELECT * FROM lease WHERE lease_id = $1 AND owner = $2 AND epoch = $3 FOR UPDATE),
             former AS (
               INSERT INTO former_address (cluster_id, namespace, pod_name, controller, address)
               SELECT cluster_id, namespace, pod_name, controller, eip_address FROM l
               WHERE release_accepted_at IS NOT NULL AND managed AND retains AND phase = 'releasing' AND retained_until <= now()
               ON CONFLICT (cluster_id, namespace, pod_name) DO UPDATE SET
                 controller = excluded.controller, address = excluded.address, released_at = now())
             UPDATE lease SET allocation_id = NULL, eip_address = NULL, managed = false, release_accepted_at = NULL
             FROM l WHERE lease.lease_id = l.lease_id",
        )
    }
}
