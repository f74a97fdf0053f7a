//! The life of a forward entry, and lists of many.

use crate::harness::{PATIENCE, Simulator, eventually, soon, token};
use anyhow::Result;
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use waygate_cloud::Class;
use waygate_core::change::{Change, ForwardEntrySpec};
use waygate_core::cloud_facts::ForwardEntryStatus;

#[tokio::test]
async fn an_entry_lives_from_creation_to_deletion() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "instant"]).await?;
    let (cloud, gateway) = (simulator.cloud(), simulator.gateway());
    let nat = cloud.nat_gateway(&gateway).await?.value.unwrap();
    assert!(nat.available && nat.eips.len() == 2 && nat.zone_id.is_some(), "{nat:?}");

    let forward = ForwardEntrySpec { ports: 10, ..simulator.forward(0) };
    let entry_id = cloud
        .send_change(&Change::CreateForwardEntry(forward.clone()), Some(&token()), soon(), PATIENCE)
        .await?
        .entry_id
        .unwrap();
    let available = async || {
        let entries = cloud.forward_entries(&gateway).await.unwrap().value;
        entries.into_iter().find(|entry| {
            entry.entry_id == entry_id && entry.status == ForwardEntryStatus::Available
        })
    };
    let entry = eventually("available", available).await;
    assert_eq!((entry.external_port.as_str(), entry.ip_protocol.as_str()), ("30000/30009", "tcp"));
    assert!(entry.covers_external(forward.external_ip, forward.protocol, 30_005));

    let elsewhere = ForwardEntrySpec { internal_ip: "10.2.0.9".parse()?, ..forward.clone() };
    let modify =
        Change::ModifyForwardEntry { entry_id: entry_id.clone(), forward: elsewhere.clone() };
    cloud.send_change(&modify, Some(&token()), soon(), PATIENCE).await?;
    eventually("elsewhere", async || {
        available().await.filter(|entry| entry.internal_ip == elsewhere.internal_ip)
    })
    .await;

    let taken = cloud
        .send_change(&Change::CreateForwardEntry(forward.clone()), Some(&token()), soon(), PATIENCE)
        .await
        .unwrap_err();
    assert!(taken.is_definite() && !taken.is_transient(), "{taken}");

    let delete = Change::DeleteForwardEntry { table_id: forward.table_id, entry_id };
    cloud.send_change(&delete, Some(&token()), soon(), PATIENCE).await?;
    eventually("gone", async || {
        cloud.forward_entries(&gateway).await.unwrap().value.is_empty().then_some(())
    })
    .await;
    // The cloud has two codes for an entry that no longer exists.
    for _ in 0..4 {
        let gone = cloud.send_change(&delete, Some(&token()), soon(), PATIENCE).await.unwrap_err();
        assert_eq!(
            (gone.class(), gone.reason()),
            (Class::NotFound, "ForwardEntryNotFound"),
            "{gone}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_list_of_many_pages_comes_whole() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "instant", "--quota-entries", "200"]).await?;
    let (cloud, gateway) = (simulator.hasty_cloud(), simulator.gateway());
    for number in 0..120 {
        cloud
            .send_change(
                &Change::CreateForwardEntry(simulator.forward(number)),
                Some(&token()),
                soon(),
                PATIENCE,
            )
            .await?;
    }
    assert_eq!(cloud.forward_entries(&gateway).await?.value.len(), 120);
    Ok(())
}

/// Pages are no snapshot: entries deleted between pages shift the rest, and entries that exist
/// throughout must be listed all the same.
#[tokio::test]
async fn an_entry_that_stands_throughout_is_in_every_list() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "instant", "--quota-entries", "200"]).await?;
    let (cloud, gateway) = (simulator.hasty_cloud(), simulator.gateway());
    let (mut stand, mut go) = (Vec::new(), Vec::new());
    for number in 0..160 {
        let change = Change::CreateForwardEntry(simulator.forward(number));
        let entry_id =
            cloud.send_change(&change, Some(&token()), soon(), PATIENCE).await?.entry_id.unwrap();
        if number % 2 == 0 { stand.push(entry_id) } else { go.push(entry_id) }
    }
    // Slow pages leave time for deletions between them.
    let slow = json!({"action": "DescribeForwardTableEntries", "kind": "delay", "delayMs": 10, "times": 10_000});
    simulator.post("/faults", slow).await;
    let all_gone = AtomicBool::new(false);
    let churn = async {
        for entry_id in go {
            let delete =
                Change::DeleteForwardEntry { table_id: simulator.forward(0).table_id, entry_id };
            cloud.send_change(&delete, Some(&token()), soon(), PATIENCE).await.unwrap();
        }
        all_gone.store(true, Ordering::Relaxed);
    };
    let lists = async {
        while !all_gone.load(Ordering::Relaxed) {
            let list = cloud.forward_entries(&gateway).await.unwrap().value;
            let missing = stand.iter().find(|id| !list.iter().any(|entry| entry.entry_id == **id));
            assert_eq!(missing, None);
        }
    };
    tokio::join!(churn, lists);
    Ok(())
}

#[tokio::test]
async fn a_full_table_is_a_quota_and_not_a_passing_trouble() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "instant", "--quota-entries", "1"]).await?;
    let cloud = simulator.cloud();
    cloud
        .send_change(
            &Change::CreateForwardEntry(simulator.forward(0)),
            Some(&token()),
            soon(),
            PATIENCE,
        )
        .await?;
    let full = cloud
        .send_change(
            &Change::CreateForwardEntry(simulator.forward(1)),
            Some(&token()),
            soon(),
            PATIENCE,
        )
        .await
        .unwrap_err();
    assert_eq!((full.class(), full.is_transient()), (Class::Quota, false), "{full}");
    Ok(())
}

/// The API does not document the list of a deleted gateway: empty, or one of these refusals. A
/// lease of a deleted gateway must be able to end either way.
#[tokio::test]
async fn a_gateway_that_is_gone_has_no_entries_whichever_code_says_so() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "instant"]).await?;
    let (cloud, gateway) = (simulator.hasty_cloud(), simulator.gateway());
    cloud
        .send_change(
            &Change::CreateForwardEntry(simulator.forward(0)),
            Some(&token()),
            soon(),
            PATIENCE,
        )
        .await?;
    for code in
        ["InvalidNatGatewayId.NotFound", "Invalid.natgwNotExist", "InvalidForwardTableId.NotFound"]
    {
        let refused = json!({"action": "DescribeForwardTableEntries", "kind": "error", "code": code, "status": 404, "times": 1});
        simulator.post("/faults", refused).await;
        assert_eq!(cloud.forward_entries(&gateway).await?.value, [], "{code}");
    }
    assert_eq!(cloud.forward_entries(&gateway).await?.value.len(), 1);
    let denied = json!({"action": "DescribeForwardTableEntries", "kind": "error", "code": "Forbidden.RAM", "status": 403, "times": 1});
    simulator.post("/faults", denied).await;
    assert_eq!(
        cloud.forward_entries(&gateway).await.unwrap_err().class(),
        Class::Denied,
        "a denied read proves nothing"
    );
    Ok(())
}
