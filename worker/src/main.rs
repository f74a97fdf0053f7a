//! `waygate-worker`: gives pods the public addresses they ask for.

use clap::Parser as _;
use std::process::ExitCode;
use waygate_worker::{Args, run};

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the worker ends");
            eprintln!("waygate-worker: {error:#}");
            ExitCode::FAILURE
        }
    }
}
