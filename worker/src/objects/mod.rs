//! Kubernetes' objects as the worker reads and writes them; each write holds only for the object as
//! it was read.

pub(crate) mod custom_resource;
pub(crate) mod events;
pub(crate) mod pod;
