//! The claim on a lease: the fence of every decision.
//!
//! ```text
//! Store::claim ─▶ Claim ─ Store::claimed ─▶ Claimed: load, decide … finish        (owner, epoch) in every statement
//! ```
//!
//! What to do next is written by [`Claimed`] only, where its subject is: a write under a claim that
//! has passed on touches no row, and says [`Error::ClaimLost`]. Facts are the store's: they are
//! recorded whoever holds the claim.

use crate::error::Error;
use crate::store::Store;
use uuid::Uuid;
use waygate_core::ids::LeaseId;

/// A lease that is ours for a while. Every decision is written under it, or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The lease.
    pub lease_id: LeaseId,
    pub(crate) owner: Uuid,
    pub(crate) epoch: i64,
}

/// The store as the holder of a claim has it: the only way to write a decision.
#[derive(Clone, Copy, Debug)]
pub struct Claimed<'a> {
    pub(crate) store: &'a Store,
    pub(crate) claim: Claim,
}

impl Store {
    /// What the holder of this claim may do, as long as it holds.
    pub fn claimed(&self, claim: &Claim) -> Claimed<'_> {
        Claimed { store: self, claim: *claim }
    }
}

/// A fenced write that touched no row came too late.
pub(crate) fn fenced(rows: u64) -> Result<(), Error> {
    if rows == 0 { Err(Error::ClaimLost) } else { Ok(()) }
}
