//! Ends that are missed elsewhere, and ends that are none.

use anyhow::{Context as _, Result, ensure};
use kube::{
    ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Map, Value, json};
use testbed::{
    held_answers::{hold_answer, wait_for_held_answer},
    leftovers::{list_allocated_eips, wait_until_nothing_is_left},
    pods::{annotated_pod, annotation_value, ask},
    stand::Stand,
    wait::TIMEOUT,
};

use super::KINDS;
use waygate_core::annotations::POD_LABEL;

/// A pod of each kind, working.
async fn create_both(stand: &Stand) -> Result<()> {
    for kind in &KINDS {
        stand.create_pod(&annotated_pod(kind.name, kind.request)).await?;
    }
    for kind in &KINDS {
        stand.wait_for_condition(kind.name, kind.gate, "True", TIMEOUT).await?;
    }
    Ok(())
}

async fn force_delete(stand: &Stand, name: &str) -> Result<()> {
    stand.pods().delete(name, &DeleteParams::default().grace_period(0)).await?;
    stand.wait_until_gone(name, TIMEOUT).await
}

/// True if the cloud has address and entry of both pods.
async fn both_addresses_exist(stand: &Stand) -> Result<bool> {
    Ok((
        list_allocated_eips(stand).await?.len(),
        stand.cloud.list_resources("forwardEntries").await?.len(),
    ) == (1, 2))
}

#[tokio::test]
async fn a_pods_exit_is_not_missed_and_a_crash_loop_is_no_exit() -> Result<()> {
    let stand = Stand::start().await?;
    for outcome in ["Succeeded", "Failed"] {
        create_both(&stand).await?;
        for kind in &KINDS {
            stand.annotate_pod(kind.name, json!({ask::STATE: "CrashLoop"})).await?;
            stand.wait_for_condition(kind.name, "Ready", "False", TIMEOUT).await?;
        }
        assert!(both_addresses_exist(&stand).await?, "containers that crash start again");
        for kind in &KINDS {
            stand.annotate_pod(kind.name, json!({ask::STATE: outcome})).await?;
        }
        wait_until_nothing_is_left(&stand).await?;
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
        let fault = hold_answer(&stand, kind.creating_action).await?;
        stand.create_pod(&annotated_pod(kind.name, kind.request)).await?;
        wait_for_held_answer(&stand).await?;
        force_delete(&stand, kind.name).await?;
        stand.cloud.release_fault(fault).await?;
        wait_until_nothing_is_left(&stand).await?;
        // … and once it works.
        stand.create_pod(&annotated_pod(kind.name, kind.request)).await?;
        stand.wait_for_condition(kind.name, kind.gate, "True", TIMEOUT).await?;
        force_delete(&stand, kind.name).await?;
        wait_until_nothing_is_left(&stand).await?;
    }
    Ok(())
}

#[tokio::test]
async fn deletes_while_the_worker_was_down_are_not_missed() -> Result<()> {
    let stand = Stand::start().await?;
    create_both(&stand).await?;
    stand.worker.kill().await?;
    for kind in &KINDS {
        force_delete(&stand, kind.name).await?;
    }
    assert!(both_addresses_exist(&stand).await?);
    stand.worker.start().await?;
    wait_until_nothing_is_left(&stand).await
}

#[tokio::test]
async fn the_removal_of_annotations_is_not_ignored() -> Result<()> {
    let stand = Stand::start().await?;
    create_both(&stand).await?;
    for kind in &KINDS {
        let removed: Map<_, _> =
            kind.request.iter().map(|(key, _)| ((*key).to_owned(), Value::Null)).collect();
        stand.annotate_pod(kind.name, Value::Object(removed)).await?;
    }
    wait_until_nothing_is_left(&stand).await?;
    for kind in &KINDS {
        let pod = stand.wait_for_condition(kind.name, kind.gate, "True", TIMEOUT).await?;
        assert!(serde_json::to_string(&pod.status)?.contains("NotRequested"));
        assert!(annotation_value(&pod, kind.address_key).is_none());
    }
    Ok(())
}

/// Returns the wake counter of each lease; none while a lease is claimed.
async fn read_wake_counters(stand: &Stand) -> Result<Option<Vec<i64>>> {
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
    create_both(&stand).await?;
    let before =
        stand.eventually(|| read_wake_counters(&stand), "no lease is claimed", TIMEOUT).await?;
    for kind in &KINDS {
        let unlabelled = Patch::Merge(json!({"metadata": {"labels": {"waygate.dev/pod": null}}}));
        stand.pods().patch(kind.name, &PatchParams::default(), &unlabelled).await?;
    }
    let looked = || async {
        Ok(read_wake_counters(&stand)
            .await?
            .filter(|now| now.iter().zip(&before).all(|(now, before)| now > before)))
    };
    stand.eventually(looked, "the leases were looked at", TIMEOUT).await?;
    assert!(both_addresses_exist(&stand).await?);
    let phases: Vec<String> =
        sqlx::query_scalar("SELECT phase FROM lease").fetch_all(&stand.database).await?;
    assert_eq!(phases, ["bound", "bound"]);
    for kind in &KINDS {
        let pod = stand.wait_for_condition(kind.name, kind.gate, "True", TIMEOUT).await?;
        annotation_value(&pod, kind.address_key).context("it keeps its address")?;
    }
    Ok(())
}

/// The worker's watch selects pods by the label, so a pod without it looks deleted to the watch.
#[tokio::test]
async fn a_removed_label_is_put_back_and_the_addresses_are_given_back_at_once() -> Result<()> {
    let stand = Stand::start().await?;
    create_both(&stand).await?;
    for kind in &KINDS {
        let patch = Patch::Merge(json!({"metadata": {"labels": {POD_LABEL: null}}}));
        stand.pods().patch(kind.name, &PatchParams::default(), &patch).await?;
        let probe = || async {
            let pod = stand.pods().get(kind.name).await?;
            Ok(pod.labels().contains_key(POD_LABEL).then_some(()))
        };
        stand.eventually(probe, &format!("{} has its label again", kind.name), TIMEOUT).await?;
    }
    assert!(both_addresses_exist(&stand).await?, "pods without the label keep their addresses");
    for kind in &KINDS {
        force_delete(&stand, kind.name).await?;
    }
    wait_until_nothing_is_left(&stand).await
}
