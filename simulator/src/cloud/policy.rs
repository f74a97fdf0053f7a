//! Access keys and what their policies deny.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::resources::AccessKey;
use super::{Cloud, network::ACCOUNT};
use crate::refusal::Refusal;

/// Time during which an expired key is distinguished from an unknown one.
const FORGOTTEN_AFTER: SignedDuration = SignedDuration::from_hours(1);

impl Cloud {
    pub(super) fn found_account(&mut self) {
        let id = format!("LTAI5t{}", self.dice.draw_word(18));
        let secret = self.dice.draw_word(30);
        self.add_access_key(id, secret, ACCOUNT);
    }

    /// Adds a long-lived key of an account.
    pub fn add_access_key(&mut self, id: String, secret: String, account: &str) {
        let arn = user_arn(account);
        let key = AccessKey {
            id: id.clone(),
            secret,
            security_token: None,
            expires: None,
            denied: Vec::new(),
            is_inactive: false,
            arn,
        };
        self.keys.insert(id, key);
    }

    /// Adds a temporary key of a role's session.
    pub(super) fn issue_temporary_key(
        &mut self,
        role: &str,
        session: &str,
        expires: Timestamp,
    ) -> AccessKey {
        self.keys.retain(|_, key| {
            key.expires.is_none_or(|expires| expires > self.now - FORGOTTEN_AFTER)
        });
        let key = AccessKey {
            id: format!("STS.N{}", self.dice.draw_word(24)),
            secret: self.dice.draw_word(44),
            security_token: Some(format!("CAIS{}/+==", self.dice.draw_word(200))),
            expires: Some(expires),
            denied: Vec::new(),
            is_inactive: false,
            arn: format!("acs:ram::{ACCOUNT}:assumed-role/{role}/{session}"),
        };
        self.keys.insert(key.id.clone(), key.clone());
        key
    }

    /// The key of this id.
    pub fn access_key(&self, id: &str) -> Result<&AccessKey, Refusal> {
        let key = self.keys.get(id).ok_or_else(no_such_key)?;
        if key.is_inactive {
            return Err(Refusal::bad_request(
                "InvalidAccessKeyId.Inactive",
                "Specified access key is disabled.",
            ));
        }
        Ok(key)
    }

    /// The key of this id, to be changed.
    pub fn access_key_mut(&mut self, id: &str) -> Result<&mut AccessKey, Refusal> {
        self.keys.get_mut(id).ok_or_else(no_such_key)
    }

    /// Passes a long-lived key to another account.
    pub fn pass_access_key(&mut self, id: &str, account: &str) -> Result<(), Refusal> {
        self.access_key_mut(id).map(|key| key.arn = user_arn(account))
    }

    /// The oldest long-lived key, which the simulator prints.
    pub fn first_access_key(&self) -> Option<&AccessKey> {
        self.keys.values().find(|key| key.security_token.is_none() && key.account() == ACCOUNT)
    }

    /// Refuses an action that the key's policy denies.
    pub(super) fn authorise(
        &self,
        key_id: &str,
        product: &str,
        action: &str,
    ) -> Result<(), Refusal> {
        let key = self.access_key(key_id)?;
        let wanted = format!("{}:{action}", product.to_ascii_lowercase());
        let denies = |pattern: &String| match pattern.strip_suffix('*') {
            Some(start) => wanted.starts_with(start),
            None => *pattern == wanted || pattern == action,
        };
        if !key.denied.iter().any(denies) {
            return Ok(());
        }
        let code = if product == "Sts" { "NoPermission" } else { "Forbidden.RAM" };
        let mut refusal = Refusal::new(
            403,
            code,
            "User not authorized to operate on the specified resource, or this API doesn't support RAM.",
        );
        refusal.denied = Some(json!({
            "AuthAction": wanted, "AuthPrincipalDisplayName": key.id, "AuthPrincipalOwnerId": key.account(),
            "AuthPrincipalType": if key.security_token.is_some() { "AssumedRoleUser" } else { "SubUser" },
            "NoPermissionType": "ExplicitDeny", "PolicyType": "AccountLevelIdentityBasedPolicy", "EncodedDiagnosticMessage": "",
        }));
        Err(refusal)
    }
}

/// ARN of the user that long-lived keys of an account belong to.
fn user_arn(account: &str) -> String {
    format!("acs:ram::{account}:user/waygate")
}

fn no_such_key() -> Refusal {
    Refusal::not_found("InvalidAccessKeyId.NotFound", "Specified access key is not found.")
}
