//! Command line of the admission server.

use clap::Parser;
use secrecy::SecretString;
use std::net::SocketAddr;
use std::path::PathBuf;
use waygate_serving::logs::Format;

/// Waygate's admission server: checks the annotations of pods, adds readiness gates, and announces
/// pods to the worker.
#[derive(Debug, Parser)]
#[command(name = "waygate-webhook", version)]
pub struct Args {
    /// Configuration file, in the format of ack-extend-network-controller.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Address of the admission endpoints, served over TLS.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8443")]
    pub listen: SocketAddr,
    /// Serving certificate, PEM; reloaded when it changes.
    #[arg(long, value_name = "FILE")]
    pub tls_cert: PathBuf,
    /// Private key of the certificate, PEM.
    #[arg(long, value_name = "FILE")]
    pub tls_key: PathBuf,
    /// Address of /livez, /readyz and /metrics, served over plain HTTP.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    pub admin_listen: SocketAddr,
    /// URL of the lease store. Pods are admitted even while it is unavailable.
    #[arg(long, value_name = "URL", env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: SecretString,
    /// User that may write allocated addresses onto pods, in addition to the service accounts of
    /// kube-system; may be repeated.
    #[arg(
        long,
        value_name = "USER",
        default_value = "system:serviceaccount:waygate-system:waygate-worker"
    )]
    pub worker_user: Vec<String>,
    /// Format of log lines: text or json.
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
