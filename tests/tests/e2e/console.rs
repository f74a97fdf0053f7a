//! Changes that an operator makes to forward entries at the cloud's console, and stale entries
//! there: noticed, reported and repaired.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Api;
use serde_json::{Value, json};
use testbed::{
    dnat::{GATE, ON, entries_to, one_gateway, ports},
    nothing_left::nothing_is_left,
    pods::{annotated, annotation, whole_condition},
    stand::Stand,
    wait::PATIENCE,
};
use uuid::Uuid;
use waygate_core::{ids::LeaseId, names::Owner, resources::PodDNAT};

const ADDRESSES: &str = "k8s.aliyun.com/allocated-dnat";

/// A pod that forwards, its IP, and the one entry to it.
async fn forwarding(stand: &Stand, name: &str) -> Result<(String, String, Value)> {
    stand.create(&annotated(name, &[ON, ports("80")])).await?;
    let pod = stand.condition(name, GATE, "True", PATIENCE).await?;
    let ip = pod.status.as_ref().and_then(|status| status.pod_ip.clone()).context("a pod IP")?;
    let entry = entries_to(stand, &ip).await?.into_iter().next().context("an entry")?;
    Ok((annotation(&pod, ADDRESSES).context("the annotation")?.to_owned(), ip, entry))
}

/// Waits until the gate has been False and is True again, for the same address.
async fn repaired(stand: &Stand, name: &str, told: &str) -> Result<()> {
    stand.condition_after_news(name, GATE, "False", PATIENCE).await?;
    let pod = stand.condition(name, GATE, "True", PATIENCE).await?;
    assert_eq!(annotation(&pod, ADDRESSES), Some(told));
    Ok(())
}

#[tokio::test]
async fn an_entry_deleted_in_the_console_closes_the_gate_and_is_made_again_on_its_port()
-> Result<()> {
    let stand = Stand::start().await?;
    let (told, ip, entry) = forwarding(&stand, "robbed").await?;
    stand
        .cloud
        .console("delete-forward-entry", json!({"forwardEntryId": entry["ForwardEntryId"]}))
        .await?;
    repaired(&stand, "robbed", &told).await?;
    stand.warned("robbed", "AddressLost", PATIENCE).await?;
    assert_eq!(entries_to(&stand, &ip).await?.len(), 1);
    stand.delete("robbed").await?;
    nothing_is_left(&stand).await
}

/// Services inside the cluster need no forward entry, so most of their pods must stay ready.
#[tokio::test]
async fn where_many_entries_are_deleted_at_once_few_pods_are_told_and_all_are_mended() -> Result<()>
{
    const TOLD: usize = 5;
    let stand = one_gateway("--profile instant", 1, 600, 1000).await?;
    let names: Vec<_> = (0..12).map(|number| format!("robbed-{number}")).collect();
    for name in &names {
        stand.create(&annotated(name, &[ON, ports("80")])).await?;
    }
    let mut before = Vec::new();
    for name in &names {
        before.push(stand.condition(name, GATE, "True", PATIENCE).await?);
    }
    for entry in stand.cloud.list("forwardEntries").await? {
        stand
            .cloud
            .console("delete-forward-entry", json!({"forwardEntryId": entry["ForwardEntryId"]}))
            .await?;
    }
    // Annotations wake the leases, which would otherwise be looked at minutes later.
    let mended = async || {
        for name in &names {
            stand.annotate(name, json!({"example.com/news": uuid::Uuid::new_v4()})).await?;
        }
        let standing = stand.cloud.list("forwardEntries").await?.len();
        ensure!(standing == names.len(), "{standing} entries stand");
        Ok(Some(()))
    };
    stand.eventually(mended, "all entries stand again", PATIENCE).await?;
    let transition = |pod: &Pod| {
        whole_condition(pod, GATE).and_then(|condition| condition.last_transition_time.clone())
    };
    let mut flipped = 0;
    for (name, before) in names.iter().zip(&before) {
        let after = stand.condition(name, GATE, "True", PATIENCE).await?;
        assert_eq!(
            annotation(&after, ADDRESSES),
            annotation(before, ADDRESSES),
            "{name} has moved"
        );
        flipped += usize::from(transition(&after) != transition(before));
    }
    let log = std::fs::read_to_string(stand.worker.log())?;
    assert_eq!(log.matches("withdrawn").count(), TOLD);
    assert!(flipped <= TOLD, "{flipped} conditions were False for a while");
    assert!(
        log.contains("lost their forward entries within ten minutes"),
        "the log names the limited losses"
    );
    for name in &names {
        stand.delete(name).await?;
    }
    nothing_is_left(&stand).await
}

