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
    /// Where the API listens.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Where the admin listens: state, counts, faults, the console's hand.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub admin_listen: SocketAddr,
    /// Where the metadata service of the nodes listens.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub metadata_listen: SocketAddr,
    /// What it speaks.
    #[arg(long, value_enum, default_value_t = Protocols::Both)]
    pub metadata_protocols: Protocols,
    /// How slow and strict the cloud is.
    #[arg(long, value_enum, default_value_t = Profile::Realistic)]
    pub profile: Profile,
    /// What exists from the start, as YAML or JSON; without it a built-in one serves.
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
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no topology.
    #[error("{path} is no topology")]
    Refused {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: TopologyError,
    },
}

impl Args {
    /// The topology asked for.
    pub fn load_topology(&self) -> Result<Topology, LoadError> {
        let Some(path) = &self.topology else { return Ok(Topology::built_in()) };
        let text = std::fs::read_to_string(path)
            .map_err(|source| LoadError::Unreadable { path: path.clone(), source })?;
        Topology::parse(&text).map_err(|source| LoadError::Refused { path: path.clone(), source })
    }

    /// The cloud asked for.
    pub fn settings(&self, topology: Topology, start: Timestamp) -> Settings {
        let quotas = Quotas {
            eips: self.quota_eips,
            entries_per_gateway: self.quota_entries,
            eips_per_gateway: self.quota_eips_per_gateway,
        };
        Settings { topology, pace: self.profile.pace(), quotas, seed: self.seed, start }
    }
}
