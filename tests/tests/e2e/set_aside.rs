//! Objects that fail for a reason of their own: set aside, counted, told, tried again, and in no
//! other's way.

use anyhow::{Result, ensure};
use std::time::Duration;
use testbed::{
    condition_reasons::wait_for_reason,
    dnat,
    eip::{GATE, WITH_EIP},
    leftovers::wait_until_nothing_is_left,
    pods::annotated_pod,
    stand::{Options, Stand},
    wait::TIMEOUT,
};

/// Waits until a worker's metrics have a sample above zero that begins with this.
async fn wait_for_metric(stand: &Stand, sample: &str) -> Result<()> {
    let probe = || async {
        for admin in &stand.worker_admins {
            let text = reqwest::get(format!("{admin}/metrics")).await?.text().await?;
            let counted = |line: &str| line.starts_with(sample) && !line.ends_with(" 0");
            if text.lines().any(counted) {
                return Ok(Some(()));
            }
        }
        Ok(None)
    };
    stand.eventually(probe, &format!("the metric {sample}"), TIMEOUT).await
}

/// More pods than events are recorded at a time, each of which Postgres refuses.
#[tokio::test]
async fn pods_that_postgres_refuses_are_told_tried_again_and_delay_no_other() -> Result<()> {
    let stand = Stand::start().await?;
    sqlx::query("ALTER TABLE lease ADD CONSTRAINT refuse CHECK (pod_name NOT LIKE 'refused-%')")
        .execute(&stand.database)
        .await?;
    for number in 0..9 {
        stand.create_pod(&annotated_pod(&format!("refused-{number}"), &[WITH_EIP])).await?;
    }
    stand.create_pod(&annotated_pod("right", &[WITH_EIP])).await?;
    stand.wait_for_condition("right", GATE, "True", TIMEOUT).await?;
    wait_for_reason(&stand, "refused-8", GATE, "LeaseStoreRefused", &["refuse"]).await?;
    stand.wait_for_warning("refused-8", "LeaseStoreRefused", TIMEOUT).await?;
    wait_for_metric(&stand, r#"waygate_set_aside_total{loop="PodEvents""#).await?;
    wait_for_metric(&stand, r#"waygate_set_aside_objects{loop="PodEvents"}"#).await?;
    sqlx::query("ALTER TABLE lease DROP CONSTRAINT refuse").execute(&stand.database).await?;
    stand.wait_for_condition("refused-8", GATE, "True", TIMEOUT).await?;
    Ok(())
}

#[tokio::test]
async fn a_lease_that_cannot_be_read_is_told_tried_again_and_delays_no_other() -> Result<()> {
    let stand = Stand::start().await?;
    stand.create_pod(&annotated_pod("unreadable", &[WITH_EIP])).await?;
    stand.wait_for_condition("unreadable", GATE, "True", TIMEOUT).await?;
    let spoil = "UPDATE lease SET request = jsonb_build_object('spoilt', request), wake = wake + 1,
                     due_at = CASE WHEN owner IS NULL THEN now() ELSE due_at END";
    sqlx::query(spoil).execute(&stand.database).await?;
    // The address works: the condition stays True, and an event says what fails.
    stand.wait_for_warning("unreadable", "LeaseStoreRefused", TIMEOUT).await?;
    wait_for_metric(&stand, r#"waygate_set_aside_total{loop="Leases""#).await?;
    stand.create_pod(&annotated_pod("right", &[WITH_EIP])).await?;
    stand.wait_for_condition("right", GATE, "True", TIMEOUT).await?;
    let looks = || async {
        let tries = "SELECT tries FROM lease WHERE pod_name = 'unreadable' AND reason = 'LeaseStoreRefused'";
        let tries: Option<i32> = sqlx::query_scalar(tries).fetch_optional(&stand.database).await?;
        Ok(tries.filter(|tries| *tries > 1).map(drop))
    };
    stand.eventually(looks, "the lease is tried again", TIMEOUT).await?;
    let mend = "UPDATE lease SET request = request -> 'spoilt' WHERE request ? 'spoilt'";
    sqlx::query(mend).execute(&stand.database).await?;
    for pod in ["unreadable", "right"] {
        stand.delete_pod(pod).await?;
    }
    wait_until_nothing_is_left(&stand).await
}

/// One of two gateways cannot be recorded; the other is read again and again, and serves.
#[tokio::test]
async fn a_gateway_that_cannot_be_recorded_delays_no_other() -> Result<()> {
    let worker = ["--cooldown-seconds", "0", "--discovery-seconds", "1"].map(str::to_owned);
    let stand =
        Stand::start_with(Options { worker: worker.to_vec(), ..Options::default() }).await?;
    let gateways = &stand.cloud.account.nat_gateways;
    let [refused, other] = gateways.as_slice() else { anyhow::bail!("two gateways are expected") };
    // In one transaction: both gateways are to be recorded anew, and one of them cannot be.
    let refuse = format!(
        "UPDATE gateway_eip SET snat = NOT snat;
         ALTER TABLE gateway_eip ADD CONSTRAINT refuse CHECK (gateway_id <> '{}') NOT VALID",
        refused.nat_gateway_id
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(refuse)).execute(&stand.database).await?;
    wait_for_metric(&stand, r#"waygate_set_aside_total{loop="Gateways""#).await?;
    let pairs =
        [("k8s.aliyun.com/pod-dnat", "true"), ("k8s.aliyun.com/pod-dnat-expose-port", "80")];
    stand.create_pod(&annotated_pod("right", &pairs)).await?;
    stand.wait_for_condition("right", dnat::GATE, "True", TIMEOUT).await?;
    let snat = || async {
        let wrong = "SELECT count(*) FROM gateway_eip WHERE gateway_id = $1 AND snat";
        let wrong: i64 = sqlx::query_scalar(wrong)
            .bind(&other.nat_gateway_id)
            .fetch_one(&stand.database)
            .await?;
        Ok((wrong == 0).then_some(()))
    };
    stand.eventually(snat, "the other gateway is read again", Duration::from_secs(15)).await?;
    ensure!(stand.worker.read_logs()?.contains("reading the NAT gateway failed"), "no word of it");
    Ok(())
}
