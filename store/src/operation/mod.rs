//! Changes asked of the cloud: queued, marked as sent before the call, settled once.

pub(crate) mod account_queue;
pub(crate) mod queue;
pub(crate) mod settle;
mod unanswered;
