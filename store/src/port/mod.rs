//! Ports of the gateways' EIPs: free, held by one lease, in cooldown, or under a foreign entry.
//!
//! ```text
//! free ─ reserve ─▶ held ─ release ─▶ cooldown ─ time ─▶ free
//! free, held, cooldown ─ foreign entry seen ─▶ foreign ─ not seen for a while ─▶ free
//! ```
//!
//! Each write locks its lease's row before the port's: a claim that was read but not locked could
//! pass to another worker while the write waits.

mod allocate;
mod choose;
mod entries;
pub(crate) mod gateway_facts;
pub(crate) mod pool;
mod reserve;
