//! What the command line says.

use crate::rates::Rate;
use clap::{Args as ClapArgs, Parser, Subcommand};
use secrecy::SecretString;
use std::net::SocketAddr;
use std::path::PathBuf;
use url::Url;

/// Gives Kubernetes pods on Alibaba Cloud the public addresses they ask for.
///
/// `migrate` brings the lease store's schema forward, once per release, as the owner of the
/// database. `run` serves a cluster; any number of replicas may run, they share the work through
/// the lease store.
#[derive(Debug, Parser)]
#[command(name = "waygate-worker", version)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
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
    /// How to reach the cluster; without it the service account of the pod we run in, or the usual
    /// kubeconfig.
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Where /livez, /readyz and /metrics are served, in plain HTTP.
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8081")]
    pub admin_listen: SocketAddr,
    /// Issue the webhook's certificate: keep it in Secrets of this namespace, for the service
    /// waygate-webhook, and fill in the registrations' caBundle. Leave out where cert-manager or
    /// somebody else does it.
    #[arg(long, value_name = "NAMESPACE")]
    pub certificates_namespace: Option<String>,
    #[command(flatten)]
    pub cloud: Cloud,
    /// Leases worked on at a time. The cloud's rates bound the speed, not this.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub concurrency: usize,
    /// Calls of an action that the account may make in a minute, where that is another number than
    /// the published one. May be repeated.
    #[arg(long = "rate", value_name = "ACTION=CALLS")]
    pub rates: Vec<Rate>,
    /// Seconds that a port stays unused after its forward entry is gone, so that late packets of
    /// old clients reach nobody new.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub quiet_seconds: u64,
    /// Seconds between two looks at the NAT gateways: which EIPs they have, and what of others
    /// stands on them.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub pool_seconds: u64,
    /// Seconds between two searches for annotated pods that missed the webhook.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub sweep_seconds: u64,
}

/// The cloud: where it is and who we are there. The variables are those that the cloud's own
/// clients read; the first source that is there is used: the configuration's AccessKey pair, the
/// environment's, the pod's service account (RRSA), the machine's RAM role.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Cloud")]
pub(crate) struct Cloud {
    /// Answers for the cloud's API in place of its published endpoints, such as a simulator's
    /// address.
    #[arg(long = "cloud-endpoint", env = "CLOUD_ENDPOINT", value_name = "URL")]
    pub endpoint: Option<Url>,
    /// Speak to the endpoints inside the VPC, which need no way to the Internet.
    #[arg(long, env = "ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED")]
    pub vpc_endpoints: bool,
    /// An AccessKey's ID, where the configuration file names none.
    #[arg(long, env = "ALIBABA_CLOUD_ACCESS_KEY_ID", value_name = "ID", hide_env_values = true)]
    pub access_key_id: Option<String>,
    /// The AccessKey's secret. Its flag is not shown: arguments can be read by others on the
    /// machine.
    #[arg(long, hide = true, env = "ALIBABA_CLOUD_ACCESS_KEY_SECRET", hide_env_values = true)]
    pub access_key_secret: Option<SecretString>,
    /// Token of a temporary AccessKey.
    #[arg(long, hide = true, env = "ALIBABA_CLOUD_SECURITY_TOKEN", hide_env_values = true)]
    pub security_token: Option<SecretString>,
    /// The role of the pod's service account (RRSA).
    #[arg(long, env = "ALIBABA_CLOUD_ROLE_ARN", value_name = "ARN")]
    pub role_arn: Option<String>,
    /// The cluster's OIDC provider (RRSA).
    #[arg(long, env = "ALIBABA_CLOUD_OIDC_PROVIDER_ARN", value_name = "ARN")]
    pub oidc_provider_arn: Option<String>,
    /// The service account's token (RRSA).
    #[arg(long, env = "ALIBABA_CLOUD_OIDC_TOKEN_FILE", value_name = "FILE")]
    pub oidc_token_file: Option<PathBuf>,
    /// How our sessions are called in the cloud's audit (RRSA).
    #[arg(long, env = "ALIBABA_CLOUD_ROLE_SESSION_NAME", value_name = "NAME")]
    pub role_session_name: Option<String>,
    /// The machine's RAM role; asked of the instance metadata where absent.
    #[arg(long, env = "ALIBABA_CLOUD_ECS_METADATA", value_name = "ROLE")]
    pub ecs_metadata: Option<String>,
    /// Do not ask the instance metadata for keys.
    #[arg(long, env = "ALIBABA_CLOUD_ECS_METADATA_DISABLED")]
    pub ecs_metadata_disabled: bool,
    /// Do not fall back to the instance metadata's first version.
    #[arg(long, env = "ALIBABA_CLOUD_IMDSV1_DISABLED")]
    pub imdsv1_disabled: bool,
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
