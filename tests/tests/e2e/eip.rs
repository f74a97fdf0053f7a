//! EIPs of pods' own.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use kube::Api;
use serde_json::{Value, json};
use testbed::{
    eip::{ADDRESS, GATE, WITH_EIP},
    nothing_left::{eips_of_ours, nothing_is_left},
    pods::{annotated, annotation, ask, condition},
    stand::{Options, Stand},
    wait::PATIENCE,
    workloads::create_service,
};
use waygate_core::resources::PodEIP;

async fn eip_of(stand: &Stand, address: &str) -> Result<Value> {
    let eips = stand.cloud.list("eips").await?;
    eips.into_iter()
        .find(|eip| eip["IpAddress"] == address)
        .with_context(|| format!("the cloud has no EIP {address}"))
}

#[tokio::test]
async fn a_pod_gets_traffic_only_once_its_eip_works() -> Result<()> {
    let stand = Stand::start_with(Options {
        simulator: words("--profile realistic"),
        ..Options::default()
    })
    .await?;
    create_service(&stand, "web").await?;
    stand.create(&annotated("web", &[WITH_EIP])).await?;
    let waiting = stand.condition("web", GATE, "False", PATIENCE).await?;
    assert_eq!(condition(&waiting, "Ready").unwrap_or("False"), "False");
    stand.ready_endpoints("web", 0, PATIENCE).await?;

    let pod = stand.condition("web", GATE, "True", PATIENCE).await?;
    let address = annotation(&pod, ADDRESS).context("the annotation comes before the condition")?;
    let pod_ip =
        pod.status.as_ref().and_then(|status| status.pod_ip.clone()).context("a pod IP")?;
    let eip = eip_of(&stand, address).await?;
    assert_eq!(eip["Status"], "InUse");
    let resource =
        Api::<PodEIP>::namespaced(stand.client.clone(), &stand.namespace).get("web").await?;
    let status = resource.status.context("a status")?;
    assert_eq!(status.private_ip_address.as_deref(), Some(pod_ip.as_str()));
    assert_eq!(status.eip_address.as_deref(), Some(address));
    assert_eq!(status.status.as_deref(), Some("InUse"));
    assert_eq!(resource.spec.allocation_id.as_deref(), eip["AllocationId"].as_str());
    let reason = pod
        .status
        .into_iter()
        .flat_map(|s| s.conditions.unwrap_or_default())
        .find(|c| c.type_ == GATE)
        .and_then(|c| c.reason);
    assert_eq!(reason.as_deref(), Some("Associate eip succeed"));
    stand.condition("web", "Ready", "True", PATIENCE).await?;
    stand.ready_endpoints("web", 1, PATIENCE).await?;

    stand.delete("web").await?;
    nothing_is_left(&stand).await
}

#[tokio::test]
async fn primary_secondary_and_prefix_addresses_all_get_one() -> Result<()> {
    let stand = Stand::start_with(Options {
        simulator: words("--profile instant --quota-eips 100"),
        ..Options::default()
    })
    .await?;
    let names: Vec<_> = (0..24).map(|number| format!("many-{number}")).collect();
    for name in &names {
        stand.create(&annotated(name, &[WITH_EIP])).await?;
    }
    let mut addresses = BTreeSet::new();
    for name in &names {
        let pod = stand.condition(name, GATE, "True", PATIENCE).await?;
        let address = annotation(&pod, ADDRESS).context("an address")?.to_owned();
        ensure!(addresses.insert(address.clone()), "{address} was given twice");
    }
    assert_eq!(eips_of_ours(&stand).await?.len(), names.len());
    for name in &names {
        stand.delete(name).await?;
    }
    nothing_is_left(&stand).await
}

