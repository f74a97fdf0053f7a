//! Changes that an operator makes to forward entries at the cloud's console, and stale entries
//! there: noticed, reported and repaired.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Api;
use serde_json::{Value, json};
use testbed::{
    dnat::{GATE, WITH_DNAT, list_entries_to, ports_annotation, start_with_one_gateway},
    leftovers::wait_until_nothing_is_left,
    pods::{annotated_pod, annotation_value, find_condition},
    stand::{Options, Stand},
    wait::TIMEOUT,
};
use uuid::Uuid;
use waygate_core::{ids::LeaseId, ownership::Owner, resources::PodDNAT};

const ADDRESSES: &str = "k8s.aliyun.com/allocated-dnat";

/// A pod that forwards, its IP, and the one entry to it.
async fn create_forwarding_pod(stand: &Stand, name: &str) -> Result<(String, String, Value)> {
    stand.create_pod(&annotated_pod(name, &[WITH_DNAT, ports_annotation("80")])).await?;
    let pod = stand.wait_for_condition(name, GATE, "True", TIMEOUT).await?;
    stand.wait_until_leases_rest().await?;
    let ip = pod.status.as_ref().and_then(|status| status.pod_ip.clone()).context("a pod IP")?;
    let entry = list_entries_to(stand, &ip).await?.into_iter().next().context("an entry")?;
    Ok((annotation_value(&pod, ADDRESSES).context("the annotation")?.to_owned(), ip, entry))
}

/// A stand that compares a gateway's entries every 3 s, so that a test need not last for the usual
/// minute.
async fn start_with_frequent_lists() -> Result<Stand> {
    let worker = ["--cooldown-seconds", "0", "--entry-list-seconds", "3"].map(str::to_owned);
    Stand::start_with(Options { worker: worker.to_vec(), ..Options::default() }).await
}

/// Waits until the gate has been False and is True again, for the same address. Nothing else goes
/// on: only the list of the gateway's entries shows the change.
async fn wait_until_repaired(stand: &Stand, name: &str, published: &str) -> Result<()> {
    stand.wait_for_condition(name, GATE, "False", TIMEOUT).await?;
    let pod = stand.wait_for_condition(name, GATE, "True", TIMEOUT).await?;
    assert_eq!(annotation_value(&pod, ADDRESSES), Some(published));
    Ok(())
}

#[tokio::test]
async fn an_entry_deleted_in_the_console_closes_the_gate_and_is_made_again_on_its_port()
-> Result<()> {
    let stand = start_with_frequent_lists().await?;
    let (published, ip, entry) = create_forwarding_pod(&stand, "robbed").await?;
    stand
        .cloud
        .change_at_console(
            "delete-forward-entry",
            json!({"forwardEntryId": entry["ForwardEntryId"]}),
        )
        .await?;
    wait_until_repaired(&stand, "robbed", &published).await?;
    stand.wait_for_warning("robbed", "AddressLost", TIMEOUT).await?;
    assert_eq!(list_entries_to(&stand, &ip).await?.len(), 1);
    stand.delete_pod("robbed").await?;
    wait_until_nothing_is_left(&stand).await
}

/// Services inside the cluster need no forward entry, so most of their pods must stay ready.
#[tokio::test]
async fn deleting_many_entries_at_once_withdraws_few_pods_and_repairs_all() -> Result<()> {
    const TOLD: usize = 5;
    let stand = start_with_one_gateway("--profile instant", 1, 600, 1000).await?;
    let names: Vec<_> = (0..12).map(|number| format!("robbed-{number}")).collect();
    for name in &names {
        stand.create_pod(&annotated_pod(name, &[WITH_DNAT, ports_annotation("80")])).await?;
    }
    let mut before = Vec::new();
    for name in &names {
        before.push(stand.wait_for_condition(name, GATE, "True", TIMEOUT).await?);
    }
    for entry in stand.cloud.list_resources("forwardEntries").await? {
        stand
            .cloud
            .change_at_console(
                "delete-forward-entry",
                json!({"forwardEntryId": entry["ForwardEntryId"]}),
            )
            .await?;
    }
    // All at once, and until the list that they share is younger than the deletions: the gateway's
    // comparison wakes few leases for what it does not show.
    let mended = async || {
        stand.wake_leases().await?;
        let entry_count = stand.cloud.list_resources("forwardEntries").await?.len();
        ensure!(entry_count == names.len(), "{entry_count} entries exist");
        Ok(Some(()))
    };
    stand.eventually(mended, "all entries exist again", TIMEOUT).await?;
    let transition = |pod: &Pod| {
        find_condition(pod, GATE).and_then(|condition| condition.last_transition_time.clone())
    };
    let mut flipped = 0;
    for (name, before) in names.iter().zip(&before) {
        let after = stand.wait_for_condition(name, GATE, "True", TIMEOUT).await?;
        assert_eq!(
            annotation_value(&after, ADDRESSES),
            annotation_value(before, ADDRESSES),
            "{name} has moved"
        );
        flipped += usize::from(transition(&after) != transition(before));
    }
    let log = stand.worker.read_logs()?;
    assert_eq!(log.matches("withdrawn").count(), TOLD);
    assert!(flipped <= TOLD, "{flipped} conditions were False for a while");
    assert!(
        log.contains("lost their forward entries within ten minutes"),
        "the log names the limited losses"
    );
    for name in &names {
        stand.delete_pod(name).await?;
    }
    wait_until_nothing_is_left(&stand).await
}

