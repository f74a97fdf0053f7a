//! The plan against the simulator's own state machine, in random histories: no cluster, no database, no waiting.
//!
//! ```text
//! a seed ─▶ world: pods come and go, networks lose answers, workers crash, somebody sits at the console   (checks hold all the time)
//!        ─▶ calm: faults end, time passes ─▶ every pod has what it asks, and nothing else of ours is left
//! ```
//!
//! A failing seed is cut to the shortest history that still fails, and that one is told step by step.

#[cfg(test)]
mod act;
#[cfg(test)]
mod checks;
#[cfg(test)]
mod cloud;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod history;
#[cfg(test)]
mod store;
#[cfg(test)]
mod worker;
#[cfg(test)]
mod world;
