//! The NAT gateways: the EIPs bound to them, and the one process at a time that changes a
//! gateway's forward entries.
//!
//! ```text
//! discovery ─▶ port_pool ─▶ (reconcile reserves ports)
//! (reconcile queues a change) ─▶ wakeups ─▶ sender ─▶ delivery ─▶ the cloud
//!                                             ▲
//!                          leader: holds the gateway's lock
//! ```

mod delivery;
pub(crate) mod discovery;
pub(crate) mod leader;
pub(crate) mod port_pool;
mod sender;
pub(crate) mod wakeups;
