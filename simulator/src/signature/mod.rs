//! Authentication: signatures verified as the gateway in front of the real API does.
//!
//! The verifier does not trust the client's own text to sign: the text is rebuilt from the received
//! request, with the query decoded and encoded again. Order of the checks: algorithm, key, token,
//! clock, content hash, signature, nonce. The nonce is last, so that a forged request cannot use up
//! another caller's.

pub mod v2;
pub mod v3;

use std::collections::{HashSet, VecDeque};

use axum::http::HeaderMap;
use hmac::{KeyInit, Mac};
use jiff::{SignedDuration, Timestamp};

use crate::{params::Params, refusal::Refusal};

/// Largest difference between the caller's clock and ours.
const SKEW: SignedDuration = SignedDuration::from_mins(15);

/// A request as it came in, body included.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// HTTP method, `POST` or `GET`.
    pub method: &'a str,
    /// Path of the URL, undecoded.
    pub path: &'a str,
    /// The query string, undecoded.
    pub query: &'a str,
    /// Headers as received.
    pub headers: &'a HeaderMap,
    /// Body as received, not decoded.
    pub body: &'a [u8],
}

impl Received<'_> {
    /// A header as text; absent where it is not text.
    pub fn header_text(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Query and, where the body is one, form.
    pub fn request_params(&self) -> Params {
        let is_form = self
            .header_text("content-type")
            .is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
        let form = if is_form { self.body } else { b"" };
        Params::new(
            crate::params::decode_query(self.query.as_bytes())
                .chain(crate::params::decode_query(form)),
        )
    }
}

/// Claims of a signature, extracted before any of them is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureClaim {
    /// The access key's id.
    pub access_key_id: String,
    /// The STS token that came along.
    pub security_token: Option<String>,
    /// When the caller says it signed.
    pub signed_at: Timestamp,
    /// Nonce that the caller sent.
    pub nonce: String,
    /// The text that was to be signed.
    pub string_to_sign: String,
    /// The signature the caller sent.
    pub signature: String,
}

/// The key's side of the check.
#[derive(Clone, Debug)]
pub struct Secrets<'a> {
    /// Secret of the access key.
    pub secret: &'a str,
    /// The token that belongs to a temporary key.
    pub security_token: Option<&'a str>,
    /// True if a temporary key has expired.
    pub is_expired: bool,
}

impl SignatureClaim {
    /// Checks token, clock and signature; `sign` is the algorithm's. The nonce is the caller's next
    /// step.
    pub fn verify_signature(
        &self,
        secrets: &Secrets<'_>,
        now: Timestamp,
        sign: fn(&str, &str) -> String,
    ) -> Result<(), Refusal> {
        self.check_token(secrets)?;
        if (now.duration_since(self.signed_at)).abs() > SKEW {
            return Err(Refusal::bad_request(
                "InvalidTimeStamp.Expired",
                "Specified time stamp or date value is expired.",
            ));
        }
        let expected = sign(secrets.secret, &self.string_to_sign);
        if expected.as_bytes() == self.signature.as_bytes() {
            return Ok(());
        }
        let message = format!(
            "Specified signature does not match our calculation. server string to sign is:{}",
            self.string_to_sign
        );
        Err(Refusal::bad_request("SignatureDoesNotMatch", message))
    }

    fn check_token(&self, secrets: &Secrets<'_>) -> Result<(), Refusal> {
        match (secrets.security_token, self.security_token.as_deref()) {
            (None, None) => Ok(()),
            (Some(_), None) => Err(Refusal::bad_request(
                "MissingSecurityToken",
                "SecurityToken is mandatory for this action.",
            )),
            (Some(_), Some("")) => Err(Refusal::bad_request(
                "InvalidSecurityToken.Malformed",
                "Specified SecurityToken is malformed.",
            )),
            (Some(own), Some(sent)) if own == sent && secrets.is_expired => {
                Err(Refusal::bad_request(
                    "InvalidSecurityToken.Expired",
                    "Specified SecurityToken is expired.",
                ))
            }
            (Some(own), Some(sent)) if own == sent => Ok(()),
            (_, Some(_)) => Err(Refusal::bad_request(
                "InvalidSecurityToken.MismatchWithAccessKey",
                "Specified SecurityToken mismatch with the AccessKey.",
            )),
        }
    }
}

/// HMAC of any hash, as raw bytes.
fn hmac_bytes<M: Mac + KeyInit>(key: &str, text: &str) -> Vec<u8> {
    // HMAC takes keys of any length; an error cannot come, and an empty signature would match
    // nothing.
    let Ok(mut mac) = <M as KeyInit>::new_from_slice(key.as_bytes()) else { return Vec::new() };
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// Nonces seen while their date would still be accepted.
#[derive(Debug, Default)]
pub struct Nonces {
    seen: HashSet<(String, String)>,
    order: VecDeque<(Timestamp, (String, String))>,
}

impl Nonces {
    /// Notes a nonce; refuses one seen before.
    pub fn note_nonce(&mut self, claim: &SignatureClaim, now: Timestamp) -> Result<(), Refusal> {
        while let Some((at, _)) = self.order.front()
            && now.duration_since(*at) > SKEW * 2
        {
            if let Some((_, old)) = self.order.pop_front() {
                self.seen.remove(&old);
            }
        }
        let nonce = (claim.access_key_id.clone(), claim.nonce.clone());
        if !self.seen.insert(nonce.clone()) {
            return Err(Refusal::bad_request(
                "SignatureNonceUsed",
                "Specified signature nonce was used already.",
            ));
        }
        self.order.push_back((now, nonce));
        Ok(())
    }
}

fn incomplete_signature(what: &str) -> Refusal {
    Refusal::bad_request(
        "IncompleteSignature",
        format!("The request signature does not conform to the standards: {what}."),
    )
}

fn parse_time(text: &str) -> Result<Timestamp, Refusal> {
    text.parse().map_err(|_| {
        Refusal::bad_request(
            "InvalidTimeStamp.Format",
            "Specified time stamp or date value is not well formatted.",
        )
    })
}
