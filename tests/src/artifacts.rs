//! Programs built once per machine by `tests/controlplane/build`, which prints its progress.

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

use crate::{layout, machine::Machine};

/// The variable by which Kubernetes' own tools know a folder of a control plane's programs.
const ASSETS_VARIABLE: &str = "KUBEBUILDER_ASSETS";

/// The programs that such a folder may have.
const ASSET_PROGRAMS: [&str; 3] = ["etcd", "kube-apiserver", "kubectl"];

/// Builds the control plane's binary if need be, or, for a cluster that is there, only what runs
/// Postgres.
pub async fn build_control_plane(machine: &Machine, cluster: bool) -> Result<PathBuf> {
    build_part(machine, if cluster { "control-plane" } else { "postgres" }).await
}

/// Builds the program that renders the chart.
pub async fn build_chart_renderer(machine: &Machine) -> Result<PathBuf> {
    build_part(machine, "chart").await
}

/// Builds kubectl if this machine has none.
pub async fn build_kubectl(machine: &Machine) -> Result<PathBuf> {
    build_part(machine, "kubectl").await
}

/// Puts kubectl beside the programs of a control plane.
pub async fn link_kubectl(machine: &Machine, bin_dir: &Path) -> Result<()> {
    let link = bin_dir.join("kubectl");
    if !link.exists() {
        symlink(build_kubectl(machine).await?, &link)
            .with_context(|| format!("making {}", link.display()))?;
    }
    Ok(())
}

async fn build_part(machine: &Machine, part: &str) -> Result<PathBuf> {
    let program = layout::project_folder().join("tests").join("controlplane").join("build");
    let mut build = Command::new(&program);
    build
        .arg(part)
        .arg(machine.cache_folder())
        .env(ASSETS_VARIABLE, machine.assets_folder().unwrap_or_default());
    let build = build.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn();
    let output = build
        .with_context(|| format!("{} does not start", program.display()))?
        .wait_with_output()
        .await?;
    ensure!(output.status.success(), "{part} does not build ({})", output.status);
    let path = String::from_utf8(output.stdout).with_context(|| format!("the path of {part}"))?;
    Ok(path.trim_end().into())
}

/// Says which of the machine's own programs are used.
pub(crate) fn announce_assets(machine: &Machine) -> Result<()> {
    let Some(folder) = machine.assets_folder() else { return Ok(()) };
    let there: Vec<_> =
        ASSET_PROGRAMS.into_iter().filter(|name| folder.join(name).is_file()).collect();
    ensure!(
        !there.is_empty(),
        "{ASSETS_VARIABLE}={} has none of {}",
        folder.display(),
        ASSET_PROGRAMS.join(", ")
    );
    eprintln!(
        "testbed: uses {} of {ASSETS_VARIABLE}={}; the rest is built",
        there.join(", "),
        folder.display()
    );
    Ok(())
}
