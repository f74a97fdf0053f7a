//! Issues and renews the webhook's serving certificate: stored in a Secret that the webhook mounts,
//! trusted by the webhook registrations.
//!
//! ```text
//! Secret waygate-authority ─▶ Secret waygate-webhook-tls ─▶ (mounted by the webhook)
//!             └─▶ caBundle of the registrations
//! ```
//!
//! Every write is conditional on the object as it was read, so any number of workers may run this
//! at once.

use crate::errors::{Error, error_chain};
use crate::metrics::{Metrics, ObjectLoop};
use crate::set_aside::SetAside;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use secrecy::{ExposeSecret as _, SecretString};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use waygate_certs::{Authority, needs_renewal};

/// Secret with the certificate authority and its key; only the worker reads it.
const AUTHORITY_SECRET: &str = "waygate-authority";
/// Secret with the serving certificate; the webhook mounts it.
const SERVING_SECRET: &str = "waygate-webhook-tls";
/// Webhook registrations whose `caBundle` the worker fills in.
const REGISTRATIONS: [Registration; 3] = [
    Registration::Mutating("zz-waygate"),
    Registration::Validating("zz-waygate"),
    Registration::Validating("zz-waygate-warn"),
];
/// Interval between two checks. A certificate is renewed a month before it expires; the short
/// interval serves a registration that an operator applied again, which has lost its `caBundle`.
const CHECK_PERIOD: Duration = Duration::from_secs(30);

/// A webhook registration, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Registration {
    Mutating(&'static str),
    Validating(&'static str),
}

/// Reasons why the certificate is not in place.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Cluster(#[from] Error),
    #[error("cannot issue a certificate")]
    Issue(#[from] waygate_certs::Error),
    #[error("Secret {0} lacks the key {1}; restore it, or delete the Secret to have it made again")]
    Incomplete(&'static str, &'static str),
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        Self::Cluster(error.into())
    }
}

/// Checks the certificate at once and every half minute, and issues, renews and distributes it,
/// until `token` is cancelled.
pub(crate) async fn maintain_certificates(
    kube: Client,
    namespace: String,
    metrics: Metrics,
    token: CancellationToken,
) -> Result<(), Infallible> {
    let aside = SetAside::new(ObjectLoop::Registrations, &metrics);
    while !token.is_cancelled() {
        match ensure_certificates(&kube, &namespace, Timestamp::now()).await {
            Ok(authority) => write_ca_bundles(&kube, &aside, authority.ca_pem()).await,
            // Another worker wrote first; the next check reads its work.
            Err(Failure::Cluster(Error::Changed)) => {}
            Err(error) => tracing::error!(
                error = error_chain(&error),
                "maintaining the webhook's certificate failed; retrying"
            ),
        }
        token.run_until_cancelled(tokio::time::sleep(CHECK_PERIOD)).await;
    }
    Ok(())
}

async fn ensure_certificates(
    kube: &Client,
    namespace: &str,
    now: Timestamp,
) -> Result<Authority, Failure> {
    let secrets = Api::<Secret>::namespaced(kube.clone(), namespace);
    let authority = ensure_authority(&secrets, now).await?;
    ensure_serving_certificate(&secrets, &authority, namespace, now).await?;
    Ok(authority)
}

/// Loads the authority from its Secret, or creates both where the Secret does not exist.
async fn ensure_authority(secrets: &Api<Secret>, now: Timestamp) -> Result<Authority, Failure> {
    if let Some(secret) = secrets.get_opt(AUTHORITY_SECRET).await? {
        let ca = read_secret_text(&secret, "ca.crt")
            .ok_or(Failure::Incomplete(AUTHORITY_SECRET, "ca.crt"))?;
        let key = read_secret_text(&secret, "ca.key")
            .ok_or(Failure::Incomplete(AUTHORITY_SECRET, "ca.key"))?;
        return Ok(Authority::from_pem(&ca, &SecretString::from(key))?);
    }
    let authority = Authority::new(now)?;
    let data = [
        ("ca.crt", authority.ca_pem().to_owned()),
        ("ca.key", authority.key_pem().expose_secret().to_owned()),
    ];
    secrets.create(&PostParams::default(), &build_secret(AUTHORITY_SECRET, "Opaque", data)).await?;
    tracing::info!(secret = AUTHORITY_SECRET, "certificate authority created");
    Ok(authority)
}

/// Issues the serving certificate where it is missing, due for renewal, or from another authority.
async fn ensure_serving_certificate(
    secrets: &Api<Secret>,
    authority: &Authority,
    namespace: &str,
    now: Timestamp,
) -> Result<(), Failure> {
    let existing = secrets.get_opt(SERVING_SECRET).await?;
    let current = existing.as_ref().is_some_and(|secret| {
        read_secret_text(secret, "ca.crt").as_deref() == Some(authority.ca_pem())
            && read_secret_text(secret, "tls.crt").is_some_and(|pem| !needs_renewal(&pem, now))
    });
    if current {
        return Ok(());
    }
    let service = format!("waygate-webhook.{namespace}.svc");
    let pair =
        authority.issue_certificate(&[service.clone(), format!("{service}.cluster.local")], now)?;
    let data = [
        ("tls.crt", pair.cert_pem),
        ("tls.key", pair.key_pem.expose_secret().to_owned()),
        ("ca.crt", authority.ca_pem().to_owned()),
    ];
    let mut renewed = build_secret(SERVING_SECRET, "kubernetes.io/tls", data);
    if let Some(existing) = existing {
        // Makes the replace conditional: two workers must not overwrite each other's pair.
        renewed.metadata.resource_version = existing.metadata.resource_version;
        secrets.replace(SERVING_SECRET, &PostParams::default(), &renewed).await?;
    } else {
        secrets.create(&PostParams::default(), &renewed).await?;
    }
    tracing::info!(secret = SERVING_SECRET, "webhook certificate issued");
    Ok(())
}

