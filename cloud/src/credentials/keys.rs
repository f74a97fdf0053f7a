//! The keys that sign calls.

use crate::wire::required_text;
use crate::wire::sts::WireKeys;
use jiff::Timestamp;
use secrecy::SecretString;

/// An access key with its secret, permanent or temporary.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    pub(crate) id: String,
    pub(crate) secret: SecretString,
    /// Security token, present for temporary keys only.
    pub(crate) token: Option<SecretString>,
    /// Expiry of temporary keys; `None` for permanent ones.
    pub(crate) expires: Option<Timestamp>,
}

impl Keys {
    /// Temporary keys from an answer of STS or of the metadata service.
    pub(crate) fn from_wire(keys: WireKeys) -> Result<Self, String> {
        let expires: Timestamp = keys
            .expiration
            .parse()
            .map_err(|_| format!("Expiration is {:.40?}, not a time", keys.expiration))?;
        Ok(Self {
            id: required_text("AccessKeyId", keys.access_key_id)?,
            secret: SecretString::from(keys.access_key_secret),
            token: Some(SecretString::from(keys.security_token)),
            expires: Some(expires),
        })
    }
}
