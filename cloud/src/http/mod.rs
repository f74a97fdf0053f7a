//! HTTP: writes a call and reads its answer. Credentials and rate limits stand above, in the
//! transport.

pub(crate) mod client;
pub(crate) mod endpoints;
pub(crate) mod params;
pub(crate) mod sign;
