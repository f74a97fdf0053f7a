//! Gateways that are some namespaces' own.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use testbed::{
    cloud::Cloud,
    dnat::GATE,
    layout,
    nothing_left::nothing_is_left,
    pods::annotated,
    reasons::told,
    stand::{Options, Stand},
    wait::PATIENCE,
};

/// Creates a pod in the stand's present namespace, and says which external addresses it got.
async fn addresses_of(stand: &Stand, pod: &str, ports: &str) -> Result<BTreeSet<String>> {
    create(stand, pod, ports).await?;
    stand.condition(pod, GATE, "True", PATIENCE).await?;
    let told = stand.annotation(pod, "k8s.aliyun.com/allocated-dnat", PATIENCE).await?;
    let told: Vec<Value> = serde_json::from_str(&told)?;
    Ok(told.iter().filter_map(|entry| entry["externalIP"].as_str().map(str::to_owned)).collect())
}

async fn create(stand: &Stand, pod: &str, ports: &str) -> Result<()> {
    let asks =
        [("k8s.aliyun.com/pod-dnat", "true"), ("k8s.aliyun.com/pod-dnat-expose-port", ports)];
    stand.create(&annotated(pod, &asks)).await?;
    Ok(())
}

#[tokio::test]
async fn two_namespaces_get_ports_only_from_their_own_gateways() -> Result<()> {
    let simulator = ["--profile", "instant"].map(str::to_owned).to_vec();
    // The simulator's gateways are the same at every start, so a first simulator shows their IDs.
    let looks = Cloud::start(&layout::scratch().join("logs").join("addresses"), &simulator).await?;
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
        let got = addresses_of(&stand, pod, "80,443,8080").await?;
        assert!(!got.is_empty() && got.is_subset(&others), "{got:?} of {others:?}");
    }

    stand.installation.serve_namespace(&games).await?;
    stand.namespace = games;
    let matches: Vec<_> = (0..arena.len()).map(|number| format!("match-{number}")).collect();
    let mut got = BTreeSet::new();
    for pod in &matches {
        got.extend(addresses_of(&stand, pod, "7000,7001").await?);
    }
    assert_eq!(got, arena, "all that the arena has");
    let refused = create(&stand, "greedy", "1,2,3")
        .await
        .err()
        .context("more ports than an address of the arena has")?;
    assert!(format!("{refused:#}").contains("at most 2"), "{refused:#}");
    create(&stand, "late", "7000").await?;
    told(&stand, "late", GATE, "NoFreePort", &[&format!("arena ({})", first.nat_gateway_id)])
        .await?;

    for pod in matches.iter().map(String::as_str).chain(["late"]) {
        stand.delete(pod).await?;
    }
    stand.namespace = usual;
    for pod in ["web", "chat", "mail"] {
        stand.delete(pod).await?;
    }
    nothing_is_left(&stand).await
}
