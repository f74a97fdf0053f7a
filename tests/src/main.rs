//! `testbed`: runs commands and tests against a real control plane, a real Postgres and the
//! simulator.

use std::process::ExitCode;

use clap::Parser as _;
use testbed::commands::Arguments;

#[tokio::main]
async fn main() -> ExitCode {
    match Arguments::parse().execute().await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("testbed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
