//! `kubectl waygate`: checks manifests and configuration files before they are applied.

mod check;
mod objects;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Checks manifests and configuration files by Waygate's own rules, without a cluster.
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
    /// Check the annotations of pods and of workloads' pod templates, as the admission server
    /// would.
    ///
    /// Exit code 0: all are valid. 1: a pod would be rejected. 2: a file could not be read.
    Check {
        /// Manifests, YAML or JSON, with one or more documents each; `-` for standard input.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Check a configuration file, Waygate's or that of ack-extend-network-controller.
    Config {
        /// Configuration file; `-` for standard input.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::Check { files } => check::check_manifests(&files),
        Command::Config { file } => check::check_config(&file),
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
