//! Signed requests: accepted and refused ones, and temporary keys.

use jiff::{SignedDuration, Timestamp};
use simulator::{params::percent_encode, signature::v2};

use super::client::{Key, Stand, request, sign};

#[tokio::test]
async fn an_answer_has_an_upper_case_request_id_and_a_refusal_the_whole_envelope() {
    let stand = Stand::start("--profile instant").await;
    let good = stand.call("DescribeEipAddresses", "PageSize=100").await;
    let id = good.text("RequestId");
    assert!(id.len() == 36 && id.to_ascii_uppercase() == id, "{id}");
    let bad = stand.call("ReleaseEipAddress", "AllocationId=eip-none").await;
    assert_eq!((bad.status, bad.code()), (404, "InvalidAllocationId.NotFound"));
    for field in ["RequestId", "Code", "Message", "HostId", "Recommend"] {
        assert!(!bad.text(field).is_empty(), "{field}");
    }
    assert!(bad.text("Recommend").ends_with("q=InvalidAllocationId.NotFound&product=Vpc"));
}

#[tokio::test]
async fn a_request_is_good_for_one_time_one_secret_and_fifteen_minutes() {
    let stand = Stand::start("--profile instant").await;
    let query = "RegionId=cn-hangzhou";
    let once = sign(&stand.key, "DescribeVpcs", query, "once", Timestamp::now());
    assert_eq!(stand.send(&once).await.unwrap().status, 200);
    assert_eq!(stand.send(&once).await.unwrap().code(), "SignatureNonceUsed");
    let old = sign(
        &stand.key,
        "DescribeVpcs",
        query,
        "old",
        Timestamp::now() - SignedDuration::from_mins(16),
    );
    assert_eq!(stand.send(&old).await.unwrap().code(), "InvalidTimeStamp.Expired");
    let stranger = Key { secret: "wrong".to_owned(), ..stand.key.clone() };
    let answer = stand.try_call(&stranger, "DescribeVpcs", "").await.unwrap();
    assert_eq!((answer.status, answer.code()), (400, "SignatureDoesNotMatch"));
    let unknown_key = Key { id: "LTAIunknown".to_owned(), ..stand.key.clone() };
    assert_eq!(
        stand.try_call(&unknown_key, "DescribeVpcs", "").await.unwrap().code(),
        "InvalidAccessKeyId.NotFound"
    );
    let unsigned = "GET /?Action=DescribeVpcs&Version=2016-04-28 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    assert_eq!(stand.send(unsigned).await.unwrap().code(), "IncompleteSignature");
}

#[tokio::test]
async fn a_forged_request_does_not_use_up_a_nonce() {
    let stand = Stand::start("--profile instant").await;
    let stranger = Key { secret: "wrong".to_owned(), ..stand.key.clone() };
    stand
        .send(&sign(&stranger, "DescribeVpcs", "RegionId=cn-hangzhou", "shared", Timestamp::now()))
        .await
        .unwrap();
    let honest = stand
        .send(&sign(&stand.key, "DescribeVpcs", "RegionId=cn-hangzhou", "shared", Timestamp::now()))
        .await
        .unwrap();
    assert_eq!(honest.status, 200);
}

#[tokio::test]
async fn the_older_signature_is_taken_as_get_and_as_form() {
    let stand = Stand::start("--profile instant").await;
    for method in ["GET", "POST"] {
        let signed = |nonce: &str| {
            let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            let (key, date) = (percent_encode(&stand.key.id), percent_encode(&now));
            let query = format!(
                "AccessKeyId={key}&Action=DescribeVpcs&Format=json&RegionId=cn-hangzhou&SignatureMethod=HMAC-SHA1&SignatureNonce={nonce}\
                 &SignatureVersion=1.0&Timestamp={date}&Version=2016-04-28"
            );
            let signature = v2::sign_text(
                &stand.key.secret,
                &format!("{method}&%2F&{}", percent_encode(&query)),
            );
            format!("{query}&Signature={}", percent_encode(&signature))
        };
        let address = stand.serving.endpoint.to_string();
        let in_query =
            request(&address, method, &format!("/?{}", signed(&format!("q-{method}"))), &[], "")
                .await;
        assert_eq!(in_query.status, 200, "{in_query:?}");
        if method == "POST" {
            let form = [("content-type", "application/x-www-form-urlencoded")];
            let in_form = request(&address, method, "/", &form, &signed("f")).await;
            assert_eq!(in_form.status, 200, "{in_form:?}");
        }
    }
}