#[tokio::test]
async fn an_entry_pointed_elsewhere_in_the_console_closes_the_gate_and_is_pointed_back()
-> Result<()> {
    let stand = Stand::start().await?;
    let (told, ip, entry) = forwarding(&stand, "bent").await?;
    let elsewhere = json!({"forwardEntryId": entry["ForwardEntryId"], "forwardTableId": entry["ForwardTableId"], "internalIp": "10.0.200.9"});
    stand.cloud.console("modify-forward-entry", elsewhere).await?;
    repaired(&stand, "bent", &told).await?;
    let entries = entries_to(&stand, &ip).await?;
    assert_eq!(
        entries.iter().map(|entry| &entry["ForwardEntryId"]).collect::<Vec<_>>(),
        [&entry["ForwardEntryId"]]
    );
    stand.delete("bent").await?;
    nothing_is_left(&stand).await
}

#[tokio::test]
async fn a_recycled_pod_ip_that_meets_a_stale_entry_of_ours_is_rid_of_it_first() -> Result<()> {
    let stand = Stand::start().await?;
    stand.create(&annotated("recycled", &[])).await?;
    let pod = stand.condition("recycled", "Ready", "True", PATIENCE).await?;
    let ip = pod.status.and_then(|status| status.pod_ip).context("a pod IP")?;
    let cluster = Api::<Namespace>::all(stand.client.clone())
        .get("kube-system")
        .await?
        .metadata
        .uid
        .context("its UID")?;
    // An entry of a lease that no longer exists, on every gateway that the pod may get.
    let store = sqlx::query_scalar("SELECT store_id FROM store").fetch_one(&stand.database).await?;
    let name = Owner { store, cluster: cluster.parse()? }.entry_name(LeaseId(Uuid::new_v4()), 1);
    for gateway in stand.cloud.account.nat_gateways.clone() {
        let stale = json!({
            "forwardTableId": gateway.forward_table_id, "externalIp": gateway.eips[0].ip_address, "externalPort": "9999",
            "internalIp": ip, "internalPort": "80", "ipProtocol": "TCP", "forwardEntryName": name,
        });
        stand.cloud.console("create-forward-entry", stale).await?;
    }
    stand
        .annotate("recycled", json!({ON.0: ON.1, "k8s.aliyun.com/pod-dnat-expose-port": "80"}))
        .await?;
    // Annotated while running, the pod has no gate; the address annotation shows that its entries
    // work.
    let told = stand.annotation("recycled", ADDRESSES, PATIENCE).await?;
    let told: Vec<Value> = serde_json::from_str(&told)?;
    let external = told[0]["externalIP"].as_str().context("an address")?;
    let gateway = stand
        .cloud
        .account
        .nat_gateways
        .iter()
        .find(|it| it.eips.iter().any(|eip| eip.ip_address == external))
        .context("a gateway")?;
    let there: Vec<_> = entries_to(&stand, &ip)
        .await?
        .into_iter()
        .filter(|entry| entry["ForwardTableId"] == gateway.forward_table_id.as_str())
        .collect();
    assert_eq!(there.len(), 1, "{there:?}");
    assert_ne!(there[0]["ForwardEntryName"], name.as_str());
    Ok(())
}

/// A pod that forwards, on this node: the zone of its interface, and the gateway it was given.
async fn on_node(stand: &Stand, node: &str) -> Result<(String, String)> {
    let mut pod = annotated(node, &[ON, ports("80")]);
    if let Some(spec) = &mut pod.spec {
        spec.node_name = Some(node.to_owned());
    }
    stand.create(&pod).await?;
    stand.condition(node, GATE, "True", PATIENCE).await?;
    let spec =
        Api::<PodDNAT>::namespaced(stand.client.clone(), &stand.namespace).get(node).await?.spec;
    Ok((spec.zone_id.context("a zone")?, spec.table_id.context("a gateway")?))
}

#[tokio::test]
async fn pods_go_to_the_gateway_of_their_own_zone() -> Result<()> {
    let stand = Stand::start().await?;
    for node in ["node-j-1", "node-j-2", "node-k-1", "node-k-2"] {
        let (zone, id) = on_node(&stand, node).await?;
        let gateway = stand
            .cloud
            .account
            .nat_gateways
            .iter()
            .find(|it| it.nat_gateway_id == id)
            .context("a gateway")?;
        assert_eq!(gateway.zone_id, zone, "{node}");
    }
    Ok(())
}

#[tokio::test]
async fn a_pod_in_a_zone_without_a_gateway_goes_to_another_zones() -> Result<()> {
    let stand = one_gateway("--profile instant", 1, 600, 620).await?;
    let only = stand.cloud.account.nat_gateways.first().context("a gateway")?.clone();
    let mut zones = Vec::new();
    for node in ["node-j-1", "node-k-1"] {
        let (zone, id) = on_node(&stand, node).await?;
        assert_eq!(id, only.nat_gateway_id);
        zones.push(zone);
    }
    assert!(
        zones.contains(&only.zone_id) && zones.iter().any(|zone| *zone != only.zone_id),
        "{zones:?}"
    );
    Ok(())
}
