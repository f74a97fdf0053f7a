//! Changes of a NAT gateway's forward entries: how many it takes at a time, and when.
//!
//! ```text
//! slot (one change's turn) ─▶ limiter (one gateway) ─┬─ window (how many at a time) ─▶ settling (by when an entry is at rest)
//!                                                    └─ entry_cache (the last list, kept up to date)
//! ```
//! The numbers are explained in `docs/gateway-pacing.md`.

pub(crate) mod entry_cache;
pub(crate) mod limiter;
mod settling;
pub(crate) mod slot;
pub(crate) mod window;
