//! Pacing of changes at one gateway: calls, reads and time per entry.

use crate::harness::{PATIENCE, Simulator, token};
use anyhow::Result;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use waygate_cloud::Cloud;
use waygate_core::change::{Change, ForwardEntrySpec};
use waygate_core::cloud_facts::ForwardEntryStatus;
use waygate_core::ids::NatGatewayId;

/// The cost of creating entries.
#[derive(Debug)]
struct Cost {
    calls: u64,
    reads: u64,
    took: Duration,
}

/// Creates an entry as the worker does: after a refusal of a busy gateway with a new operation and
/// a new token.
async fn create(cloud: Cloud, gateway: NatGatewayId, forward: ForwardEntrySpec) {
    let change = Change::CreateForwardEntry(forward);
    loop {
        match cloud
            .acquire_write_slot(&gateway)
            .await
            .send_change(&change, Some(&token()), PATIENCE)
            .await
        {
            Ok(_) => return,
            Err(error) => assert!(error.is_gateway_busy(), "{error}"),
        }
    }
}

async fn cost_of(profile: &str, entries: u16) -> Result<Cost> {
    let simulator = Simulator::start(&["--profile", profile, "--quota-entries", "1000"]).await?;
    let (cloud, started) = (simulator.hasty_cloud(), Instant::now());
    let mut creators = JoinSet::new();
    for number in 0..entries {
        creators.spawn(create(cloud.clone(), simulator.gateway(), simulator.forward(number)));
    }
    creators.join_all().await;
    let took = started.elapsed();
    assert_eq!(
        cloud.forward_entries(&simulator.gateway()).await?.value.len(),
        usize::from(entries)
    );
    let reads = simulator.calls("DescribeForwardTableEntries").await - 1;
    let cost = Cost { calls: simulator.calls("CreateForwardEntry").await, reads, took };
    println!("{profile}: {entries} entries: {cost:?}");
    Ok(cost)
}

#[tokio::test]
async fn a_strict_gateway_gets_its_entries_with_hardly_a_call_wasted() -> Result<()> {
    strict(20, 22).await
}

#[tokio::test]
#[ignore = "takes over a minute, because fifty entries are pending for a second each"]
async fn a_strict_gateway_gets_fifty_entries_with_hardly_a_call_wasted() -> Result<()> {
    strict(50, 55).await
}

async fn strict(entries: u16, most_calls: u64) -> Result<()> {
    let cost = cost_of("strict", entries).await?;
    assert!(cost.calls <= most_calls, "{cost:?}");
    assert!(cost.reads <= 2 * u64::from(entries), "{cost:?}");
    // An entry is pending for a second, and a call takes 150 ms.
    assert!(cost.took < Duration::from_secs(2) * u32::from(entries), "{cost:?}");
    Ok(())
}

#[tokio::test]
async fn a_slot_that_is_not_used_costs_nothing_and_leaves_the_gateway_to_the_next() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "strict"]).await?;
    let (cloud, gateway) = (simulator.hasty_cloud(), simulator.gateway());
    // The second one learns that the gateway refuses changes while an entry is pending.
    create(cloud.clone(), gateway.clone(), simulator.forward(0)).await;
    create(cloud.clone(), gateway.clone(), simulator.forward(1)).await;
    assert!(cloud.requires_quiescence(&gateway));
    let before = simulator.calls("CreateForwardEntry").await;
    assert!(
        tokio::time::timeout(Duration::from_millis(100), cloud.acquire_write_slot(&gateway))
            .await
            .is_err(),
        "an entry is pending"
    );
    cloud.wait_until_settled(&gateway).await;
    for _ in 0..3 {
        assert!(cloud.acquire_write_slot(&gateway).await.is_confirmed_settled());
    }
    assert_eq!(simulator.calls("CreateForwardEntry").await, before);
    Ok(())
}

#[tokio::test]
async fn a_list_is_shared_by_those_who_may_do_with_an_older_one() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "instant"]).await?;
    let (cloud, gateway) = (simulator.hasty_cloud(), simulator.gateway());
    let first = cloud.forward_entries(&gateway).await?;
    assert_eq!(cloud.forward_entries_since(&gateway, first.began).await?.began, first.began);
    assert_eq!(simulator.calls("DescribeForwardTableEntries").await, 1);
    let later = cloud.forward_entries_since(&gateway, Instant::now()).await?;
    assert!(later.began > first.began);
    Ok(())
}

