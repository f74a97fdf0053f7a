//! The published and recomputed signing vectors, from the verifier's side.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use simulator::signature::{Nonces, Received, Secrets, SignatureClaim, v2, v3};

const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const SECRET: &str = "ExampleSecret0123456789abcdefXY";
const KEY: &str = "LTAI5tEXAMPLEKEYID0000000";
const NONCE: &str = "0123456789abcdef0123456789abcdef";
const DATE: &str = "2026-01-02T03:04:05Z";
const ENTRY: &str = "ClientToken=3f0b1c2d-1111-2222-3333-444455556666&ExternalIp=203.0.113.10&ExternalPort=30000%2F30009\
    &ForwardEntryName=ns%2Fpod%20a~b%2A&ForwardTableId=ftb-2zeexample0000000000&InternalIp=10.0.1.23\
    &InternalPort=8000%2F8009&IpProtocol=TCP&RegionId=cn-beijing";
const MINIMAL: &str =
    "host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version";

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
        .collect()
}

fn entry_headers() -> HeaderMap {
    headers(&[
        ("host", "vpc.cn-beijing.aliyuncs.com"),
        ("x-acs-action", "CreateForwardEntry"),
        ("x-acs-version", "2016-04-28"),
        ("x-acs-date", DATE),
        ("x-acs-signature-nonce", NONCE),
        ("x-acs-content-sha256", EMPTY),
    ])
}

fn authorization(key: &str, signed: &str, signature: &str) -> String {
    format!("ACS3-HMAC-SHA256 Credential={key},SignedHeaders={signed},Signature={signature}")
}

fn received<'a>(query: &'a str, headers: &'a HeaderMap) -> Received<'a> {
    Received { method: "POST", path: "/", query, headers, body: b"" }
}

fn plain(secret: &str) -> Secrets<'_> {
    Secrets { secret, security_token: None, is_expired: false }
}

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

fn minimal_claim(query: &str) -> SignatureClaim {
    let sent = authorization(
        KEY,
        MINIMAL,
        "b99c149d6079686189aa36853965f1dd5c79075d92535a81168c2389b6f0bfe7",
    );
    v3::extract_claim(&received(query, &entry_headers()), &sent).unwrap()
}

#[test]
fn vector_a_of_the_official_documentation_holds() {
    let headers = headers(&[
        ("host", "ecs.cn-shanghai.aliyuncs.com"),
        ("x-acs-action", "RunInstances"),
        ("x-acs-version", "2014-05-26"),
        ("x-acs-date", "2023-10-26T10:22:32Z"),
        ("x-acs-signature-nonce", "3156853299f313e23d1673dc12e1703d"),
        ("x-acs-content-sha256", EMPTY),
    ]);
    let sent = authorization(
        "YourAccessKeyId",
        MINIMAL,
        "06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0",
    );
    let query = "ImageId=win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd&RegionId=cn-shanghai";
    let claim = v3::extract_claim(&received(query, &headers), &sent).unwrap();
    claim
        .verify_signature(&plain("YourAccessKeySecret"), at("2023-10-26T10:22:32Z"), v3::sign_text)
        .unwrap();
}

#[test]
fn vector_b_hashes_and_signs_as_published() {
    let claim = minimal_claim(ENTRY);
    assert_eq!(
        claim.string_to_sign,
        "ACS3-HMAC-SHA256\n5c8344f6235da1e5193fe29d2bac5f047fca3273fecf97c2c3e6422d81fe23bd"
    );
    claim.verify_signature(&plain(SECRET), at(DATE), v3::sign_text).unwrap();
}

#[test]
fn vector_c_with_a_security_token_holds_only_with_that_token() {
    let mut headers = entry_headers();
    headers.insert("x-acs-accesskey-id", HeaderValue::from_static(KEY));
    headers.insert("x-acs-security-token", HeaderValue::from_static("CAIS-example-token/+=="));
    let signed = "host;x-acs-accesskey-id;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-security-token;x-acs-signature-nonce;x-acs-version";
    let sent = authorization(
        KEY,
        signed,
        "83d877e6c853040d17c91b4e2175f483a605ea0a8891a83e71051b066e82fdf8",
    );
    let claim = v3::extract_claim(&received(ENTRY, &headers), &sent).unwrap();
    let temporary =
        |token, is_expired| Secrets { secret: SECRET, security_token: Some(token), is_expired };
    claim
        .verify_signature(&temporary("CAIS-example-token/+==", false), at(DATE), v3::sign_text)
        .unwrap();
    let code = |secrets: &Secrets<'_>| {
        claim.verify_signature(secrets, at(DATE), v3::sign_text).unwrap_err().code
    };
    assert_eq!(code(&temporary("another", false)), "InvalidSecurityToken.MismatchWithAccessKey");
    assert_eq!(code(&plain(SECRET)), "InvalidSecurityToken.MismatchWithAccessKey");
    assert_eq!(code(&temporary("CAIS-example-token/+==", true)), "InvalidSecurityToken.Expired");
    assert_eq!(
        minimal_claim(ENTRY)
            .verify_signature(&temporary("t", false), at(DATE), v3::sign_text)
            .unwrap_err()
            .code,
        "MissingSecurityToken"
    );
}

