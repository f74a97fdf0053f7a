//! Credentials from environment variables, passed in by the caller as values.

use super::metadata::Machine;
use super::oidc::Role;
use crate::error::Error;
use secrecy::SecretString;
use std::path::PathBuf;
use url::Url;

/// An access key with its secret, and the security token of a temporary one.
#[derive(Clone, Debug)]
pub struct AccessKey {
    /// `LTAI…` for a permanent key, `STS.…` for a temporary one.
    pub id: String,
    /// The secret that signs; never logged.
    pub secret: SecretString,
    /// The security token of a temporary key, absent for a permanent one.
    pub token: Option<SecretString>,
}

/// The variables that the cloud's official clients read, under the same names.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `ALIBABA_CLOUD_ACCESS_KEY_ID`; only valid together with the secret.
    pub access_key_id: Option<String>,
    /// `ALIBABA_CLOUD_ACCESS_KEY_SECRET`; only valid together with the ID.
    pub access_key_secret: Option<SecretString>,
    /// `ALIBABA_CLOUD_SECURITY_TOKEN`, the token of a temporary key.
    pub security_token: Option<SecretString>,
    /// `ALIBABA_CLOUD_ROLE_ARN`, the role of the pod's service account (RRSA).
    pub role_arn: Option<String>,
    /// `ALIBABA_CLOUD_OIDC_PROVIDER_ARN`, the cluster's identity provider in RAM.
    pub oidc_provider_arn: Option<String>,
    /// `ALIBABA_CLOUD_OIDC_TOKEN_FILE`, rotated by the kubelet.
    pub oidc_token_file: Option<PathBuf>,
    /// `ALIBABA_CLOUD_ROLE_SESSION_NAME`, shown in the cloud's audit log; `waygate` if absent.
    pub role_session_name: Option<String>,
    /// `ALIBABA_CLOUD_ECS_METADATA`: the machine's role; the metadata service names it if absent.
    pub ecs_metadata: Option<String>,
    /// `ALIBABA_CLOUD_ECS_METADATA_DISABLED`: true forbids the machine's role.
    pub ecs_metadata_disabled: bool,
    /// `ALIBABA_CLOUD_IMDSV1_DISABLED`: true forbids metadata requests without a session token.
    pub imdsv1_disabled: bool,
    /// Base URL of the metadata service in place of the cloud's, for tests.
    pub metadata_endpoint: Option<Url>,
}

/// The sources that the variables configure, in order of precedence.
pub(super) struct Sources {
    pub(super) access_key: Option<AccessKey>,
    pub(super) role: Option<Role>,
    pub(super) machine: Option<Machine>,
}

impl Environment {
    /// Sorts the variables by source. A source with only some of its variables is an error, because
    /// skipping it would silently use another identity.
    pub(super) fn into_sources(self) -> Result<Sources, Error> {
        let pair = match (without_empty(self.access_key_id), self.access_key_secret) {
            (Some(id), Some(secret)) => Some(AccessKey { id, secret, token: self.security_token }),
            (None, None) => None,
            _ => {
                return Err(Error::Setup(
                    "only one of access key ID and access key secret is set; set both or neither"
                        .to_owned(),
                ));
            }
        };
        let role = match (
            without_empty(self.role_arn),
            without_empty(self.oidc_provider_arn),
            self.oidc_token_file,
        ) {
            (Some(arn), Some(provider_arn), Some(token_file)) => {
                let session_name =
                    without_empty(self.role_session_name).unwrap_or_else(|| "waygate".to_owned());
                Some(Role { arn, provider_arn, token_file, session_name })
            }
            // A role ARN alone configures no OIDC source.
            (_, None, None) => None,
            _ => return Err(Error::Setup(
                "role ARN, OIDC provider ARN and OIDC token file are set in part; set all three"
                    .to_owned(),
            )),
        };
        let machine = (!self.ecs_metadata_disabled).then_some(Machine {
            role: without_empty(self.ecs_metadata),
            allow_imdsv1: !self.imdsv1_disabled,
            endpoint: self.metadata_endpoint,
        });
        Ok(Sources { access_key: pair, role, machine })
    }
}

fn without_empty(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_source_is_refused_rather_than_skipped() {
        let half_pair =
            Environment { access_key_id: Some("id".to_owned()), ..Environment::default() };
        assert!(half_pair.into_sources().is_err());
        let half_role =
            Environment { oidc_provider_arn: Some("arn".to_owned()), ..Environment::default() };
        assert!(half_role.into_sources().is_err());
    }

    #[test]
    fn nothing_set_leaves_the_machine() {
        let Sources { access_key: pair, role, machine } =
            Environment::default().into_sources().unwrap();
        assert!(pair.is_none() && role.is_none() && machine.is_some());
        let Sources { machine, .. } =
            Environment { ecs_metadata_disabled: true, ..Environment::default() }
                .into_sources()
                .unwrap();
        assert!(machine.is_none());
    }
}
