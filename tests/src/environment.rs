//! The environment variables that `testbed run` sets for its command and tests read.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::controlplane::Address;

/// The variable that marks the testbed's cluster. Tests require the mark, so that they never touch
/// another cluster that a developer's KUBECONFIG names.
const MARKER_VARIABLE: &str = "WAYGATE_TESTBED";

/// The variable with the path of the program that renders the chart.
const CHART_RENDERER_VARIABLE: &str = "WAYGATE_CHART_RENDERER";

/// Kubeconfig, database and programs of the testbed that a test runs in.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Kubeconfig file of an administrator.
    pub kubeconfig: PathBuf,
    /// Postgres as superuser, with the password.
    pub database_url: String,
    /// The program that renders the chart.
    pub chart_renderer: PathBuf,
}

/// The variables for a command that runs in the testbed.
pub fn environment_variables(
    address: &Address,
    chart_renderer: &Path,
    dir: &Path,
) -> Result<Vec<(&'static str, OsString)>> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(address.bin_dir.clone()).chain(std::env::split_paths(&path));
    Ok(vec![
        (MARKER_VARIABLE, dir.into()),
        ("KUBECONFIG", address.kubeconfig.clone().into()),
        ("DATABASE_URL", address.database_url.clone().into()),
        (CHART_RENDERER_VARIABLE, chart_renderer.into()),
        ("PATH", std::env::join_paths(paths)?),
    ])
}

impl Environment {
    /// Reads the variables that `testbed run` set.
    pub fn from_variables() -> Result<Self> {
        const HOW: &str = "this test needs the testbed's control plane: use `make test`, or `target/debug/testbed run -- cargo test …`";
        std::env::var_os(MARKER_VARIABLE).context(HOW)?;
        let kubeconfig = std::env::var_os("KUBECONFIG").context(HOW)?.into();
        let database_url =
            std::env::var_os("DATABASE_URL").and_then(|url| url.into_string().ok()).context(HOW)?;
        let chart_renderer = std::env::var_os(CHART_RENDERER_VARIABLE).context(HOW)?.into();
        Ok(Self { kubeconfig, database_url, chart_renderer })
    }
}
