//! Ends that are missed elsewhere, and ends that are none.

use anyhow::{Context as _, Result, ensure};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Map, Value, json};
use testbed::{
    answers::{held, hold},
    nothing_left::{eips_of_ours, nothing_is_left},
    pods::{annotated, annotation, ask},
    stand::Stand,
    wait::PATIENCE,
};

use super::KINDS;

/// A pod of each kind, working.
async fn both(stand: &Stand) -> Result<()> {
    for kind in &KINDS {
        stand.create(&annotated(kind.name, kind.asks)).await?;
    }
    for kind in &KINDS {
        stand.condition(kind.name, kind.gate, "True", PATIENCE).await?;
    }
    Ok(())
}

async fn force_delete(stand: &Stand, name: &str) -> Result<()> {
    stand.pods().delete(name, &DeleteParams::default().grace_period(0)).await?;
    stand.gone(name, PATIENCE).await
}

/// True if the cloud has address and entry of both pods.
async fn both_stand(stand: &Stand) -> Result<bool> {
    Ok((eips_of_ours(stand).await?.len(), stand.cloud.list("forwardEntries").await?.len())
        == (1, 2))
}

#[tokio::test]
async fn a_pods_exit_is_not_missed_and_a_crash_loop_is_none() -> Result<()> {
    let stand = Stand::start().await?;
    for outcome in ["Succeeded", "Failed"] {
        both(&stand).await?;
        for kind in &KINDS {
            stand.annotate(kind.name, json!({ask::STATE: "CrashLoop"})).await?;
            stand.condition(kind.name, "Ready", "False", PATIENCE).await?;
        }
        assert!(both_stand(&stand).await?, "containers that crash start again");
        for kind in &KINDS {
            stand.annotate(kind.name, json!({ask::STATE: outcome})).await?;
        }
        nothing_is_left(&stand).await?;
        for kind in &KINDS {
            force_delete(&stand, kind.name).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_force_deleted_pod_leaks_nothing() -> Result<()> {
    let stand = Stand::start().await?;
    for kind in &KINDS {
        // In the midst of what makes its address …
        let fault = hold(&stand, kind.made_by).await?;
        stand.create(&annotated(kind.name, kind.asks)).await?;
        held(&stand).await?;
        force_delete(&stand, kind.name).await?;
        stand.cloud.release(fault).await?;
        nothing_is_left(&stand).await?;
        // … and once it works.
        stand.create(&annotated(kind.name, kind.asks)).await?;
        stand.condition(kind.name, kind.gate, "True", PATIENCE).await?;
        force_delete(&stand, kind.name).await?;
        nothing_is_left(&stand).await?;
    }
    Ok(())
}

#[tokio::test]
async fn deletes_while_the_worker_was_down_are_not_missed() -> Result<()> {
    let stand = Stand::start().await?;
    both(&stand).await?;
    stand.worker.kill().await?;
    for kind in &KINDS {
        force_delete(&stand, kind.name).await?;
    }
    assert!(both_stand(&stand).await?);
    stand.worker.start().await?;
    nothing_is_left(&stand).await
}

#[tokio::test]
async fn the_removal_of_annotations_is_not_ignored() -> Result<()> {
    let stand = Stand::start().await?;
    both(&stand).await?;
    for kind in &KINDS {
        let removed: Map<_, _> =
            kind.asks.iter().map(|(key, _)| ((*key).to_owned(), Value::Null)).collect();
        stand.annotate(kind.name, Value::Object(removed)).await?;
    }
    nothing_is_left(&stand).await?;
    for kind in &KINDS {
        let pod = stand.condition(kind.name, kind.gate, "True", PATIENCE).await?;
        assert!(serde_json::to_string(&pod.status)?.contains("NotRequested"));
        assert!(annotation(&pod, kind.told).is_none());
    }
    Ok(())
}

/// Returns the wake counter of each lease; none while a lease is claimed.
async fn news(stand: &Stand) -> Result<Option<Vec<i64>>> {
    let rows: Vec<(i64, bool)> =
        sqlx::query_as("SELECT wake, owner IS NULL FROM lease ORDER BY kind")
            .fetch_all(&stand.database)
            .await?;
    ensure!(rows.len() == KINDS.len(), "{} leases", rows.len());
    Ok(rows.iter().all(|row| row.1).then(|| rows.iter().map(|row| row.0).collect()))
}

/// The watch selects by label: a pod that loses it looks deleted, and is not.
#[tokio::test]
async fn a_pod_that_a_list_lacks_keeps_its_lease() -> Result<()> {
    let stand = Stand::start().await?;
    both(&stand).await?;
    let before = stand.eventually(|| news(&stand), "the leases rest", PATIENCE).await?;
    for kind in &KINDS {
        let unlabelled = Patch::Merge(json!({"metadata": {"labels": {"waygate.dev/pod": null}}}));
        stand.pods().patch(kind.name, &PatchParams::default(), &unlabelled).await?;
    }
    let looked = || async {
        Ok(news(&stand)
            .await?
            .filter(|now| now.iter().zip(&before).all(|(now, before)| now > before)))
    };
    stand.eventually(looked, "the leases were looked at", PATIENCE).await?;
    assert!(both_stand(&stand).await?);
    let phases: Vec<String> =
        sqlx::query_scalar("SELECT phase FROM lease").fetch_all(&stand.database).await?;
    assert_eq!(phases, ["held", "held"]);
    for kind in &KINDS {
        let pod = stand.condition(kind.name, kind.gate, "True", PATIENCE).await?;
        annotation(&pod, kind.told).context("it keeps its address")?;
    }
    Ok(())
}
