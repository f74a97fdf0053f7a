//! The claim on a lease: every decision about the lease is written under it.
//!
//! ```text
//! due lease ─ claim ─▶ Claim ─ Store + Claim ─▶ Claimed: load, decide … finish
//!                                               (owner, epoch) in every statement
//! ```
//!
//! Decisions (the next step of a lease) are written by [`Claimed`] only, in the file of their
//! subject: a write under a claim that has passed to another worker touches no row and returns
//! [`Error::ClaimLost`]. Facts (the cloud's answers) are written by [`Store`] without a claim.

use crate::error::Error;
use crate::store::Store;
use uuid::Uuid;
use waygate_core::ids::LeaseId;

/// The right of one worker to decide on a lease, until it expires or another worker claims the
/// lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The lease that was claimed. Every write under the claim compares owner and epoch.
    pub lease_id: LeaseId,
    pub(crate) owner: Uuid,
    pub(crate) epoch: i64,
}

/// The store under a claim: the only way to write a decision.
#[derive(Clone, Copy, Debug)]
pub struct Claimed<'a> {
    pub(crate) store: &'a Store,
    pub(crate) claim: Claim,
}

impl Store {
    /// Gives access to everything that needs this claim. Each write checks again that the claim
    /// holds.
    pub fn under_claim(&self, claim: &Claim) -> Claimed<'_> {
        Claimed { store: self, claim: *claim }
    }
}

/// Returns [`Error::ClaimLost`] if no row matched the claim check (lease, owner, epoch).
pub(crate) fn ensure_claim_held(rows: u64) -> Result<(), Error> {
    if rows == 0 { Err(Error::ClaimLost) } else { Ok(()) }
}

/// Runs a write under a claim and returns the method's result. `$1`, `$2` and `$3` are the claim's
/// lease, owner and epoch, the arguments come after them, and every statement must compare all
/// three.
macro_rules! write_under_claim {
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
        $crate::claimed::ensure_claim_held(done.rows_affected())
    }};
}
pub(crate) use write_under_claim;

/// Runs an update of an operation under the claim on its lease, which may find nothing to update.
/// `$4` is the operation; the update reads the claimed lease as `l`.
macro_rules! update_operation_under_claim {
    ($claimed:expr, $operation:expr, $update:literal $(,)?) => {{
        let claim_held = sqlx::query_scalar!(
            "WITH l AS MATERIALIZED (SELECT lease_id FROM lease WHERE lease_id = $1 AND owner = $2 AND epoch = $3 FOR UPDATE),
             u AS (" + $update + r#") SELECT count(*) AS "claim_held!" FROM l"#,
            $claimed.claim.lease_id.0,
            $claimed.claim.owner,
            $claimed.claim.epoch,
            $operation,
        )
        .fetch_one(&$claimed.store.pool)
        .await?;
        $crate::claimed::ensure_claim_held(claim_held.unsigned_abs())
    }};
}
pub(crate) use update_operation_under_claim;