#[tokio::test]
async fn a_given_eip_serves_one_pod_at_a_time_and_is_never_released() -> Result<()> {
    let stand = Stand::start().await?;
    let made = stand.cloud.console("allocate-eip", json!({})).await?;
    let id = made["AllocationId"]
        .as_str()
        .or(made["allocationId"].as_str())
        .context("an allocation ID")?
        .to_owned();
    let given = [
        ("k8s.aliyun.com/pod-eip-instanceid", id.as_str()),
        ("waygate.dev/readiness-gate", "true"),
    ];
    stand.create(&annotated("first", &given)).await?;
    stand.condition("first", GATE, "True", PATIENCE).await?;
    stand.create(&annotated("second", &given)).await?;
    let waiting = stand.condition("second", GATE, "False", PATIENCE).await?;
    let probe = || async {
        let pod = stand.pods().get("second").await?;
        let told = serde_json::to_string(&pod.status)?;
        ensure!(
            told.contains("EipHeldByAnotherPod")
                && told.contains(&format!("{}/first", stand.namespace)),
            "the condition says {told}"
        );
        Ok(Some(()))
    };
    stand.eventually(probe, "the second pod's condition names the first", PATIENCE).await?;
    assert!(annotation(&waiting, ADDRESS).is_none());
    stand.delete("first").await?;
    stand.condition("second", GATE, "True", PATIENCE).await?;
    stand.delete("second").await?;
    nothing_is_left(&stand).await?;
    let eip = stand
        .cloud
        .list("eips")
        .await?
        .into_iter()
        .find(|eip| eip["AllocationId"] == id.as_str())
        .context("the given EIP is still there")?;
    assert_eq!(eip["Status"], "Available");
    Ok(())
}

#[tokio::test]
async fn an_eip_follows_its_pod_to_a_new_ip_under_the_same_uid() -> Result<()> {
    let stand = Stand::start().await?;
    stand.create(&annotated("moving", &[WITH_EIP])).await?;
    let before = stand.condition("moving", GATE, "True", PATIENCE).await?;
    let old_ip = before.status.as_ref().and_then(|status| status.pod_ip.clone());
    stand.annotate("moving", json!({ask::SANDBOX: "1"})).await?;
    let resources = Api::<PodEIP>::namespaced(stand.client.clone(), &stand.namespace);
    let probe = || async {
        let pod = stand.pods().get("moving").await?;
        let ip = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
        let shown =
            resources.get("moving").await?.status.and_then(|status| status.private_ip_address);
        ensure!(
            ip != old_ip && shown == ip && condition(&pod, GATE) == Some("True"),
            "pod IP {ip:?}, shown {shown:?}"
        );
        Ok(Some(pod))
    };
    let after = stand.eventually(probe, "the EIP is bound to the new IP", PATIENCE).await?;
    assert_eq!(annotation(&after, ADDRESS), annotation(&before, ADDRESS));
    assert_eq!(eips_of_ours(&stand).await?.len(), 1);
    stand.delete("moving").await?;
    nothing_is_left(&stand).await
}

#[tokio::test]
async fn an_eip_unbound_in_the_console_closes_the_gate_and_is_bound_again() -> Result<()> {
    let stand = Stand::start().await?;
    stand.create(&annotated("robbed", &[WITH_EIP])).await?;
    let pod = stand.condition("robbed", GATE, "True", PATIENCE).await?;
    let address = annotation(&pod, ADDRESS).context("an address")?.to_owned();
    let id = eip_of(&stand, &address).await?["AllocationId"].clone();
    stand.cloud.console("unassociate-eip", json!({"allocationId": id})).await?;
    // The annotation wakes the lease, which would otherwise be looked at five minutes later.
    stand.annotate("robbed", json!({"example.com/poke": "1"})).await?;
    stand.condition("robbed", GATE, "False", PATIENCE).await?;
    let probe =
        || async { Ok((eip_of(&stand, &address).await?["Status"] == "InUse").then_some(())) };
    stand.eventually(probe, "the EIP is bound again", PATIENCE).await?;
    stand.condition("robbed", GATE, "True", PATIENCE).await?;
    Ok(())
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}