#[test]
fn vector_d_of_the_python_sdk_holds_although_its_wire_has_a_plus_for_the_space() {
    let mut headers = entry_headers();
    headers.insert("accept", HeaderValue::from_static("application/json"));
    headers.insert(
        "user-agent",
        HeaderValue::from_static("AlibabaCloud (Linux; x86_64) Python/3.11.7 Core/0.4.3 TeaDSL/2"),
    );
    headers.insert("x-acs-credentials-provider", HeaderValue::from_static("static_ak"));
    let signed = "accept;host;user-agent;x-acs-action;x-acs-content-sha256;x-acs-credentials-provider;\
        x-acs-date;x-acs-signature-nonce;x-acs-version";
    let sent = authorization(
        KEY,
        signed,
        "0517fd7a40a1e4df4e89e6984a95ac7a517d9ac7e3dd39036081866633f7d102",
    );
    let wire = ENTRY.replace("&ExternalIp", "&DryRun=False&ExternalIp").replace("%20", "+");
    let claim = v3::extract_claim(&received(&wire, &headers), &sent).unwrap();
    assert!(
        claim
            .string_to_sign
            .ends_with("64578e0292cb29225782c41693f06ab2353bc1941715939c9fc6bbb3b01bc7e6")
    );
    claim.verify_signature(&plain(SECRET), at(DATE), v3::sign_text).unwrap();
}

#[test]
fn the_older_signature_holds_whether_parameters_come_in_query_or_form() {
    let common = format!(
        "Action=CreateForwardEntry&Format=json&Version=2016-04-28&Timestamp=2026-01-02T03%3A04%3A05Z&SignatureNonce={NONCE}\
         &SignatureMethod=HMAC-SHA1&SignatureVersion=1.0&AccessKeyId={KEY}&Signature=VCe3pbZA3dLAoiBbZn8O6FFutT8%3D"
    );
    let form = headers(&[("content-type", "application/x-www-form-urlencoded")]);
    let in_query = format!("{common}&{ENTRY}");
    let whole = Received { method: "POST", path: "/", query: &in_query, headers: &form, body: b"" };
    let split = Received {
        method: "POST",
        path: "/",
        query: &common,
        headers: &form,
        body: ENTRY.as_bytes(),
    };
    for received in [whole, split] {
        let claim = v2::extract_claim(&received, &received.request_params()).unwrap();
        claim.verify_signature(&plain(SECRET), at(DATE), v2::sign_text).unwrap();
    }
}

#[test]
fn a_clock_more_than_fifteen_minutes_off_is_refused_both_ways() {
    let claim = minimal_claim(ENTRY);
    for now in ["2026-01-02T03:19:05Z", "2026-01-02T02:49:05Z"] {
        claim.verify_signature(&plain(SECRET), at(now), v3::sign_text).unwrap();
    }
    for now in ["2026-01-02T03:19:06Z", "2026-01-02T02:49:04Z"] {
        assert_eq!(
            claim.verify_signature(&plain(SECRET), at(now), v3::sign_text).unwrap_err().code,
            "InvalidTimeStamp.Expired"
        );
    }
}

#[test]
fn any_change_of_the_request_breaks_the_signature() {
    let claim = minimal_claim(&ENTRY.replace("10.0.1.23", "10.0.1.24"));
    let refusal = claim.verify_signature(&plain(SECRET), at(DATE), v3::sign_text).unwrap_err();
    assert_eq!((refusal.status, refusal.code.as_str()), (400, "SignatureDoesNotMatch"));
    assert!(refusal.message.contains(&claim.string_to_sign), "the server tells what it signed");
    assert_eq!(
        minimal_claim(ENTRY)
            .verify_signature(&plain("other"), at(DATE), v3::sign_text)
            .unwrap_err()
            .code,
        "SignatureDoesNotMatch"
    );
}

#[test]
fn a_body_that_is_not_the_hashed_one_is_refused() {
    let headers = entry_headers();
    let tampered = Received { body: b"x", ..received(ENTRY, &headers) };
    assert_eq!(
        v3::extract_claim(&tampered, &authorization(KEY, MINIMAL, "00")).unwrap_err().code,
        "SignatureDoesNotMatch"
    );
}

#[test]
fn a_request_without_a_required_signed_header_is_refused() {
    let headers = entry_headers();
    for missing in MINIMAL.split(';') {
        let signed: Vec<&str> = MINIMAL.split(';').filter(|name| *name != missing).collect();
        let refusal = v3::extract_claim(
            &received(ENTRY, &headers),
            &authorization(KEY, &signed.join(";"), "00"),
        )
        .unwrap_err();
        assert_eq!(refusal.code, "IncompleteSignature", "{missing}");
    }
    for hostile in [
        "",
        "ACS3-HMAC-SHA256",
        "ACS3-HMAC-SHA256 Credential",
        "Bearer x",
        "ACS3-HMAC-SHA256 Credential=a,Signature=b",
    ] {
        assert_eq!(
            v3::extract_claim(&received(ENTRY, &headers), hostile).unwrap_err().code,
            "IncompleteSignature",
            "{hostile}"
        );
    }
}

#[test]
fn a_nonce_is_good_once_per_key_and_forgotten_when_its_date_is_worthless() {
    let mut nonces = Nonces::default();
    let claim = minimal_claim(ENTRY);
    nonces.note_nonce(&claim, at(DATE)).unwrap();
    assert_eq!(nonces.note_nonce(&claim, at(DATE)).unwrap_err().code, "SignatureNonceUsed");
    nonces
        .note_nonce(
            &SignatureClaim { access_key_id: "other".to_owned(), ..claim.clone() },
            at(DATE),
        )
        .unwrap();
    nonces.note_nonce(&claim, at("2026-01-02T03:34:06Z")).unwrap();
}
