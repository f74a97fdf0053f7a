//! Ports of gateways' EIPs: on offer, held by one lease, quiet, or under somebody else's entry.
//!
//! ```text
//! free ─ reserve ─▶ held ─ quiet ─▶ quiet ─ end_quiet ─▶ free        held, free, quiet ─ mark_foreign ─▶ foreign
//! ```
//!
//! Each write locks its lease's row before the port's: a claim that was read but not locked could
//! pass to another while the write waits.

mod allocate;
mod choose;
mod entries;
pub(crate) mod gateway_facts;
pub(crate) mod pool;
mod reserve;
