//! What the cluster tells: events of pods, custom resources and namespaces, and what events miss.
//! All of it only wakes leases.

pub(crate) mod custom_resources;
mod gates;
pub(crate) mod namespaces;
pub(crate) mod pods;
pub(crate) mod resync;
mod work_queue;
