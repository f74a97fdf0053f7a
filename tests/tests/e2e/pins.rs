//! Account, region and VPC are pinned in the lease store: a worker that is set up for others changes
//! nothing.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use testbed::{
    address_kinds::ADDRESS_KINDS, leftovers::wait_until_nothing_is_left, pods::find_condition,
    stand::Stand, wait::TIMEOUT,
};

const OTHER_KEY: (&str, &str) = ("LTAI5tother", "another account's secret");
const OTHER_ACCOUNT: &str = "99";
/// Time in which an EIP is withdrawn and released if a worker does not see it.
const LONG_ENOUGH: Duration = Duration::from_secs(12);

/// Replaces the workers by ones of the changed configuration, ready or not.
async fn restart_workers(stand: &Stand, over: &Value) -> Result<()> {
    stand.worker.stop().await?;
    stand.reconfigure(over)?;
    for worker in stand.worker.iter() {
        worker.spawn().await?;
    }
    Ok(())
}

/// What must not change: the leases as they are, and the calls that change the cloud.
async fn read_everything(stand: &Stand) -> Result<(Vec<String>, Value)> {
    let leases = "SELECT lease::text FROM lease ORDER BY lease_id";
    let leases = sqlx::query_scalar(leases).fetch_all(&stand.database).await?;
    let mut calls = stand.cloud.count_calls().await?["calls"].take();
    let by_action = calls.as_object_mut().context("no counts")?;
    by_action.retain(|action, _| {
        !["Describe", "Get", "List"].iter().any(|read| action.starts_with(read))
    });
    Ok((leases, calls))
}

/// Waits until every worker's readiness names this check.
async fn wait_until_unready(stand: &Stand, check: &str) -> Result<()> {
    let named = || async {
        for admin in &stand.worker_admins {
            let answer = reqwest::get(format!("{admin}/readyz?verbose")).await?.text().await?;
            ensure!(answer.contains(check), answer);
        }
        Ok(Some(()))
    };
    stand.eventually(named, &format!("workers that wait for {check:?}"), TIMEOUT).await
}

async fn wait_until_ready(stand: &Stand) -> Result<()> {
    let ready = || async {
        for admin in &stand.worker_admins {
            let answer = reqwest::get(format!("{admin}/readyz")).await?;
            ensure!(answer.status().is_success(), answer.text().await?);
        }
        Ok(Some(()))
    };
    stand.eventually(ready, "workers that are ready", TIMEOUT).await
}

/// Nothing changes for a while, though news of the pods come, and the gates stay True.
async fn assert_nothing_changes(stand: &Stand, check: &str, words: &[&str]) -> Result<()> {
    wait_until_unready(stand, check).await?;
    stand.wake_leases().await?;
    for kind in ADDRESS_KINDS {
        stand.annotate_pod(kind.pod, json!({"example.com/news": check})).await?;
    }
    let before = read_everything(stand).await?;
    tokio::time::sleep(LONG_ENOUGH).await;
    ensure!(read_everything(stand).await? == before, "something was changed");
    for kind in ADDRESS_KINDS {
        let pod = stand.pods().get(kind.pod).await?;
        let gate = find_condition(&pod, kind.gate).context("no condition")?;
        ensure!(gate.status == "True", "{gate:?}");
    }
    let log = stand.worker.read_logs()?;
    let told = log.lines().any(|line| words.iter().all(|word| line.contains(word)));
    ensure!(told, "no line of the logs has all of {words:?}");
    Ok(())
}

#[tokio::test]
async fn a_worker_for_another_account_region_or_vpc_changes_nothing() -> Result<()> {
    let stand = Stand::start().await?;
    for kind in ADDRESS_KINDS {
        stand.create_pod(&kind.requesting_pod(&[])).await?;
        kind.wait_until_it_works(&stand).await?;
    }
    stand.wait_until_leases_rest().await?;
    let (id, secret) = OTHER_KEY;
    let key = json!({"accessKeyId": id, "accessKeySecret": secret, "accountId": OTHER_ACCOUNT});
    stand.cloud.change_at_console("access-key", key).await?;
    let account = &stand.cloud.account;
    let own = json!({
        "credential": {"accessKey": account.access_key_id, "accessSecret": account.access_key_secret.expose_secret()},
        "regionID": account.region_id,
        "vpcID": account.vpc_id,
    });
    for (over, check, words) in [
        (
            json!({"credential": {"accessKey": id, "accessSecret": secret}}),
            "account of the credentials as pinned",
            ["account of the credentials", OTHER_ACCOUNT],
        ),
        (json!({"regionID": "cn-shanghai"}), "regionID as pinned", ["regionID", "cn-shanghai"]),
        (json!({"vpcID": "vpc-other"}), "vpcID as pinned", ["vpcID", "vpc-other"]),
    ] {
        restart_workers(&stand, &over).await?;
        assert_nothing_changes(&stand, check, &words).await?;
        restart_workers(&stand, &own).await?;
        wait_until_ready(&stand).await?;
    }

    // The key is passed to the right account while the workers run, and they go on by themselves.
    restart_workers(&stand, &json!({"credential": {"accessKey": id, "accessSecret": secret}}))
        .await?;
    wait_until_unready(&stand, "account of the credentials as pinned").await?;
    let key = json!({"accessKeyId": id, "accountId": account.account_id});
    stand.cloud.change_at_console("access-key", key).await?;
    wait_until_ready(&stand).await?;
    for kind in ADDRESS_KINDS {
        stand.delete_pod(kind.pod).await?;
    }
    wait_until_nothing_is_left(&stand).await
}
