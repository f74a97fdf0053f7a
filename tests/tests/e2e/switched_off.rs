//! Addresses of a kind that is taken out of `enableControllers`.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::PodReadinessGate;
use serde_json::json;
use testbed::{
    kinds::{DNAT, EIP, lead_to},
    nothing_left::{eips_of_ours, nothing_is_left},
    pods::{annotated, annotation, ip, whole_condition},
    stand::Stand,
    wait::PATIENCE,
};

/// Webhook and worker start again with these controllers.
async fn restart_with(stand: &Stand, controllers: &[&str]) -> Result<()> {
    stand.reconfigure(&json!({"enableControllers": controllers}))?;
    for part in [&stand.webhook, &stand.worker] {
        part.stop().await?;
        part.start().await?;
    }
    Ok(())
}

/// Waits until the only lease has been looked at after that claim and rests for this reason; says
/// which claim that was.
async fn rests(stand: &Stand, reason: &str, after: i64) -> Result<i64> {
    let probe = || async {
        let lease = "SELECT epoch::bigint, owner IS NULL, reason FROM lease";
        let (epoch, at_rest, found): (i64, bool, Option<String>) =
            sqlx::query_as(lease).fetch_one(&stand.database).await?;
        ensure!(
            epoch > after && at_rest && found.as_deref() == Some(reason),
            "claim {epoch}, at rest: {at_rest}, {found:?}"
        );
        Ok(Some(epoch))
    };
    stand.eventually(probe, &format!("the lease rests: {reason}"), PATIENCE).await
}

#[tokio::test]
async fn addresses_of_a_kind_that_is_switched_off_stay_as_they_are() -> Result<()> {
    for (kind, others) in [(EIP, "natgw"), (DNAT, "eip")] {
        let stand = Stand::start().await?;
        stand.create(&kind.asking(&[])).await?;
        let before = kind.works(&stand).await?;
        restart_with(&stand, &[others]).await?;
        let claim = rests(&stand, "NotServed", 0).await?;
        let after = stand.pods().get(kind.pod).await?;
        assert_eq!(annotation(&after, kind.tells), annotation(&before, kind.tells));
        assert_eq!(whole_condition(&after, kind.gate), whole_condition(&before, kind.gate));
        assert_eq!(lead_to(&stand, ip(&before)).await?, kind.things);

        // The pod goes, and its address is still left alone.
        stand.delete(kind.pod).await?;
        stand.gone(kind.pod, PATIENCE).await?;
        rests(&stand, "NotServed", claim).await?;
        assert_eq!(lead_to(&stand, ip(&before)).await?, kind.things);

        restart_with(&stand, &["natgw", "eip"]).await?;
        nothing_is_left(&stand).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_gate_of_a_kind_that_is_switched_off_holds_up_no_new_pod() -> Result<()> {
    let stand = Stand::start().await?;
    restart_with(&stand, &["natgw"]).await?;
    let mut pod = annotated("templated", EIP.asks);
    pod.spec.as_mut().context("a spec")?.readiness_gates =
        Some(vec![PodReadinessGate { condition_type: EIP.gate.to_owned() }]);
    stand.create(&pod).await?;
    let told = stand.condition("templated", EIP.gate, "True", PATIENCE).await?;
    assert_eq!(
        whole_condition(&told, EIP.gate).and_then(|it| it.reason.as_deref()),
        Some("NotRequested")
    );
    assert_eq!(eips_of_ours(&stand).await?.len(), 0);
    Ok(())
}
