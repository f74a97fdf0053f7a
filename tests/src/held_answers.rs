//! Answers that the cloud holds back, so that a test can act between a call and its answer.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::{cloud::FaultId, stand::Stand, wait::TIMEOUT};

/// Makes the cloud apply the next call of an action and keep its answer.
pub async fn hold_answer(stand: &Stand, action: &str) -> Result<FaultId> {
    stand.cloud.set_fault(json!({"action": action, "kind": "hold", "times": 1})).await
}

/// Waits until the cloud holds one answer.
pub async fn wait_for_held_answer(stand: &Stand) -> Result<()> {
    let probe = || async {
        let faults = stand.cloud.list_faults().await?;
        ensure!(faults.to_string().contains("\"held\":1"), "{faults}");
        Ok(Some(()))
    };
    stand.eventually(probe, "an answer is held", TIMEOUT).await
}

/// Waits until this fault holds an answer.
pub async fn wait_until_fault_holds(stand: &Stand, fault: FaultId) -> Result<()> {
    let probe = || async { Ok((stand.cloud.count_held_calls(fault).await? > 0).then_some(())) };
    stand.eventually(probe, "the answer is held", TIMEOUT).await
}
