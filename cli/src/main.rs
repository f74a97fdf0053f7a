//! `kubectl waygate`: what Waygate would say, before it is asked.

mod check;
mod objects;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Looks at pods' public addresses with Waygate's own eyes.
///
/// Installed as `kubectl-waygate` on the PATH, it runs as `kubectl waygate`.
#[derive(Debug, Parser)]
#[command(name = "kubectl waygate", bin_name = "kubectl waygate", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check the annotations of pods and of workloads' pod templates, as admission would: no
    /// cluster is asked.
    ///
    /// Exit code 0: all are right. 1: something would be refused. 2: a file could not be read.
    Check {
        /// Manifests, YAML or JSON, several documents each; `-` for standard input.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Check a configuration file, Waygate's or that of ack-extend-network-controller.
    Config {
        /// The file; `-` for standard input.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::Check { files } => check::manifests(&files),
        Command::Config { file } => check::config(&file),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("kubectl waygate: {error:#}");
            ExitCode::from(2)
        }
    }
}
