//! Ports on NAT gateways.

use anyhow::{Context as _, Result, ensure};
use kube::Api;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use testbed::{
    condition_reasons::wait_for_reason,
    dnat::{GATE, WITH_DNAT, list_entries_to, ports_annotation, start_with_one_gateway},
    leftovers::wait_until_nothing_is_left,
    pods::{annotated_pod, annotation_value, ask, condition_status},
    stand::{Options, Stand},
    wait::TIMEOUT,
    workloads::create_service,
};
use waygate_core::resources::PodDNAT;

#[tokio::test]
async fn a_pod_gets_traffic_only_once_both_its_entries_work() -> Result<()> {
    let simulator = ["--profile", "realistic"].map(str::to_owned).to_vec();
    let stand = Stand::start_with(Options { simulator, ..Options::default() }).await?;
    create_service(&stand, "game").await?;
    stand.create_pod(&annotated_pod("game", &[WITH_DNAT, ports_annotation("80,443")])).await?;
    // It runs before its entries work, and is not Ready.
    let waiting = stand.wait_for_condition("game", "ContainersReady", "True", TIMEOUT).await?;
    assert_ne!(condition_status(&waiting, GATE), Some("True"));
    assert_ne!(condition_status(&waiting, "Ready"), Some("True"));
    stand.wait_for_ready_endpoints("game", 0, TIMEOUT).await?;
    let pod = stand.wait_for_condition("game", GATE, "True", TIMEOUT).await?;
    stand.wait_for_ready_endpoints("game", 1, TIMEOUT).await?;
    let pod_ip =
        pod.status.as_ref().and_then(|status| status.pod_ip.clone()).context("a pod IP")?;
    let entries = list_entries_to(&stand, &pod_ip).await?;
    assert_eq!(entries.len(), 2);
    assert!(entries.iter().all(|entry| entry["Status"] == "Available"));

    let resource =
        Api::<PodDNAT>::namespaced(stand.client.clone(), &stand.namespace).get("game").await?;
    let owner = resource
        .metadata
        .owner_references
        .as_deref()
        .unwrap_or_default()
        .first()
        .context("an owner")?;
    assert_eq!((owner.kind.as_str(), owner.block_owner_deletion), ("Pod", Some(true)));
    assert_eq!(resource.metadata.finalizers, Some(vec!["natgw-controller".to_owned()]));
    assert_eq!(resource.spec.internal_ip.as_deref(), Some(pod_ip.as_str()));
    assert!(
        resource.spec.table_id.as_deref().is_some_and(|id| id.starts_with("ngw-")),
        "as the documents have it"
    );
    let shown = resource.status.and_then(|status| status.entries).context("entries")?;
    let internal: Vec<_> =
        shown.iter().filter_map(|entry| entry.internal_port.as_deref()).collect();
    assert_eq!(internal, ["80", "443"], "one status entry a port, in the order asked for");
    let published: Vec<Value> = serde_json::from_str(
        annotation_value(&pod, "k8s.aliyun.com/allocated-dnat").context("the annotation")?,
    )?;
    assert_eq!(published.len(), 2);
    assert_eq!(published[0]["internalPort"], 80);
    assert_eq!(published[0]["externalIP"].as_str(), shown[0].external_ip.as_deref());

    stand.delete_pod("game").await?;
    wait_until_nothing_is_left(&stand).await
}

#[tokio::test]
async fn no_external_port_is_allocated_twice_for_any_protocol() -> Result<()> {
    let stand = Stand::start().await?;
    let names: Vec<_> = (0..12).map(|number| format!("server-{number}")).collect();
    for name in &names {
        stand
            .create_pod(&annotated_pod(
                name,
                &[WITH_DNAT, ports_annotation("7000,7000/udp,53/udp")],
            ))
            .await?;
    }
    let mut given = BTreeSet::new();
    for name in &names {
        let pod = stand.wait_for_condition(name, GATE, "True", TIMEOUT).await?;
        let published: Vec<Value> = serde_json::from_str(
            annotation_value(&pod, "k8s.aliyun.com/allocated-dnat").context("the annotation")?,
        )?;
        assert_eq!(published.len(), 3);
        let one_ip: BTreeSet<_> =
            published.iter().map(|entry| entry["externalIP"].to_string()).collect();
        assert_eq!(one_ip.len(), 1, "all of a pod's ports are on one address");
        for entry in published {
            let key =
                format!("{} {} {}", entry["externalIP"], entry["protocol"], entry["externalPort"]);
            ensure!(given.insert(key.clone()), "{key} was given twice");
        }
    }
    for name in &names {
        stand.delete_pod(name).await?;
    }
    wait_until_nothing_is_left(&stand).await
}

