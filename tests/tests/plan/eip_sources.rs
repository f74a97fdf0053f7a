//! Sources of a lease's EIP other than buying, as the store knows them.

use crate::store::{Claim, Done, Row, Store, StoreError, outlives_pod};
use jiff::Timestamp;
use std::net::Ipv4Addr;
use waygate_core::ids::{AllocationId, LeaseId};
use waygate_core::lease::{CurrentHolder, EipSources, HolderState, Lease, LeasedEip, Phase};
use waygate_core::request::{EipRequest, EipSource, InstanceChargeType, Request};
use waygate_core::rules::timing::RECLAIM_WINDOW;

/// The address that time took from a lease.
#[derive(Clone, Debug)]
pub(crate) struct FormerAddress {
    pub controller: Option<String>,
    pub address: Ipv4Addr,
    pub at: Timestamp,
}

impl Store {
    pub(crate) fn eip_sources(&self, now: Timestamp, lease: &Lease) -> EipSources {
        let Request::Eip(EipRequest { source, .. }) = &lease.request else {
            return EipSources::default();
        };
        let Some(row) = self.rows.get(&lease.id).filter(|_| lease.eip.is_none()) else {
            return EipSources::default();
        };
        match source {
            EipSource::Given(id) => EipSources {
                current_holder: self.find_current_holder(row, id),
                ..EipSources::default()
            },
            EipSource::Allocate(spec) => {
                let former = self
                    .former_addresses
                    .get(&(row.cluster, lease.pod_name.clone()))
                    .filter(|former| {
                        former.controller == lease.controller
                            && outlives_pod(&lease.request)
                            && former.at > now - RECLAIM_WINDOW
                    });
                let reusable = (spec.instance_charge_type == InstanceChargeType::PrePaid)
                    .then(|| self.find_reusable_eip(row.cluster, source))
                    .flatten();
                EipSources {
                    former_address: former.map(|former| former.address),
                    reusable_prepaid: reusable,
                    ..EipSources::default()
                }
            }
            EipSource::Pool(_) => EipSources::default(),
        }
    }

    /// The lease that has the EIP.
    pub(crate) fn find_holder(&self, id: &AllocationId) -> Option<&Row> {
        self.rows
            .values()
            .find(|row| row.lease.eip.as_ref().is_some_and(|eip| eip.allocation_id == *id))
    }

    fn find_current_holder(&self, row: &Row, id: &AllocationId) -> Option<CurrentHolder> {
        let holder = self.find_holder(id).filter(|holder| holder.lease.id != row.lease.id)?;
        let releasing =
            holder.lease.phase == Phase::Releasing || holder.lease.preempted_by.is_some();
        let holder_state = match (releasing, is_older(holder, row)) {
            (true, _) => HolderState::Releasing,
            (false, true) => HolderState::Older,
            (false, false) => HolderState::Younger,
        };
        Some(CurrentHolder { pod: format!("ns/{}", holder.lease.pod_name), state: holder_state })
    }

    fn find_reusable_eip(&self, cluster: usize, source: &EipSource) -> Option<LeaseId> {
        let same = |request: &Request| matches!(request, Request::Eip(request) if request.source == *source);
        let left = self.rows.values().filter(|row| {
            row.cluster == cluster && leaves_eip_unused(row) && same(&row.lease.request)
        });
        left.map(|row| row.lease.id).next()
    }

    pub(crate) fn adopt_eip(
        &mut self,
        claim: &Claim,
        candidates: &[(AllocationId, Ipv4Addr)],
    ) -> Result<bool, StoreError> {
        let free = candidates.iter().find(|(id, _)| self.find_holder(id).is_none()).cloned();
        let lease = &mut self.held_row(claim)?.lease;
        if lease.eip.is_some() {
            return Err(StoreError::ClaimLost);
        }
        let adopted = free.is_some();
        lease.eip = free.map(|(allocation_id, ip_address)| LeasedEip {
            allocation_id,
            ip_address,
            managed: false,
            release_accepted_at: None,
        });
        Ok(adopted)
    }

    pub(crate) fn preempt_eip(&mut self, now: Timestamp, claim: &Claim, id: &AllocationId) -> Done {
        let row = self.held_row(claim)?.clone();
        if row.lease.eip.is_some() {
            return Err(StoreError::ClaimLost);
        }
        let loses =
            |holder: &&Row| holder.lease.phase != Phase::Releasing && is_older(holder, &row);
        let Some(holder) = self.find_holder(id).filter(loses).map(|holder| holder.lease.id) else {
            return Ok(());
        };
        if let Some(holder) = self.rows.get_mut(&holder) {
            holder.lease.preempted_by = Some(format!("ns/{}", row.lease.pod_name));
            holder.wake_lease_row(now);
        }
        Ok(())
    }

    pub(crate) fn adopt_prepaid_eip(
        &mut self,
        now: Timestamp,
        claim: &Claim,
        former_lease: LeaseId,
    ) -> Result<bool, StoreError> {
        if self.held_row(claim)?.lease.eip.is_some() {
            return Err(StoreError::ClaimLost);
        }
        let busy = self.operations.iter().any(|asked| asked.lease == former_lease);
        let Some(former) =
            self.rows.get_mut(&former_lease).filter(|former| !busy && leaves_eip_unused(former))
        else {
            return Ok(false);
        };
        let eip = former.lease.eip.take();
        former.epoch += 1;
        (former.owner, former.due) = (None, now);
        self.held_row(claim)?.lease.eip = eip;
        Ok(true)
    }

    pub(crate) fn delete_former_address(&mut self, lease: LeaseId) {
        if let Some(row) = self.rows.get(&lease) {
            self.former_addresses.remove(&(row.cluster, row.lease.pod_name.clone()));
        }
    }
}

/// True if both pods were given the EIP in the same way, and the first is older.
pub(crate) fn is_older(one: &Row, other: &Row) -> bool {
    let given =
        matches!(&one.lease.request, Request::Eip(EipRequest { source: EipSource::Given(_), .. }));
    let created = one.pod_created_at.zip(other.pod_created_at);
    given
        && created.is_some_and(|(created, later)| {
            (created, one.lease.pod_uid.as_str()) < (later, other.lease.pod_uid.as_str())
        })
}

/// True if the lease leaves its EIP unused.
fn leaves_eip_unused(row: &Row) -> bool {
    let lease = &row.lease;
    lease.phase == Phase::Releasing
        && lease.target.is_none()
        && !lease.owns_custom_resource
        && lease.eip.as_ref().is_some_and(|eip| eip.managed)
}
