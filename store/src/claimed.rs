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

/// A write under a claim, as the value of the method that makes it. `$1`, `$2` and `$3` are the
/// claim's lease, owner and epoch, the arguments come after them, and every statement compares all
/// three.
macro_rules! write_fenced {
    ($claimed:expr, $statement:literal $(, $argument:expr)* $(,)?) => {{
        let done = sqlx::query!(
            $statement,
            $claimed.claim.lease_id.0,
            $claimed.claim.owner,
            $claimed.claim.epoch,
            $($argument),*
        )
        .execute(&$claimed.store.pool)
        .await?;
        $crate::claimed::fenced(done.rows_affected())
    }};
}
pub(crate) use write_fenced;
