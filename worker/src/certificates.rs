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
const MUTATING_REGISTRATION: &str = "zz-waygate";
const VALIDATING_REGISTRATIONS: [&str; 2] = ["zz-waygate", "zz-waygate-warn"];
/// Interval between two checks. A certificate is renewed a month before it expires; the short
/// interval serves a registration that an operator applied again, which has lost its `caBundle`.
const CHECK_PERIOD: Duration = Duration::from_secs(30);

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
    token: CancellationToken,
) -> Result<(), Infallible> {
    while !token.is_cancelled() {
        match ensure_certificates(&kube, &namespace, Timestamp::now()).await {
            // Another worker wrote first; the next check reads its work.
            Ok(()) | Err(Failure::Cluster(Error::Changed)) => {}
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
) -> Result<(), Failure> {
    let secrets = Api::<Secret>::namespaced(kube.clone(), namespace);
    let authority = ensure_authority(&secrets, now).await?;
    ensure_serving_certificate(&secrets, &authority, namespace, now).await?;
    write_ca_bundles(kube, authority.ca_pem()).await
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

/// Writes the authority's certificate into the registrations' `caBundle`. A missing registration is
/// skipped: an operator has not applied it yet, or is uninstalling Waygate.
async fn write_ca_bundles(kube: &Client, ca_pem: &str) -> Result<(), Failure> {
    let bundle = Some(ByteString(ca_pem.as_bytes().to_vec()));
    let mutating = Api::<MutatingWebhookConfiguration>::all(kube.clone());
    if let Some(mut found) = mutating.get_opt(MUTATING_REGISTRATION).await? {
        let hooks = found
            .webhooks
            .iter_mut()
            .flatten()
            .filter(|hook| hook.client_config.ca_bundle != bundle);
        if hooks.map(|hook| hook.client_config.ca_bundle.clone_from(&bundle)).count() > 0 {
            mutating.replace(MUTATING_REGISTRATION, &PostParams::default(), &found).await?;
        }
    }
    let validating = Api::<ValidatingWebhookConfiguration>::all(kube.clone());
    for name in VALIDATING_REGISTRATIONS {
        let Some(mut found) = validating.get_opt(name).await? else { continue };
        let hooks = found
            .webhooks
            .iter_mut()
            .flatten()
            .filter(|hook| hook.client_config.ca_bundle != bundle);
        if hooks.map(|hook| hook.client_config.ca_bundle.clone_from(&bundle)).count() > 0 {
            validating.replace(name, &PostParams::default(), &found).await?;
        }
    }
    Ok(())
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
