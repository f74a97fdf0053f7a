//! The controller: watches pods, claims leases, changes the cloud, publishes addresses.
//!
//! ```text
//! watch ─▶ (store) ─▶ reconcile ─▶ the cluster
//!                        └▶ (store's queues) ─┬▶ account ─▶ the cloud (EIPs)
//!                                             └▶ gateway ─▶ the cloud (forward entries)
//! lists of the cloud ─▶ lister ─▶ (wake-ups)
//! ```
//!
//! Decisions are made in `waygate_core::{plan, rules}`: the next step of a lease, the reads it
//! needs, and the meaning of the cloud's answers. This crate carries them out.

mod account;
mod args;
mod certificates;
mod cloud_probe;
mod context;
mod errors;
mod gateway;
mod lister;
mod metrics;
mod objects;
mod pins;
mod rates;
mod reconcile;
mod records;
mod refusals;
mod retry_schedule;
mod set_aside;
mod startup;
mod watch;

pub use args::Args;

/// Runs the subcommand; returns when it is done, or after the drain that SIGTERM or SIGINT begins.
///
/// # Errors
/// Fails where the configuration, the lease store, the cluster or the cloud's credentials cannot be
/// used, or where a task of the worker ends.
pub async fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        args::Command::Run(run) => startup::serve_cluster(run).await,
        args::Command::Migrate(migrate) => startup::migrate_schema(migrate).await,
    }
}
