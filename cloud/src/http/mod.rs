//! How a call is written and its answer read. It knows neither whose keys sign nor whether the
//! account may call now.

pub(crate) mod client;
pub(crate) mod endpoints;
pub(crate) mod params;
pub(crate) mod sign;
