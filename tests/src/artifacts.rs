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
const ASSETS: &str = "KUBEBUILDER_ASSETS";

/// The programs that such a folder may have.
const IN_ASSETS: [&str; 3] = ["etcd", "kube-apiserver", "kubectl"];

/// Builds the control plane's binary if need be, or, for a cluster that is there, only what runs
/// Postgres.
pub async fn build_control_plane(machine: &Machine, cluster: bool) -> Result<PathBuf> {
    build(machine, if cluster { "control-plane" } else { "postgres" }).await
}

/// Builds kubectl if this machine has none.
pub async fn build_kubectl(machine: &Machine) -> Result<PathBuf> {
    build(machine, "kubectl").await
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

async fn build(machine: &Machine, part: &str) -> Result<PathBuf> {
    let program = layout::project().join("tests").join("controlplane").join("build");
    let mut build = Command::new(&program);
    build.arg(part).arg(machine.cache()).env(ASSETS, machine.assets().unwrap_or_default());
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
pub(crate) fn tell_assets(machine: &Machine) -> Result<()> {
    let Some(folder) = machine.assets() else { return Ok(()) };
    let there: Vec<_> = IN_ASSETS.into_iter().filter(|name| folder.join(name).is_file()).collect();
    ensure!(
        !there.is_empty(),
        "{ASSETS}={} has none of {}",
        folder.display(),
        IN_ASSETS.join(", ")
    );
    eprintln!(
        "testbed: uses {} of {ASSETS}={}; the rest is built",
        there.join(", "),
        folder.display()
    );
    Ok(())
}
