//! Changes that the cloud refuses: asked for again in growing pauses, whatever wakes the lease, and
//! at once when what they wait for has come free.

use anyhow::{Result, ensure};
use serde_json::json;
use std::time::{Duration, Instant};
use testbed::{
    condition_reasons::wait_for_reason,
    eip::{GATE, WITH_EIP},
    leftovers::wait_until_nothing_is_left,
    pods::{annotated_pod, find_condition},
    stand::{Options, Stand},
    wait::TIMEOUT,
};

/// What another controller writes, as OpenKruiseGame does every five seconds.
const TRIGGER: &str = "game.kruise.io/network-trigger-time";

/// Claims of the waiting pod's lease so far.
async fn count_looks(stand: &Stand) -> Result<i64> {
    let looks = "SELECT epoch FROM lease WHERE pod_name = 'waiting'";
    Ok(sqlx::query_scalar(looks).fetch_one(&stand.database).await?)
}

/// Annotates the waiting pod for three seconds, each time after this pause.
async fn annotate_waiting(stand: &Stand, pause: Duration, also: &str) -> Result<()> {
    let began = Instant::now();
    for number in (0_u32..).take_while(|_| began.elapsed() < Duration::from_secs(3)) {
        stand.annotate_pod("waiting", json!({TRIGGER: number.to_string()})).await?;
        sqlx::query(sqlx::AssertSqlSafe(also)).execute(&stand.database).await?;
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_pod_beyond_the_quota_asks_in_growing_pauses_and_at_once_when_an_eip_is_released()
-> Result<()> {
    let simulator = ["--profile", "instant", "--quota-eips", "5"].map(str::to_owned).to_vec();
    let stand = Stand::start_with(Options { simulator, ..Options::default() }).await?;
    stand.create_pod(&annotated_pod("holding", &[WITH_EIP])).await?;
    stand.wait_for_condition("holding", GATE, "True", TIMEOUT).await?;
    let before = stand.cloud.count_calls_of("AllocateEipAddress").await?;
    stand.create_pod(&annotated_pod("waiting", &[WITH_EIP])).await?;
    wait_for_reason(&stand, "waiting", GATE, "EipQuotaExceeded", &["quota"]).await?;

    let looks = count_looks(&stand).await?;
    annotate_waiting(&stand, Duration::from_millis(100), "SELECT").await?;
    let looks = count_looks(&stand).await? - looks;
    // Two looks or three for each of at most two retries within three seconds.
    ensure!(looks <= 8, "{looks} looks at a pod that others annotate");
    let wake = "UPDATE lease SET wake = wake + 1, due_at = CASE WHEN owner IS NULL THEN now() ELSE due_at END";
    annotate_waiting(&stand, Duration::from_millis(500), wake).await?;
    let calls = stand.cloud.count_calls_of("AllocateEipAddress").await? - before;
    // 0 s, 2 s, 5.4 s, each a fifth sooner or later.
    ensure!((2..=4).contains(&calls), "{calls} calls in six seconds");
    let shown = stand.pods().get("waiting").await?;
    let reason = find_condition(&shown, GATE).and_then(|condition| condition.reason.clone());
    ensure!(reason.as_deref() == Some("EipQuotaExceeded"), "the pod says {reason:?}");

    // From the next refusal on, the lease would wait for minutes.
    sqlx::query("UPDATE lease SET rejections = 20 WHERE pod_name = 'waiting'")
        .execute(&stand.database)
        .await?;
    let waits = || async {
        let long = "SELECT count(*) FROM lease WHERE refused_until > now() + interval '3 min' AND owner IS NULL";
        let long: i64 = sqlx::query_scalar(long).fetch_one(&stand.database).await?;
        Ok((long == 1).then_some(()))
    };
    stand.eventually(waits, "a long wait", Duration::from_secs(15)).await?;
    stand.delete_pod("holding").await?;
    stand.wait_until_gone("holding", TIMEOUT).await?;
    let gone = Instant::now();
    stand.wait_for_condition("waiting", GATE, "True", Duration::from_secs(20)).await?;
    ensure!(gone.elapsed() < Duration::from_secs(10), "{:?} after the release", gone.elapsed());
    stand.delete_pod("waiting").await?;
    wait_until_nothing_is_left(&stand).await
}
