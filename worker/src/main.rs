//! `waygate-worker`: gives pods the public addresses they ask for.

mod act;
mod args;
mod call;
mod certificates;
mod claims;
mod deletions;
mod delivery;
mod errors;
mod events;
mod gather;
mod inbox;
mod lane;
mod lanes;
mod metrics;
mod namespaces;
mod patience;
mod pods;
mod pool;
mod publish;
mod rates;
mod reconcile;
mod resource;
mod retries;
mod run;
mod sweep;
mod take;
mod verdict;
mod watch;
mod worker;

use args::{Args, Command};
use clap::Parser;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let done = match args.command {
        Command::Run(run) => run::run(run).await,
        Command::Migrate(migrate) => run::migrate(migrate).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the worker ends");
            eprintln!("waygate-worker: {error:#}");
            ExitCode::FAILURE
        }
    }
}
