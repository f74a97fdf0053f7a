//! Paces the changes of each NAT gateway's forward entries: how many at a time, and when.
//!
//! ```text
//! slot (one change) ─▶ limiter (one gateway) ─┬─ window (changes at a time) ─▶ settling
//!                                             └─ entry_cache (last list, kept up to date)
//! ```
//! `docs/gateway-pacing.md` explains the numbers. An entry is *settled* when its status is neither
//! `Pending` nor `Deleting`; a *probe* is a read that finds out.

pub(crate) mod entry_cache;
pub(crate) mod limiter;
mod settling;
pub(crate) mod slot;
pub(crate) mod window;
