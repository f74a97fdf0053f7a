//! Who the client is.

use crate::harness::Simulator;
use anyhow::Result;

#[tokio::test]
async fn the_cloud_knows_the_caller() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "instant"]).await?;
    let identity = simulator.cloud().caller_identity().await?.value;
    assert!(!identity.account_id.is_empty() && !identity.arn.is_empty(), "{identity:?}");
    Ok(())
}
