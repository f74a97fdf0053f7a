//! EIPs of pods' own.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, ensure};
use kube::Api;
use serde_json::{Value, json};
use testbed::{
    eip::{ADDRESS_KEY, GATE, WITH_EIP},
    leftovers::{list_allocated_eips, wait_until_nothing_is_left},
    pods::{annotated_pod, annotation_value, ask, condition_status},
    stand::{Options, Stand},
    wait::TIMEOUT,
    workloads::create_service,
};
use waygate_core::resources::PodEIP;

async fn read_eip_of(stand: &Stand, address: &str) -> Result<Value> {
    let eips = stand.cloud.list_resources("eips").await?;
    eips.into_iter()
        .find(|eip| eip["IpAddress"] == address)
        .with_context(|| format!("the cloud has no EIP {address}"))
}

#[tokio::test]
async fn a_pod_gets_traffic_only_once_its_eip_works() -> Result<()> {
    let stand = Stand::start_with(Options {
        simulator: split_words("--profile realistic"),
        ..Options::default()
    })
    .await?;
    create_service(&stand, "web").await?;
    stand.create_pod(&annotated_pod("web", &[WITH_EIP])).await?;
    // It runs before its EIP works, and is not Ready.
    let waiting = stand.wait_for_condition("web", "ContainersReady", "True", TIMEOUT).await?;
    assert_ne!(condition_status(&waiting, GATE), Some("True"));
    assert_ne!(condition_status(&waiting, "Ready"), Some("True"));
    stand.wait_for_ready_endpoints("web", 0, TIMEOUT).await?;

    let pod = stand.wait_for_condition("web", GATE, "True", TIMEOUT).await?;
    let address =
        annotation_value(&pod, ADDRESS_KEY).context("the annotation comes before the condition")?;
    let pod_ip =
        pod.status.as_ref().and_then(|status| status.pod_ip.clone()).context("a pod IP")?;
    let eip = read_eip_of(&stand, address).await?;
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
    stand.wait_for_condition("web", "Ready", "True", TIMEOUT).await?;
    stand.wait_for_ready_endpoints("web", 1, TIMEOUT).await?;

    stand.delete_pod("web").await?;
    wait_until_nothing_is_left(&stand).await
}

#[tokio::test]
async fn primary_secondary_and_prefix_addresses_all_get_one() -> Result<()> {
    let stand = Stand::start_with(Options {
        simulator: split_words("--profile instant --quota-eips 100"),
        ..Options::default()
    })
    .await?;
    let names: Vec<_> = (0..24).map(|number| format!("many-{number}")).collect();
    for name in &names {
        stand.create_pod(&annotated_pod(name, &[WITH_EIP])).await?;
    }
    let mut addresses = BTreeSet::new();
    for name in &names {
        let pod = stand.wait_for_condition(name, GATE, "True", TIMEOUT).await?;
        let address = annotation_value(&pod, ADDRESS_KEY).context("an address")?.to_owned();
        ensure!(addresses.insert(address.clone()), "{address} was given twice");
    }
    assert_eq!(list_allocated_eips(&stand).await?.len(), names.len());
    for name in &names {
        stand.delete_pod(name).await?;
    }
    wait_until_nothing_is_left(&stand).await
}

#[tokio::test]
async fn a_given_eip_serves_one_pod_at_a_time_and_is_never_released() -> Result<()> {
    let stand = Stand::start().await?;
    let made = stand.cloud.change_at_console("allocate-eip", json!({})).await?;
    let id = made["AllocationId"]
        .as_str()
        .or(made["allocationId"].as_str())
        .context("an allocation ID")?
        .to_owned();
    let given = [
        ("k8s.aliyun.com/pod-eip-instanceid", id.as_str()),
        ("waygate.dev/readiness-gate", "true"),
    ];
    stand.create_pod(&annotated_pod("first", &given)).await?;
    stand.wait_for_condition("first", GATE, "True", TIMEOUT).await?;
    stand.create_pod(&annotated_pod("second", &given)).await?;
    let waiting = stand.wait_for_condition("second", GATE, "False", TIMEOUT).await?;
    let probe = || async {
        let pod = stand.pods().get("second").await?;
        let status = serde_json::to_string(&pod.status)?;
        ensure!(
            status.contains("EipHeldByAnotherPod")
                && status.contains(&format!("{}/first", stand.namespace)),
            "the condition says {status}"
        );
        Ok(Some(()))
    };
    stand.eventually(probe, "the second pod's condition names the first", TIMEOUT).await?;
    assert!(annotation_value(&waiting, ADDRESS_KEY).is_none());
    stand.delete_pod("first").await?;
    stand.wait_for_condition("second", GATE, "True", TIMEOUT).await?;
    stand.delete_pod("second").await?;
    wait_until_nothing_is_left(&stand).await?;
    let eip = stand
        .cloud
        .list_resources("eips")
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
    stand.create_pod(&annotated_pod("moving", &[WITH_EIP])).await?;
    let before = stand.wait_for_condition("moving", GATE, "True", TIMEOUT).await?;
    let old_ip = before.status.as_ref().and_then(|status| status.pod_ip.clone());
    stand.annotate_pod("moving", json!({ask::SANDBOX: "1"})).await?;
    let resources = Api::<PodEIP>::namespaced(stand.client.clone(), &stand.namespace);
    let probe = || async {
        let pod = stand.pods().get("moving").await?;
        let ip = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
        let shown =
            resources.get("moving").await?.status.and_then(|status| status.private_ip_address);
        ensure!(
            ip != old_ip && shown == ip && condition_status(&pod, GATE) == Some("True"),
            "pod IP {ip:?}, shown {shown:?}"
        );
        Ok(Some(pod))
    };
    let after = stand.eventually(probe, "the EIP is bound to the new IP", TIMEOUT).await?;
    assert_eq!(annotation_value(&after, ADDRESS_KEY), annotation_value(&before, ADDRESS_KEY));
    assert_eq!(list_allocated_eips(&stand).await?.len(), 1);
    stand.delete_pod("moving").await?;
    wait_until_nothing_is_left(&stand).await
}

/// With nothing else going on: the list of the account's EIPs is compared every 30 s.
#[tokio::test]
async fn an_eip_unbound_in_the_console_closes_the_gate_and_is_bound_again() -> Result<()> {
    const NOTICED_WITHIN: Duration = Duration::from_mins(1);
    let stand = Stand::start().await?;
    stand.create_pod(&annotated_pod("robbed", &[WITH_EIP])).await?;
    let pod = stand.wait_for_condition("robbed", GATE, "True", TIMEOUT).await?;
    stand.wait_until_leases_rest().await?;
    let address = annotation_value(&pod, ADDRESS_KEY).context("an address")?.to_owned();
    let id = read_eip_of(&stand, &address).await?["AllocationId"].clone();
    stand.cloud.change_at_console("unassociate-eip", json!({"allocationId": id})).await?;
    stand.wait_for_condition("robbed", GATE, "False", NOTICED_WITHIN).await?;
    let probe =
        || async { Ok((read_eip_of(&stand, &address).await?["Status"] == "InUse").then_some(())) };
    stand.eventually(probe, "the EIP is bound again", TIMEOUT).await?;
    let pod = stand.wait_for_condition("robbed", GATE, "True", TIMEOUT).await?;
    assert_eq!(annotation_value(&pod, ADDRESS_KEY), Some(address.as_str()));
    Ok(())
}

fn split_words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}
