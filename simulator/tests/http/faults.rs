//! Faults on demand, and their effect on the calls they hit.

use super::client::{Key, Stand};

#[tokio::test]
async fn an_error_fault_hits_its_action_the_given_number_of_times_and_applies_nothing() {
    let stand = Stand::start("--profile instant").await;
    let before = stand.eip_count().await;
    stand.set_fault(r#"{"action":"AllocateEipAddress","kind":"error","code":"ServiceUnavailable","times":2}"#).await;
    for _ in 0..2 {
        let answer = stand.call("AllocateEipAddress", "ClientToken=t").await;
        assert_eq!((answer.status, answer.code()), (503, "ServiceUnavailable"));
    }
    assert_eq!(stand.eip_count().await, before);
    assert_eq!(stand.call("AllocateEipAddress", "ClientToken=t").await.status, 200);
    let calls = stand.admin("GET", "/calls", "").await.body;
    assert_eq!(calls["calls"]["AllocateEipAddress"], 3);
    assert_eq!(calls["errors"]["AllocateEipAddress"]["ServiceUnavailable"], 2);
    stand.admin("POST", "/calls/reset", "").await;
    assert_eq!(stand.admin("GET", "/calls", "").await.body["calls"], serde_json::json!({}));
}

#[tokio::test]
async fn a_throttle_says_when_to_retry() {
    let stand = Stand::start("--profile instant").await;
    stand.set_fault(r#"{"action":"*","kind":"throttle","delayMs":250,"times":1}"#).await;
    let answer = stand.call("DescribeVpcs", "").await;
    assert_eq!((answer.status, answer.code()), (400, "Throttling.User"));
    assert!(answer.head.contains("x-acs-retry-after: 250"), "{}", answer.head);
}

#[tokio::test]
async fn a_lost_response_was_applied_and_its_token_finds_it() {
    let stand = Stand::start("--profile instant").await;
    let before = stand.eip_count().await;
    stand.set_fault(r#"{"action":"AllocateEipAddress","kind":"lost-response","times":1}"#).await;
    assert!(stand.try_call(&stand.key, "AllocateEipAddress", "ClientToken=t").await.is_err());
    assert_eq!(stand.eip_count().await, before + 1);
    assert_eq!(stand.call("AllocateEipAddress", "ClientToken=t").await.status, 200);
    assert_eq!(stand.eip_count().await, before + 1, "the token's second call makes nothing");
}

#[tokio::test]
async fn a_reset_connection_applied_nothing() {
    let stand = Stand::start("--profile instant").await;
    let before = stand.eip_count().await;
    stand.set_fault(r#"{"action":"AllocateEipAddress","kind":"reset","times":1}"#).await;
    let error = stand.try_call(&stand.key, "AllocateEipAddress", "").await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(stand.eip_count().await, before);
}

#[tokio::test]
async fn a_held_call_is_applied_and_answers_when_released() {
    let stand = Stand::start("--profile instant").await;
    let before = stand.eip_count().await;
    let id = stand.set_fault(r#"{"action":"AllocateEipAddress","kind":"hold"}"#).await;
    let release = async {
        stand.wait_for_held_calls(1).await;
        assert_eq!(stand.eip_count().await, before + 1);
        assert_eq!(stand.admin("POST", &format!("/faults/{id}/release"), "").await.status, 200);
    };
    let (answer, ()) = tokio::join!(stand.call("AllocateEipAddress", ""), release);
    assert_eq!(answer.status, 200);
    assert_eq!(
        stand.call("AllocateEipAddress", "").await.status,
        200,
        "a released fault holds nothing more"
    );
    assert_eq!(stand.admin("POST", "/faults/99/release", "").await.status, 404);
}

#[tokio::test]
async fn a_caller_that_leaves_is_no_longer_held_and_its_call_stays_applied() {
    let stand = Stand::start("--profile instant").await;
    let before = stand.eip_count().await;
    let id = stand.set_fault(r#"{"action":"AllocateEipAddress","kind":"hold"}"#).await;
    {
        let doomed = stand.call("AllocateEipAddress", "");
        tokio::select! {
            _ = doomed => unreachable!("the fault was not released"),
            () = stand.wait_for_held_calls(1) => {}
        }
    }
    stand.wait_for_held_calls(0).await;
    assert_eq!(stand.eip_count().await, before + 1);
    assert_eq!(stand.admin("DELETE", &format!("/faults/{id}"), "").await.status, 200);
}

#[tokio::test]
async fn ending_all_faults_releases_held_calls() {
    let stand = Stand::start("--profile instant").await;
    stand.set_fault(r#"{"action":"*","kind":"hold"}"#).await;
    let end = async {
        stand.wait_for_held_calls(1).await;
        stand.admin("DELETE", "/faults", "").await;
    };
    let (answer, ()) = tokio::join!(stand.call("DescribeVpcs", ""), end);
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_delayed_call_is_applied_though_its_caller_has_left() {
    let stand = Stand::start("--profile instant").await;
    let before = stand.eip_count().await;
    let id = stand
        .set_fault(r#"{"action":"AllocateEipAddress","kind":"delay","delayMs":300,"times":1}"#)
        .await;
    {
        let doomed = stand.call("AllocateEipAddress", "");
        let hit = async {
            while stand.admin("GET", "/faults", "").await.body["faults"][0]["hits"] != 1 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = doomed => unreachable!("it takes 300 ms"),
            () = hit => {}
        }
    }
    assert_eq!(stand.eip_count().await, before, "fault {id} delays before the call is applied");
    while stand.eip_count().await == before {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_stale_describe_shows_the_past_and_only_reads_are_stale() {
    let stand = Stand::start("--profile instant").await;
    stand.set_fault(r#"{"action":"*","kind":"stale-describe"}"#).await;
    stand
        .admin("POST", "/console/access-key", r#"{"accessKeyId":"LTAInew","accessKeySecret":"s"}"#)
        .await;
    let new = Key { id: "LTAInew".to_owned(), secret: "s".to_owned(), token: None };
    assert_eq!(
        stand.try_call(&new, "DescribeVpcs", "").await.unwrap().status,
        200,
        "a new key may look at the past"
    );
    let id = stand.call("AllocateEipAddress", "").await.text("AllocationId");
    let query = format!("AllocationId={id}");
    assert_eq!(stand.call("DescribeEipAddresses", &query).await.body["TotalCount"], 0);
    stand.admin("DELETE", "/faults", "").await;
    assert_eq!(stand.call("DescribeEipAddresses", &query).await.body["TotalCount"], 1);
}

#[tokio::test]
async fn an_invalid_fault_is_refused() {
    let stand = Stand::start("--profile instant").await;
    for wanted in [
        r#"{"action":"*","kind":"error"}"#,
        r#"{"action":"*","kind":"hold","probability":2}"#,
        r#"{"action":"*","kind":"explode"}"#,
        r#"{"action":"*","kind":"hold","tiems":2}"#,
    ] {
        let status = stand.admin("POST", "/faults", wanted).await.status;
        assert!((400..500).contains(&status), "{wanted}: {status}");
    }
}
