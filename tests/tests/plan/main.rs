//! The plan against the simulator's own state machine, in random histories: no cluster, no
//! database, no waiting.
//!
//! ```text
//! a seed ─▶ world: pods of two clusters come and go, networks lose answers, workers crash, an operator changes the cloud
//!        ─▶ calm: faults end, time passes ─▶ every pod has what it asks, and no other resource is left
//!        ─▶ a few pods come and go, a few things are unbound or deleted, and nothing else happens ─▶ the same again
//! ```
//!
//! The invariants are checked after every event, the ledger of ports included; the required end
//! state has a module of its own.
//!
//! A failing seed is cut to the shortest history that still fails, which is printed step by step.

#[cfg(test)]
mod account_queue;
#[cfg(test)]
mod account_sender;
#[cfg(test)]
mod cloud;
#[cfg(test)]
mod cloud_call;
#[cfg(test)]
mod cloud_reads;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod console;
#[cfg(test)]
mod discovery;
#[cfg(test)]
mod eip_sources;
#[cfg(test)]
mod end_state;
#[cfg(test)]
mod execute;
#[cfg(test)]
mod gateway_queue;
#[cfg(test)]
mod gateway_sender;
#[cfg(test)]
mod history;
#[cfg(test)]
mod invariants;
#[cfg(test)]
mod lister;
#[cfg(test)]
mod operations;
#[cfg(test)]
mod pods;
#[cfg(test)]
mod port_ledger;
#[cfg(test)]
mod ports;
#[cfg(test)]
mod store;
#[cfg(test)]
mod worker;
#[cfg(test)]
mod world;