#[tokio::test]
async fn entries_follow_a_pod_to_its_new_ip_on_the_same_ports() -> Result<()> {
    let stand = Stand::start().await?;
    stand.create_pod(&annotated_pod("moving", &[WITH_DNAT, ports_annotation("80")])).await?;
    let before = stand.wait_for_condition("moving", GATE, "True", TIMEOUT).await?;
    let old_ip =
        before.status.as_ref().and_then(|status| status.pod_ip.clone()).context("a pod IP")?;
    stand.annotate_pod("moving", json!({ask::SANDBOX: "1"})).await?;
    let probe = || async {
        let pod = stand.pods().get("moving").await?;
        let ip = pod.status.as_ref().and_then(|status| status.pod_ip.clone()).unwrap_or_default();
        let (old, new) = (
            list_entries_to(&stand, &old_ip).await?.len(),
            list_entries_to(&stand, &ip).await?.len(),
        );
        ensure!(
            ip != old_ip && old == 0 && new == 1,
            "pod IP {ip}; {old} entries to the old one, {new} to the new"
        );
        Ok(Some(()))
    };
    stand.eventually(probe, "the entry points to the new IP", TIMEOUT).await?;
    let after = stand.wait_for_condition("moving", GATE, "True", TIMEOUT).await?;
    let published = |pod| annotation_value(pod, "k8s.aliyun.com/allocated-dnat").map(str::to_owned);
    assert_eq!(published(&before), published(&after));
    assert_eq!(
        stand.cloud.count_calls_of("ModifyForwardEntry").await?,
        1,
        "pointed elsewhere as it stands"
    );
    assert_eq!(stand.cloud.count_calls_of("DeleteForwardEntry").await?, 0);
    stand.delete_pod("moving").await?;
    wait_until_nothing_is_left(&stand).await
}

#[tokio::test]
async fn where_modifying_is_denied_an_entry_is_deleted_and_made_anew_on_the_same_port() -> Result<()>
{
    let stand = Stand::start().await?;
    stand.cloud.change_at_console("policy", json!({"denied": ["vpc:ModifyForwardEntry"]})).await?;
    let mut ports_of = Vec::new();
    for (number, name) in ["first", "second"].into_iter().enumerate() {
        stand.create_pod(&annotated_pod(name, &[WITH_DNAT, ports_annotation("80")])).await?;
        let before = stand.wait_for_condition(name, GATE, "True", TIMEOUT).await?;
        let old_ip =
            before.status.as_ref().and_then(|status| status.pod_ip.clone()).context("a pod IP")?;
        stand.annotate_pod(name, json!({ask::SANDBOX: "1"})).await?;
        let probe = || async {
            let old = list_entries_to(&stand, &old_ip).await?.len();
            ensure!(old == 0, "{old} entries to the old IP");
            Ok(Some(()))
        };
        stand.eventually(probe, "the old entry is gone", TIMEOUT).await?;
        let after = stand.wait_for_condition(name, GATE, "True", TIMEOUT).await?;
        let published =
            |pod| annotation_value(pod, "k8s.aliyun.com/allocated-dnat").map(str::to_owned);
        ports_of.push((published(&before), published(&after)));
        assert_eq!(
            stand.cloud.count_calls_of("ModifyForwardEntry").await?,
            1,
            "found out once, and known for pod {number}"
        );
    }
    assert!(ports_of.iter().all(|(before, after)| before == after), "{ports_of:?}");
    stand.delete_pod("first").await?;
    stand.delete_pod("second").await?;
    wait_until_nothing_is_left(&stand).await
}

