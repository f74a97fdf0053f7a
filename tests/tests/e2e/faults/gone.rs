//! Resources deleted at the cloud's console: the gate goes False again, and no lease is stuck.

use anyhow::{Context as _, Result, ensure};
use kube::Api;
use serde_json::{Value, json};
use testbed::{
    dnat::one_gateway,
    nothing_left::nothing_is_left,
    pods::{annotated, annotation},
    stand::Stand,
    wait::PATIENCE,
};
use waygate_core::resources::PodEIP;

use super::KINDS;

const REFUSALS: [&str; 2] = ["InvalidNatGatewayId.NotFound", "InvalidForwardTableId.NotFound"];

/// A gateway is deleted with its entries. The documentation does not say how a list of them answers
/// then: empty, or refused.
#[tokio::test]
async fn deletion_is_not_stuck_when_the_gateway_is_gone() -> Result<()> {
    for refusal in [None, Some(REFUSALS[0]), Some(REFUSALS[1])] {
        let stand = one_gateway("--profile instant", 1, 600, 610).await?;
        let gateway =
            stand.cloud.account.nat_gateways.first().context("a gateway")?.nat_gateway_id.clone();
        let dnat = &KINDS[1];
        stand.create(&annotated(dnat.name, dnat.asks)).await?;
        stand.condition(dnat.name, dnat.gate, "True", PATIENCE).await?;
        stand.cloud.console("delete-nat-gateway", json!({"natGatewayId": gateway})).await?;
        if let Some(code) = refusal {
            let fault = json!({"action": "DescribeForwardTableEntries", "kind": "error", "code": code, "status": 404});
            stand.cloud.fault(fault).await?;
        }
        stand.delete(dnat.name).await?;
        stand.gone(dnat.name, PATIENCE).await?;
        nothing_is_left(&stand)
            .await
            .with_context(|| format!("the list was refused with {refusal:?}"))?;
    }
    Ok(())
}

/// Unbinds an EIP at the console and releases it.
async fn release_by_hand(stand: &Stand, id: &Value) -> Result<()> {
    stand.cloud.console("unassociate-eip", json!({"allocationId": id})).await?;
    stand.cloud.console("release-eip", json!({"allocationId": id})).await?;
    Ok(())
}

#[tokio::test]
async fn deletion_is_not_stuck_when_the_eip_is_gone() -> Result<()> {
    let stand = Stand::start().await?;
    let made = stand.cloud.console("allocate-eip", json!({})).await?;
    let given = made["AllocationId"].as_str().context("an allocation ID")?.to_owned();
    let pods = [
        annotated("allocated", KINDS[0].asks),
        annotated(
            "given",
            &[
                ("k8s.aliyun.com/pod-eip-instanceid", given.as_str()),
                ("waygate.dev/readiness-gate", "true"),
            ],
        ),
    ];
    let resources = Api::<PodEIP>::namespaced(stand.client.clone(), &stand.namespace);
    for pod in &pods {
        let name = pod.metadata.name.as_deref().context("a name")?;
        stand.create(pod).await?;
        stand.condition(name, KINDS[0].gate, "True", PATIENCE).await?;
        let id = resources.get(name).await?.spec.allocation_id.context("its EIP")?;
        release_by_hand(&stand, &json!(id)).await?;
        stand.delete(name).await?;
        stand.gone(name, PATIENCE).await?;
        nothing_is_left(&stand).await.with_context(|| name.to_owned())?;
    }
    Ok(())
}

#[tokio::test]
async fn the_gate_goes_false_again_when_an_entry_is_deleted_in_the_console() -> Result<()> {
    let stand = Stand::start().await?;
    let dnat = &KINDS[1];
    stand.create(&annotated(dnat.name, dnat.asks)).await?;
    let before = stand.condition(dnat.name, dnat.gate, "True", PATIENCE).await?;
    let entry = stand.cloud.list("forwardEntries").await?.into_iter().next().context("an entry")?;
    stand
        .cloud
        .console("delete-forward-entry", json!({"forwardEntryId": entry["ForwardEntryId"]}))
        .await?;
    stand.condition_after_news(dnat.name, dnat.gate, "False", PATIENCE).await?;
    let repaired = stand.condition(dnat.name, dnat.gate, "True", PATIENCE).await?;
    assert_eq!(
        annotation(&before, dnat.told),
        annotation(&repaired, dnat.told),
        "on the same ports"
    );
    ensure!(stand.cloud.list("forwardEntries").await?.len() == 2);
    Ok(())
}
