//! Folders of the testbed: the project, its programs, third-party programs built once for this
//! machine, and the files that a run leaves behind.
//!
//! ```text
//! PROJECT/target/debug/…              the project's programs
//! PROJECT/target/testbed/run-PID/     one `testbed run`: logs, kubeconfigs, etcd's data
//! PROJECT/target/testbed/up/          the stack of `testbed up`
//! PROJECT/target/testbed/logs/TEST/   what the programs of one test said
//! ~/.cache/waygate/NAME-HASH          third-party programs, built once per machine
//! ```

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The project's root: the folder above this crate's.
#[must_use]
pub fn project_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// The folder for everything a run leaves behind.
#[must_use]
pub fn scratch_folder() -> PathBuf {
    project_folder().join("target").join("testbed")
}

/// The folder of the project's programs, beside which this program or test was built.
pub fn programs_folder() -> Result<PathBuf> {
    let own = std::env::current_exe().context("this program's own path")?;
    let folder = own.parent().context("this program's folder")?;
    // Cargo puts test binaries one folder deeper.
    Ok(if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder }
        .to_path_buf())
}

/// Returns the path of one of the project's programs; the error names the command that builds the
/// program.
pub fn program_path(name: &str) -> Result<PathBuf> {
    let path = programs_folder()?.join(name);
    anyhow::ensure!(
        path.is_file(),
        "{name} is not built; run `cargo build --workspace --bins`, or use `make test`"
    );
    Ok(path)
}
