//! Identities and temporary keys.

use super::text;
use crate::network::Identity;
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
    pub(crate) credentials: WireKeys,
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
    /// The keys, where the service says that it grants them.
    pub(crate) fn granted(self) -> Result<WireKeys, String> {
        match self.keys {
            Some(keys) if self.code == "Success" => Ok(keys),
            _ => Err(format!("the role's keys come with code {:.40?}", self.code)),
        }
    }
}

/// No Debug: secrets as they come, wrapped in the next step.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct WireKeys {
    pub(crate) access_key_id: String,
    pub(crate) access_key_secret: String,
    pub(crate) security_token: String,
    pub(crate) expiration: String,
}
