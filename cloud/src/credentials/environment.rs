//! What the environment says about credentials, handed in by the caller as values.

use super::metadata::Machine;
use super::oidc::Role;
use crate::error::Error;
use secrecy::SecretString;
use std::path::PathBuf;
use url::Url;

/// A pair of access key and secret, or three with the token of a temporary one.
#[derive(Clone, Debug)]
pub struct AccessKey {
    /// `LTAI…` or `STS.…`
    pub id: String,
    /// Its secret.
    pub secret: SecretString,
    /// The token that goes with `STS.…`.
    pub token: Option<SecretString>,
}

/// The variables that the cloud's own clients read, by the names they give them
/// (`ALIBABA_CLOUD_…`).
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `ACCESS_KEY_ID`
    pub access_key_id: Option<String>,
    /// `ACCESS_KEY_SECRET`
    pub access_key_secret: Option<SecretString>,
    /// `SECURITY_TOKEN`
    pub security_token: Option<SecretString>,
    /// `ROLE_ARN`
    pub role_arn: Option<String>,
    /// `OIDC_PROVIDER_ARN`
    pub oidc_provider_arn: Option<String>,
    /// `OIDC_TOKEN_FILE`
    pub oidc_token_file: Option<PathBuf>,
    /// `ROLE_SESSION_NAME`
    pub role_session_name: Option<String>,
    /// `ECS_METADATA`: the role of the machine; asked for where it is absent.
    pub ecs_metadata: Option<String>,
    /// `ECS_METADATA_DISABLED`
    pub ecs_metadata_disabled: bool,
    /// `IMDSV1_DISABLED`
    pub imdsv1_disabled: bool,
    /// Another place for the instance metadata than the cloud's own.
    pub metadata_endpoint: Option<Url>,
}

/// The sources there are.
pub(super) struct Sources {
    pub(super) pair: Option<AccessKey>,
    pub(super) role: Option<Role>,
    pub(super) machine: Option<Machine>,
}

impl Environment {
    /// What each source needs, where it is there. Half a source is a mistake, and said so.
    pub(super) fn split(self) -> Result<Sources, Error> {
        let pair = match (present(self.access_key_id), self.access_key_secret) {
            (Some(id), Some(secret)) => Some(AccessKey { id, secret, token: self.security_token }),
            (None, None) => None,
            _ => {
                return Err(Error::Setup(
                    "an access key ID or its secret is set, but not both".to_owned(),
                ));
            }
        };
        let role =
            match (present(self.role_arn), present(self.oidc_provider_arn), self.oidc_token_file) {
                (Some(arn), Some(provider_arn), Some(token_file)) => {
                    let session_name =
                        present(self.role_session_name).unwrap_or_else(|| "waygate".to_owned());
                    Some(Role { arn, provider_arn, token_file, session_name })
                }
                (_, None, None) => None,
                _ => return Err(Error::Setup(
                    "of role ARN, OIDC provider ARN and OIDC token file, some are set, but not all"
                        .to_owned(),
                )),
            };
        let machine = (!self.ecs_metadata_disabled).then_some(Machine {
            role: present(self.ecs_metadata),
            old_protocol: !self.imdsv1_disabled,
            endpoint: self.metadata_endpoint,
        });
        Ok(Sources { pair, role, machine })
    }
}

fn present(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_source_is_refused_rather_than_skipped() {
        let half_pair =
            Environment { access_key_id: Some("id".to_owned()), ..Environment::default() };
        assert!(half_pair.split().is_err());
        let half_role =
            Environment { oidc_provider_arn: Some("arn".to_owned()), ..Environment::default() };
        assert!(half_role.split().is_err());
    }

    #[test]
    fn nothing_set_leaves_the_machine() {
        let Sources { pair, role, machine } = Environment::default().split().unwrap();
        assert!(pair.is_none() && role.is_none() && machine.is_some());
        let Sources { machine, .. } =
            Environment { ecs_metadata_disabled: true, ..Environment::default() }.split().unwrap();
        assert!(machine.is_none());
    }
}
