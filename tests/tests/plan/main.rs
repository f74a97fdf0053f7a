//! The plan against the simulator's own state machine, in random histories: no cluster, no
//! database, no waiting.
//!
//! ```text
//! a seed ─▶ world: pods of two clusters come and go, networks lose answers, workers crash, an operator changes the cloud
//!        ─▶ calm: faults end, time passes ─▶ every pod has what it asks, and nothing else of ours is left
//!        ─▶ a few pods come and go, and nothing else happens ─▶ the same again
//! ```
//!
//! The invariants are checked after every event, the ledger of ports included; the required end
//! state has a module of its own.
//!
//! A failing seed is cut to the shortest history that still fails, which is printed step by step.

#[cfg(test)]
mod act;
#[cfg(test)]
mod call;
#[cfg(test)]
mod checks;
#[cfg(test)]
mod cloud;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod console;
#[cfg(test)]
mod history;
#[cfg(test)]
mod lane;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod operations;
#[cfg(test)]
mod pods;
#[cfg(test)]
mod pool;
#[cfg(test)]
mod ports;
#[cfg(test)]
mod queue;
#[cfg(test)]
mod reads;
#[cfg(test)]
mod rest;
#[cfg(test)]
mod sources;
#[cfg(test)]
mod store;
#[cfg(test)]
mod worker;
#[cfg(test)]
mod world;
