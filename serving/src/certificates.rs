//! A certificate and its key, read from files and reloaded when they change.
//!
//! The kubelet replaces a mounted Secret by swapping the symlink `..data`, so the files themselves
//! never change and a watch on them sees nothing: the content is read again every few seconds
//! instead. An unusable pair, as when the two files were read on either side of a swap, is
//! reported, and the previous pair stays in use.

use crate::admin::Check;
use axum_server::tls_rustls::RustlsConfig;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use waygate_core::error::error_chain;

/// Interval between two reads of the files. A renewed certificate has 30 days to be loaded, but a
/// rotated authority only as long as its predecessor stays in the registrations' bundle.
pub const REREAD_INTERVAL: Duration = Duration::from_secs(5);

/// Reason that a pair of files cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {0}")]
    File(PathBuf, #[source] io::Error),
    /// A file holds no PEM text of the expected kind.
    #[error("cannot read {0} as PEM")]
    Pem(PathBuf, #[source] rustls::pki_types::pem::Error),
    /// The certificate file is empty.
    #[error("{0} contains no certificate")]
    Empty(PathBuf),
    /// The certificate and the key do not match, or TLS cannot use them.
    #[error("certificate and key cannot be used together")]
    Unfit(#[source] rustls::Error),
}

/// Metric label: result of reading a changed pair of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Outcome {
    Loaded,
    Refused,
}

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
        encoder.write_str(match self {
            Self::Loaded => "loaded",
            Self::Refused => "refused",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    outcome: Outcome,
}

/// A pair of files and the state of their last read.
#[derive(Debug)]
pub struct Certificates {
    cert: PathBuf,
    key: PathBuf,
    outcomes: Family<Labels, Counter>,
    /// Hash of the content last tried, usable or not, so that each is tried and reported once.
    last_tried_hash: Option<u64>,
    ready: Check,
}

impl Certificates {
    /// Watches files that may not exist yet; `ready` passes once they have been loaded.
    pub fn new(
        cert: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
        registry: &mut Registry,
        ready: Check,
    ) -> Self {
        let outcomes = Family::<Labels, Counter>::default();
        registry.register(
            "certificate_reads",
            "Changed certificate files by outcome of loading them",
            outcomes.clone(),
        );
        Self { cert: cert.into(), key: key.into(), outcomes, last_tried_hash: None, ready }
    }

    /// Waits until the files can be served; none if `token` was cancelled first.
    pub async fn wait_until_loaded(
        &mut self,
        every: Duration,
        token: &CancellationToken,
    ) -> Option<RustlsConfig> {
        loop {
            if let Some(config) = self.load_if_changed().await {
                return Some(RustlsConfig::from_config(config));
            }
            token.run_until_cancelled(tokio::time::sleep(every)).await?;
        }
    }

    /// Keeps `config` up to date with the files; returns once `token` is cancelled.
    pub async fn reload_on_change(
        mut self,
        config: RustlsConfig,
        every: Duration,
        token: CancellationToken,
    ) {
        while token.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
            if let Some(changed) = self.load_if_changed().await {
                config.reload_from_config(changed);
            }
        }
    }

    /// The content of the files; none if unchanged or unusable.
    async fn load_if_changed(&mut self) -> Option<Arc<ServerConfig>> {
        let read = async {
            Ok::<_, Error>((read_pem_file(&self.cert).await?, read_pem_file(&self.key).await?))
        }
        .await;
        // Errors are hashed too: a lasting read error is reported once.
        let content = read.as_ref().map_err(ToString::to_string).map(|(cert, key)| (cert, key));
        let hash = hash_content(&content);
        if self.last_tried_hash == Some(hash) {
            return None;
        }
        let outcome = read.and_then(|(cert, key)| self.build_tls_config(&cert, &key));
        self.last_tried_hash = Some(hash);
        self.record_outcome(outcome)
    }

    fn record_outcome(
        &self,
        outcome: Result<Arc<ServerConfig>, Error>,
    ) -> Option<Arc<ServerConfig>> {
        match outcome {
            Ok(config) => {
                tracing::info!(tls.cert = %self.cert.display(), "certificate loaded");
                self.outcomes.get_or_create(&Labels { outcome: Outcome::Loaded }).inc();
                self.ready.set_passing(true);
                Some(config)
            }
            Err(error) => {
                tracing::warn!(tls.cert = %self.cert.display(), error = error_chain(&error), "certificate not loaded; keeping the previous one, if any");
                self.outcomes.get_or_create(&Labels { outcome: Outcome::Refused }).inc();
                None
            }
        }
    }

    fn build_tls_config(&self, cert: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>, Error> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(cert).collect();
        let chain = chain.map_err(|error| Error::Pem(self.cert.clone(), error))?;
        if chain.is_empty() {
            return Err(Error::Empty(self.cert.clone()));
        }
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| Error::Pem(self.key.clone(), error))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(Error::Unfit)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(Error::Unfit)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

async fn read_pem_file(path: &Path) -> Result<Vec<u8>, Error> {
    tokio::fs::read(path).await.map_err(|error| Error::File(path.to_owned(), error))
}

fn hash_content(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
