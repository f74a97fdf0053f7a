//! Failures of calls: lost answers, server errors, deadlines, throttling.

use crate::harness::{PATIENCE, Simulator, eventually, soon, token};
use anyhow::Result;
use serde_json::json;
use std::time::Duration;
use waygate_cloud::{Class, Cloud, Credentials, LocalPermits, SendBy};
use waygate_core::change::Change;
use waygate_core::ids::AllocationId;
use waygate_core::request::EipSpec;

fn buy() -> Change {
    Change::AllocateEipAddress {
        spec: EipSpec::default(),
        tags: [("waygate.dev/lease".to_owned(), "l".to_owned())].into(),
    }
}

#[tokio::test]
async fn a_lost_answer_is_unknown_and_its_token_brings_the_same_eip() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "instant"]).await?;
    let (cloud, token) = (simulator.cloud(), token());
    simulator.fault("AllocateEipAddress", "lost-response", json!({})).await;
    let lost = cloud.send_change(&buy(), Some(&token), soon(), PATIENCE).await.unwrap_err();
    assert_eq!(
        (lost.class(), lost.is_definite(), lost.is_transient()),
        (Class::Transient, false, true),
        "{lost}"
    );
    assert_eq!(simulator.calls("AllocateEipAddress").await, 1, "a change is sent once");

    let id =
        cloud.send_change(&buy(), Some(&token), soon(), PATIENCE).await?.allocation_id.unwrap();
    let Change::AllocateEipAddress { tags, .. } = buy() else { unreachable!() };
    let all = cloud.eips_by_tags(&tags).await?.value;
    assert_eq!(all.iter().map(|eip| &eip.allocation_id).collect::<Vec<_>>(), [&id]);
    Ok(())
}

#[tokio::test]
async fn an_entry_whose_answer_was_lost_is_created_once() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "instant"]).await?;
    let (cloud, token) = (simulator.cloud(), token());
    simulator.fault("CreateForwardEntry", "lost-response", json!({})).await;
    let change = Change::CreateForwardEntry(simulator.forward(0));
    assert!(
        !cloud
            .send_change(&change, Some(&token), soon(), PATIENCE)
            .await
            .unwrap_err()
            .is_definite()
    );
    let entry_id =
        cloud.send_change(&change, Some(&token), soon(), PATIENCE).await?.entry_id.unwrap();
    let entries = cloud.forward_entries(&simulator.gateway()).await?.value;
    assert_eq!(entries.iter().map(|entry| &entry.entry_id).collect::<Vec<_>>(), [&entry_id]);
    Ok(())
}

#[tokio::test]
async fn a_server_in_trouble_leaves_the_outcome_unknown_and_is_asked_once() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "instant"]).await?;
    let cloud = simulator.cloud();
    for (kind, extra) in [
        ("error", json!({"code": "InternalError"})),
        ("error", json!({"code": "ServiceUnavailable"})),
        ("reset", json!({})),
    ] {
        simulator.post("/calls/reset", json!({})).await;
        simulator.fault("AllocateEipAddress", kind, extra).await;
        let error = cloud.send_change(&buy(), Some(&token()), soon(), PATIENCE).await.unwrap_err();
        assert_eq!((error.class(), error.is_definite()), (Class::Transient, false), "{error}");
        assert!(simulator.calls("AllocateEipAddress").await <= 1, "a change is sent once");
    }
    Ok(())
}

#[tokio::test]
async fn a_call_ends_at_its_deadline() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "instant"]).await?;
    let cloud = simulator.cloud();
    simulator.fault("AllocateEipAddress", "delay", json!({"delayMs": 60_000})).await;
    let begun = std::time::Instant::now();
    let late = cloud
        .send_change(&buy(), Some(&token()), soon(), Duration::from_millis(200))
        .await
        .unwrap_err();
    assert_eq!((late.reason(), late.is_definite()), ("CloudTimeout", false));
    assert!(begun.elapsed() < Duration::from_secs(10));
    Ok(())
}

#[tokio::test]
async fn throttling_is_told_apart_and_slows_the_permits() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "instant"]).await?;
    let (cloud, gateway) = (simulator.cloud(), simulator.gateway());
    simulator.fault("CreateForwardEntry", "throttle", json!({})).await;
    let change = Change::CreateForwardEntry(simulator.forward(0));
    let send = async |deadline| {
        cloud
            .acquire_write_slot(&gateway)
            .await
            .send_change(&change, Some(&token()), deadline)
            .await
    };
    let throttled = send(PATIENCE).await.unwrap_err();
    assert_eq!(
        (throttled.class(), throttled.is_definite()),
        (Class::Throttled, false),
        "{throttled}"
    );
    let late = send(Duration::from_millis(1)).await.unwrap_err();
    assert_eq!((late.reason(), late.is_definite()), ("RateLimited", true), "{late}");
    assert!(late.retry_after().is_some(), "{late:?} says when to ask again");
    eventually("permits flow again", async || send(PATIENCE).await.ok()).await;
    Ok(())
}

#[tokio::test]
async fn a_change_that_comes_too_late_is_not_written() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "instant"]).await?;
    let cloud = simulator.cloud();
    let send_by = SendBy::within(Duration::ZERO);
    tokio::time::sleep(Duration::from_millis(5)).await;
    let late = cloud.send_change(&buy(), Some(&token()), send_by, PATIENCE).await.unwrap_err();
    assert!(late.is_definite() && !late.call_failure().sent, "{late:?}");
    assert_eq!(simulator.calls("AllocateEipAddress").await, 0);
    Ok(())
}

#[tokio::test]
async fn a_wrong_secret_is_a_denial_that_names_the_call() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "instant"]).await?;
    let wrong = Credentials::access_key(simulator.text("/accessKeyId"), "not the secret".into());
    let cloud = Cloud::new(
        simulator.settings(),
        wrong,
        std::sync::Arc::new(LocalPermits::with_published_rates()),
    )?;
    let denied = cloud.eip_by_id(&AllocationId::new("eip-1")).await.unwrap_err();
    assert_eq!(
        (denied.class(), denied.reason()),
        (Class::Denied, "InvalidCredentials"),
        "{denied}"
    );
    assert!(
        denied.to_string().contains("DescribeEipAddresses") && denied.request_id().is_some(),
        "{denied}"
    );
    Ok(())
}
