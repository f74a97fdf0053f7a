//! Leases: announced or observed, claimed, loaded, changed, deleted.

pub(crate) mod announce;
mod changes;
pub(crate) mod claims;
pub(crate) mod custom_resource;
pub(crate) mod drift;
mod eip_sources;
mod limits;
pub(crate) mod listener;
pub(crate) mod load;
mod target;
pub(crate) mod wake;