/// Writes the authority's certificate into the registrations' `caBundle`, each by itself: one that
/// a policy freezes is set aside.
async fn write_ca_bundles(kube: &Client, aside: &SetAside<Registration>, ca_pem: &str) {
    let bundle = ByteString(ca_pem.as_bytes().to_vec());
    for registration in REGISTRATIONS.into_iter().filter(|it| aside.may_try(it)) {
        let written = match registration {
            Registration::Mutating(name) => write_mutating_bundle(kube, name, &bundle).await,
            Registration::Validating(name) => write_validating_bundle(kube, name, &bundle).await,
        };
        match written {
            // Another worker wrote first; the next check reads its work.
            Ok(()) | Err(Error::Changed) => aside.forget(&registration),
            Err(error) => {
                aside.record_failure(&registration, &error);
                tracing::error!(
                    ?registration,
                    error = error_chain(&error),
                    "writing the certificate authority into a registration failed; retrying"
                );
            }
        }
    }
}

/// A missing registration is skipped: an operator has not applied it yet, or is uninstalling
/// Waygate.
async fn write_mutating_bundle(
    kube: &Client,
    name: &str,
    bundle: &ByteString,
) -> Result<(), Error> {
    let api = Api::<MutatingWebhookConfiguration>::all(kube.clone());
    let Some(mut found) = api.get_opt(name).await? else { return Ok(()) };
    let hooks = found.webhooks.iter_mut().flatten().map(|hook| &mut hook.client_config.ca_bundle);
    if replace_bundles(hooks, bundle) {
        api.replace(name, &PostParams::default(), &found).await?;
    }
    Ok(())
}

/// As [`write_mutating_bundle`].
async fn write_validating_bundle(
    kube: &Client,
    name: &str,
    bundle: &ByteString,
) -> Result<(), Error> {
    let api = Api::<ValidatingWebhookConfiguration>::all(kube.clone());
    let Some(mut found) = api.get_opt(name).await? else { return Ok(()) };
    let hooks = found.webhooks.iter_mut().flatten().map(|hook| &mut hook.client_config.ca_bundle);
    if replace_bundles(hooks, bundle) {
        api.replace(name, &PostParams::default(), &found).await?;
    }
    Ok(())
}

/// Replaces the bundles that differ. True if there was one.
fn replace_bundles<'a>(
    bundles: impl Iterator<Item = &'a mut Option<ByteString>>,
    bundle: &ByteString,
) -> bool {
    let different = bundles.filter(|present| present.as_ref() != Some(bundle));
    different.map(|present| *present = Some(bundle.clone())).count() > 0
}

fn build_secret<const N: usize>(name: &str, kind: &str, data: [(&str, String); N]) -> Secret {
    let data: BTreeMap<_, _> = data
        .into_iter()
        .map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes())))
        .collect();
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    Secret { metadata, type_: Some(kind.to_owned()), data: Some(data), ..Secret::default() }
}

fn read_secret_text(secret: &Secret, key: &str) -> Option<String> {
    String::from_utf8(secret.data.as_ref()?.get(key)?.0.clone()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use prometheus_client::registry::Registry;
    use serde_json::json;
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// An API server with all registrations, of which a policy freezes the mutating one. Notes what
    /// is written.
    async fn serve(listener: TcpListener, written: Arc<Mutex<Vec<String>>>) -> std::io::Result<()> {
        loop {
            let (mut connection, _) = listener.accept().await?;
            let mut request = [0; 4096];
            let length = connection.read(&mut request).await?;
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let mut words = request.split(' ');
            let (method, path) =
                (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let hook = json!({
                "name": "pods.waygate.dev", "clientConfig": {}, "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
            });
            let object = json!({"metadata": {"name": "zz-waygate"}, "webhooks": [hook]});
            let refusal = json!({"status": "Failure", "reason": "Forbidden", "code": 403});
            let (status, body) = match method {
                "PUT" if path.contains("mutating") => ("403 Forbidden", refusal),
                _ => ("200 OK", object),
            };
            if method == "PUT" {
                written.lock().push(
                    path.rsplit('/').next().unwrap_or_default().trim_end_matches('?').to_owned(),
                );
            }
            let body = body.to_string();
            let head = format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\n\
                 content-length: {}\r\nconnection: close",
                body.len()
            );
            connection.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await?;
        }
    }

    #[tokio::test]
    async fn a_registration_that_cannot_be_written_delays_no_other() {
        waygate_serving::tls::install_provider();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let written = Arc::new(Mutex::new(Vec::new()));
        let server = tokio::spawn(serve(listener, Arc::clone(&written)));
        let kube = Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap();
        let aside =
            SetAside::new(ObjectLoop::Registrations, &Metrics::new(&mut Registry::default()));
        write_ca_bundles(&kube, &aside, "pem").await;
        assert_eq!(*written.lock(), ["zz-waygate", "zz-waygate", "zz-waygate-warn"]);
        assert!(aside.is_set_aside(&REGISTRATIONS[0]) && !aside.is_set_aside(&REGISTRATIONS[1]));
        write_ca_bundles(&kube, &aside, "pem").await;
        assert_eq!(written.lock().len(), 5, "the one set aside is not tried yet");
        server.abort();
    }
}
