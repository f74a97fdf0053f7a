//! The older RPC signature, HMAC-SHA1 over all parameters, which older SDKs and command lines still
//! send.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::Hmac;
use sha1::Sha1;

use super::{Received, SignatureClaim, incomplete_signature, parse_time};
use crate::{
    params::{Params, percent_encode},
    refusal::Refusal,
};

/// Takes the signature out of the parameters and rebuilds the text it must have signed.
pub fn extract_claim(received: &Received<'_>, params: &Params) -> Result<SignatureClaim, Refusal> {
    let param = |name: &str| {
        params.get(name).ok_or_else(|| incomplete_signature(&format!("{name} is missing")))
    };
    if param("SignatureMethod")? != "HMAC-SHA1" || param("SignatureVersion")? != "1.0" {
        return Err(incomplete_signature("only HMAC-SHA1 of version 1.0 is known"));
    }
    let canonical = params.canonical_query(&["Signature"]);
    Ok(SignatureClaim {
        access_key_id: param("AccessKeyId")?.to_owned(),
        security_token: params.get("SecurityToken").map(str::to_owned),
        signed_at: parse_time(param("Timestamp")?)?,
        nonce: param("SignatureNonce")?.to_owned(),
        string_to_sign: format!("{}&%2F&{}", received.method, percent_encode(&canonical)),
        signature: param("Signature")?.to_owned(),
    })
}

/// The algorithm's signature: the key is the secret and an ampersand.
pub fn sign_text(secret: &str, string_to_sign: &str) -> String {
    STANDARD.encode(super::hmac_bytes::<Hmac<Sha1>>(&format!("{secret}&"), string_to_sign))
}
