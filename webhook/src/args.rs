//! The command line.

use clap::Parser;
use secrecy::SecretString;
use std::net::SocketAddr;
use std::path::PathBuf;
use waygate_serving::logs::Format;

/// Waygate's admission server: checks the annotations of pods, adds readiness gates, and hands jobs
/// to the worker.
#[derive(Debug, Parser)]
#[command(name = "waygate-webhook", version)]
pub struct Args {
    /// The configuration file, as ack-extend-network-controller has it.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Where admission reviews are served, over TLS.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8443")]
    pub listen: SocketAddr,
    /// The serving certificate; it is read again when it changes.
    #[arg(long, value_name = "FILE")]
    pub tls_cert: PathBuf,
    /// Its private key.
    #[arg(long, value_name = "FILE")]
    pub tls_key: PathBuf,
    /// Where /livez, /readyz and /metrics are served, over plain HTTP.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    pub admin_listen: SocketAddr,
    /// The lease store. While it is away, pods are admitted all the same.
    #[arg(long, value_name = "URL", env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: SecretString,
    /// Who may write allocated addresses onto pods, beside the accounts of kube-system; may be
    /// repeated.
    #[arg(
        long,
        value_name = "USER",
        default_value = "system:serviceaccount:waygate-system:waygate-worker"
    )]
    pub worker_user: Vec<String>,
    /// How log lines look: text or json.
    #[arg(long, value_name = "FORMAT", default_value_t)]
    pub log_format: Format,
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: [&str; 9] = [
        "waygate-webhook",
        "--config",
        "c",
        "--tls-cert",
        "t",
        "--tls-key",
        "k",
        "--database-url",
        "postgres://u:hush@h/d",
    ];

    #[test]
    fn the_least_that_must_be_said_suffices_and_shows_no_secret() {
        let args = Args::try_parse_from(LEAST).unwrap();
        assert_eq!(args.worker_user, ["system:serviceaccount:waygate-system:waygate-worker"]);
        assert!(!format!("{args:?}").contains("hush"));
    }

    #[test]
    fn an_unknown_log_format_is_refused() {
        assert!(Args::try_parse_from(LEAST.into_iter().chain(["--log-format", "xml"])).is_err());
    }
}
