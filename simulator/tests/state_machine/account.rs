//! Rules for all actions: tokens, quotas, rates, policies, keys.

use serde_json::Value;
use simulator::{
    cloud::{Call, Quotas},
    params::Params,
    profile::Profile,
};

use super::stand::{Stand, refusal_code};

#[test]
fn a_token_replays_its_answer_and_its_refusal_but_not_while_processing_nor_for_another_request() {
    let mut stand = Stand::new(Profile::Realistic);
    let first = stand.call("AllocateEipAddress", "ClientToken=t&Bandwidth=5").unwrap();
    assert_eq!(
        refusal_code(stand.call("AllocateEipAddress", "ClientToken=t&Bandwidth=5")),
        "LastTokenProcessing"
    );
    assert_eq!(
        stand.call_after_settling("AllocateEipAddress", "ClientToken=t&Bandwidth=5").unwrap(),
        first
    );
    assert_eq!(
        refusal_code(stand.call("AllocateEipAddress", "ClientToken=t&Bandwidth=6")),
        "IdempotentParameterMismatch"
    );
    let missing =
        stand.entry("80", "10.1.0.5", "80", "TCP").replace("ftb-", "ftb-x") + "&ClientToken=e";
    assert_eq!(
        refusal_code(stand.call_after_settling("CreateForwardEntry", &missing)),
        "InvalidForwardTableId.NotFound"
    );
    assert_eq!(
        refusal_code(stand.call_after_settling("CreateForwardEntry", &missing)),
        "InvalidForwardTableId.NotFound"
    );
    let id = first["AllocationId"].as_str().unwrap();
    let query = format!(
        "AllocationId={id}&InstanceId=eni-none&InstanceType=NetworkInterface&ClientToken=a"
    );
    assert_eq!(refusal_code(stand.call("AssociateEipAddress", &query)), "InvalidInstanId.NotFound");
}

#[test]
fn a_replayed_conflict_stays_a_conflict_until_the_token_is_new() {
    let mut stand = Stand::new(Profile::Realistic);
    stand.create("80", "10.1.0.5", "80", "TCP").unwrap();
    let query = stand.entry("81", "10.1.0.5", "81", "TCP");
    assert_eq!(
        refusal_code(stand.call("CreateForwardEntry", &format!("{query}&ClientToken=same"))),
        "OperationConflict"
    );
    assert_eq!(
        refusal_code(
            stand.call_after_settling("CreateForwardEntry", &format!("{query}&ClientToken=same"))
        ),
        "OperationConflict"
    );
    stand.call("CreateForwardEntry", &format!("{query}&ClientToken=new")).unwrap();
}

#[test]
fn quotas_bind_and_a_gateway_may_have_its_own() {
    let mut stand = Stand::new(Profile::Instant);
    for _ in 0..16 {
        stand.allocate();
    }
    assert_eq!(
        refusal_code(stand.call_after_settling("AllocateEipAddress", "")),
        "QuotaExceeded.Eip"
    );
    let (gateway, _, _, _) = stand.gateway();
    stand.cloud.set_entry_quota(&gateway, 1).unwrap();
    stand.create("80", "10.1.0.5", "80", "TCP").unwrap();
    assert_eq!(refusal_code(stand.create("81", "10.1.0.5", "81", "TCP")), "QuotaExceeded");
}

#[test]
fn rates_are_counted_over_a_sliding_minute() {
    let mut stand = Stand::new(Profile::Realistic);
    stand.cloud.set_quotas(Quotas { eips: 1000, ..Quotas::default() });
    for _ in 0..120 {
        stand.call("AllocateEipAddress", "").unwrap();
    }
    assert_eq!(refusal_code(stand.call("AllocateEipAddress", "")), "Throttling.User");
    stand.call("DescribeEipAddresses", "").unwrap();
    stand.pass_time(59_999);
    assert_eq!(refusal_code(stand.call("AllocateEipAddress", "")), "Throttling.User");
    stand.pass_time(1);
    stand.call("AllocateEipAddress", "").unwrap();
}

