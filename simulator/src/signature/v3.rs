//! `ACS3-HMAC-SHA256`: everything in headers, rebuilt from the `SignedHeaders` the caller names.

use hmac::Hmac;
use sha2::{Digest, Sha256};

use super::{Received, SignatureClaim, incomplete_signature, parse_time};
use crate::{
    params::{Params, decode_query},
    refusal::Refusal,
};

/// The algorithm's name, first word of `Authorization`.
pub const ALGORITHM: &str = "ACS3-HMAC-SHA256";

/// Headers that have to be among the signed ones.
const MUST_SIGN: [&str; 6] = [
    "host",
    "x-acs-action",
    "x-acs-content-sha256",
    "x-acs-date",
    "x-acs-signature-nonce",
    "x-acs-version",
];

/// Takes the signature apart and rebuilds the text it must have signed.
pub fn extract_claim(
    received: &Received<'_>,
    authorization: &str,
) -> Result<SignatureClaim, Refusal> {
    let (access_key_id, signed_headers, signature) = split_authorization(authorization)?;
    let names: Vec<&str> = signed_headers.split(';').collect();
    if let Some(missing) = MUST_SIGN.iter().find(|name| !names.contains(name)) {
        return Err(incomplete_signature(&format!("{missing} is not signed")));
    }
    let header = |name: &str| {
        received
            .header_text(name)
            .ok_or_else(|| incomplete_signature(&format!("{name} is missing")))
    };
    let hash = header("x-acs-content-sha256")?;
    if hash != hex::encode(Sha256::digest(received.body)) {
        return Err(Refusal::bad_request(
            "SignatureDoesNotMatch",
            "Specified x-acs-content-sha256 does not match the body.",
        ));
    }
    let canonical = canonical_request(received, &names, signed_headers, hash)?;
    Ok(SignatureClaim {
        access_key_id: access_key_id.to_owned(),
        security_token: received.header_text("x-acs-security-token").map(str::to_owned),
        signed_at: parse_time(header("x-acs-date")?)?,
        nonce: header("x-acs-signature-nonce")?.to_owned(),
        string_to_sign: format!("{ALGORITHM}\n{}", hex::encode(Sha256::digest(canonical))),
        signature: signature.to_owned(),
    })
}

/// The algorithm's signature: the secret itself is the key.
pub fn sign_text(secret: &str, string_to_sign: &str) -> String {
    hex::encode(super::hmac_bytes::<Hmac<Sha256>>(secret, string_to_sign))
}

fn split_authorization(authorization: &str) -> Result<(&str, &str, &str), Refusal> {
    let fields = authorization
        .strip_prefix(ALGORITHM)
        .ok_or_else(|| incomplete_signature("unknown algorithm"))?;
    let field = |name: &str| {
        let found =
            fields.split(',').find_map(|field| field.trim().strip_prefix(name)?.strip_prefix('='));
        found.ok_or_else(|| incomplete_signature(&format!("{name} is missing")))
    };
    Ok((field("Credential")?, field("SignedHeaders")?, field("Signature")?))
}

fn canonical_request(
    received: &Received<'_>,
    names: &[&str],
    signed_headers: &str,
    hash: &str,
) -> Result<String, Refusal> {
    if !names.is_sorted() {
        return Err(incomplete_signature("SignedHeaders are not sorted"));
    }
    let header = |name: &&str| {
        let value = received
            .header_text(name)
            .ok_or_else(|| incomplete_signature(&format!("{name} is signed but missing")))?;
        Ok(format!("{name}:{}\n", value.trim()))
    };
    let headers = names.iter().map(header).collect::<Result<String, Refusal>>()?;
    let query = Params::new(decode_query(received.query.as_bytes())).canonical_query(&[]);
    let (method, path) = (received.method, received.path);
    Ok(format!("{method}\n{path}\n{query}\n{headers}\n{signed_headers}\n{hash}"))
}
