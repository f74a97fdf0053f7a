//! Builds the control plane once per machine.
//!
//! The result is named after a hash of its sources, so that it is built again exactly when they change, and lives outside
//! the project, so that a fresh clone finds what another one built.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};
use tokio::{process::Command, time::Instant};

use crate::layout;

/// What the programs answer when asked for their version; Go modules know nothing of the release they are part of.
const KUBERNETES_VERSION: &str = "v1.36.3";

/// How often a long build says that it is still alive.
const PROGRESS: Duration = Duration::from_secs(15);

/// The control plane's binary, built first if need be.
pub async fn control_plane(cache: &Path) -> Result<PathBuf> {
    let sources = layout::project().join("tests").join("controlplane");
    let binary = cache.join("waygate").join(format!("controlplane-{}", fingerprint(&sources)?));
    if binary.is_file() {
        return Ok(binary);
    }
    eprintln!("testbed: building Kubernetes {KUBERNETES_VERSION} from source; once per machine, 5 to 10 minutes");
    std::fs::create_dir_all(cache.join("waygate"))?;
    // Built beside its place and moved there: an interrupted build leaves nothing that looks finished.
    let unfinished = binary.with_extension(format!("unfinished-{}", std::process::id()));
    go_build(&sources, &unfinished).await?;
    std::fs::rename(&unfinished, &binary)?;
    Ok(binary)
}

/// Runs `go build`, saying from time to time that it runs.
async fn go_build(sources: &Path, output: &Path) -> Result<()> {
    let version = ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"]
        .map(|package| format!("-X {package}.gitVersion={KUBERNETES_VERSION}"))
        .join(" ");
    let mut build = Command::new("go")
        .args(["build", "-trimpath", "-buildvcs=false", "-ldflags", &format!("-s -w {version}"), "-o"])
        .arg(output)
        .arg(".")
        .current_dir(sources)
        .kill_on_drop(true)
        .spawn()
        .context("`go` does not start; the testbed needs Go 1.26 or newer")?;
    let start = Instant::now();
    let status = loop {
        match tokio::time::timeout(PROGRESS, build.wait()).await {
            Ok(status) => break status?,
            Err(_) => eprintln!("testbed: still building, {} s", start.elapsed().as_secs()),
        }
    };
    if !status.success() {
        bail!("the control plane does not build ({status})");
    }
    eprintln!("testbed: built in {} s", start.elapsed().as_secs());
    Ok(())
}

/// A hash of every file that the binary is made of.
fn fingerprint(sources: &Path) -> Result<String> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(sources)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        hash.update(file.file_name().unwrap_or_default().as_encoded_bytes());
        hash.update(std::fs::read(&file).with_context(|| format!("reading {}", file.display()))?);
    }
    hash.update(KUBERNETES_VERSION);
    Ok(hex::encode(&hash.finalize()[..6]))
}
