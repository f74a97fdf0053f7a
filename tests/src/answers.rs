//! Answers that the cloud holds back, so that a test can act between a call and its answer.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::{cloud::FaultId, stand::Stand, wait::PATIENCE};

/// Makes the cloud apply the next call of an action and keep its answer.
pub async fn hold(stand: &Stand, action: &str) -> Result<FaultId> {
    stand.cloud.fault(json!({"action": action, "kind": "hold", "times": 1})).await
}

/// Waits until the cloud holds one answer.
pub async fn held(stand: &Stand) -> Result<()> {
    let probe = || async {
        let faults = stand.cloud.faults().await?;
        ensure!(faults.to_string().contains("\"held\":1"), "{faults}");
        Ok(Some(()))
    };
    stand.eventually(probe, "an answer is held", PATIENCE).await
}

/// Waits until this fault holds an answer.
pub async fn holds(stand: &Stand, fault: FaultId) -> Result<()> {
    let probe = || async { Ok((stand.cloud.held_by(fault).await? > 0).then_some(())) };
    stand.eventually(probe, "the answer is held", PATIENCE).await
}
