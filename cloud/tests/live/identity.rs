//! The client's identity with every source of credentials.

use crate::harness::{Simulator, eventually};
use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use tokio::task::JoinSet;
use waygate_cloud::{Cloud, Credentials, Environment, LocalPermits};

fn cloud(simulator: &Simulator, credentials: Credentials) -> Result<Cloud> {
    Ok(Cloud::new(
        simulator.settings(),
        credentials,
        Arc::new(LocalPermits::with_published_rates()),
    )?)
}

async fn arn(cloud: &Cloud) -> Result<String> {
    Ok(cloud.caller_identity().await?.value.arn)
}

/// A service account's token, with the claims that the simulator checks.
fn service_account_token(lifetime: SignedDuration) -> String {
    let expires = (Timestamp::now() + lifetime).as_second();
    let claims = serde_json::json!({"iss": "https://kubernetes.example", "aud": ["sts.aliyuncs.com"], "sub": "worker", "exp": expires});
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{}", part("{}"), part(&claims.to_string()), part("signature"))
}

/// The environment of a pod whose service account may assume the role `pods`.
fn service_account(account: &str, token_file: &Path) -> Environment {
    Environment {
        role_arn: Some(format!("acs:ram::{account}:role/pods")),
        oidc_provider_arn: Some(format!("acs:ram::{account}:oidc-provider/cluster")),
        oidc_token_file: Some(token_file.to_owned()),
        ..Environment::default()
    }
}

#[tokio::test]
async fn the_cloud_knows_the_owner_of_a_key() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "instant"]).await?;
    let identity = simulator.cloud().caller_identity().await?.value;
    assert!(!identity.account_id.is_empty() && !identity.arn.is_empty(), "{identity:?}");
    Ok(())
}

#[tokio::test]
async fn a_service_account_takes_its_role_and_its_token_file_is_read_again() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "instant"]).await?;
    let account = simulator.text("/accountId");
    let folder = tempfile::tempdir()?;
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, service_account_token(SignedDuration::from_secs(-1)))?;
    let environment = service_account(&account, &token_file);
    let cloud = cloud(
        &simulator,
        Credentials::from_first_source(None, environment, &simulator.settings())?,
    )?;
    let expired = cloud.caller_identity().await.unwrap_err();
    assert_eq!((expired.reason(), expired.is_definite()), ("NoCredentials", true));
    assert!(expired.to_string().contains("OIDCToken.Expired"), "{expired}");

    std::fs::write(&token_file, service_account_token(SignedDuration::from_hours(1)))?;
    let arn = eventually("the rotated token serves", async || arn(&cloud).await.ok()).await;
    assert!(arn.contains("pods"), "{arn}");
    assert_eq!(simulator.calls("AssumeRoleWithOIDC").await, 2);
    Ok(())
}

#[tokio::test]
async fn many_callers_fetch_keys_once_and_keys_that_ended_early_are_renewed() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "instant"]).await?;
    let folder = tempfile::tempdir()?;
    let token_file = folder.path().join("token");
    // Valid for longer than the keys, because the cloud's clock is advanced below.
    std::fs::write(&token_file, service_account_token(SignedDuration::from_hours(12)))?;
    let environment = service_account(&simulator.text("/accountId"), &token_file);
    let cloud = cloud(
        &simulator,
        Credentials::from_first_source(None, environment, &simulator.settings())?,
    )?;
    let mut callers = JoinSet::new();
    for _ in 0..30 {
        let cloud = cloud.clone();
        callers.spawn(async move { cloud.caller_identity().await.is_ok() });
    }
    assert!(callers.join_all().await.into_iter().all(|answered| answered));
    assert_eq!(simulator.calls("AssumeRoleWithOIDC").await, 1);

    // Only the cloud's clock advances: the client still takes its keys for valid.
    simulator.post("/console/time", json!({"advanceMs": 2 * 3_600_000})).await;
    let ended = cloud.caller_identity().await.unwrap_err();
    assert_eq!(
        (ended.reason(), ended.is_definite(), ended.is_transient()),
        ("CredentialsExpired", true, true),
        "{ended}"
    );
    cloud.caller_identity().await?;
    assert_eq!(simulator.calls("AssumeRoleWithOIDC").await, 2);
    Ok(())
}

#[tokio::test]
async fn a_machine_has_the_role_of_its_metadata() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "instant"]).await?;
    let metadata_endpoint = Some(simulator.text("/metadata").parse()?);
    let environment = Environment { metadata_endpoint, ..Environment::default() };
    let cloud = cloud(
        &simulator,
        Credentials::from_first_source(None, environment, &simulator.settings())?,
    )?;
    assert!(arn(&cloud).await?.contains(&simulator.text("/ramRole")));
    Ok(())
}

#[tokio::test]
async fn an_old_machine_and_a_hardened_one_are_understood_where_that_is_allowed() -> Result<()> {
    for (protocols, imdsv1_disabled, is_understood) in
        [("v1", false, true), ("v1", true, false), ("v2", false, true), ("v2", true, true)]
    {
        let simulator =
            Simulator::start(&["--profile", "instant", "--metadata-protocols", protocols]).await?;
        let metadata_endpoint = Some(simulator.text("/metadata").parse()?);
        let environment =
            Environment { metadata_endpoint, imdsv1_disabled, ..Environment::default() };
        let cloud = cloud(
            &simulator,
            Credentials::from_first_source(None, environment, &simulator.settings())?,
        )?;
        assert_eq!(
            cloud.caller_identity().await.is_ok(),
            is_understood,
            "{protocols}, v1 disabled: {imdsv1_disabled}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_source_that_is_away_is_a_passing_trouble_and_nothing_was_sent() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "instant"]).await?;
    // No process listens on the discard port.
    let environment = Environment {
        metadata_endpoint: Some("http://127.0.0.1:9/".parse()?),
        ..Environment::default()
    };
    let cloud = cloud(
        &simulator,
        Credentials::from_first_source(None, environment, &simulator.settings())?,
    )?;
    let error = cloud.caller_identity().await.unwrap_err();
    assert!(error.is_definite() && error.is_transient(), "{error}");
    assert_eq!(simulator.calls("GetCallerIdentity").await, 0);
    Ok(())
}
