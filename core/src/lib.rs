//! Waygate's domain: a pod's request, the lease that answers it, and the plan between the two.
//! Pure: no runtime, no database, no client, no clock.
//!
//! ```text
//! annotations ─▶ request ─┐
//! facts of pod and cloud ─┴▶ plan ─▶ one step ─▶ change (asked of the cloud)
//! ```

pub mod annotations;
pub mod change;
pub mod cloud_facts;
pub mod condition;
pub mod config;
pub mod error;
pub mod failure;
pub mod ids;
pub mod lease;
pub mod operation;
pub mod ownership;
pub mod plan;
pub mod request;
pub mod resources;
pub mod retry;
pub mod rules;
pub mod selector;
mod spelling;
pub mod text;
