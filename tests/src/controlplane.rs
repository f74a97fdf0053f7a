//! The control plane as one child process: started, asked for its addresses, and ended by closing
//! its standard input.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStdin, Command},
    time::timeout,
};

use crate::machine::Machine;

/// Time limit for the start of all programs; 4 seconds are usual.
const START_TIMEOUT: Duration = Duration::from_mins(5);

/// Time limit for the end of all programs; 3 seconds are usual.
const STOP_TIMEOUT: Duration = Duration::from_mins(1);

/// A running control plane with its Postgres.
#[derive(Debug)]
pub struct ControlPlane {
    /// Kubeconfig, database and programs of this control plane.
    pub address: Address,
    child: Child,
    // Closed when we end, also when we are killed; the child then stops.
    stdin: ChildStdin,
}

/// Addresses of a control plane: the one line that the Go program prints.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    /// Kubeconfig file of an administrator.
    pub kubeconfig: PathBuf,
    /// Postgres as superuser, with the password.
    #[serde(rename = "databaseURL")]
    pub database_url: String,
    /// Folder with the `kubectl` to use.
    pub bin_dir: PathBuf,
}

impl ControlPlane {
    /// Starts one in `dir`, or only the Postgres if there is a cluster already.
    pub async fn start(
        machine: &Machine,
        binary: &Path,
        dir: &Path,
        kubeconfig: Option<&Path>,
    ) -> Result<Self> {
        let mut command = Command::new(binary);
        command.arg("serve").arg("--dir").arg(dir);
        if let Some(assets) = machine.assets_folder() {
            command.arg("--assets").arg(assets);
        }
        if let Some(kubeconfig) = kubeconfig {
            command.arg("--kubeconfig").arg(kubeconfig);
        }
        // A process group of its own: Ctrl-C in the terminal reaches only us, and we end the child
        // in order.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("the control plane does not start")?;
        let stdin = child.stdin.take().context("the control plane's standard input")?;
        let mut lines =
            BufReader::new(child.stdout.take().context("the control plane's standard output")?)
                .lines();
        let announced = timeout(START_TIMEOUT, lines.next_line())
            .await
            .context("the control plane did not come up in time")??;
        let Some(line) = announced else {
            bail!("the control plane ended before it was ready ({})", child.wait().await?);
        };
        let address = serde_json::from_str(&line).context("the control plane's announcement")?;
        Ok(Self { address, child, stdin })
    }

    /// Waits until it ends by itself, which it never should.
    pub async fn wait_for_end(&mut self) -> anyhow::Error {
        match self.child.wait().await {
            Ok(status) => anyhow::anyhow!("the control plane ended ({status})"),
            Err(error) => error.into(),
        }
    }

    /// Returns the process ID while the control plane runs.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Ends it and everything it started.
    pub async fn stop(mut self) -> Result<()> {
        drop(self.stdin);
        if let Ok(status) = timeout(STOP_TIMEOUT, self.child.wait()).await {
            status?;
        } else {
            self.child.kill().await?;
            bail!(
                "the control plane did not end within {} s and was killed",
                STOP_TIMEOUT.as_secs()
            );
        }
        Ok(())
    }
}