#[tokio::test]
async fn a_temporary_key_works_with_its_token_until_it_ends() {
    let stand = Stand::start("--profile instant").await;
    let role = format!(
        "RoleArn=acs%3Aram%3A%3A{}%3Arole%2Fworker&RoleSessionName=me&DurationSeconds=900",
        stand.ready["accountId"].as_str().unwrap()
    );
    let credentials = stand.call("AssumeRole", &role).await.body["Credentials"].clone();
    let text = |name: &str| credentials[name].as_str().unwrap().to_owned();
    let key = Key {
        id: text("AccessKeyId"),
        secret: text("AccessKeySecret"),
        token: Some(text("SecurityToken")),
    };
    let who = stand.try_call(&key, "GetCallerIdentity", "").await.unwrap();
    assert_eq!((who.status, who.text("IdentityType").as_str()), (200, "AssumedRoleUser"));
    let without = Key { token: None, ..key.clone() };
    assert_eq!(
        stand.try_call(&without, "DescribeVpcs", "").await.unwrap().code(),
        "MissingSecurityToken"
    );
    let other = Key { token: Some("other".to_owned()), ..key.clone() };
    assert_eq!(
        stand.try_call(&other, "DescribeVpcs", "").await.unwrap().code(),
        "InvalidSecurityToken.MismatchWithAccessKey"
    );
    stand.admin("POST", "/console/time", r#"{"advanceMs": 900000}"#).await;
    assert_eq!(
        stand.try_call(&key, "DescribeVpcs", "").await.unwrap().code(),
        "InvalidSecurityToken.Expired"
    );
}

#[tokio::test]
async fn an_oidc_token_is_taken_unsigned_as_get_and_as_form() {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let stand = Stand::start("--profile instant").await;
    let account = stand.ready["accountId"].as_str().unwrap();
    let claims = r#"{"iss":"https://kubernetes","sub":"system:serviceaccount:waygate:worker","aud":["sts.aliyuncs.com"],"exp":4102444800}"#;
    let query = format!(
        "Action=AssumeRoleWithOIDC&Format=JSON&Version=2015-04-01&Timestamp=2026-01-02T03%3A04%3A05Z&RoleSessionName=me&DurationSeconds=3600\
         &RoleArn=acs%3Aram%3A%3A{account}%3Arole%2Fworker&OIDCProviderArn=acs%3Aram%3A%3A{account}%3Aoidc-provider%2Fack\
         &OIDCToken=e30.{}.c2ln",
        URL_SAFE_NO_PAD.encode(claims)
    );
    let address = stand.serving.endpoint.to_string();
    let got = request(&address, "GET", &format!("/?{query}"), &[], "").await;
    assert_eq!(
        (got.status, got.body["OIDCTokenInfo"]["Issuer"].as_str()),
        (200, Some("https://kubernetes")),
        "{got:?}"
    );
    let posted = request(
        &address,
        "POST",
        "/",
        &[("content-type", "application/x-www-form-urlencoded")],
        &query,
    )
    .await;
    assert!(posted.body["Credentials"]["AccessKeyId"].as_str().unwrap().starts_with("STS."));
    let spoiled =
        request(&address, "GET", &format!("/?{}", query.replace("e30.", "e30")), &[], "").await;
    assert_eq!((spoiled.status, spoiled.code()), (401, "AuthenticationFail.OIDCToken.Invalid"));
}

#[tokio::test]
async fn the_metadata_service_hands_out_keys_that_work() {
    let stand = Stand::start("--profile instant").await;
    let address = stand.serving.metadata.to_string();
    let ttl = [("x-aliyun-ecs-metadata-token-ttl-seconds", "21600")];
    let token = request(&address, "PUT", "/latest/api/token", &ttl, "").await;
    let token = token.body.as_str().unwrap().to_owned();
    let path = "/latest/meta-data/ram/security-credentials/";
    let with = [("x-aliyun-ecs-metadata-token", token.as_str())];
    let role = request(&address, "GET", path, &with, "").await.body.as_str().unwrap().to_owned();
    assert_eq!(stand.ready["ramRole"], role.as_str());
    for headers in [&with[..], &[]] {
        let answer = request(&address, "GET", &format!("{path}{role}"), headers, "").await;
        assert_eq!(answer.text("Code"), "Success");
        let key = Key {
            id: answer.text("AccessKeyId"),
            secret: answer.text("AccessKeySecret"),
            token: Some(answer.text("SecurityToken")),
        };
        assert_eq!(stand.try_call(&key, "DescribeVpcs", "").await.unwrap().status, 200);
    }
    assert_eq!(
        request(&address, "GET", path, &[("x-aliyun-ecs-metadata-token", "made-up")], "")
            .await
            .status,
        403
    );
    assert_eq!(request(&address, "PUT", "/latest/api/token", &[], "").await.status, 400);
    assert_eq!(request(&address, "GET", &format!("{path}unknown"), &with, "").await.status, 404);
}

#[tokio::test]
async fn another_account_or_region_sees_nothing_of_this_one() {
    let stand = Stand::start("--profile instant").await;
    let own = "RegionId=cn-hangzhou";
    let eip = stand.call("AllocateEipAddress", own).await.text("AllocationId");
    let other = Key { id: "LTAI5tother".to_owned(), secret: "other".to_owned(), token: None };
    let body = r#"{"accessKeyId": "LTAI5tother", "accessKeySecret": "other", "accountId": "99"}"#;
    stand.admin("POST", "/console/access-key", body).await;
    let who = stand.try_call(&other, "GetCallerIdentity", "").await.unwrap();
    assert_eq!(who.text("AccountId"), "99");
    for (key, region) in [(&other, own), (&stand.key, "RegionId=cn-shanghai")] {
        for (action, count) in [
            ("DescribeEipAddresses", "TotalCount"),
            ("DescribeNatGateways", "TotalCount"),
            ("DescribeNetworkInterfaces", "TotalCount"),
        ] {
            let answer = stand.try_call(key, action, region).await.unwrap();
            assert_eq!((answer.status, answer.body[count].as_u64()), (200, Some(0)), "{action}");
        }
        let release = format!("{region}&AllocationId={eip}");
        let answer = stand.try_call(key, "ReleaseEipAddress", &release).await.unwrap();
        assert_eq!((answer.status, answer.code()), (404, "InvalidAllocationId.NotFound"));
    }
    let total = async || {
        let eips = stand.try_call(&other, "DescribeEipAddresses", own).await.unwrap();
        eips.body["TotalCount"].as_u64().unwrap()
    };
    stand.try_call(&other, "AllocateEipAddress", own).await.unwrap();
    assert_eq!(total().await, 1, "of its own");
    let account = stand.ready["accountId"].as_str().unwrap();
    let body = format!(r#"{{"accessKeyId": "LTAI5tother", "accountId": "{account}"}}"#);
    stand.admin("POST", "/console/access-key", &body).await;
    assert!(total().await > 1, "passed to this account while it runs");
}
