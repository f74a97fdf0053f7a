//! Lists for comparisons: spread over time, and complete or none.

use crate::harness::Simulator;
use anyhow::{Context as _, Result};
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

const APART: Duration = Duration::from_millis(300);

/// Makes this number of EIPs, and returns their IDs.
async fn make_eips(simulator: &Simulator, count: usize) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    for _ in 0..count {
        let made = simulator.post("/console/allocate-eip", json!({})).await;
        ids.push(made["AllocationId"].as_str().context("an ID")?.to_owned());
    }
    Ok(ids)
}

#[tokio::test]
async fn all_eips_are_listed_a_hundred_a_call_with_pauses() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "instant", "--quota-eips", "600"]).await?;
    let cloud = simulator.hasty_cloud();
    let mut made = make_eips(&simulator, 150).await?;
    let (before, began) = (simulator.calls("DescribeEipAddresses").await, Instant::now());
    let listed = cloud.list_eips(APART).await?.context("a complete list")?.value;
    assert!(began.elapsed() >= 2 * APART);
    assert_eq!(simulator.calls("DescribeEipAddresses").await - before, 2);
    let mut ids: Vec<_> = listed.iter().map(|eip| eip.allocation_id.to_string()).collect();
    ids.sort_unstable();
    made.sort_unstable();
    // The simulator's account has EIPs of gateways, too.
    assert!(made.iter().all(|id| ids.binary_search(id).is_ok()), "{} listed", ids.len());
    Ok(())
}

/// An EIP released between two pages moves the first of the second page to the first, where it was
/// not seen.
#[tokio::test]
async fn pages_that_shift_all_the_time_are_no_list() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "instant", "--quota-eips", "600"]).await?;
    let cloud = simulator.hasty_cloud();
    let made = make_eips(&simulator, 180).await?;
    let release = async {
        for id in &made[..40] {
            simulator.post("/console/release-eip", json!({"allocationId": id})).await;
            tokio::time::sleep(APART / 6).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        listed = cloud.list_eips(APART) => assert!(listed?.is_none()),
        () = release => {}
    }
    assert!(cloud.list_eips(Duration::ZERO).await?.is_some());
    Ok(())
}
