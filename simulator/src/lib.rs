//! The VPC, ECS and STS API on localhost, true enough that the official SDKs cannot tell.
//!
//! ```text
//! connection ─▶ server::api ─▶ signature ─▶ faults ─▶ cloud (pure state machine) ─▶ latency ─▶ answer
//!               server::admin ──────────────▶ faults, counts, cloud::state, the console's hand
//! ```
//!
//! It owns no knowledge of Waygate and depends on none of its crates: it is what everything else is
//! tested against, so it follows the API's documentation and nothing else. [`topology`] documents
//! the file that says what exists at the start.

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
