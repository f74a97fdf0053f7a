//! RRSA: exchanges the pod's service account token for keys of a role.

use super::keys::Keys;
use crate::error::Error;
use crate::http::client::{api_time, exchange_json, http_client, new_nonce, unreadable_answer};
use crate::http::endpoints::{Endpoints, Product};
use crate::http::params::Params;
use crate::settings::Settings;
use crate::wire::sts::Assumption;
use jiff::Timestamp;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use url::Url;

const ACTION: &str = "AssumeRoleWithOIDC";
/// Bytes read of the token file: the API accepts tokens of up to 20,000 characters.
const LONGEST_TOKEN: u64 = 20_000;
const TIMEOUT: Duration = Duration::from_secs(10);
/// Requested lifetime of keys, as the official clients request; every role allows an hour.
const LIFETIME_SECONDS: u32 = 3600;

/// A role, and the file with the token that proves the right to assume it.
#[derive(Debug)]
pub(super) struct Role {
    pub(super) arn: String,
    pub(super) provider_arn: String,
    pub(super) token_file: PathBuf,
    pub(super) session_name: String,
}

#[derive(Debug)]
pub(super) struct Oidc {
    role: Role,
    http: Client,
    endpoint: Url,
}

impl Oidc {
    pub(super) fn new(role: Role, settings: &Settings) -> Result<Self, Error> {
        let endpoints =
            Endpoints::new(&settings.region, settings.network, settings.endpoint.as_ref())?;
        Ok(Self {
            role,
            http: http_client(&settings.user_agent_suffix)?,
            endpoint: endpoints.url_of(Product::Sts).clone(),
        })
    }

    /// Assumes the role by an unsigned call: the token is the proof. The token is sent in the body,
    /// because URLs end up in logs.
    pub(super) async fn assume_role(&self, now: Timestamp) -> Result<Keys, Error> {
        let token = self.read_token().await?;
        let query = Params::default()
            .with("Action", ACTION)
            .with("Version", Product::Sts.version())
            .with("Format", "JSON")
            .with("Timestamp", api_time(now))
            .with("SignatureNonce", new_nonce());
        let form = Params::default()
            .with("RoleArn", &self.role.arn)
            .with("OIDCProviderArn", &self.role.provider_arn)
            .with("OIDCToken", token.expose_secret())
            .with("RoleSessionName", &self.role.session_name)
            .with("DurationSeconds", LIFETIME_SECONDS);
        let mut url = self.endpoint.clone();
        url.set_query(Some(&query.canonical_query()));
        let request = self
            .http
            .post(url)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.canonical_query());
        let request = request
            .build()
            .map_err(|error| Error::Setup(format!("{ACTION}: {}", error.without_url())))?;
        let answer =
            tokio::time::timeout(TIMEOUT, exchange_json::<Assumption>(&self.http, ACTION, request))
                .await;
        let assumption = answer.map_err(|_| Error::Deadline { action: ACTION })??;
        Keys::from_wire(assumption.credentials)
            .map_err(|detail| unreadable_answer(ACTION, StatusCode::OK, detail))
    }

    /// Reads the token, anew at every refresh because the kubelet rotates the file.
    async fn read_token(&self) -> Result<SecretString, Error> {
        let path = &self.role.token_file;
        let unreadable = |error: std::io::Error| {
            Error::Setup(format!("the OIDC token file {} cannot be read: {error}", path.display()))
        };
        let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
        let mut token = String::new();
        file.take(LONGEST_TOKEN).read_to_string(&mut token).await.map_err(unreadable)?;
        Ok(SecretString::from(token.trim()))
    }
}
