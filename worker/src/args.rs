//! Command line of `waygate-worker`, parsed by clap; the docs of fields are its `--help`.

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
    /// The subcommand to run.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Subcommands of `waygate-worker`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serves a cluster until SIGTERM or SIGINT.
    Run(Box<ServeArgs>),
    /// Brings the lease store's schema to this release's version.
    Migrate(MigrateArgs),
}

/// Arguments of `waygate-worker run`.
#[derive(Debug, ClapArgs)]
pub(crate) struct ServeArgs {
    /// Configuration file; that of ack-extend-network-controller is accepted unchanged.
    #[arg(long, value_name = "FILE", default_value = "/etc/waygate/config.yaml")]
    pub config: PathBuf,
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Kubeconfig of the cluster; by default the worker uses its pod's service account, or else the
    /// user's default kubeconfig.
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Address on which /livez, /readyz and /metrics are served, in plain HTTP.
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8081")]
    pub admin_listen: SocketAddr,
    /// Issue the webhook's certificate: keep it in Secrets of this namespace, for the service
    /// waygate-webhook, and fill in the registrations' caBundle. Leave out where cert-manager or
    /// another tool issues it.
    #[arg(long, value_name = "NAMESPACE")]
    pub certificates_namespace: Option<String>,
    #[command(flatten)]
    pub cloud: CloudArgs,
    /// Leases reconciled at the same time. The cloud's rates bound the speed, not this number.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub concurrency: usize,
    /// Calls of an action that the account may make in a minute, where its quota differs from the
    /// published one. May be repeated.
    #[arg(long = "rate", value_name = "ACTION=CALLS")]
    pub rates: Vec<Rate>,
    /// Cooldown: seconds that a port stays unused after its forward entry is gone, so that late
    /// packets of old clients do not reach another pod.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub cooldown_seconds: u64,
    /// Seconds between two reads of the NAT gateways' EIPs and of the forward entries that Waygate
    /// did not make.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub discovery_seconds: u64,
    /// Seconds between two comparisons of the account's EIPs with the leases. More where half of
    /// DescribeEipAddresses' rate is too slow for the account's EIPs.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub eip_list_seconds: u64,
    /// Seconds between two comparisons of a NAT gateway's forward entries with the leases.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub entry_list_seconds: u64,
    /// Seconds between two searches for annotated pods that missed the webhook.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub resync_seconds: u64,
}

/// Endpoints and credentials of the cloud. The variables are those that the cloud's own clients
/// read; the first source present is used: the configuration's AccessKey pair, the environment's,
/// the pod's service account (RRSA), the machine's RAM role.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Cloud")]
pub(crate) struct CloudArgs {
    /// Endpoint used in place of the cloud's published ones, such as a simulator's address.
    #[arg(long = "cloud-endpoint", env = "CLOUD_ENDPOINT", value_name = "URL")]
    pub endpoint: Option<Url>,
    /// Use the endpoints inside the VPC, which need no route to the Internet.
    #[arg(long, env = "ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED")]
    pub vpc_endpoints: bool,
    /// AccessKey ID, used where the configuration file names none.
    #[arg(long, env = "ALIBABA_CLOUD_ACCESS_KEY_ID", value_name = "ID", hide_env_values = true)]
    pub access_key_id: Option<String>,
    /// AccessKey secret. The flag is hidden, since other users of the machine can read arguments:
    /// prefer the variable.
    #[arg(long, hide = true, env = "ALIBABA_CLOUD_ACCESS_KEY_SECRET", hide_env_values = true)]
    pub access_key_secret: Option<SecretString>,
    /// STS security token of a temporary AccessKey.
    #[arg(long, hide = true, env = "ALIBABA_CLOUD_SECURITY_TOKEN", hide_env_values = true)]
    pub security_token: Option<SecretString>,
    /// ARN of the RAM role that the pod's service account assumes (RRSA).
    #[arg(long, env = "ALIBABA_CLOUD_ROLE_ARN", value_name = "ARN")]
    pub role_arn: Option<String>,
    /// ARN of the cluster's OIDC provider (RRSA).
    #[arg(long, env = "ALIBABA_CLOUD_OIDC_PROVIDER_ARN", value_name = "ARN")]
    pub oidc_provider_arn: Option<String>,
    /// File with the service account's OIDC token (RRSA).
    #[arg(long, env = "ALIBABA_CLOUD_OIDC_TOKEN_FILE", value_name = "FILE")]
    pub oidc_token_file: Option<PathBuf>,
    /// Session name shown in the cloud's audit log (RRSA).
    #[arg(long, env = "ALIBABA_CLOUD_ROLE_SESSION_NAME", value_name = "NAME")]
    pub role_session_name: Option<String>,
    /// RAM role of the machine; by default read from the instance metadata.
    #[arg(long, env = "ALIBABA_CLOUD_ECS_METADATA", value_name = "ROLE")]
    pub ecs_metadata: Option<String>,
    /// Do not read credentials from the instance metadata.
    #[arg(long, env = "ALIBABA_CLOUD_ECS_METADATA_DISABLED")]
    pub ecs_metadata_disabled: bool,
    /// Do not fall back to version 1 of the instance metadata service.
    #[arg(long, env = "ALIBABA_CLOUD_IMDSV1_DISABLED")]
    pub imdsv1_disabled: bool,
}

/// Arguments of `waygate-worker migrate`.
#[derive(Debug, ClapArgs)]
pub(crate) struct MigrateArgs {
    #[command(flatten)]
    pub database: DatabaseArgs,
}

/// Arguments that locate the lease store.
#[derive(Debug, ClapArgs)]
pub(crate) struct DatabaseArgs {
    /// URL of the lease store: postgres://USER:PASSWORD@HOST:PORT/DATABASE.
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: SecretString,
}
