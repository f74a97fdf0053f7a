//! Settings that differ from one developer's machine to the next.

use std::path::PathBuf;

use clap::Args;

/// Folders of this machine that the testbed uses.
#[derive(Debug, Clone, Args)]
pub struct Machine {
    /// Folder for programs built once for this machine (default: ~/.cache).
    #[arg(long, global = true, env = "XDG_CACHE_HOME", hide_env_values = true)]
    cache: Option<PathBuf>,
    #[arg(long, global = true, env = "HOME", hide = true, default_value = "/")]
    home: PathBuf,
    /// A folder of Kubernetes' programs: etcd, kube-apiserver (1.36 or newer) and kubectl from
    /// there are used if present.
    #[arg(long, global = true, env = "KUBEBUILDER_ASSETS", hide_env_values = true)]
    assets: Option<PathBuf>,
}

impl Machine {
    /// The folder for what is built once per machine.
    #[must_use]
    pub fn cache_folder(&self) -> PathBuf {
        self.cache.clone().unwrap_or_else(|| self.home.join(".cache"))
    }

    /// The folder of Kubernetes' programs that are on this machine.
    #[must_use]
    pub fn assets_folder(&self) -> Option<PathBuf> {
        let folder = self.assets.as_deref().filter(|folder| !folder.as_os_str().is_empty())?;
        Some(std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf()))
    }
}
