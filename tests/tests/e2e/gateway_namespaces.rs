//! Gateways that are some namespaces' own.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use testbed::{
    cloud::Cloud,
    condition_reasons::wait_for_reason,
    dnat::GATE,
    layout,
    leftovers::wait_until_nothing_is_left,
    pods::annotated_pod,
    stand::{Options, Stand},
    wait::TIMEOUT,
};

/// Creates a pod in the stand's present namespace, and says which external addresses it got.
async fn create_and_read_addresses(
    stand: &Stand,
    pod: &str,
    ports: &str,
) -> Result<BTreeSet<String>> {
    create_dnat_pod(stand, pod, ports).await?;
    stand.wait_for_condition(pod, GATE, "True", TIMEOUT).await?;
    let published =
        stand.wait_for_annotation(pod, "k8s.aliyun.com/allocated-dnat", TIMEOUT).await?;
    let published: Vec<Value> = serde_json::from_str(&published)?;
    Ok(published
        .iter()
        .filter_map(|entry| entry["externalIP"].as_str().map(str::to_owned))
        .collect())
}

async fn create_dnat_pod(stand: &Stand, pod: &str, ports: &str) -> Result<()> {
    let asks =
        [("k8s.aliyun.com/pod-dnat", "true"), ("k8s.aliyun.com/pod-dnat-expose-port", ports)];
    stand.create_pod(&annotated_pod(pod, &asks)).await?;
    Ok(())
}

#[tokio::test]
async fn two_namespaces_get_ports_only_from_their_own_gateways() -> Result<()> {
    let simulator = ["--profile", "instant"].map(str::to_owned).to_vec();
    // The simulator's gateways are the same at every start, so a first simulator shows their IDs.
    let looks =
        Cloud::start(&layout::scratch_folder().join("logs").join("addresses"), &simulator).await?;
    let [first, second] = looks.account.nat_gateways.as_slice() else {
        anyhow::bail!("two gateways are expected")
    };
    let games = format!("games-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
    // Two ports on each of the games' addresses, and plenty on the others'.
    let pool = json!([
        {"natgwId": first.nat_gateway_id, "zoneId": first.zone_id, "portRangeStart": 600, "portRangeEnd": 601,
         "name": "arena", "namespaces": [games]},
        {"natgwId": second.nat_gateway_id, "zoneId": second.zone_id, "portRangeStart": 600, "portRangeEnd": 700},
    ]);
    let config = json!({"networkController": {"natGwPool": pool}});
    let mut stand = Stand::start_with(Options { simulator, config, ..Options::default() }).await?;
    let addresses = |gateway: usize| {
        stand.cloud.account.nat_gateways[gateway]
            .eips
            .iter()
            .map(|eip| eip.ip_address.clone())
            .collect::<BTreeSet<_>>()
    };
    let (arena, others) = (addresses(0), addresses(1));

    let usual = stand.namespace.clone();
    for pod in ["web", "chat", "mail"] {
        let got = create_and_read_addresses(&stand, pod, "80,443,8080").await?;
        assert!(!got.is_empty() && got.is_subset(&others), "{got:?} of {others:?}");
    }

    stand.installation.serve_namespace(&games).await?;
    stand.namespace = games;
    let matches: Vec<_> = (0..arena.len()).map(|number| format!("match-{number}")).collect();
    let mut got = BTreeSet::new();
    for pod in &matches {
        got.extend(create_and_read_addresses(&stand, pod, "7000,7001").await?);
    }
    assert_eq!(got, arena, "all that the arena has");
    let refused = create_dnat_pod(&stand, "greedy", "1,2,3")
        .await
        .err()
        .context("more ports than an address of the arena has")?;
    assert!(format!("{refused:#}").contains("at most 2"), "{refused:#}");
    create_dnat_pod(&stand, "late", "7000").await?;
    wait_for_reason(
        &stand,
        "late",
        GATE,
        "NoFreePort",
        &[&format!("arena ({})", first.nat_gateway_id)],
    )
    .await?;

    for pod in matches.iter().map(String::as_str).chain(["late"]) {
        stand.delete_pod(pod).await?;
    }
    stand.namespace = usual;
    for pod in ["web", "chat", "mail"] {
        stand.delete_pod(pod).await?;
    }
    wait_until_nothing_is_left(&stand).await
}
