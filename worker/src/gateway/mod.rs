//! The NAT gateways: which EIPs they have, and the one process at a time that changes a gateway's
//! forward entries.
//!
//! ```text
//! discovery ─▶ port_pool ─▶ (reconcile reserves ports)
//! (reconcile queues a change) ─▶ wakeups ─▶ leader: holds the gateway's lock ─▶ sender ─▶ delivery ─▶ the cloud
//! ```

mod delivery;
pub(crate) mod discovery;
pub(crate) mod leader;
pub(crate) mod port_pool;
mod sender;
pub(crate) mod wakeups;