#[tokio::test]
async fn an_entry_pointed_elsewhere_in_the_console_closes_the_gate_and_is_pointed_back()
-> Result<()> {
    let stand = start_with_frequent_lists().await?;
    let (published, ip, entry) = create_forwarding_pod(&stand, "bent").await?;
    let elsewhere = json!({"forwardEntryId": entry["ForwardEntryId"], "forwardTableId": entry["ForwardTableId"], "internalIp": "10.0.200.9"});
    stand.cloud.change_at_console("modify-forward-entry", elsewhere).await?;
    wait_until_repaired(&stand, "bent", &published).await?;
    let entries = list_entries_to(&stand, &ip).await?;
    assert_eq!(
        entries.iter().map(|entry| &entry["ForwardEntryId"]).collect::<Vec<_>>(),
        [&entry["ForwardEntryId"]]
    );
    stand.delete_pod("bent").await?;
    wait_until_nothing_is_left(&stand).await
}

#[tokio::test]
async fn a_stale_entry_to_a_recycled_pod_ip_is_deleted_first() -> Result<()> {
    let stand = Stand::start().await?;
    stand.create_pod(&annotated_pod("recycled", &[])).await?;
    let pod = stand.wait_for_condition("recycled", "Ready", "True", TIMEOUT).await?;
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
        stand.cloud.change_at_console("create-forward-entry", stale).await?;
    }
    stand
        .annotate_pod(
            "recycled",
            json!({WITH_DNAT.0: WITH_DNAT.1, "k8s.aliyun.com/pod-dnat-expose-port": "80"}),
        )
        .await?;
    // Annotated while running, the pod has no gate; the address annotation shows that its entries
    // work.
    let published = stand.wait_for_annotation("recycled", ADDRESSES, TIMEOUT).await?;
    let published: Vec<Value> = serde_json::from_str(&published)?;
    let external = published[0]["externalIP"].as_str().context("an address")?;
    let gateway = stand
        .cloud
        .account
        .nat_gateways
        .iter()
        .find(|it| it.eips.iter().any(|eip| eip.ip_address == external))
        .context("a gateway")?;
    let there: Vec<_> = list_entries_to(&stand, &ip)
        .await?
        .into_iter()
        .filter(|entry| entry["ForwardTableId"] == gateway.forward_table_id.as_str())
        .collect();
    assert_eq!(there.len(), 1, "{there:?}");
    assert_ne!(there[0]["ForwardEntryName"], name.as_str());
    Ok(())
}

/// A pod that forwards, on this node: the zone of its interface, and the gateway it was given.
async fn create_pod_on_node(stand: &Stand, node: &str) -> Result<(String, String)> {
    let mut pod = annotated_pod(node, &[WITH_DNAT, ports_annotation("80")]);
    if let Some(spec) = &mut pod.spec {
        spec.node_name = Some(node.to_owned());
    }
    stand.create_pod(&pod).await?;
    stand.wait_for_condition(node, GATE, "True", TIMEOUT).await?;
    let spec =
        Api::<PodDNAT>::namespaced(stand.client.clone(), &stand.namespace).get(node).await?.spec;
    Ok((spec.zone_id.context("a zone")?, spec.table_id.context("a gateway")?))
}

#[tokio::test]
async fn pods_go_to_the_gateway_of_their_own_zone() -> Result<()> {
    let stand = Stand::start().await?;
    for node in ["node-j-1", "node-j-2", "node-k-1", "node-k-2"] {
        let (zone, id) = create_pod_on_node(&stand, node).await?;
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
    let stand = start_with_one_gateway("--profile instant", 1, 600, 620).await?;
    let only = stand.cloud.account.nat_gateways.first().context("a gateway")?.clone();
    let mut zones = Vec::new();
    for node in ["node-j-1", "node-k-1"] {
        let (zone, id) = create_pod_on_node(&stand, node).await?;
        assert_eq!(id, only.nat_gateway_id);
        zones.push(zone);
    }
    assert!(
        zones.contains(&only.zone_id) && zones.iter().any(|zone| *zone != only.zone_id),
        "{zones:?}"
    );
    Ok(())
}
