//! Watches on pods, custom resources and namespaces, and a periodic resync for changes that watches
//! miss. Events decide nothing: they create leases for pods that request one, and wake leases.

pub(crate) mod custom_resources;
mod gates;
pub(crate) mod namespaces;
mod pod_record;
pub(crate) mod pods;
mod recorder;
pub(crate) mod resync;
mod work_queue;
