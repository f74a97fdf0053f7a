//! Temporary keys: by role, by OIDC token, and by a node's metadata service.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{AccessKey, Cloud, Outcome, dispatch::Context, iso_time, network::ACCOUNT};
use crate::{params::Params, refusal::Refusal};

/// The audience Kubernetes tokens must name.
const AUDIENCE: &str = "sts.aliyuncs.com";

impl Cloud {
    /// Returns the number of the simulated account.
    pub fn account_number(&self) -> &'static str {
        ACCOUNT
    }

    pub(super) fn assume_role(&mut self, context: &Context<'_>) -> Outcome {
        let role = role_of(context.params.get_required("RoleArn")?)?;
        self.session_answer(&role, context.params)
    }

    /// Unsigned: the token is the proof. The simulator publishes no key, so the token's signature
    /// is not checked; the claims are.
    pub(super) fn assume_role_with_oidc(&mut self, context: &Context<'_>) -> Outcome {
        let params = context.params;
        let role = role_of(params.get_required("RoleArn")?)?;
        let provider = params.get_required("OIDCProviderArn")?;
        if !provider.starts_with(&format!("acs:ram::{ACCOUNT}:oidc-provider/")) {
            return Err(Refusal::new(
                401,
                "AuthenticationFail.NoPermission",
                "This operator is not authorized to assume the role.",
            ));
        }
        let claims = self.check_token(params.get_required("OIDCToken")?)?;
        let mut answer = self.session_answer(&role, params)?;
        let time = |name: &str| {
            claims[name]
                .as_i64()
                .and_then(|at| Timestamp::from_second(at).ok())
                .map(iso_time)
                .unwrap_or_default()
        };
        answer["OIDCTokenInfo"] = json!({
            "Subject": claims["sub"], "Issuer": claims["iss"], "ClientIds": AUDIENCE,
            "ExpirationTime": time("exp"), "IssuanceTime": time("iat"), "VerificationInfo": "Success",
        });
        Ok(answer)
    }

    fn check_token(&self, token: &str) -> Result<Value, Refusal> {
        let refuse = |what: &str| {
            Refusal::new(
                401,
                format!("AuthenticationFail.OIDCToken.{what}"),
                format!("The OIDC token: {what}."),
            )
        };
        let mut parts = token.split('.');
        let (Some(_), Some(claims), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(refuse("Invalid"));
        };
        let claims = URL_SAFE_NO_PAD.decode(claims).map_err(|_| refuse("Invalid"))?;
        let claims: Value = serde_json::from_slice(&claims).map_err(|_| refuse("Invalid"))?;
        let names_us = match &claims["aud"] {
            Value::Array(audiences) => audiences.iter().any(|audience| audience == AUDIENCE),
            audience => audience == AUDIENCE,
        };
        if !claims["iss"].as_str().is_some_and(|issuer| issuer.starts_with("https://")) {
            return Err(refuse("HttpsUrlInvalid"));
        }
        if !names_us {
            return Err(refuse("AudienceNotMatch"));
        }
        match claims["exp"].as_i64() {
            Some(at) if at > self.now.as_second() => Ok(claims),
            Some(_) => Err(refuse("Expired")),
            None => Err(refuse("Invalid")),
        }
    }

    fn session_answer(&mut self, role: &str, params: &Params) -> Outcome {
        let session = params.get_required("RoleSessionName")?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".@_-".contains(&byte);
        if !(2..=64).contains(&session.len()) || !session.bytes().all(is_plain) {
            return Err(Refusal::bad_request(
                "InvalidParameter.RoleSessionName",
                "The parameter RoleSessionName is wrongly formed.",
            ));
        }
        let seconds = params.get_number("DurationSeconds")?.unwrap_or(3600);
        if !(900..=43_200).contains(&seconds) {
            return Err(Refusal::bad_request(
                "InvalidParameter.DurationSeconds",
                "The Min/Max value of DurationSeconds is 15min/12hr.",
            ));
        }
        let key = self.issue_temporary_key(
            role,
            session,
            self.now + SignedDuration::from_secs(i64::from(seconds)),
        );
        Ok(json!({
            "Credentials": credentials_json(&key),
            "AssumedRoleUser": {"Arn": key.arn, "AssumedRoleId": format!("3{}:{session}", &ACCOUNT[1..])},
            "SourceIdentity": params.get_or_empty("SourceIdentity"),
        }))
    }

    pub(super) fn get_caller_identity(&mut self, context: &Context<'_>) -> Outcome {
        let key = self.access_key(context.caller.unwrap_or_default())?;
        let is_role = key.security_token.is_some();
        let id = format!("2{}", key.account().get(1..).unwrap_or_default());
        Ok(json!({
            "AccountId": key.account(), "Arn": key.arn, "IdentityType": if is_role { "AssumedRoleUser" } else { "RAMUser" },
            "PrincipalId": id, "RoleId": if is_role { id.as_str() } else { "" }, "UserId": if is_role { "" } else { id.as_str() },
        }))
    }

    /// Makes the credentials that a node's metadata service returns for its RAM role.
    pub fn metadata_credentials(&mut self, role: &str, lifetime: SignedDuration) -> Value {
        let key = self.issue_temporary_key(role, "metadata", self.now + lifetime);
        let mut answer = credentials_json(&key);
        answer["Code"] = Value::from("Success");
        answer["LastUpdated"] = Value::from(iso_time(self.now));
        answer
    }
}

fn credentials_json(key: &AccessKey) -> Value {
    json!({
        "AccessKeyId": key.id, "AccessKeySecret": key.secret, "SecurityToken": key.security_token,
        "Expiration": key.expires.map(iso_time),
    })
}

/// `acs:ram::<account>:role/<name>`; every role of the account exists.
fn role_of(arn: &str) -> Result<String, Refusal> {
    let rest = arn.strip_prefix("acs:ram::").and_then(|rest| rest.split_once(":role/"));
    match rest {
        Some((account, name)) if account == ACCOUNT && !name.is_empty() => Ok(name.to_owned()),
        Some(_) => {
            Err(Refusal::not_found("EntityNotExist.Role", "The specified role does not exist."))
        }
        None => Err(Refusal::bad_request(
            "InvalidParameter.RoleArn",
            "The parameter RoleArn is wrongly formed.",
        )),
    }
}
