//! Reads and writes of Kubernetes objects; each write is conditional on the object as it was read.

pub(crate) mod absence;
pub(crate) mod custom_resource;
pub(crate) mod events;
pub(crate) mod pod;
