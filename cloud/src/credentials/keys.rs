//! What signs a call.

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
