//! The command line, and what it makes.

use std::{net::SocketAddr, path::PathBuf};

use clap::Parser;
use jiff::Timestamp;

use crate::{
    cloud::{Quotas, Settings},
    profile::{Profile, Protocols},
    topology::{Topology, TopologyError},
};

/// The VPC, ECS and STS API on localhost.
///
/// Prints one line of JSON with its endpoints, access key and gateways when it is ready; logs to
/// standard error.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Args {
    /// Address of the signed API.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Address of the admin interface: state, counts, faults, console.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub admin_listen: SocketAddr,
    /// Address of the nodes' metadata service.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub metadata_listen: SocketAddr,
    /// Metadata protocol versions that are answered.
    #[arg(long, value_enum, default_value_t = Protocols::Both)]
    pub metadata_protocols: Protocols,
    /// Latencies, rates and strictness of the cloud.
    #[arg(long, value_enum, default_value_t = Profile::Realistic)]
    pub profile: Profile,
    /// Resources that exist from the start, as YAML or JSON; a built-in topology by default.
    #[arg(long)]
    pub topology: Option<PathBuf>,
    /// Seed of ids, latencies and chances.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// EIPs per account, those of the gateways included.
    #[arg(long, default_value_t = Quotas::default().eips)]
    pub quota_eips: usize,
    /// Forward entries per NAT gateway.
    #[arg(long, default_value_t = Quotas::default().entries_per_gateway)]
    pub quota_entries: usize,
    /// EIPs per NAT gateway.
    #[arg(long, default_value_t = Quotas::default().eips_per_gateway)]
    pub quota_eips_per_gateway: usize,
    /// Ends when standard input does, so that no simulator outlives the test that started it.
    #[arg(long)]
    pub exit_with_stdin: bool,
    /// Prints the effective topology as JSON and ends.
    #[arg(long)]
    pub print_topology: bool,
}

/// Why there is no topology.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Unreadable {
        /// Path given on the command line.
        path: PathBuf,
        /// Error of the file system.
        source: std::io::Error,
    },
    /// The file is no topology.
    #[error("{path} is not a valid topology")]
    Refused {
        /// Path given on the command line.
        path: PathBuf,
        /// Fault found in the topology.
        source: TopologyError,
    },
}

impl Args {
    /// The topology asked for.
    pub fn load_topology(&self) -> Result<Topology, LoadError> {
        let Some(path) = &self.topology else { return Ok(Topology::built_in()) };
        let text = std::fs::read_to_string(path)
            .map_err(|source| LoadError::Unreadable { path: path.clone(), source })?;
        Topology::from_yaml(&text)
            .map_err(|source| LoadError::Refused { path: path.clone(), source })
    }

    /// The cloud asked for.
    pub fn cloud_settings(&self, topology: Topology, start: Timestamp) -> Settings {
        let quotas = Quotas {
            eips: self.quota_eips,
            entries_per_gateway: self.quota_entries,
            eips_per_gateway: self.quota_eips_per_gateway,
        };
        Settings { topology, pace: self.profile.pace(), quotas, seed: self.seed, start }
    }
}
