//! What signs a call.

use crate::wire::required;
use crate::wire::sts::WireKeys;
use jiff::Timestamp;
use secrecy::SecretString;

/// Keys that sign.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    pub(crate) id: String,
    pub(crate) secret: SecretString,
    /// Goes with temporary keys.
    pub(crate) token: Option<SecretString>,
    /// When temporary keys end.
    pub(crate) expires: Option<Timestamp>,
}

impl Keys {
    /// Temporary keys as an answer brought them.
    pub(crate) fn from_wire(keys: WireKeys) -> Result<Self, String> {
        let expires: Timestamp = keys
            .expiration
            .parse()
            .map_err(|_| format!("Expiration is {:.40?}, not a time", keys.expiration))?;
        Ok(Self {
            id: required("AccessKeyId", keys.access_key_id)?,
            secret: SecretString::from(keys.access_key_secret),
            token: Some(SecretString::from(keys.security_token)),
            expires: Some(expires),
        })
    }
}
