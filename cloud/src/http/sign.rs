//! Signature V3, `ACS3-HMAC-SHA256`: a pure function of request, key, date and nonce.
//!
//! ```text
//! request ─▶ canonical request ─▶ string to sign ─▶ authorization
//! ```

use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;

const ALGORITHM: &str = "ACS3-HMAC-SHA256";

/// A request before it is signed. RPC calls all go to `/` with an empty body.
pub(crate) struct Unsigned<'a> {
    pub(crate) method: &'a str,
    /// The value of the `Host` header: with the port unless default.
    pub(crate) host: &'a str,
    pub(crate) action: &'a str,
    pub(crate) version: &'a str,
    /// The canonical query, as the parameters write it.
    pub(crate) query: &'a str,
}

/// The key that signs: an access key, and the security token of a temporary one.
pub(crate) struct Key<'a> {
    pub(crate) id: &'a str,
    pub(crate) secret: &'a SecretString,
    pub(crate) token: Option<&'a SecretString>,
}

/// Date and nonce, different in every attempt.
pub(crate) struct Stamp<'a> {
    /// UTC, `YYYY-MM-DDThh:mm:ssZ`.
    pub(crate) date: &'a str,
    pub(crate) nonce: &'a str,
}

/// All headers of the signed request by name, `authorization` included.
pub(crate) fn sign_request<'a>(
    request: &Unsigned<'a>,
    key: &Key<'a>,
    stamp: &Stamp<'a>,
) -> BTreeMap<&'static str, String> {
    let mut headers = headers_to_sign(request, key, stamp);
    let to_sign = string_to_sign(&canonical_request(request, &headers));
    let authorization = authorization_header(key, &headers, &to_sign);
    headers.insert("authorization", authorization);
    headers
}

fn headers_to_sign(
    request: &Unsigned<'_>,
    key: &Key<'_>,
    stamp: &Stamp<'_>,
) -> BTreeMap<&'static str, String> {
    let mut headers = BTreeMap::from([
        ("host", request.host.to_owned()),
        ("x-acs-action", request.action.to_owned()),
        ("x-acs-content-sha256", sha256_hex(b"")),
        ("x-acs-date", stamp.date.to_owned()),
        ("x-acs-signature-nonce", stamp.nonce.to_owned()),
        ("x-acs-version", request.version.to_owned()),
    ]);
    if let Some(token) = key.token {
        headers.insert("x-acs-accesskey-id", key.id.to_owned());
        headers.insert("x-acs-security-token", token.expose_secret().to_owned());
    }
    headers
}

fn canonical_request(request: &Unsigned<'_>, headers: &BTreeMap<&'static str, String>) -> String {
    let mut text = format!("{}\n/\n{}\n", request.method, request.query);
    for (name, value) in headers {
        // Writing to a String cannot fail.
        _ = writeln!(text, "{name}:{}", value.trim());
    }
    _ = write!(text, "\n{}\n{}", header_names(headers), sha256_hex(b""));
    text
}

fn string_to_sign(canonical_request: &str) -> String {
    format!("{ALGORITHM}\n{}", sha256_hex(canonical_request.as_bytes()))
}

fn authorization_header(
    key: &Key<'_>,
    headers: &BTreeMap<&'static str, String>,
    string_to_sign: &str,
) -> String {
    let signature = hmac_hex(key.secret, string_to_sign);
    format!(
        "{ALGORITHM} Credential={},SignedHeaders={},Signature={signature}",
        key.id,
        header_names(headers)
    )
}

fn header_names(headers: &BTreeMap<&'static str, String>) -> String {
    headers.keys().copied().collect::<Vec<_>>().join(";")
}

fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn hmac_hex(secret: &SecretString, text: &str) -> String {
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes())
        .expect("HMAC takes a key of any length");
    mac.update(text.as_bytes());
    hex::encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::params::Params;

    const DATE: &str = "2026-01-02T03:04:05Z";
    const NONCE: &str = "0123456789abcdef0123456789abcdef";

    fn create_forward_entry() -> Params {
        Params::default()
            .with("ClientToken", "3f0b1c2d-1111-2222-3333-444455556666")
            .with("ExternalIp", "203.0.113.10")
            .with("ExternalPort", "30000/30009")
            .with("ForwardEntryName", "ns/pod a~b*")
            .with("ForwardTableId", "ftb-2zeexample0000000000")
            .with("InternalIp", "10.0.1.23")
            .with("InternalPort", "8000/8009")
            .with("IpProtocol", "TCP")
            .with("RegionId", "cn-beijing")
    }

    fn request(query: &str) -> Unsigned<'_> {
        Unsigned {
            method: "POST",
            host: "vpc.cn-beijing.aliyuncs.com",
            action: "CreateForwardEntry",
            version: "2016-04-28",
            query,
        }
    }

    fn example_secret() -> SecretString {
        SecretString::from("ExampleSecret0123456789abcdefXY")
    }

    #[test]
    fn the_documented_vector_is_reproduced() {
        let query = Params::default()
            .with("ImageId", "win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd")
            .with("RegionId", "cn-shanghai")
            .canonical_query();
        let request = Unsigned {
            method: "POST",
            host: "ecs.cn-shanghai.aliyuncs.com",
            action: "RunInstances",
            version: "2014-05-26",
            query: &query,
        };
        let secret = SecretString::from("YourAccessKeySecret");
        let key = Key { id: "YourAccessKeyId", secret: &secret, token: None };
        let stamp =
            Stamp { date: "2023-10-26T10:22:32Z", nonce: "3156853299f313e23d1673dc12e1703d" };
        assert_eq!(
            sign_request(&request, &key, &stamp)["authorization"],
            "ACS3-HMAC-SHA256 Credential=YourAccessKeyId,SignedHeaders=host;x-acs-action;x-acs-content-sha256;x-acs-date;\
             x-acs-signature-nonce;x-acs-version,Signature=06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0"
        );
    }

    #[test]
    fn every_stage_of_a_call_with_an_awkward_name_is_right() {
        let query = create_forward_entry().canonical_query();
        let (request, secret) = (request(&query), example_secret());
        let key = Key { id: "LTAI5tEXAMPLEKEYID0000000", secret: &secret, token: None };
        let headers = headers_to_sign(&request, &key, &Stamp { date: DATE, nonce: NONCE });
        let canonical = canonical_request(&request, &headers);
        assert_eq!(
            canonical,
            "POST\n/\nClientToken=3f0b1c2d-1111-2222-3333-444455556666&ExternalIp=203.0.113.10&ExternalPort=30000%2F30009\
             &ForwardEntryName=ns%2Fpod%20a~b%2A&ForwardTableId=ftb-2zeexample0000000000&InternalIp=10.0.1.23&InternalPort=8000%2F8009\
             &IpProtocol=TCP&RegionId=cn-beijing\n\
             host:vpc.cn-beijing.aliyuncs.com\n\
             x-acs-action:CreateForwardEntry\n\
             x-acs-content-sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n\
             x-acs-date:2026-01-02T03:04:05Z\n\
             x-acs-signature-nonce:0123456789abcdef0123456789abcdef\n\
             x-acs-version:2016-04-28\n\n\
             host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version\n\
             e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        let to_sign = string_to_sign(&canonical);
        assert_eq!(
            to_sign,
            "ACS3-HMAC-SHA256\n5c8344f6235da1e5193fe29d2bac5f047fca3273fecf97c2c3e6422d81fe23bd"
        );
        assert_eq!(
            authorization_header(&key, &headers, &to_sign),
            "ACS3-HMAC-SHA256 Credential=LTAI5tEXAMPLEKEYID0000000,SignedHeaders=host;x-acs-action;x-acs-content-sha256;x-acs-date;\
             x-acs-signature-nonce;x-acs-version,Signature=b99c149d6079686189aa36853965f1dd5c79075d92535a81168c2389b6f0bfe7"
        );
    }

    #[test]
    fn a_temporary_key_signs_its_token_too() {
        let query = create_forward_entry().canonical_query();
        let (secret, token) = (example_secret(), SecretString::from("CAIS-example-token/+=="));
        let key = Key { id: "LTAI5tEXAMPLEKEYID0000000", secret: &secret, token: Some(&token) };
        let request = request(&query);
        let stamp = Stamp { date: DATE, nonce: NONCE };
        let canonical = canonical_request(&request, &headers_to_sign(&request, &key, &stamp));
        assert!(
            string_to_sign(&canonical)
                .ends_with("5aa09604800d537ecdbdfad35557ad96f958ac779825ec1654358ffec1ed7982")
        );
        assert_eq!(
            sign_request(&request, &key, &stamp)["authorization"],
            "ACS3-HMAC-SHA256 Credential=LTAI5tEXAMPLEKEYID0000000,SignedHeaders=host;x-acs-accesskey-id;x-acs-action;\
             x-acs-content-sha256;x-acs-date;x-acs-security-token;x-acs-signature-nonce;x-acs-version,\
             Signature=83d877e6c853040d17c91b4e2175f483a605ea0a8891a83e71051b066e82fdf8"
        );
    }

    /// The official Python client signs more headers than this one; the algorithm is the same for
    /// any set.
    #[test]
    fn what_the_python_client_signs_is_reproduced() {
        let query = create_forward_entry().with("DryRun", "False").canonical_query();
        let (request, secret) = (request(&query), example_secret());
        let key = Key { id: "LTAI5tEXAMPLEKEYID0000000", secret: &secret, token: None };
        let mut headers = headers_to_sign(&request, &key, &Stamp { date: DATE, nonce: NONCE });
        headers.insert("accept", "application/json".to_owned());
        headers.insert(
            "user-agent",
            "AlibabaCloud (Linux; x86_64) Python/3.11.7 Core/0.4.3 TeaDSL/2".to_owned(),
        );
        headers.insert("x-acs-credentials-provider", "static_ak".to_owned());
        let to_sign = string_to_sign(&canonical_request(&request, &headers));
        assert!(
            to_sign.ends_with("64578e0292cb29225782c41693f06ab2353bc1941715939c9fc6bbb3b01bc7e6"),
            "{to_sign}"
        );
        assert!(authorization_header(&key, &headers, &to_sign).ends_with(
            "Signature=0517fd7a40a1e4df4e89e6984a95ac7a517d9ac7e3dd39036081866633f7d102"
        ));
    }
}
