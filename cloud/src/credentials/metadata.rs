//! Keys of the machine's RAM role, from the metadata service that only the machine can reach.

use super::keys::Keys;
use crate::error::Error;
use crate::http::client::{http_client, read_bounded, unreadable_answer};
use crate::wire::sts::RoleKeys;
use reqwest::{Client, RequestBuilder, StatusCode};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use url::Url;

const ACTION: &str = "instance metadata";
const METADATA_URL: &str = "http://100.100.100.200/";
const TOKEN_PATH: &str = "latest/api/token";
const ROLE_PATH: &str = "latest/meta-data/ram/security-credentials/";
/// The service is on the machine itself; the official clients wait a second as well.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Lifetime of a session token of the newer protocol; short, because each fetch gets a new one.
const SESSION_SECONDS: &str = "60";

/// The configuration of the metadata source.
#[derive(Debug)]
pub(super) struct Machine {
    /// The machine's role; `None` asks the metadata service.
    pub(super) role: Option<String>,
    /// True if requests without a session token (IMDSv1) are allowed.
    pub(super) allow_imdsv1: bool,
    pub(super) endpoint: Option<Url>,
}

#[derive(Debug)]
pub(super) struct InstanceRole {
    machine: Machine,
    base: Url,
    http: Client,
}

impl InstanceRole {
    pub(super) fn new(machine: Machine) -> Result<Self, Error> {
        let base = match &machine.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => Url::parse(METADATA_URL).map_err(|error| Error::Setup(error.to_string()))?,
        };
        Ok(Self { machine, base, http: http_client("")? })
    }

    pub(super) async fn fetch_role_keys(&self) -> Result<Keys, Error> {
        let session = self.request_session().await?;
        let role = match &self.machine.role {
            Some(role) => role.clone(),
            None => self.get_metadata(ROLE_PATH, session.as_deref()).await?,
        };
        let role = role.trim();
        // The role becomes part of a path, so an error page must not pass for its name.
        if role.is_empty()
            || !role.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte))
        {
            return Err(unreadable_answer(
                ACTION,
                StatusCode::OK,
                "the machine has no RAM role attached",
            ));
        }
        let body = self.get_metadata(&format!("{ROLE_PATH}{role}"), session.as_deref()).await?;
        let keys: RoleKeys = serde_json::from_str(&body)
            .map_err(|error| unreadable_answer(ACTION, StatusCode::OK, error.to_string()))?;
        keys.granted_keys()
            .and_then(Keys::from_wire)
            .map_err(|detail| unreadable_answer(ACTION, StatusCode::OK, detail))
    }

    /// A session token of the newer protocol; `None` where the service speaks only the older one
    /// and that is allowed.
    async fn request_session(&self) -> Result<Option<String>, Error> {
        let request = self
            .http
            .put(self.metadata_url(TOKEN_PATH)?)
            .header("X-aliyun-ecs-metadata-token-ttl-seconds", SESSION_SECONDS);
        match self.response_text(request).await {
            Ok(session) => Ok(Some(session)),
            Err(_) if self.machine.allow_imdsv1 => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn get_metadata(&self, path: &str, session: Option<&str>) -> Result<String, Error> {
        let mut request = self.http.get(self.metadata_url(path)?);
        if let Some(session) = session {
            request = request.header("X-aliyun-ecs-metadata-token", session);
        }
        self.response_text(request).await
    }

    async fn response_text(&self, request: RequestBuilder) -> Result<String, Error> {
        let answer = tokio::time::timeout_at(Instant::now() + TIMEOUT, async {
            let lost = |error: reqwest::Error| Error::Transport {
                action: ACTION,
                source: Arc::new(error.without_url()),
            };
            let mut response = request.send().await.map_err(lost)?;
            let body = read_bounded(ACTION, &mut response).await?;
            match response.status() {
                StatusCode::OK => String::from_utf8(body)
                    .map_err(|_| unreadable_answer(ACTION, StatusCode::OK, "not UTF-8 text")),
                status => Err(unreadable_answer(ACTION, status, "the metadata service refused")),
            }
        });
        answer.await.unwrap_or(Err(Error::Deadline { action: ACTION }))
    }

    fn metadata_url(&self, path: &str) -> Result<Url, Error> {
        self.base
            .join(path)
            .map_err(|error| Error::Setup(format!("the metadata endpoint: {error}")))
    }
}
