//! The VPC, ECS and STS API on localhost, true enough that the official SDKs see no difference.
//!
//! ```text
//! connection ─▶ server::api ─▶ signature ─▶ faults ─▶ cloud (pure state machine) ─▶ latency ─▶ answer
//!               server::admin ──────────────▶ faults, counts, cloud::state, the console's hand
//! ```
//!
//! The simulator knows nothing of Waygate and depends on none of its crates. Waygate is tested
//! against it, so it follows the API's documentation and nothing else. [`topology`] documents the
//! file that lists the resources at the start.

pub mod args;
pub mod calls;
pub mod cidr;
pub mod cloud;
pub mod dice;
pub mod faults;
pub mod params;
pub mod profile;
pub mod refusal;
pub mod server;
pub mod signature;
pub mod topology;
