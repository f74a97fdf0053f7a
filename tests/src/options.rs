//! Options by which one stand differs from another.

use serde_json::{Value, json};

/// Arguments and configuration of a stand, beside the usual ones.
#[derive(Clone, Debug)]
pub struct Options {
    /// Command-line arguments of the simulator.
    pub simulator: Vec<String>,
    /// The worker's arguments, beside those every stand has. Rates are the published ones unless
    /// `--rate` is among these; a test that raises one says why.
    pub worker: Vec<String>,
    /// Merged into the configuration file.
    pub config: Value,
    /// Number of webhooks, behind one URL.
    pub webhooks: usize,
    /// Number of workers.
    pub workers: usize,
    /// True if webhooks and workers call Postgres, API server and cloud through links, which a test
    /// can disturb. The test's own thread passes all their bytes on, so only such tests have them.
    pub links: bool,
    /// True if all namespaces of the cluster are served, instead of the stand's own.
    pub whole_cluster: bool,
}

impl Default for Options {
    /// Two webhooks and two workers, as the manifests have them; a cloud that answers at once; ports
    /// that are free again at once.
    fn default() -> Self {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect();
        Self {
            simulator: words("--profile instant"),
            worker: words("--cooldown-seconds 0"),
            config: json!({}),
            webhooks: 2,
            workers: 2,
            links: false,
            whole_cluster: false,
        }
    }
}
