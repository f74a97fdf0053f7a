//! A role's keys, asked for with keys that may assume it.

use super::{Credentials, Keys};
use crate::Settings;
use crate::endpoints::Endpoints;
use crate::error::Error;
use crate::params::Params;
use crate::permits::LocalPermits;
use crate::transport::{Transport, http_client, sts, unreadable};
use crate::wire::sts::Assumption;
use reqwest::StatusCode;
use secrecy::{ExposeSecret as _, SecretString};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const TIMEOUT: Duration = Duration::from_secs(10);
const LIFETIME_SECONDS: u32 = 3600;

/// A role to take on, as where the gateways are in another account than the cluster.
#[derive(Clone, Debug)]
pub struct AssumeRole {
    /// `acs:ram::<account>:role/<name>`
    pub role_arn: String,
    /// Shows up in the account's audit log.
    pub session_name: String,
    /// What the role's owner asks of those who take it.
    pub external_id: Option<SecretString>,
}

#[derive(Debug)]
pub(super) struct Assumed {
    role: AssumeRole,
    transport: Transport,
}

impl Assumed {
    pub(super) fn new(base: Credentials, role: AssumeRole, settings: &Settings) -> Result<Self, Error> {
        let transport = Transport {
            http: http_client(&settings.user_agent_suffix)?,
            endpoints: Endpoints::new(&settings.region, settings.network, settings.endpoint.as_ref())?,
            region: settings.region.clone(),
            credentials: base,
            // Once in most of an hour: not worth a place among the account's shared rates.
            permits: Arc::new(LocalPermits::published()),
        };
        Ok(Self { role, transport })
    }

    pub(super) async fn fetch(&self) -> Result<Keys, Error> {
        let action = sts("AssumeRole");
        let params = Params::default()
            .with("RoleArn", &self.role.role_arn)
            .with("RoleSessionName", &self.role.session_name)
            .with("DurationSeconds", LIFETIME_SECONDS)
            .maybe("ExternalId", self.role.external_id.as_ref().map(SecretString::expose_secret));
        let read = self.transport.call::<Assumption>(action, params, Instant::now() + TIMEOUT).await?;
        read.value.keys().map_err(|detail| unreadable(action.name, StatusCode::OK, detail))
    }
}