#[tokio::test]
async fn only_the_entry_that_was_changed_is_looked_at_and_entered_into_the_last_list() -> Result<()>
{
    let simulator = Simulator::start(&["--profile", "instant"]).await?;
    let (cloud, gateway) = (simulator.hasty_cloud(), simulator.gateway());
    for number in 0..3 {
        create(cloud.clone(), gateway.clone(), simulator.forward(number)).await;
    }
    // From here on all entries must be settled before each change.
    simulator
        .fault(
            "CreateForwardEntry",
            "error",
            serde_json::json!({"code": "IncorretForwardEntryStatus", "message": "busy"}),
        )
        .await;
    create(cloud.clone(), gateway.clone(), simulator.forward(3)).await;
    assert!(
        cloud.requires_quiescence(&gateway)
            && cloud.acquire_write_slot(&gateway).await.is_confirmed_settled()
    );
    let listed = cloud.forward_entries(&gateway).await?;
    let reads = simulator.calls("DescribeForwardTableEntries").await;
    let asked = Instant::now();
    create(cloud.clone(), gateway.clone(), simulator.forward(4)).await;
    let first = listed.value.first().cloned().expect("an entry");
    let change =
        Change::DeleteForwardEntry { table_id: first.table_id, entry_id: first.entry_id.clone() };
    cloud.acquire_write_slot(&gateway).await.send_change(&change, Some(&token()), PATIENCE).await?;
    assert!(cloud.acquire_write_slot(&gateway).await.is_confirmed_settled());
    let entries = cloud.forward_entries_since(&gateway, asked).await?;
    assert_eq!(entries.value.len(), listed.value.len());
    assert!(!entries.value.iter().any(|entry| entry.entry_id == first.entry_id), "the deleted one");
    assert!(
        entries.value.iter().any(|entry| entry.name == simulator.forward(4).name),
        "the new one"
    );
    let probes = simulator.calls("DescribeForwardTableEntries").await - reads;
    assert_eq!(probes, 2, "one probe for each change, and no list");
    cloud.forget_entries(&gateway);
    cloud.forward_entries_since(&gateway, asked).await?;
    assert_eq!(simulator.calls("DescribeForwardTableEntries").await - reads, 3);
    Ok(())
}

/// After a change by estimate the entry before is settled but unread, and the cached list stays
/// older than that entry's change until it is read.
#[tokio::test]
async fn unread_entries_are_read_before_a_list_is_shared() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "strict"]).await?;
    let (cloud, gateway) = (simulator.hasty_cloud(), simulator.gateway());
    for number in 0..2 {
        create(cloud.clone(), gateway.clone(), simulator.forward(number)).await;
    }
    // So slow that a probe is answered later than the estimate is due.
    simulator
        .post(
            "/console/pace",
            serde_json::json!({"call": [600, 600], "entryPending": [1750, 1750]}),
        )
        .await;
    let (mut last, mut sure) = (simulator.forward(1), 0);
    for number in 2..6 {
        cloud.forward_entries(&gateway).await?;
        let slot = cloud.acquire_write_slot(&gateway).await;
        let (settled, asked, forward) =
            (slot.is_confirmed_settled(), Instant::now(), simulator.forward(number));
        if slot
            .send_change(&Change::CreateForwardEntry(forward.clone()), Some(&token()), PATIENCE)
            .await
            .is_err()
        {
            continue;
        }
        let before = std::mem::replace(&mut last, forward);
        if settled {
            continue;
        }
        sure += 1;
        let reads = simulator.calls("DescribeForwardTableEntries").await;
        cloud.refresh_settled(&gateway).await?;
        let entries = cloud.forward_entries_since(&gateway, asked).await?;
        assert_eq!(
            simulator.calls("DescribeForwardTableEntries").await - reads,
            1,
            "one probe and no list"
        );
        let entry = entries.value.iter().find(|entry| entry.name == before.name);
        assert!(
            entry.is_some_and(|entry| entry.status == ForwardEntryStatus::Available),
            "{number}: {entry:?}"
        );
    }
    assert!(sure >= 2, "{sure} of 4 went by estimate");
    Ok(())
}

#[tokio::test]
async fn a_gateway_with_one_writer_is_kept_busy_without_waste() -> Result<()> {
    let cost = cost_of("realistic", 50).await?;
    assert!(cost.calls <= 55, "{cost:?}");
    // One call after another at 150 ms: waiting for entries to settle would take a minute.
    assert!(cost.took < Duration::from_secs(20), "{cost:?}");
    Ok(())
}

#[tokio::test]
async fn two_writers_get_by_without_knowing_of_each_other() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "strict"]).await?;
    let (one, other) = (simulator.hasty_cloud(), simulator.hasty_cloud());
    let mut creators = JoinSet::new();
    for number in 0..5 {
        creators.spawn(create(one.clone(), simulator.gateway(), simulator.forward(number)));
        creators.spawn(create(other.clone(), simulator.gateway(), simulator.forward(10 + number)));
    }
    creators.join_all().await;
    let calls = simulator.calls("CreateForwardEntry").await;
    println!("two writers: 10 entries: {calls} calls");
    assert!(calls <= 30, "{calls} calls for ten entries");
    Ok(())
}

#[tokio::test]
async fn a_gateway_that_takes_parallel_changes_gets_them() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "instant"]).await?;
    // As slow as the real cloud, so that parallel calls save time.
    simulator.post("/faults", serde_json::json!({"action": "CreateForwardEntry", "kind": "delay", "delayMs": 150, "times": 1000})).await;
    let (cloud, started) = (simulator.hasty_cloud(), Instant::now());
    let mut creators = JoinSet::new();
    for number in 0..50 {
        creators.spawn(create(cloud.clone(), simulator.gateway(), simulator.forward(number)));
    }
    creators.join_all().await;
    assert_eq!(simulator.calls("CreateForwardEntry").await, 50);
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "fifty in a row would take 7.5 s, this took {:?}",
        started.elapsed()
    );
    Ok(())
}
