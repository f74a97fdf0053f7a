//! `testbed up` and `testbed down`: the whole stack in the background.
//!
//! `up` starts a supervisor that outlives it, and waits until the supervisor has written
//! `target/testbed/env`. The supervisor owns all processes: the control plane with Postgres, the
//! simulator, the webhooks and the workers. Webhooks and workers are started again when they end, as
//! a kubelet would. `down` ends the supervisor, which ends the rest.
//!
//! A part stays down while `target/testbed/up/stopped/PART` exists: `touch` it, then end the
//! process in `target/testbed/up/pids/PART`. Parts are postgres, webhook, webhook-2, worker, worker-2
//! and so on.

use std::{
    fmt::Write as _,
    fs::OpenOptions,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use rustix::process::Signal;
use secrecy::ExposeSecret as _;
use tokio::{process::Command, time::sleep};

use crate::{
    Options, Stand, artifacts, cluster,
    controlplane::{Address, ControlPlane},
    environment::Environment,
    layout,
    machine::Machine,
    nodes::Topology,
    process,
    run::Signals,
    service::Service,
    wait::eventually,
};

/// Time limit of `up`, a cold build of the control plane included.
const UP_TIMEOUT: Duration = Duration::from_mins(20);

/// Time limit of `down` until all processes have ended.
const DOWN_TIMEOUT: Duration = Duration::from_mins(2);

/// Interval at which the supervisor checks webhook and worker, and so the shortest pause before a
/// restart.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Simulator and topology of the stack.
#[derive(Debug, Clone, Args)]
pub struct StackOptions {
    /// The simulator's arguments: by default the latencies of the real cloud, and the quotas of an
    /// account that asked for more.
    #[arg(
        long,
        default_value = "--profile realistic --quota-eips 5000 --quota-entries 2000",
        allow_hyphen_values = true
    )]
    simulator: String,
    /// The network that nodes and cloud are made from, as the simulator takes it (default: the
    /// simulator's built-in one).
    #[arg(long)]
    topology: Option<PathBuf>,
    /// Number of workers.
    #[arg(long, default_value = "2", value_parser = clap::value_parser!(u8).range(1..=16))]
    workers: u8,
    /// Number of webhooks, behind one URL.
    #[arg(long, default_value = "2", value_parser = clap::value_parser!(u8).range(1..=16))]
    webhooks: u8,
}

impl StackOptions {
    fn simulator_arguments(&self) -> Vec<String> {
        let topology = self
            .topology
            .iter()
            .flat_map(|file| ["--topology".to_owned(), file.display().to_string()]);
        self.simulator.split_whitespace().map(str::to_owned).chain(topology).collect()
    }
}

fn stack_folder() -> PathBuf {
    layout::scratch_folder().join("up")
}

fn env_file() -> PathBuf {
    layout::scratch_folder().join("env")
}

/// The supervisor's process ID, while it runs.
fn supervisor_id() -> Option<u32> {
    let id = std::fs::read_to_string(stack_folder().join("pids").join("supervisor"))
        .ok()?
        .trim()
        .parse()
        .ok()?;
    process::is_running(id).then_some(id)
}

/// Starts the stack, unless it is up, and returns when it is ready.
pub async fn start_stack(machine: &Machine, options: &StackOptions) -> Result<ExitCode> {
    if supervisor_id().is_some() && env_file().is_file() {
        println!("testbed: the stack is already up; its addresses are in {}", env_file().display());
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(supervisor_id().is_none(), "the stack is being started or stopped by another command");
    artifacts::announce_assets(machine)?;
    artifacts::build_chart_renderer(machine).await?;
    artifacts::build_control_plane(machine, true).await?;
    artifacts::build_kubectl(machine).await?;
    // The file of a killed supervisor would look like an answer.
    if env_file().exists() {
        std::fs::remove_file(env_file())?;
    }
    if stack_folder().exists() {
        std::fs::remove_dir_all(stack_folder())?;
    }
    std::fs::create_dir_all(stack_folder().join("pids"))?;
    let log = stack_folder().join("supervisor.log");
    let output = OpenOptions::new().create(true).append(true).open(&log)?;
    // A group of its own, so that Ctrl-C after `up` reaches only what it is meant for.
    let mut supervisor = Command::new(layout::program_path("testbed")?)
        .arg("--cache")
        .arg(machine.cache_folder())
        .args(
            machine
                .assets_folder()
                .into_iter()
                .flat_map(|folder| [PathBuf::from("--assets"), folder]),
        )
        .arg("supervise")
        .args(["--simulator", &options.simulator])
        .args(options.topology.iter().flat_map(|file| [Path::new("--topology"), file]))
        .args(["--workers", &options.workers.to_string()])
        .args(["--webhooks", &options.webhooks.to_string()])
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()?;
    std::fs::write(
        stack_folder().join("pids").join("supervisor"),
        supervisor.id().unwrap_or_default().to_string(),
    )?;
    tokio::select! {
        ended = supervisor.wait() => bail!("the stack did not come up ({}):\n{}", ended?, process::log_tail(&log)),
        ready = eventually(|| async { Ok(env_file().is_file().then_some(())) }, "the stack is up", UP_TIMEOUT) => ready?,
    }
    println!(
        "testbed: it is up; `. {}` sets KUBECONFIG and all other addresses",
        env_file().display()
    );
    Ok(ExitCode::SUCCESS)
}

/// Ends the stack, and says so also if there was none.
pub async fn stop_stack() -> Result<ExitCode> {
    let Some(id) = supervisor_id() else {
        println!("testbed: the stack is not up");
        return Ok(ExitCode::SUCCESS);
    };
    process::send_signal(id, Signal::TERM)?;
    eventually(
        || async { Ok((!process::is_running(id)).then_some(())) },
        "the stack has ended",
        DOWN_TIMEOUT,
    )
    .await?;
    println!("testbed: the stack is down");
    Ok(ExitCode::SUCCESS)
}

/// The supervisor: `up`'s other half.
pub async fn run_supervisor(machine: &Machine, options: &StackOptions) -> Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let chart_renderer = artifacts::build_chart_renderer(machine).await?;
    let binary = artifacts::build_control_plane(machine, true).await?;
    let mut plane = ControlPlane::start(machine, &binary, &stack_folder(), None).await?;
    let result = match artifacts::link_kubectl(machine, &plane.address.bin_dir).await {
        Ok(()) => serve_until_signal(&mut plane, chart_renderer, options, &mut signals).await,
        Err(error) => Err(error),
    };
    drop(std::fs::remove_file(env_file()));
    plane.stop().await?;
    result.map(|()| ExitCode::SUCCESS)
}

