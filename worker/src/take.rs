//! Takes an EIP that was not bought for the lease: a given one, one of a pool, an older pod's, one that waits unused.

use crate::act::{After, doubtful, name};
use crate::errors::Error;
use crate::worker::Worker;
use std::net::Ipv4Addr;
use waygate_core::ids::{AllocationId, LeaseId};
use waygate_core::lease::Lease;
use waygate_core::retry::Patience;
use waygate_store::Claim;

/// The first of these that no other lease has; says whether there was one.
pub(crate) async fn any(worker: &Worker, claim: &Claim, candidates: &[(AllocationId, Ipv4Addr)]) -> Result<bool, Error> {
    match worker.store.take_eip(claim, candidates).await {
        Ok(taken) => Ok(taken),
        Err(error) if error.taken() == Some("lease_eip") => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Asks the older pod's lease for it, which gives it up by itself.
pub(crate) async fn over(worker: &Worker, claim: &Claim, lease: &Lease, id: &AllocationId) -> Result<(), Error> {
    worker.store.take_over(claim, id).await?;
    tracing::info!(lease.id = %lease.id, pod = name(lease), eip.id = %id, "takes the EIP over from an older pod");
    worker.due.notify_one();
    Ok(())
}

/// What a lease on its way out leaves unused.
pub(crate) async fn spare(worker: &Worker, claim: &Claim, lease: &Lease, spare: LeaseId) -> Result<After, Error> {
    if !worker.store.take_spare(claim, spare).await? {
        return Ok(doubtful("another pod was faster; the next look shows what is left", Patience::Poll));
    }
    tracing::info!(lease.id = %lease.id, pod = name(lease), former.lease = %spare, "takes a PrePaid EIP that waited unused");
    worker.due.notify_one();
    Ok(After::Next)
}
