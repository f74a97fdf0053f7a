//! Ports on NAT gateways.

use anyhow::{Context as _, Result, ensure};
use kube::Api;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use testbed::{
    dnat::{GATE, ON, entries_to, one_gateway, ports},
    nothing_left::nothing_is_left,
    pods::{annotated, annotation, ask, condition},
    reasons::told,
    stand::{Options, Stand},
    wait::PATIENCE,
    workloads::create_service,
};
use waygate_core::resources::PodDNAT;

#[tokio::test]
async fn a_pod_gets_traffic_only_once_both_its_entries_work() -> Result<()> {
    let simulator = ["--profile", "realistic"].map(str::to_owned).to_vec();
    let stand = Stand::start_with(Options { simulator, ..Options::default() }).await?;
    create_service(&stand, "game").await?;
    stand.create(&annotated("game", &[ON, ports("80,443")])).await?;
    stand.condition("game", GATE, "False", PATIENCE).await?;
    stand.ready_endpoints("game", 0, PATIENCE).await?;
    let pod = stand.condition("game", GATE, "True", PATIENCE).await?;
    stand.ready_endpoints("game", 1, PATIENCE).await?;
    let pod_ip =
        pod.status.as_ref().and_then(|status| status.pod_ip.clone()).context("a pod IP")?;
    let entries = entries_to(&stand, &pod_ip).await?;
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
    let told: Vec<Value> = serde_json::from_str(
        annotation(&pod, "k8s.aliyun.com/allocated-dnat").context("the annotation")?,
    )?;
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
        let told: Vec<Value> = serde_json::from_str(
            annotation(&pod, "k8s.aliyun.com/allocated-dnat").context("the annotation")?,
        )?;
        assert_eq!(told.len(), 3);
        let one_ip: BTreeSet<_> =
            told.iter().map(|entry| entry["externalIP"].to_string()).collect();
        assert_eq!(one_ip.len(), 1, "all of a pod's ports are on one address");
        for entry in told {
            let key =
                format!("{} {} {}", entry["externalIP"], entry["protocol"], entry["externalPort"]);
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
    let old_ip =
        before.status.as_ref().and_then(|status| status.pod_ip.clone()).context("a pod IP")?;
    stand.annotate("moving", json!({ask::SANDBOX: "1"})).await?;
    let probe = || async {
        let pod = stand.pods().get("moving").await?;
        let ip = pod.status.as_ref().and_then(|status| status.pod_ip.clone()).unwrap_or_default();
        let (old, new) =
            (entries_to(&stand, &old_ip).await?.len(), entries_to(&stand, &ip).await?.len());
        ensure!(
            ip != old_ip && old == 0 && new == 1,
            "pod IP {ip}; {old} entries to the old one, {new} to the new"
        );
        Ok(Some(()))
    };
    stand.eventually(probe, "the entry points to the new IP", PATIENCE).await?;
    let after = stand.condition("moving", GATE, "True", PATIENCE).await?;
    let told = |pod| annotation(pod, "k8s.aliyun.com/allocated-dnat").map(str::to_owned);
    assert_eq!(told(&before), told(&after));
    assert_eq!(
        stand.cloud.calls_of("ModifyForwardEntry").await?,
        1,
        "pointed elsewhere as it stands"
    );
    assert_eq!(stand.cloud.calls_of("DeleteForwardEntry").await?, 0);
    stand.delete("moving").await?;
    nothing_is_left(&stand).await
}

#[tokio::test]
async fn where_modifying_is_denied_an_entry_is_deleted_and_made_anew_on_the_same_port() -> Result<()>
{
    let stand = Stand::start().await?;
    stand.cloud.console("policy", json!({"denied": ["vpc:ModifyForwardEntry"]})).await?;
    let mut ports_of = Vec::new();
    for (number, name) in ["first", "second"].into_iter().enumerate() {
        stand.create(&annotated(name, &[ON, ports("80")])).await?;
        let before = stand.condition(name, GATE, "True", PATIENCE).await?;
        let old_ip =
            before.status.as_ref().and_then(|status| status.pod_ip.clone()).context("a pod IP")?;
        stand.annotate(name, json!({ask::SANDBOX: "1"})).await?;
        let probe = || async {
            let old = entries_to(&stand, &old_ip).await?.len();
            ensure!(old == 0, "{old} entries to the old IP");
            Ok(Some(()))
        };
        stand.eventually(probe, "the old entry is gone", PATIENCE).await?;
        let after = stand.condition(name, GATE, "True", PATIENCE).await?;
        let told = |pod| annotation(pod, "k8s.aliyun.com/allocated-dnat").map(str::to_owned);
        ports_of.push((told(&before), told(&after)));
        assert_eq!(
            stand.cloud.calls_of("ModifyForwardEntry").await?,
            1,
            "found out once, and known for pod {number}"
        );
    }
    assert!(ports_of.iter().all(|(before, after)| before == after), "{ports_of:?}");
    stand.delete("first").await?;
    stand.delete("second").await?;
    nothing_is_left(&stand).await
}

#[tokio::test]
async fn adjacent_ports_share_one_entry_and_have_a_status_entry_each() -> Result<()> {
    let stand = Stand::start().await?;
    stand.create(&annotated("match", &[ON, ports("7001,80,7000,7002,7000/udp")])).await?;
    let pod = stand.condition("match", GATE, "True", PATIENCE).await?;
    let pod_ip =
        pod.status.as_ref().and_then(|status| status.pod_ip.clone()).context("a pod IP")?;
    let inside: BTreeSet<_> = entries_to(&stand, &pod_ip)
        .await?
        .iter()
        .map(|entry| entry["InternalPort"].to_string())
        .collect();
    assert_eq!(
        inside.iter().map(String::as_str).collect::<Vec<_>>(),
        ["\"7000\"", "\"7000/7002\"", "\"80\""]
    );
    assert_eq!(stand.cloud.calls_of("CreateForwardEntry").await?, 3);
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
    let outside = |index: usize| {
        shown[index].external_port.as_deref().and_then(|port| port.parse::<u16>().ok())
    };
    assert_eq!(outside(2).map(|port| port + 1), outside(0), "mapped position by position");
    stand.delete("match").await?;
    nothing_is_left(&stand).await
}

#[tokio::test]
async fn pods_go_to_the_next_gateway_when_one_is_full_and_say_so_when_all_are() -> Result<()> {
    let simulator = ["--profile", "instant", "--quota-entries", "3"].map(str::to_owned).to_vec();
    let stand = Stand::start_with(Options { simulator, ..Options::default() }).await?;
    // Each pod needs two entries and a gateway takes three: a gateway for each pod.
    let names = ["one", "two", "three", "four"];
    for name in names {
        stand.create(&annotated(name, &[ON, ports("80,443")])).await?;
    }
    let gateways: Vec<_> = stand
        .cloud
        .account
        .nat_gateways
        .iter()
        .map(|gateway| gateway.nat_gateway_id.clone())
        .collect();
    let words: Vec<_> = gateways.iter().map(String::as_str).collect();
    let verdicts = || async {
        let mut working = Vec::new();
        let mut waiting = Vec::new();
        for name in names {
            let pod = stand.pods().get(name).await?;
            let list =
                if condition(&pod, GATE) == Some("True") { &mut working } else { &mut waiting };
            list.push(name);
        }
        ensure!(working.len() == 2, "{working:?} work, {waiting:?} wait");
        Ok(Some((working, waiting)))
    };
    let (working, waiting) = stand.eventually(verdicts, "two pods work", PATIENCE).await?;
    for name in &waiting {
        told(&stand, name, GATE, "QuotaExceeded", &words).await?;
    }
    let refusals = async || {
        anyhow::Ok(
            stand.cloud.calls().await?["errors"]["CreateForwardEntry"]["QuotaExceeded"]
                .as_u64()
                .unwrap_or_default(),
        )
    };
    let refused = refusals().await?;
    stand.create(&annotated("five", &[ON, ports("80,443")])).await?;
    told(&stand, "five", GATE, "QuotaExceeded", &words).await?;
    ensure!(
        refused > 0 && refusals().await? == refused,
        "gateways that are known to be full are not asked again"
    );
    stand.delete("five").await?;

    stand.delete(working[0]).await?;
    let next = || async {
        for name in &waiting {
            if condition(&stand.pods().get(name).await?, GATE) == Some("True") {
                return Ok(Some(()));
            }
        }
        Ok(None)
    };
    stand.eventually(next, "a waiting pod gets the room", PATIENCE).await?;
    for name in names.iter().filter(|name| **name != working[0]) {
        stand.delete(name).await?;
    }
    nothing_is_left(&stand).await
}

#[tokio::test]
async fn an_address_that_snat_uses_is_taken_last_and_its_high_ports_break_out() -> Result<()> {
    let stand = one_gateway("--profile instant", 2, 2000, 2000).await?;
    let gateway = stand.cloud.account.nat_gateways.first().context("a gateway")?.clone();
    let shared = gateway.eips[0].ip_address.clone();
    let entry = json!({"natGatewayId": gateway.nat_gateway_id, "snatIp": shared, "sourceCIDR": "10.0.0.0/8"});
    stand.cloud.console("snat-entry", entry).await?;
    let probe = || async {
        let snat: i64 = sqlx::query_scalar("SELECT count(*) FROM gateway_eip WHERE snat")
            .fetch_one(&stand.database)
            .await?;
        Ok((snat == 1).then_some(()))
    };
    stand.eventually(probe, "the worker knows of the SNAT entry", PATIENCE).await?;
    let mut addresses = Vec::new();
    for name in ["own", "sharing"] {
        stand.create(&annotated(name, &[ON, ports("80")])).await?;
        let pod = stand.condition(name, GATE, "True", PATIENCE).await?;
        let told: Vec<Value> = serde_json::from_str(
            annotation(&pod, "k8s.aliyun.com/allocated-dnat").context("the annotation")?,
        )?;
        addresses.push(told[0]["externalIP"].as_str().unwrap_or_default().to_owned());
    }
    assert_eq!(addresses, [gateway.eips[1].ip_address.clone(), shared]);
    stand.delete("own").await?;
    stand.delete("sharing").await?;
    nothing_is_left(&stand).await
}

#[tokio::test]
async fn a_port_under_somebody_elses_entry_is_not_tried_and_is_free_once_that_is_gone() -> Result<()>
{
    let stand = one_gateway("--profile instant", 1, 600, 600).await?;
    let gateway = stand.cloud.account.nat_gateways.first().context("a gateway")?.clone();
    let foreign = json!({
        "forwardTableId": gateway.forward_table_id, "externalIp": gateway.eips[0].ip_address, "externalPort": "600",
        "internalIp": "10.0.200.9", "internalPort": "600", "ipProtocol": "TCP", "forwardEntryName": "legacy-entry",
    });
    let entry = stand.cloud.console("create-forward-entry", foreign).await?;
    let probe = || async {
        let marked: i64 = sqlx::query_scalar("SELECT count(*) FROM port WHERE state = 'foreign'")
            .fetch_one(&stand.database)
            .await?;
        Ok((marked == 1).then_some(()))
    };
    stand.eventually(probe, "the port is marked", PATIENCE).await?;
    stand.create(&annotated("patient", &[ON, ports("80")])).await?;
    told(&stand, "patient", GATE, "NoFreePort", &[]).await?;
    assert_eq!(stand.cloud.calls_of("CreateForwardEntry").await?, 0);
    stand
        .cloud
        .console("delete-forward-entry", json!({"forwardEntryId": entry["ForwardEntryId"]}))
        .await?;
    stand.condition("patient", GATE, "True", PATIENCE).await?;
    assert_eq!(stand.cloud.calls_of("CreateForwardEntry").await?, 1);
    stand.delete("patient").await?;
    nothing_is_left(&stand).await
}

#[tokio::test]
async fn an_eip_that_leaves_its_gateway_is_said_and_comes_back_with_its_entries() -> Result<()> {
    let stand = one_gateway("--profile instant", 1, 600, 610).await?;
    let gateway = stand.cloud.account.nat_gateways.first().context("a gateway")?.clone();
    let eip = &gateway.eips[0];
    stand.create(&annotated("faithful", &[ON, ports("80")])).await?;
    let before = stand.condition("faithful", GATE, "True", PATIENCE).await?;
    let binding = json!({"allocationId": eip.allocation_id, "instanceId": gateway.nat_gateway_id, "instanceType": "Nat"});
    stand.cloud.console("unbind-gateway-eip", binding.clone()).await?;
    told(
        &stand,
        "faithful",
        GATE,
        "NATGatewayUnavailable",
        &[&eip.allocation_id, &gateway.nat_gateway_id],
    )
    .await?;
    let asked = stand.cloud.calls_of("CreateForwardEntry").await?;
    assert!(
        asked <= 4,
        "{asked} entries were asked for: what cannot be is not tried again and again"
    );
    stand.cloud.console("associate-eip", binding).await?;
    let after = stand.condition("faithful", GATE, "True", PATIENCE).await?;
    let told = |pod| annotation(pod, "k8s.aliyun.com/allocated-dnat").map(str::to_owned);
    assert_eq!(told(&before), told(&after));
    stand.delete("faithful").await?;
    nothing_is_left(&stand).await
}

#[tokio::test]
async fn a_gateway_that_is_locked_or_deleted_is_said_and_its_leases_end_all_the_same() -> Result<()>
{
    let stand = one_gateway("--profile instant", 1, 600, 610).await?;
    let gateway =
        stand.cloud.account.nat_gateways.first().context("a gateway")?.nat_gateway_id.clone();
    stand.create(&annotated("early", &[ON, ports("80")])).await?;
    stand.condition("early", GATE, "True", PATIENCE).await?;
    stand.cloud.console("lock-nat-gateway", json!({"natGatewayId": gateway})).await?;
    let probe = || async {
        let troubled: i64 =
            sqlx::query_scalar("SELECT count(*) FROM gateway_eip WHERE trouble IS NOT NULL")
                .fetch_one(&stand.database)
                .await?;
        Ok((troubled == 1).then_some(()))
    };
    stand.eventually(probe, "the worker knows that the gateway is locked", PATIENCE).await?;
    stand.create(&annotated("late", &[ON, ports("80")])).await?;
    told(&stand, "late", GATE, "NATGatewayUnavailable", &[]).await?;
    stand
        .condition("early", GATE, "True", PATIENCE)
        .await
        .context("an entry that stands works on")?;
    stand.cloud.console("delete-nat-gateway", json!({"natGatewayId": gateway})).await?;
    told(&stand, "early", GATE, "NATGatewayUnavailable", &[&gateway, "does not exist"]).await?;
    stand.delete("early").await?;
    stand.delete("late").await?;
    nothing_is_left(&stand).await
}

#[tokio::test]
async fn somebody_elses_entry_on_our_port_is_walked_round_and_left_alone() -> Result<()> {
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
                stand.cloud.console("create-forward-entry", foreign).await.ok();
            }
        }
    }
    stand.create(&annotated("polite", &[ON, ports("80")])).await?;
    stand.condition("polite", GATE, "True", PATIENCE).await?;
    stand.delete("polite").await?;
    nothing_is_left(&stand).await
}

/// A gateway that takes one change at a time, and none while an entry is `Pending`: 50 entries,
/// some 1.4 s each.
#[tokio::test]
async fn fifty_pods_on_a_strict_gateway_waste_hardly_a_call() -> Result<()> {
    const PODS: u32 = 50;
    const ONE_ENTRY: Duration = Duration::from_millis(1400);
    let stand = one_gateway("--profile strict", 2, 600, 1000).await?;
    let names: Vec<_> = (0..PODS).map(|number| format!("player-{number}")).collect();
    let began = Instant::now();
    for name in &names {
        stand.create(&annotated(name, &[ON, ports("80")])).await?;
    }
    for name in &names {
        stand.condition(name, GATE, "True", ONE_ENTRY * PODS * 3).await?;
    }
    let (took, calls) = (began.elapsed(), stand.cloud.calls_of("CreateForwardEntry").await?);
    println!("{PODS} entries in {took:?} by {calls} calls: {:?} each", took / PODS);
    // Two more teach how the gateway takes them.
    assert!((calls - 2) * 10 <= u64::from(PODS) * 11, "{calls} calls for {PODS} entries");
    Ok(())
}