#[tokio::test]
async fn adjacent_ports_share_one_entry_and_have_a_status_entry_each() -> Result<()> {
    let stand = Stand::start().await?;
    stand
        .create_pod(&annotated_pod(
            "match",
            &[WITH_DNAT, ports_annotation("7001,80,7000,7002,7000/udp")],
        ))
        .await?;
    let pod = stand.wait_for_condition("match", GATE, "True", TIMEOUT).await?;
    let pod_ip =
        pod.status.as_ref().and_then(|status| status.pod_ip.clone()).context("a pod IP")?;
    let inside: BTreeSet<_> = list_entries_to(&stand, &pod_ip)
        .await?
        .iter()
        .map(|entry| entry["InternalPort"].to_string())
        .collect();
    assert_eq!(
        inside.iter().map(String::as_str).collect::<Vec<_>>(),
        ["\"7000\"", "\"7000/7002\"", "\"80\""]
    );
    assert_eq!(stand.cloud.count_calls_of("CreateForwardEntry").await?, 3);
    let resource =
        Api::<PodDNAT>::namespaced(stand.client.clone(), &stand.namespace).get("match").await?;
    let shown = resource.status.and_then(|status| status.entries).context("entries")?;
    let internal: Vec<_> =
        shown.iter().filter_map(|entry| entry.internal_port.as_deref()).collect();
    assert_eq!(
        internal,
        ["7001", "80", "7000", "7002", "7000"],
        "as many as ports, in the order asked for: OpenKruiseGame counts them"
    );
    let id = |index: usize| shown[index].forward_entry_id.clone();
    assert!(
        id(0).is_some() && id(0) == id(2) && id(0) == id(3) && id(0) != id(1) && id(0) != id(4)
    );
    let external_port = |index: usize| {
        shown[index].external_port.as_deref().and_then(|port| port.parse::<u16>().ok())
    };
    assert_eq!(
        external_port(2).map(|port| port + 1),
        external_port(0),
        "mapped position by position"
    );
    stand.delete_pod("match").await?;
    wait_until_nothing_is_left(&stand).await
}

#[tokio::test]
async fn pods_use_the_next_gateway_when_one_is_full_and_say_so_when_all_are() -> Result<()> {
    let simulator = ["--profile", "instant", "--quota-entries", "3"].map(str::to_owned).to_vec();
    let stand = Stand::start_with(Options { simulator, ..Options::default() }).await?;
    // Each pod needs two entries and a gateway takes three: a gateway for each pod.
    let names = ["one", "two", "three", "four"];
    for name in names {
        stand.create_pod(&annotated_pod(name, &[WITH_DNAT, ports_annotation("80,443")])).await?;
    }
    let gateways: Vec<_> = stand
        .cloud
        .account
        .nat_gateways
        .iter()
        .map(|gateway| gateway.nat_gateway_id.clone())
        .collect();
    let gateway_names: Vec<_> = gateways.iter().map(String::as_str).collect();
    let sort_pods = || async {
        let mut working = Vec::new();
        let mut waiting = Vec::new();
        for name in names {
            let pod = stand.pods().get(name).await?;
            let list = if condition_status(&pod, GATE) == Some("True") {
                &mut working
            } else {
                &mut waiting
            };
            list.push(name);
        }
        ensure!(working.len() == 2, "{working:?} work, {waiting:?} wait");
        Ok(Some((working, waiting)))
    };
    let (working, waiting) = stand.eventually(sort_pods, "two pods work", TIMEOUT).await?;
    for name in &waiting {
        wait_for_reason(&stand, name, GATE, "QuotaExceeded", &gateway_names).await?;
    }
    let rejections = async || {
        anyhow::Ok(
            stand.cloud.count_calls().await?["errors"]["CreateForwardEntry"]["QuotaExceeded"]
                .as_u64()
                .unwrap_or_default(),
        )
    };
    let refused = rejections().await?;
    stand.create_pod(&annotated_pod("five", &[WITH_DNAT, ports_annotation("80,443")])).await?;
    wait_for_reason(&stand, "five", GATE, "QuotaExceeded", &gateway_names).await?;
    ensure!(
        refused > 0 && rejections().await? == refused,
        "gateways that are known to be full are not asked again"
    );
    stand.delete_pod("five").await?;

    stand.delete_pod(working[0]).await?;
    let next = || async {
        for name in &waiting {
            if condition_status(&stand.pods().get(name).await?, GATE) == Some("True") {
                return Ok(Some(()));
            }
        }
        Ok(None)
    };
    stand.eventually(next, "a waiting pod gets the room", TIMEOUT).await?;
    for name in names.iter().filter(|name| **name != working[0]) {
        stand.delete_pod(name).await?;
    }
    wait_until_nothing_is_left(&stand).await
}

