//! The account's queues: changes of EIPs, sent as the account's rates leave call slots free.
//!
//! ```text
//! (reconcile queues a change) ─▶ wakeups ─▶ sender ─▶ delivery ─▶ the cloud
//!                                             ▲
//!              the store: a free call slot picks its change
//! ```
//!
//! Every worker sends changes of its own cluster; the store keeps all of them together within the
//! rates.

mod delivery;
pub(crate) mod sender;
pub(crate) mod wakeups;
