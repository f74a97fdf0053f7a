//! Changes of the cloud: intended before the call, or queued for their gateway's lane; settled
//! once.

pub(crate) mod gateway_lock;
mod intend;
pub(crate) mod queue;
pub(crate) mod settle;
