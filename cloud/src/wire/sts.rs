//! Identities and temporary keys.

use super::{required, text};
use crate::credentials::keys::Keys;
use crate::network::Identity;
use jiff::Timestamp;
use secrecy::SecretString;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct CallerIdentity {
    #[serde(deserialize_with = "text")]
    account_id: String,
    #[serde(default, deserialize_with = "text")]
    arn: String,
}

impl CallerIdentity {
    pub(crate) fn fact(self) -> Identity {
        Identity { account_id: self.account_id, arn: self.arn }
    }
}

/// The answer to AssumeRoleWithOIDC.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Assumption {
    credentials: WireKeys,
}

impl Assumption {
    pub(crate) fn keys(self) -> Result<Keys, String> {
        self.credentials.keys()
    }
}

/// What the metadata service says about a role.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct RoleKeys {
    #[serde(default, deserialize_with = "text")]
    code: String,
    #[serde(flatten)]
    keys: Option<WireKeys>,
}

impl RoleKeys {
    pub(crate) fn keys(self) -> Result<Keys, String> {
        match self.keys {
            Some(keys) if self.code == "Success" => keys.keys(),
            _ => Err(format!("the role's keys come with code {:.40?}", self.code)),
        }
    }
}

/// No Debug: secrets as they come, wrapped in the next step.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireKeys {
    access_key_id: String,
    access_key_secret: String,
    security_token: String,
    expiration: String,
}

impl WireKeys {
    fn keys(self) -> Result<Keys, String> {
        let expires: Timestamp = self.expiration.parse().map_err(|_| format!("Expiration is {:.40?}, not a time", self.expiration))?;
        Ok(Keys {
            id: required("AccessKeyId", self.access_key_id)?,
            secret: SecretString::from(self.access_key_secret),
            token: Some(SecretString::from(self.security_token)),
            expires: Some(expires),
        })
    }
}
