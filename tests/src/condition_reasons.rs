//! Waits for reason and message of a pod's condition.

use anyhow::{Context as _, Result, ensure};

use crate::{pods::find_condition, stand::Stand, wait::TIMEOUT};

/// Waits until the pod's condition has this reason and its message these words.
pub async fn wait_for_reason(
    stand: &Stand,
    pod: &str,
    gate: &str,
    reason: &str,
    words: &[&str],
) -> Result<()> {
    let probe = || async {
        let found = stand.pods().get(pod).await?;
        let condition = find_condition(&found, gate).context("the pod has no such condition")?;
        let message = condition.message.as_deref().unwrap_or_default();
        let right = condition.reason.as_deref() == Some(reason)
            && words.iter().all(|word| message.contains(word));
        ensure!(right, "the condition says {:?}: {message}", condition.reason);
        Ok(Some(()))
    };
    stand.eventually(probe, &format!("pod {pod} says {reason}"), TIMEOUT).await
}
