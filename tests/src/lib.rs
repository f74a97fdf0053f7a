//! The testbed: Waygate against a real control plane, a real Postgres and the simulator.
//!
//! ```text
//! testbed run -- cargo test          one control plane and Postgres (the Go program in controlplane/) for all tests
//!   └ a test: Stand::start()         a namespace, database, simulator, webhooks and workers of its own,
//!                                    and links between them, with faults
//! testbed up                         one stand for the whole cluster, in the background, supervised
//! ```
//!
//! Invariant: nothing that the testbed starts outlives it. Children die with their parent
//! (parent-death signals, standard input that ends), and no run depends on an earlier run's
//! leftovers.

pub mod address_kinds;
pub mod artifacts;
pub mod cloud;
pub mod cluster;
pub mod commands;
pub mod condition_reasons;
pub mod controlplane;
pub mod database;
pub mod demo;
pub mod dnat;
pub mod eip;
pub mod environment;
pub mod held_answers;
pub mod installation;
pub mod layout;
pub mod leftovers;
pub mod links;
pub mod machine;
pub mod manifests;
pub mod nodes;
mod options;
pub mod pods;
pub mod process;
pub mod queries;
pub mod replicas;
pub mod run;
pub mod service;
pub mod stack;
pub mod stand;
mod stand_programs;
pub mod strict_gateways;
pub mod wait;
pub mod workloads;

pub use stand::{Options, Stand};
