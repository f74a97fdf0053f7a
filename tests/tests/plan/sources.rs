//! Sources of a lease's EIP other than buying, as the store knows them.

use crate::store::{Claim, Done, No, Row, Store, keeps};
use jiff::Timestamp;
use std::net::Ipv4Addr;
use waygate_core::ids::{AllocationId, LeaseId};
use waygate_core::lease::{EipSources, Holder, Lease, LeasedEip, Phase, Standing};
use waygate_core::request::{EipRequest, EipSource, InstanceChargeType, Request};
use waygate_core::rules::timing::RECLAIMABLE;

/// The address that time took from a lease.
#[derive(Clone, Debug)]
pub(crate) struct Former {
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
            EipSource::Given(id) => {
                EipSources { holder: self.other_holder(row, id), ..EipSources::default() }
            }
            EipSource::Allocate(spec) => {
                let former =
                    self.former.get(&(row.cluster, lease.pod_name.clone())).filter(|former| {
                        former.controller == lease.controller
                            && keeps(&lease.request)
                            && former.at > now - RECLAIMABLE
                    });
                let spare = (spec.instance_charge_type == InstanceChargeType::PrePaid)
                    .then(|| self.spare(row.cluster, source))
                    .flatten();
                EipSources {
                    former: former.map(|former| former.address),
                    spare,
                    ..EipSources::default()
                }
            }
            EipSource::Pool(_) => EipSources::default(),
        }
    }

    /// The lease that has the EIP.
    pub(crate) fn holder(&self, id: &AllocationId) -> Option<&Row> {
        self.rows
            .values()
            .find(|row| row.lease.eip.as_ref().is_some_and(|eip| eip.allocation_id == *id))
    }

    fn other_holder(&self, row: &Row, id: &AllocationId) -> Option<Holder> {
        let holder = self.holder(id).filter(|holder| holder.lease.id != row.lease.id)?;
        let leaving = holder.lease.phase == Phase::Ending || holder.lease.lost_to.is_some();
        let standing = match (leaving, is_older(holder, row)) {
            (true, _) => Standing::Leaving,
            (false, true) => Standing::Older,
            (false, false) => Standing::Younger,
        };
        Some(Holder { pod: format!("ns/{}", holder.lease.pod_name), standing })
    }

    fn spare(&self, cluster: usize, source: &EipSource) -> Option<LeaseId> {
        let same = |request: &Request| matches!(request, Request::Eip(request) if request.source == *source);
        let left = self
            .rows
            .values()
            .filter(|row| row.cluster == cluster && is_left(row) && same(&row.lease.request));
        left.map(|row| row.lease.id).next()
    }

    pub(crate) fn take_eip(
        &mut self,
        claim: &Claim,
        candidates: &[(AllocationId, Ipv4Addr)],
    ) -> Result<bool, No> {
        let free = candidates.iter().find(|(id, _)| self.holder(id).is_none()).cloned();
        let lease = &mut self.held(claim)?.lease;
        if lease.eip.is_some() {
            return Err(No::ClaimLost);
        }
        let taken = free.is_some();
        lease.eip = free.map(|(allocation_id, ip_address)| LeasedEip {
            allocation_id,
            ip_address,
            ours: false,
        });
        Ok(taken)
    }

    pub(crate) fn take_over(&mut self, now: Timestamp, claim: &Claim, id: &AllocationId) -> Done {
        let row = self.held(claim)?.clone();
        if row.lease.eip.is_some() {
            return Err(No::ClaimLost);
        }
        let loses = |holder: &&Row| holder.lease.phase != Phase::Ending && is_older(holder, &row);
        let Some(holder) = self.holder(id).filter(loses).map(|holder| holder.lease.id) else {
            return Ok(());
        };
        if let Some(holder) = self.rows.get_mut(&holder) {
            holder.lease.lost_to = Some(format!("ns/{}", row.lease.pod_name));
            holder.news(now);
        }
        Ok(())
    }

    pub(crate) fn take_spare(
        &mut self,
        now: Timestamp,
        claim: &Claim,
        spare: LeaseId,
    ) -> Result<bool, No> {
        if self.held(claim)?.lease.eip.is_some() {
            return Err(No::ClaimLost);
        }
        let busy = self.operations.iter().any(|asked| asked.lease == spare);
        let Some(left) = self.rows.get_mut(&spare).filter(|left| !busy && is_left(left)) else {
            return Ok(false);
        };
        let eip = left.lease.eip.take();
        left.epoch += 1;
        (left.owner, left.due) = (None, now);
        self.held(claim)?.lease.eip = eip;
        Ok(true)
    }

    pub(crate) fn forget_former(&mut self, claim: &Claim) -> Done {
        let name = (claim.cluster, self.held(claim)?.lease.pod_name.clone());
        self.former.remove(&name);
        Ok(())
    }
}

/// True if both pods were given the EIP in the same way, and the first is older.
pub(crate) fn is_older(one: &Row, other: &Row) -> bool {
    let given =
        matches!(&one.lease.request, Request::Eip(EipRequest { source: EipSource::Given(_), .. }));
    let made = one.made.zip(other.made);
    given
        && made.is_some_and(|(made, later)| {
            (made, one.lease.pod_uid.as_str()) < (later, other.lease.pod_uid.as_str())
        })
}

/// True if the lease leaves its EIP unused.
fn is_left(row: &Row) -> bool {
    let lease = &row.lease;
    lease.phase == Phase::Ending
        && lease.target.is_none()
        && !lease.resource
        && lease.eip.as_ref().is_some_and(|eip| eip.ours)
}
