//! Ports on NAT gateways.

use anyhow::{Context as _, Result, ensure};
use kube::Api;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use testbed::{
    pods::{annotated, annotation, ask},
    stand::{Options, Stand},
};
use waygate_core::resources::PodDNAT;

use crate::eip::{PATIENCE, service};
use crate::nothing_left::nothing_is_left;

const GATE: &str = "k8s.aliyun.com/dnat";
const ON: (&str, &str) = ("k8s.aliyun.com/pod-dnat", "true");

fn ports(list: &str) -> (&str, &str) {
    ("k8s.aliyun.com/pod-dnat-expose-port", list)
}

async fn entries_to(stand: &Stand, pod_ip: &str) -> Result<Vec<Value>> {
    Ok(stand.cloud.list("forwardEntries").await?.into_iter().filter(|entry| entry["InternalIp"] == pod_ip).collect())
}

#[tokio::test]
async fn a_pod_gets_traffic_only_once_both_its_entries_work() -> Result<()> {
    let simulator = ["--profile", "realistic"].map(str::to_owned).to_vec();
    let stand = Stand::start_with(Options { simulator, ..Options::default() }).await?;
    service(&stand, "game").await?;
    stand.create(&annotated("game", &[ON, ports("80,443")])).await?;
    stand.condition("game", GATE, "False", PATIENCE).await?;
    stand.ready_endpoints("game", 0, PATIENCE).await?;
    let pod = stand.condition("game", GATE, "True", PATIENCE).await?;
    stand.ready_endpoints("game", 1, PATIENCE).await?;
    let pod_ip = pod.status.as_ref().and_then(|status| status.pod_ip.clone()).context("a pod IP")?;
    let entries = entries_to(&stand, &pod_ip).await?;
    assert_eq!(entries.len(), 2);
    assert!(entries.iter().all(|entry| entry["Status"] == "Available"));

    let resource = Api::<PodDNAT>::namespaced(stand.client.clone(), &stand.namespace).get("game").await?;
    let owner = resource.metadata.owner_references.as_deref().unwrap_or_default().first().context("an owner")?;
    assert_eq!((owner.kind.as_str(), owner.block_owner_deletion), ("Pod", Some(true)));
    assert_eq!(resource.metadata.finalizers, Some(vec!["natgw-controller".to_owned()]));
    assert_eq!(resource.spec.internal_ip.as_deref(), Some(pod_ip.as_str()));
    assert!(resource.spec.table_id.as_deref().is_some_and(|id| id.starts_with("ngw-")), "as the documents have it");
    let shown = resource.status.and_then(|status| status.entries).context("entries")?;
    let internal: Vec<_> = shown.iter().filter_map(|entry| entry.internal_port.as_deref()).collect();
    assert_eq!(internal, ["80", "443"], "one status entry a port, in the order asked for");
    let told: Vec<Value> = serde_json::from_str(annotation(&pod, "k8s.aliyun.com/allocated-dnat").context("the annotation")?)?;
    assert_eq!(told.len(), 2);
    assert_eq!(told[0]["internalPort"], 80);
    assert_eq!(told[0]["externalIP"].as_str(), shown[0].external_ip.as_deref());

    stand.delete("game").await?;
    nothing_is_left(&stand).await
}

#[tokio::test]
async fn no_external_port_is_given_twice_whatever_the_protocol() -> Result<()> {
    let stand = Stand::start().await?;
    let names: Vec<_> = (0..12).map(|number| format!("server-{number}")).collect();
    for name in &names {
        stand.create(&annotated(name, &[ON, ports("7000,7000/udp,53/udp")])).await?;
    }
    let mut given = BTreeSet::new();
    for name in &names {
        let pod = stand.condition(name, GATE, "True", PATIENCE).await?;
        let told: Vec<Value> = serde_json::from_str(annotation(&pod, "k8s.aliyun.com/allocated-dnat").context("the annotation")?)?;
        assert_eq!(told.len(), 3);
        let one_ip: BTreeSet<_> = told.iter().map(|entry| entry["externalIP"].to_string()).collect();
        assert_eq!(one_ip.len(), 1, "all of a pod's ports are on one address");
        for entry in told {
            let key = format!("{} {} {}", entry["externalIP"], entry["protocol"], entry["externalPort"]);
            ensure!(given.insert(key.clone()), "{key} was given twice");
        }
    }
    for name in &names {
        stand.delete(name).await?;
    }
    nothing_is_left(&stand).await
}

#[tokio::test]
async fn entries_follow_a_pod_to_its_new_ip_on_the_same_ports() -> Result<()> {
    let stand = Stand::start().await?;
    stand.create(&annotated("moving", &[ON, ports("80")])).await?;
    let before = stand.condition("moving", GATE, "True", PATIENCE).await?;
    let old_ip = before.status.as_ref().and_then(|status| status.pod_ip.clone()).context("a pod IP")?;
    stand.annotate("moving", json!({ask::SANDBOX: "1"})).await?;
    let probe = || async {
        let pod = stand.pods().get("moving").await?;
        let ip = pod.status.as_ref().and_then(|status| status.pod_ip.clone()).unwrap_or_default();
        let (old, new) = (entries_to(&stand, &old_ip).await?.len(), entries_to(&stand, &ip).await?.len());
        ensure!(ip != old_ip && old == 0 && new == 1, "pod IP {ip}; {old} entries to the old one, {new} to the new");
        Ok(Some(()))
    };
    stand.eventually(probe, "the entry points to the new IP", PATIENCE).await?;
    let after = stand.condition("moving", GATE, "True", PATIENCE).await?;
    let told = |pod| annotation(pod, "k8s.aliyun.com/allocated-dnat").map(str::to_owned);
    assert_eq!(told(&before), told(&after));
    stand.delete("moving").await?;
    nothing_is_left(&stand).await
}

#[tokio::test]
async fn somebody_elses_entry_on_our_port_is_walked_round_and_left_alone() -> Result<()> {
    let stand = Stand::start_with(Options {
        // One port on offer beside the one that is taken.
        config: json!({}),
        ..Options::default()
    })
    .await?;
    let gateways = stand.cloud.account.nat_gateways.clone();
    // Somebody's entries stand on the lower half of every EIP's range.
    for gateway in &gateways {
        for eip in &gateway.eips {
            let foreign = json!({
                "forwardTableId": gateway.forward_table_id, "externalIp": eip.ip_address, "externalPort": "Any", "internalIp": "10.9.9.9",
                "internalPort": "Any", "ipProtocol": "Any", "forwardEntryName": "somebody",
            });
            if eip.allocation_id != gateways[0].eips[0].allocation_id {
                stand.cloud.console("create-forward-entry", foreign).await.ok();
            }
        }
    }
    stand.create(&annotated("polite", &[ON, ports("80")])).await?;
    stand.condition("polite", GATE, "True", PATIENCE).await?;
    stand.delete("polite").await?;
    nothing_is_left(&stand).await
}
