//! Reads of the cloud, batched: waiters for the same kind of fact share one call.
//!
//! ```text
//! interfaces ─▶ queries ─┬─ batch (waiters sharing a call)
//!                        └─ pages (lists longer than a page) ─▶ transport
//! ```

pub(crate) mod batch;
pub(crate) mod interfaces;
pub(crate) mod pages;
pub(crate) mod queries;
