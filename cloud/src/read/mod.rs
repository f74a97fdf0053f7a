//! Reads: what can be asked, and how many who ask share one call.
//!
//! ```text
//! interfaces ─▶ queries (what) ─┬─ batch (for how many at once)
//!                              └─ pages (how long the answer is) ─▶ transport
//! ```

pub(crate) mod batch;
pub(crate) mod interfaces;
pub(crate) mod pages;
pub(crate) mod queries;
