//! Resources deleted at the cloud's console: the gate goes False again, and no lease is stuck.

use anyhow::{Context as _, Result, ensure};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use testbed::{
    dnat::start_with_one_gateway,
    leftovers::wait_until_nothing_is_left,
    pods::{annotated_pod, annotation_value},
    stand::Stand,
    wait::TIMEOUT,
};
use waygate_core::resources::PodEIP;

use super::KINDS;

const REFUSALS: [&str; 2] = ["InvalidNatGatewayId.NotFound", "InvalidForwardTableId.NotFound"];

/// A gateway is deleted with its entries. The documentation does not say how a list of them answers
/// then: empty, or refused.
#[tokio::test]
async fn deletion_is_not_stuck_when_the_gateway_is_gone() -> Result<()> {
    for refusal in [None, Some(REFUSALS[0]), Some(REFUSALS[1])] {
        let stand = start_with_one_gateway("--profile instant", 1, 600, 610).await?;
        let gateway =
            stand.cloud.account.nat_gateways.first().context("a gateway")?.nat_gateway_id.clone();
        let dnat = &KINDS[1];
        stand.create_pod(&annotated_pod(dnat.name, dnat.request)).await?;
        stand.wait_for_condition(dnat.name, dnat.gate, "True", TIMEOUT).await?;
        stand
            .cloud
            .change_at_console("delete-nat-gateway", json!({"natGatewayId": gateway}))
            .await?;
        if let Some(code) = refusal {
            let fault = json!({"action": "DescribeForwardTableEntries", "kind": "error", "code": code, "status": 404});
            stand.cloud.set_fault(fault).await?;
        }
        stand.delete_pod(dnat.name).await?;
        stand.wait_until_gone(dnat.name, TIMEOUT).await?;
        wait_until_nothing_is_left(&stand)
            .await
            .with_context(|| format!("the list was refused with {refusal:?}"))?;
    }
    Ok(())
}

/// Unbinds an EIP at the console and releases it.
async fn release_at_console(stand: &Stand, id: &Value) -> Result<()> {
    stand.cloud.change_at_console("unassociate-eip", json!({"allocationId": id})).await?;
    stand.cloud.change_at_console("release-eip", json!({"allocationId": id})).await?;
    Ok(())
}

#[tokio::test]
async fn deletion_is_not_stuck_when_the_eip_is_gone() -> Result<()> {
    let stand = Stand::start().await?;
    let made = stand.cloud.change_at_console("allocate-eip", json!({})).await?;
    let given = made["AllocationId"].as_str().context("an allocation ID")?.to_owned();
    let pods = [
        annotated_pod("allocated", KINDS[0].request),
        annotated_pod(
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
        stand.create_pod(pod).await?;
        stand.wait_for_condition(name, KINDS[0].gate, "True", TIMEOUT).await?;
        let id = resources.get(name).await?.spec.allocation_id.context("its EIP")?;
        release_at_console(&stand, &json!(id)).await?;
        stand.delete_pod(name).await?;
        stand.wait_until_gone(name, TIMEOUT).await?;
        wait_until_nothing_is_left(&stand).await.with_context(|| name.to_owned())?;
    }
    Ok(())
}

#[tokio::test]
async fn the_gate_goes_false_again_when_an_entry_is_deleted_in_the_console() -> Result<()> {
    let stand = Stand::start().await?;
    let dnat = &KINDS[1];
    stand.create_pod(&annotated_pod(dnat.name, dnat.request)).await?;
    let before = stand.wait_for_condition(dnat.name, dnat.gate, "True", TIMEOUT).await?;
    let entry = stand
        .cloud
        .list_resources("forwardEntries")
        .await?
        .into_iter()
        .next()
        .context("an entry")?;
    stand
        .cloud
        .change_at_console(
            "delete-forward-entry",
            json!({"forwardEntryId": entry["ForwardEntryId"]}),
        )
        .await?;
    stand.wait_for_condition(dnat.name, dnat.gate, "False", TIMEOUT).await?;
    let repaired = stand.wait_for_condition(dnat.name, dnat.gate, "True", TIMEOUT).await?;
    assert_eq!(
        annotation_value(&before, dnat.address_key),
        annotation_value(&repaired, dnat.address_key),
        "on the same ports"
    );
    ensure!(stand.cloud.list_resources("forwardEntries").await?.len() == 2);
    Ok(())
}

/// With nothing else going on: what others write, or take away with the finalizer, wakes the lease.
#[tokio::test]
async fn a_custom_resource_that_a_person_changes_or_removes_is_put_back() -> Result<()> {
    let stand = Stand::start().await?;
    let eip = &KINDS[0];
    stand.create_pod(&annotated_pod(eip.name, eip.request)).await?;
    stand.wait_for_condition(eip.name, eip.gate, "True", TIMEOUT).await?;
    let resources = Api::<PodEIP>::namespaced(stand.client.clone(), &stand.namespace);
    let before = resources.get(eip.name).await?;
    let restored = || async {
        let now = resources.get(eip.name).await?;
        ensure!(now.spec == before.spec, "{:?}", now.spec);
        let address = |object: &PodEIP| object.status.as_ref()?.eip_address.clone();
        ensure!(address(&now) == address(&before), "{:?}", now.status);
        Ok(Some(()))
    };
    stand.wait_until_leases_rest().await?;
    let other = json!({"spec": {"allocationID": "eip-another"}});
    resources.patch(eip.name, &PatchParams::default(), &Patch::Merge(&other)).await?;
    stand.eventually(restored, "the spec as Waygate wrote it", TIMEOUT).await?;
    stand.wait_until_leases_rest().await?;
    let free = json!({"metadata": {"finalizers": null}});
    resources.patch(eip.name, &PatchParams::default(), &Patch::Merge(&free)).await?;
    resources.delete(eip.name, &DeleteParams::default()).await?;
    stand.eventually(restored, "the custom resource again", TIMEOUT).await?;
    stand.delete_pod(eip.name).await?;
    wait_until_nothing_is_left(&stand).await
}