#[tokio::test]
async fn an_snat_address_is_used_last_and_its_high_ports_break_out() -> Result<()> {
    let stand = start_with_one_gateway("--profile instant", 2, 2000, 2000).await?;
    let gateway = stand.cloud.account.nat_gateways.first().context("a gateway")?.clone();
    let shared = gateway.eips[0].ip_address.clone();
    let entry = json!({"natGatewayId": gateway.nat_gateway_id, "snatIp": shared, "sourceCIDR": "10.0.0.0/8"});
    stand.cloud.change_at_console("snat-entry", entry).await?;
    let probe = || async {
        let snat: i64 = sqlx::query_scalar("SELECT count(*) FROM gateway_eip WHERE snat")
            .fetch_one(&stand.database)
            .await?;
        Ok((snat == 1).then_some(()))
    };
    stand.eventually(probe, "the worker knows of the SNAT entry", TIMEOUT).await?;
    let mut addresses = Vec::new();
    for name in ["own", "sharing"] {
        stand.create_pod(&annotated_pod(name, &[WITH_DNAT, ports_annotation("80")])).await?;
        let pod = stand.wait_for_condition(name, GATE, "True", TIMEOUT).await?;
        let published: Vec<Value> = serde_json::from_str(
            annotation_value(&pod, "k8s.aliyun.com/allocated-dnat").context("the annotation")?,
        )?;
        addresses.push(published[0]["externalIP"].as_str().unwrap_or_default().to_owned());
    }
    assert_eq!(addresses, [gateway.eips[1].ip_address.clone(), shared]);
    stand.delete_pod("own").await?;
    stand.delete_pod("sharing").await?;
    wait_until_nothing_is_left(&stand).await
}

#[tokio::test]
async fn a_port_under_a_foreign_entry_is_not_tried_and_is_free_once_the_entry_is_gone() -> Result<()>
{
    let stand = start_with_one_gateway("--profile instant", 1, 600, 600).await?;
    let gateway = stand.cloud.account.nat_gateways.first().context("a gateway")?.clone();
    let foreign = json!({
        "forwardTableId": gateway.forward_table_id, "externalIp": gateway.eips[0].ip_address, "externalPort": "600",
        "internalIp": "10.0.200.9", "internalPort": "600", "ipProtocol": "TCP", "forwardEntryName": "legacy-entry",
    });
    let entry = stand.cloud.change_at_console("create-forward-entry", foreign).await?;
    let probe = || async {
        let marked: i64 = sqlx::query_scalar("SELECT count(*) FROM port WHERE state = 'foreign'")
            .fetch_one(&stand.database)
            .await?;
        Ok((marked == 1).then_some(()))
    };
    stand.eventually(probe, "the port is marked", TIMEOUT).await?;
    stand.create_pod(&annotated_pod("patient", &[WITH_DNAT, ports_annotation("80")])).await?;
    wait_for_reason(&stand, "patient", GATE, "NoFreePort", &[]).await?;
    assert_eq!(stand.cloud.count_calls_of("CreateForwardEntry").await?, 0);
    stand
        .cloud
        .change_at_console(
            "delete-forward-entry",
            json!({"forwardEntryId": entry["ForwardEntryId"]}),
        )
        .await?;
    stand.wait_for_condition("patient", GATE, "True", TIMEOUT).await?;
    assert_eq!(stand.cloud.count_calls_of("CreateForwardEntry").await?, 1);
    stand.delete_pod("patient").await?;
    wait_until_nothing_is_left(&stand).await
}

#[tokio::test]
async fn an_eip_that_leaves_its_gateway_is_reported_and_comes_back_with_its_entries() -> Result<()>
{
    let stand = start_with_one_gateway("--profile instant", 1, 600, 610).await?;
    let gateway = stand.cloud.account.nat_gateways.first().context("a gateway")?.clone();
    let eip = &gateway.eips[0];
    stand.create_pod(&annotated_pod("faithful", &[WITH_DNAT, ports_annotation("80")])).await?;
    let before = stand.wait_for_condition("faithful", GATE, "True", TIMEOUT).await?;
    let binding = json!({"allocationId": eip.allocation_id, "instanceId": gateway.nat_gateway_id, "instanceType": "Nat"});
    stand.cloud.change_at_console("unbind-gateway-eip", binding.clone()).await?;
    wait_for_reason(
        &stand,
        "faithful",
        GATE,
        "NATGatewayUnavailable",
        &[&eip.allocation_id, &gateway.nat_gateway_id],
    )
    .await?;
    let asked = stand.cloud.count_calls_of("CreateForwardEntry").await?;
    assert!(
        asked <= 4,
        "{asked} entries were asked for: what cannot be is not tried again and again"
    );
    stand.cloud.change_at_console("associate-eip", binding).await?;
    let after = stand.wait_for_condition("faithful", GATE, "True", TIMEOUT).await?;
    let published = |pod| annotation_value(pod, "k8s.aliyun.com/allocated-dnat").map(str::to_owned);
    assert_eq!(published(&before), published(&after));
    stand.delete_pod("faithful").await?;
    wait_until_nothing_is_left(&stand).await
}

