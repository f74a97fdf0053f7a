//! Addresses of a kind that is taken out of `enableControllers`.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::PodReadinessGate;
use serde_json::json;
use testbed::{
    address_kinds::{DNAT, EIP, count_resources_leading_to},
    leftovers::{list_allocated_eips, wait_until_nothing_is_left},
    pods::{annotated_pod, annotation_value, find_condition, pod_ip_of},
    stand::Stand,
    wait::TIMEOUT,
};

/// Webhook and worker start again with these controllers.
async fn restart_with_controllers(stand: &Stand, controllers: &[&str]) -> Result<()> {
    stand.reconfigure(&json!({"enableControllers": controllers}))?;
    for part in [&stand.webhook, &stand.worker] {
        part.stop().await?;
        part.start().await?;
    }
    Ok(())
}

/// Waits until the only lease was reconciled after the claim `after` and waits for this reason;
/// returns the epoch of its last claim.
async fn wait_until_lease_waits(stand: &Stand, reason: &str, after: i64) -> Result<i64> {
    let probe = || async {
        let query = "SELECT epoch::bigint, owner IS NULL, reason FROM lease";
        let (epoch, unclaimed, found): (i64, bool, Option<String>) =
            sqlx::query_as(query).fetch_one(&stand.database).await?;
        ensure!(
            epoch > after && unclaimed && found.as_deref() == Some(reason),
            "claim {epoch}, unclaimed: {unclaimed}, {found:?}"
        );
        Ok(Some(epoch))
    };
    stand.eventually(probe, &format!("the lease waits: {reason}"), TIMEOUT).await
}

#[tokio::test]
async fn addresses_of_a_kind_that_is_switched_off_stay_as_they_are() -> Result<()> {
    for (kind, others) in [(EIP, "natgw"), (DNAT, "eip")] {
        let stand = Stand::start().await?;
        stand.create_pod(&kind.requesting_pod(&[])).await?;
        let before = kind.wait_until_it_works(&stand).await?;
        restart_with_controllers(&stand, &[others]).await?;
        let claim = wait_until_lease_waits(&stand, "NotServed", 0).await?;
        let after = stand.pods().get(kind.pod).await?;
        assert_eq!(
            annotation_value(&after, kind.address_key),
            annotation_value(&before, kind.address_key)
        );
        assert_eq!(find_condition(&after, kind.gate), find_condition(&before, kind.gate));
        assert_eq!(
            count_resources_leading_to(&stand, pod_ip_of(&before)).await?,
            kind.resource_count
        );

        // The pod goes, and its address is still left alone.
        stand.delete_pod(kind.pod).await?;
        stand.wait_until_gone(kind.pod, TIMEOUT).await?;
        wait_until_lease_waits(&stand, "NotServed", claim).await?;
        assert_eq!(
            count_resources_leading_to(&stand, pod_ip_of(&before)).await?,
            kind.resource_count
        );

        restart_with_controllers(&stand, &["natgw", "eip"]).await?;
        wait_until_nothing_is_left(&stand).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_gate_of_a_kind_that_is_switched_off_holds_up_no_new_pod() -> Result<()> {
    let stand = Stand::start().await?;
    restart_with_controllers(&stand, &["natgw"]).await?;
    let mut pod = annotated_pod("templated", EIP.request);
    pod.spec.as_mut().context("a spec")?.readiness_gates =
        Some(vec![PodReadinessGate { condition_type: EIP.gate.to_owned() }]);
    stand.create_pod(&pod).await?;
    let pod = stand.wait_for_condition("templated", EIP.gate, "True", TIMEOUT).await?;
    assert_eq!(
        find_condition(&pod, EIP.gate).and_then(|it| it.reason.as_deref()),
        Some("NotRequested")
    );
    assert_eq!(list_allocated_eips(&stand).await?.len(), 0);
    Ok(())
}
