//! Changes asked of the cloud: intended before the call or queued at their gateway, settled once.

pub(crate) mod gateway_lock;
mod intend;
pub(crate) mod queue;
pub(crate) mod settle;
