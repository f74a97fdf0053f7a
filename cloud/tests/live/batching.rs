//! Batching: many readers share few calls.

use crate::harness::{PATIENCE, Simulator, soon, token};
use anyhow::Result;
use std::net::Ipv4Addr;
use tokio::task::JoinSet;
use waygate_core::change::Change;
use waygate_core::request::EipSpec;

#[tokio::test]
async fn five_hundred_readers_of_five_hundred_eips_cost_twelve_calls_at_most() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "instant", "--quota-eips", "600"]).await?;
    let cloud = simulator.hasty_cloud();
    let mut ids = Vec::new();
    for _ in 0..500 {
        let change = Change::AllocateEipAddress { spec: EipSpec::default(), tags: [].into() };
        ids.push(
            cloud
                .send_change(&change, Some(&token()), soon(), PATIENCE)
                .await?
                .allocation_id
                .unwrap(),
        );
    }
    let before = simulator.calls("DescribeEipAddresses").await;
    let mut readers = JoinSet::new();
    for id in ids {
        let cloud = cloud.clone();
        readers.spawn(async move {
            cloud.eip_by_id(&id).await.unwrap().value.unwrap().allocation_id == id
        });
    }
    assert!(readers.join_all().await.into_iter().all(|right| right));
    let calls = simulator.calls("DescribeEipAddresses").await - before;
    println!("500 readers of 500 EIPs: {calls} calls");
    assert!(calls <= 12, "{calls} calls");
    Ok(())
}

#[tokio::test]
async fn two_hundred_pods_find_their_interfaces_in_few_calls() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "instant"]).await?;
    let cloud = simulator.hasty_cloud();
    let address = |host: usize| -> Ipv4Addr { format!("10.1.0.{}", host + 1).parse().unwrap() };
    let mut readers = JoinSet::new();
    for host in 0..200 {
        let cloud = cloud.clone();
        readers.spawn(async move {
            cloud.eni_by_private_ip(address(host)).await.unwrap().value.is_some()
        });
    }
    assert!(readers.join_all().await.into_iter().all(|found| found));
    let calls = simulator.calls("DescribeNetworkInterfaces").await;
    assert!(calls <= 6, "{calls} calls");
    Ok(())
}

#[tokio::test]
async fn concurrent_readers_of_a_gateway_share_its_list() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "realistic"]).await?;
    let (cloud, gateway) = (simulator.cloud(), simulator.gateway());
    let mut readers = JoinSet::new();
    for _ in 0..100 {
        let (cloud, gateway) = (cloud.clone(), gateway.clone());
        readers.spawn(async move { cloud.forward_entries(&gateway).await.unwrap().value.len() });
    }
    assert_eq!(readers.join_all().await.len(), 100);
    assert!(simulator.calls("DescribeForwardTableEntries").await <= 2);
    Ok(())
}

#[tokio::test]
async fn two_hundred_pods_that_wait_for_a_pool_share_its_readings() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "realistic"]).await?;
    let cloud = simulator.cloud();
    for value in ["games", "games", "others"] {
        let body = serde_json::json!({"tag": [{"key": "waygate.dev/eip-pool", "value": value}]});
        simulator.post("/console/allocate-eip", body).await;
    }
    let mut readers = JoinSet::new();
    for number in 0..200 {
        let (cloud, pool) = (cloud.clone(), if number % 2 == 0 { "games" } else { "unknown" });
        readers.spawn(async move { (pool, cloud.eips_of_pool(pool).await.unwrap().value.len()) });
    }
    let all = readers.join_all().await;
    assert!(
        all.iter().all(|(pool, eips)| *eips == if *pool == "games" { 2 } else { 0 }),
        "{all:?}"
    );
    assert!(simulator.calls("DescribeEipAddresses").await <= 6);
    Ok(())
}
