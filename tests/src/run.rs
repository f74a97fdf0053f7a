//! `testbed run`: a command under a control plane of its own.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{ExitCode, ExitStatus},
};

use anyhow::{Context as _, Result};
use clap::Args;
use tokio::{
    process::{Child, Command},
    signal::unix::{Signal, SignalKind, signal},
};

use crate::{
    artifacts, cluster,
    controlplane::{Address, ControlPlane},
    environment, layout,
    machine::Machine,
    nodes::Topology,
    process,
};

/// Prefix of the runs' folders, before the process ID.
const RUN_PREFIX: &str = "run-";

/// Options of `testbed run`.
#[derive(Debug, Args)]
pub struct Options {
    /// Use this cluster instead of starting one. The cluster gets our resource definitions, but no
    /// nodes.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// The network that nodes are made from, as the simulator takes it (default: the simulator's
    /// built-in one).
    #[arg(long)]
    topology: Option<PathBuf>,
    /// True if the command may call kubectl.
    #[arg(skip = true)]
    kubectl: bool,
    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

impl Options {
    /// Runs one of testbed's own subcommands. None of them calls kubectl.
    pub(crate) fn for_subcommand(subcommand: &str) -> Result<Self> {
        Ok(Self {
            kubeconfig: None,
            topology: None,
            kubectl: false,
            command: vec![std::env::current_exe()?.into(), subcommand.into()],
        })
    }
}

/// Starts everything, runs the command, stops everything, passes the exit code on.
pub async fn run_command(machine: &Machine, options: Options) -> Result<ExitCode> {
    let mut signals = Signals::listen()?;
    match &options.kubeconfig {
        Some(kubeconfig) => eprintln!(
            "testbed: uses the cluster of {}; no Kubernetes is built",
            kubeconfig.display()
        ),
        None => artifacts::announce_assets(machine)?,
    }
    let chart_renderer = artifacts::build_chart_renderer(machine).await?;
    let binary = artifacts::build_control_plane(machine, options.kubeconfig.is_none()).await?;
    remove_old_runs()?;
    let dir = layout::scratch_folder().join(format!("{RUN_PREFIX}{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let mut plane = tokio::select! {
        started = ControlPlane::start(machine, &binary, &dir, options.kubeconfig.as_deref()) => started?,
        () = signals.wait_for_signal() => return Ok(ExitCode::FAILURE),
    };
    let result =
        run_in_cluster(machine, &mut plane, &chart_renderer, &dir, &options, &mut signals).await;
    plane.stop().await?;
    let status = result?;
    if status.success() {
        // Logs of a successful run are not needed.
        std::fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
    } else {
        eprintln!("testbed: the control plane's logs are in {}", dir.join("logs").display());
    }
    Ok(exit_code(status))
}

/// Removes what failed runs left for their readers, unless they still run.
fn remove_old_runs() -> Result<()> {
    let Ok(entries) = std::fs::read_dir(layout::scratch_folder()) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let id = name
            .to_str()
            .and_then(|name| name.strip_prefix(RUN_PREFIX))
            .and_then(|id| id.parse().ok());
        if id.is_some_and(|id| !process::is_running(id)) {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Prepares the cluster and runs the command in it.
async fn run_in_cluster(
    machine: &Machine,
    plane: &mut ControlPlane,
    chart_renderer: &Path,
    dir: &Path,
    options: &Options,
    signals: &mut Signals,
) -> Result<ExitStatus> {
    if options.kubectl {
        artifacts::link_kubectl(machine, &plane.address.bin_dir).await?;
    }
    let client = cluster::connect_cluster(&plane.address.kubeconfig).await?;
    let nodes = match options.kubeconfig {
        None => Some(Topology::from_simulator(options.topology.as_deref()).await?),
        Some(_) => None,
    };
    cluster::prepare_cluster(&client, nodes.as_ref()).await?;

    let mut command = build_command(&plane.address, chart_renderer, dir, &options.command)?;
    let mut child = command
        .spawn()
        .with_context(|| format!("{} does not start", options.command[0].display()))?;
    tokio::select! {
        status = child.wait() => Ok(status?),
        error = plane.wait_for_end() => {
            end_command(&mut child).await?;
            Err(error)
        }
        () = signals.wait_for_signal() => end_command(&mut child).await,
    }
}

/// The command, with what it needs to know in its environment.
fn build_command(
    address: &Address,
    chart_renderer: &Path,
    dir: &Path,
    words: &[OsString],
) -> Result<Command> {
    let mut command = process::tethered_command(&words[0]);
    command.args(&words[1..]).envs(environment::environment_variables(
        address,
        chart_renderer,
        dir,
    )?);
    Ok(command)
}

/// Ends the command, gently first: Ctrl-C reached it as well, other signals did not.
async fn end_command(child: &mut Child) -> Result<ExitStatus> {
    process::end_child(child, process::TERM_TIMEOUT).await
}

/// The signals that end a run.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(crate) fn listen() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    pub(crate) async fn wait_for_signal(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Passes the command's exit code on; 1 if a signal ended it.
fn exit_code(status: ExitStatus) -> ExitCode {
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}