#[test]
fn a_denied_action_is_refused_with_its_detail_and_a_switched_off_key_altogether() {
    let mut stand = Stand::new(Profile::Instant);
    stand.cloud.access_key_mut(&stand.key).unwrap().denied =
        vec!["vpc:Release*".to_owned(), "ecs:DescribeNetworkInterfaces".to_owned()];
    assert_eq!(refusal_code(stand.call("ReleaseEipAddress", "AllocationId=x")), "Forbidden.RAM");
    assert_eq!(refusal_code(stand.call("DescribeNetworkInterfaces", "")), "Forbidden.RAM");
    stand.call("DescribeEipAddresses", "").unwrap();
    stand.cloud.access_key_mut(&stand.key).unwrap().is_inactive = true;
    assert_eq!(refusal_code(stand.call("DescribeEipAddresses", "")), "InvalidAccessKeyId.Inactive");
}

#[test]
fn an_oidc_token_is_judged_by_its_claims() {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let mut stand = Stand::new(Profile::Instant);
    let token = |claims: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
    let role = format!("acs:ram::{}:role/worker", stand.cloud.account_number());
    let provider = format!("acs:ram::{}:oidc-provider/ack", stand.cloud.account_number());
    let query = |token: &str| {
        format!(
            "RoleSessionName=waygate&RoleArn={role}&OIDCProviderArn={provider}&OIDCToken={token}"
        )
    };
    let mut ask = |claims: &str| stand.call("AssumeRoleWithOIDC", &query(&token(claims)));
    let good = ask(
        r#"{"iss":"https://k8s","sub":"s","aud":["sts.aliyuncs.com"],"exp":4102444800,"iat":1}"#,
    )
    .unwrap();
    assert!(good["Credentials"]["AccessKeyId"].as_str().unwrap().starts_with("STS."));
    assert_eq!(good["Credentials"]["Expiration"], "2026-01-02T04:04:05Z");
    let code =
        |outcome| refusal_code::<Value>(outcome).replace("AuthenticationFail.OIDCToken.", "");
    assert_eq!(code(ask(r#"{"iss":"https://k8s","aud":"sts.aliyuncs.com","exp":1}"#)), "Expired");
    assert_eq!(
        code(ask(r#"{"iss":"https://k8s","aud":"other","exp":4102444800}"#)),
        "AudienceNotMatch"
    );
    assert_eq!(
        code(ask(r#"{"iss":"http://k8s","aud":"sts.aliyuncs.com","exp":4102444800}"#)),
        "HttpsUrlInvalid"
    );
    assert_eq!(code(ask("no json")), "Invalid");
    assert_eq!(code(stand.call("AssumeRoleWithOIDC", &query("no-jwt"))), "Invalid");
}

#[test]
fn common_refusals_come_before_any_action() {
    let mut stand = Stand::new(Profile::Instant);
    assert_eq!(
        refusal_code(stand.call("DescribeEipAddresses", "RegionId=mars")),
        "InvalidRegionId.NotFound"
    );
    assert_eq!(refusal_code(stand.call("DeleteForwardEntry", "")), "MissingParameter");
    assert_eq!(refusal_code(stand.call("LaunchRocket", "")), "InvalidAction.NotFound");
    assert_eq!(refusal_code(stand.call("DescribeVpcs", "DryRun=True")), "DryRunOperation");
    let params = Params::default();
    let old = Call {
        action: "DescribeVpcs",
        version: "1999-01-01",
        params: &params,
        caller: Some(&stand.key),
    };
    assert_eq!(stand.cloud.handle_call(&old, stand.now).outcome.unwrap_err().code, "NoSuchVersion");
    let unsigned =
        Call { action: "DescribeVpcs", version: "2016-04-28", params: &params, caller: None };
    assert_eq!(
        stand.cloud.handle_call(&unsigned, stand.now).outcome.unwrap_err().code,
        "IncompleteSignature"
    );
}
