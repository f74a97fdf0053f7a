//! Answers about identities and temporary keys.

use super::scalar_text;
use crate::network::Identity;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct CallerIdentity {
    #[serde(deserialize_with = "scalar_text")]
    account_id: String,
    #[serde(default, deserialize_with = "scalar_text")]
    arn: String,
}

impl CallerIdentity {
    pub(crate) fn into_identity(self) -> Identity {
        Identity { account_id: self.account_id, arn: self.arn }
    }
}

/// The answer to AssumeRoleWithOIDC.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Assumption {
    pub(crate) credentials: WireKeys,
}

/// The metadata service's answer about a role.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct RoleKeys {
    #[serde(default, deserialize_with = "scalar_text")]
    code: String,
    #[serde(flatten)]
    keys: Option<WireKeys>,
}

impl RoleKeys {
    /// The keys, where the answer's code is `Success`.
    pub(crate) fn granted_keys(self) -> Result<WireKeys, String> {
        match self.keys {
            Some(keys) if self.code == "Success" => Ok(keys),
            _ => Err(format!("the metadata service granted no keys: code {:.40?}", self.code)),
        }
    }
}

/// Temporary keys in plain text, so without `Debug`; the keys wrap them as secrets.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct WireKeys {
    pub(crate) access_key_id: String,
    pub(crate) access_key_secret: String,
    pub(crate) security_token: String,
    pub(crate) expiration: String,
}
