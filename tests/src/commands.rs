//! The command line of `testbed`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{
    demo,
    machine::Machine,
    queries, run,
    stack::{self, StackOptions},
};

/// Runs Waygate against real parts on this machine: Kubernetes (kube-apiserver, etcd, controllers,
/// scheduler, and kwok for nodes), PostgreSQL, and a simulator of the cloud. Needs only Rust and
/// Go; all other programs are built once. Usually called by `make`.
///
/// Programs that this machine has are used instead, and named: etcd, kube-apiserver and kubectl of
/// KUBEBUILDER_ASSETS (the controllers, the scheduler and kwok are built all the same), a
/// PostgreSQL's binaries, the server of DATABASE_URL, and with `run --kubeconfig` a whole cluster.
#[derive(Debug, Parser)]
#[command(name = "testbed", version)]
pub struct Arguments {
    #[command(flatten)]
    machine: Machine,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a command with a control plane and a Postgres of its own, and stop them after.
    ///
    /// The command finds KUBECONFIG and DATABASE_URL (both an administrator's) in its environment
    /// and `kubectl` in its PATH; the exit code is passed on.
    ///
    ///   testbed run -- cargo test --workspace
    ///   testbed run -- kubectl get nodes
    #[command(verbatim_doc_comment)]
    Run(run::Options),
    /// Show how a few pods get their addresses and give them back, in a control plane of the demo's
    /// own; ends by itself.
    Demo,
    /// The story itself, under `run`.
    #[command(hide = true)]
    Story,
    /// Renew store/.sqlx, by which the store is compiled without a database, or check that it is up
    /// to date.
    ///
    ///   testbed run -- target/debug/testbed queries
    #[command(verbatim_doc_comment)]
    Queries(queries::Options),
    /// Start the whole stack in the background: control plane, Postgres, simulator, webhook and
    /// worker.
    ///
    /// Returns when everything is ready and has written its addresses to target/testbed/env as
    /// shell assignments. A webhook or worker that ends is started again, as a kubelet would. Logs
    /// are in target/testbed/up/logs, process IDs in target/testbed/up/pids; a part (postgres,
    /// webhook, worker) stays down while target/testbed/up/stopped/PART exists.
    Up(StackOptions),
    /// End what `up` started, and wait until no process of it is left.
    Down,
    /// The background half of `up`.
    #[command(hide = true)]
    Supervise(StackOptions),
}

impl Arguments {
    /// Does what was asked for.
    pub async fn execute(self) -> Result<ExitCode> {
        match self.command {
            Command::Run(options) => run::run_command(&self.machine, options).await,
            Command::Demo => {
                run::run_command(&self.machine, run::Options::for_subcommand("story")?).await
            }
            Command::Story => demo::run_demo().await,
            Command::Queries(options) => queries::run_queries(options).await,
            Command::Up(options) => stack::start_stack(&self.machine, &options).await,
            Command::Down => stack::stop_stack().await,
            Command::Supervise(options) => stack::run_supervisor(&self.machine, &options).await,
        }
    }
}
