//! `waygate-worker`: gives pods the public addresses that their annotations request.

use clap::Parser as _;
use std::process::ExitCode;
use waygate_worker::{Args, run};

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "worker stopped by an error");
            eprintln!("waygate-worker: {error:#}");
            ExitCode::FAILURE
        }
    }
}