/// Supervises webhook and worker until a signal ends the stack in order, or one of its other
/// processes ends unexpectedly.
async fn serve_until_signal(
    plane: &mut ControlPlane,
    chart_renderer: PathBuf,
    options: &StackOptions,
    signals: &mut Signals,
) -> Result<()> {
    let address = plane.address.clone();
    let mut stand = tokio::select! {
        stand = start_cluster_stand(&address, chart_renderer, options) => stand?,
        () = signals.wait_for_signal() => return Ok(()),
    };
    write_env(&address, &stand)?;
    let result = tokio::select! {
        error = plane.wait_for_end() => Err(error),
        error = restart_ended_services(&mut stand) => error,
        () = signals.wait_for_signal() => Ok(()),
    };
    stand.stop().await?;
    result
}

/// Makes the cluster what a stand needs, and starts one for all its namespaces.
async fn start_cluster_stand(
    address: &Address,
    chart_renderer: PathBuf,
    options: &StackOptions,
) -> Result<Stand> {
    let client = cluster::connect_cluster(&address.kubeconfig).await?;
    cluster::prepare_cluster(
        &client,
        Some(&Topology::from_simulator(options.topology.as_deref()).await?),
    )
    .await?;
    let environment = Environment {
        kubeconfig: address.kubeconfig.clone(),
        database_url: address.database_url.clone(),
        chart_renderer,
    };
    let options = Options {
        simulator: options.simulator_arguments(),
        worker: Vec::new(),
        webhooks: options.webhooks.into(),
        workers: options.workers.into(),
        whole_cluster: true,
        ..Options::default()
    };
    Stand::start_in(&environment, "testbed", stack_folder(), options).await
}

/// Starts webhook and worker again when they end. Without its simulator the stack is lost: the
/// cloud forgot everything.
async fn restart_ended_services(stand: &mut Stand) -> Result<()> {
    loop {
        sleep(CHECK_INTERVAL).await;
        ensure!(!stand.cloud.has_ended()?, "the simulator ended");
        for service in stand.webhook.iter().chain(stand.worker.iter()) {
            if service.has_ended().await? && !is_held_down(service) {
                eprintln!("testbed: the {} ended and is started again", service.name());
                service.spawn().await?;
            }
        }
    }
}

fn is_held_down(service: &Service) -> bool {
    stack_folder().join("stopped").join(service.name()).exists()
}

/// Writes the addresses as shell assignments, whole or not at all.
fn write_env(address: &Address, stand: &Stand) -> Result<()> {
    let account = &stand.cloud.account;
    let ca = stand.dir.join("ca.pem").display().to_string();
    let kubeconfig = address.kubeconfig.display().to_string();
    let metrics = format!("{}/metrics", stand.worker_admins[0]);
    let (workers, webhooks) = (stand.worker_admins.join(" "), stand.webhook_admins.join(" "));
    let bin_dir = address.bin_dir.display().to_string();
    let assignments = [
        ("KUBECONFIG", kubeconfig.as_str()),
        ("DATABASE_URL", &stand.direct_database_url),
        ("CLOUD_ENDPOINT", &account.endpoint),
        ("CLOUD_ADMIN", &account.admin),
        ("ALIBABA_CLOUD_ACCESS_KEY_ID", &account.access_key_id),
        ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", account.access_key_secret.expose_secret()),
        ("WEBHOOK_URL", &stand.webhook_address.url),
        ("WEBHOOK_CA", &ca),
        ("WORKER_METRICS", &metrics),
        ("WORKERS_ADMIN", &workers),
        ("WEBHOOKS_ADMIN", &webhooks),
    ];
    let mut text = String::new();
    for (name, value) in assignments {
        writeln!(text, "export {name}='{value}'")?;
    }
    writeln!(text, "# kubectl is there as well\nexport PATH='{bin_dir}':\"$PATH\"")?;
    let unfinished = env_file().with_extension("unfinished");
    std::fs::write(&unfinished, text)?;
    std::fs::rename(&unfinished, env_file()).context("writing the env file")
}
