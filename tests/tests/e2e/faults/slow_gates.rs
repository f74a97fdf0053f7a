//! A crowd of pods at once: the describes are shared, so that the account's rates are left to the
//! changes.

use anyhow::{Context as _, Result, ensure};
use std::time::{Duration, Instant};
use testbed::{
    pods::annotated_pod,
    stand::{Options, Stand},
};

use super::KINDS;

/// Pods of each kind.
const PODS: usize = 20;
/// Ten times what it takes on two busy cores; elsewhere a hundred pods took twenty minutes.
const LATE: Duration = Duration::from_mins(2);

#[tokio::test]
async fn gates_are_not_late_in_a_crowd() -> Result<()> {
    let simulator = ["--profile", "realistic", "--quota-eips", "100"].map(str::to_owned).to_vec();
    let stand = Stand::start_with(Options { simulator, ..Options::default() }).await?;
    let name = |kind: &super::ExamplePod, number: usize| format!("{}-{number}", kind.name);
    // All at once, as after a rollout: none is served before all are there.
    stand.worker.stop().await?;
    for number in 0..PODS {
        for kind in &KINDS {
            stand.create_pod(&annotated_pod(&name(kind, number), kind.request)).await?;
        }
    }
    stand.worker.start().await?;
    let began = Instant::now();
    for kind in &KINDS {
        for number in 0..PODS {
            stand
                .wait_for_condition(&name(kind, number), kind.gate, "True", LATE)
                .await
                .with_context(|| format!("{} pods", 2 * PODS))?;
        }
    }
    let took = began.elapsed();
    let mut described = Vec::new();
    for action in
        ["DescribeEipAddresses", "DescribeNetworkInterfaces", "DescribeForwardTableEntries"]
    {
        described.push((action, stand.cloud.count_calls_of(action).await?));
    }
    println!("{} pods in {took:?} by {described:?}", 2 * PODS);
    ensure!(took < LATE, "it took {took:?}");
    Ok(())
}