#[tokio::test]
async fn a_locked_or_deleted_gateway_is_reported_and_its_leases_end() -> Result<()> {
    let stand = start_with_one_gateway("--profile instant", 1, 600, 610).await?;
    let gateway =
        stand.cloud.account.nat_gateways.first().context("a gateway")?.nat_gateway_id.clone();
    stand.create_pod(&annotated_pod("early", &[WITH_DNAT, ports_annotation("80")])).await?;
    stand.wait_for_condition("early", GATE, "True", TIMEOUT).await?;
    stand.cloud.change_at_console("lock-nat-gateway", json!({"natGatewayId": gateway})).await?;
    let probe = || async {
        let troubled: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM gateway_eip WHERE unavailable_reason IS NOT NULL",
        )
        .fetch_one(&stand.database)
        .await?;
        Ok((troubled == 1).then_some(()))
    };
    stand.eventually(probe, "the worker knows that the gateway is locked", TIMEOUT).await?;
    stand.create_pod(&annotated_pod("late", &[WITH_DNAT, ports_annotation("80")])).await?;
    wait_for_reason(&stand, "late", GATE, "NATGatewayUnavailable", &[]).await?;
    stand
        .wait_for_condition("early", GATE, "True", TIMEOUT)
        .await
        .context("an entry that stands works on")?;
    stand.cloud.change_at_console("delete-nat-gateway", json!({"natGatewayId": gateway})).await?;
    wait_for_reason(&stand, "early", GATE, "NATGatewayUnavailable", &[&gateway, "does not exist"])
        .await?;
    stand.delete_pod("early").await?;
    stand.delete_pod("late").await?;
    wait_until_nothing_is_left(&stand).await
}

#[tokio::test]
async fn a_foreign_entry_on_our_port_is_avoided_and_left_alone() -> Result<()> {
    let stand = Stand::start_with(Options { config: json!({}), ..Options::default() }).await?;
    let gateways = stand.cloud.account.nat_gateways.clone();
    // Foreign entries map every EIP as a whole, except the first one.
    for gateway in &gateways {
        for eip in &gateway.eips {
            let foreign = json!({
                "forwardTableId": gateway.forward_table_id, "externalIp": eip.ip_address, "externalPort": "Any", "internalIp": "10.9.9.9",
                "internalPort": "Any", "ipProtocol": "Any", "forwardEntryName": "legacy-entry",
            });
            if eip.allocation_id != gateways[0].eips[0].allocation_id {
                stand.cloud.change_at_console("create-forward-entry", foreign).await.ok();
            }
        }
    }
    stand.create_pod(&annotated_pod("polite", &[WITH_DNAT, ports_annotation("80")])).await?;
    stand.wait_for_condition("polite", GATE, "True", TIMEOUT).await?;
    stand.delete_pod("polite").await?;
    wait_until_nothing_is_left(&stand).await
}

/// A gateway that takes one change at a time, and none while an entry is `Pending`: some 1.4 s
/// an entry.
#[tokio::test]
async fn pods_on_a_strict_gateway_waste_hardly_a_call() -> Result<()> {
    const PODS: u32 = 25;
    const ONE_ENTRY: Duration = Duration::from_millis(1400);
    let stand = start_with_one_gateway("--profile strict", 2, 600, 1000).await?;
    let names: Vec<_> = (0..PODS).map(|number| format!("player-{number}")).collect();
    let began = Instant::now();
    for name in &names {
        stand.create_pod(&annotated_pod(name, &[WITH_DNAT, ports_annotation("80")])).await?;
    }
    for name in &names {
        stand.wait_for_condition(name, GATE, "True", ONE_ENTRY * PODS * 3).await?;
    }
    let (took, calls) = (began.elapsed(), stand.cloud.count_calls_of("CreateForwardEntry").await?);
    println!("{PODS} entries in {took:?} by {calls} calls: {:?} each", took / PODS);
    // Two more teach how the gateway takes them.
    assert!((calls - 2) * 10 <= u64::from(PODS) * 11, "{calls} calls for {PODS} entries");
    Ok(())
}
