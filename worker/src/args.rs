//! What the command line says.

use clap::{Args as ClapArgs, Parser, Subcommand};
use secrecy::SecretString;
use std::net::SocketAddr;
use std::path::PathBuf;
use url::Url;

/// Gives Kubernetes pods on Alibaba Cloud the public addresses they ask for.
///
/// `migrate` brings the lease store's schema forward, once per release, as the owner of the database. `run` serves a cluster; any number of
/// replicas may run, they share the work through the lease store.
#[derive(Debug, Parser)]
#[command(name = "waygate-worker", version)]
pub(crate) struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serves a cluster until it is told to stop.
    Run(Box<Run>),
    /// Brings the lease store's schema to this release's version.
    Migrate(Migrate),
}

/// How to serve a cluster.
#[derive(Debug, ClapArgs)]
pub(crate) struct Run {
    /// The configuration file; the one of ack-extend-network-controller is read as it is.
    #[arg(long, value_name = "FILE", default_value = "/etc/waygate/config.yaml")]
    pub config: PathBuf,
    #[command(flatten)]
    pub database: Database,
    /// How to reach the cluster; without it the service account of the pod we run in, or the usual kubeconfig.
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Answers for the cloud's API in place of its published endpoints, such as a simulator's address.
    #[arg(long, env = "CLOUD_ENDPOINT", value_name = "URL")]
    pub cloud_endpoint: Option<Url>,
    /// Where /livez, /readyz and /metrics are served, in plain HTTP.
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8081")]
    pub admin_listen: SocketAddr,
    /// Issue the webhook's certificate: keep it in Secrets of this namespace, for the service waygate-webhook, and fill in the registrations'
    /// caBundle. Leave out where cert-manager or somebody else does it.
    #[arg(long, value_name = "NAMESPACE")]
    pub certificates_namespace: Option<String>,
    /// An AccessKey's ID, where the configuration file names none.
    #[arg(long, env = "ALIBABA_CLOUD_ACCESS_KEY_ID", value_name = "ID", hide_env_values = true)]
    pub access_key_id: Option<String>,
    /// The AccessKey's secret.
    #[arg(long, env = "ALIBABA_CLOUD_ACCESS_KEY_SECRET", value_name = "SECRET", hide_env_values = true)]
    pub access_key_secret: Option<SecretString>,
    /// Leases worked on at a time. The cloud's rates bound the speed, not this.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub concurrency: usize,
    /// Seconds that a port stays unused after its forward entry is gone, so that late packets of old clients reach nobody new.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub quiet_seconds: u64,
    /// Seconds between two searches for annotated pods that missed the webhook.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub sweep_seconds: u64,
}

/// Which database to migrate.
#[derive(Debug, ClapArgs)]
pub(crate) struct Migrate {
    #[command(flatten)]
    pub database: Database,
}

/// The lease store.
#[derive(Debug, ClapArgs)]
pub(crate) struct Database {
    /// The lease store, as postgres://USER:PASSWORD@HOST:PORT/DATABASE.
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: SecretString,
}
