//! The controller: sees pods, claims leases, drives the cloud, publishes addresses.
//!
//! ```text
//! watch ─▶ (store) ─▶ reconcile ─▶ the cloud (EIPs), the cluster
//!                        └▶ (store's queue) ─▶ gateway ─▶ the cloud (forward entries)
//! ```
//!
//! It decides nothing: what is read, what is done next and what an answer means stands in
//! `waygate_core::{plan, rules}`.

mod args;
mod certificates;
mod context;
mod errors;
mod gateway;
mod metrics;
mod objects;
mod rates;
mod reconcile;
mod retries;
mod startup;
mod watch;

pub use args::Args;

/// Carries out the command line, and returns when that is done or the process was told to stop.
pub async fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        args::Command::Run(run) => startup::run(run).await,
        args::Command::Migrate(migrate) => startup::migrate(migrate).await,
    }
}
