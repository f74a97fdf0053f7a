//! Texts from outside that cannot be stored or shown: refused at admission, told where the webhook
//! was away, and in no other pod's way.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Pod, PodReadinessGate};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Api, api::PostParams};
use std::time::{Duration, Instant};
use testbed::{
    condition_reasons::wait_for_reason,
    eip::{GATE, WITH_EIP},
    pods::{annotated_pod, condition_status},
    stand::{Options, Stand},
    wait::TIMEOUT,
};
use waygate_core::text::{Edge, Origin, Text};

const WRONG: &str = "a\0b";

/// A pod with an EIP for each text of the list that the API server lets an author set, with a value
/// that cannot be stored; and the key that has it.
fn pods_with_wrong_texts() -> Vec<(Pod, &'static str)> {
    let refused = |text: &&Text| text.edge() == Edge::Refused;
    let annotations = Text::ALL.iter().filter(refused).filter(|text| {
        // Not the parts of a value.
        text.origin() == Origin::Annotation && text.key().contains('/')
    });
    let mut pods: Vec<_> = annotations
        .enumerate()
        .map(|(number, text)| {
            let pairs = [WITH_EIP, (text.key(), WRONG)];
            (gated(annotated_pod(&format!("wrong-{number}"), &pairs)), text.key())
        })
        .collect();
    for (name, text, owner_kind, owner_name) in [
        ("wrong-owner-kind", Text::OwnerKind, WRONG, "web"),
        ("wrong-owner-name", Text::OwnerName, "StatefulSet", WRONG),
    ] {
        let mut pod = gated(annotated_pod(name, &[WITH_EIP]));
        pod.metadata.owner_references = Some(vec![OwnerReference {
            // Of no kind that the garbage collector could look for.
            api_version: "games.example.com/v1".to_owned(),
            kind: owner_kind.to_owned(),
            name: owner_name.to_owned(),
            uid: uuid::Uuid::new_v4().to_string(),
            controller: Some(true),
            ..OwnerReference::default()
        }]);
        pods.push((pod, text.key()));
    }
    pods
}

/// The gate stands in the pod's own template: the policy gates only what it can read.
fn gated(mut pod: Pod) -> Pod {
    if let Some(spec) = &mut pod.spec {
        spec.readiness_gates = Some(vec![PodReadinessGate { condition_type: GATE.to_owned() }]);
    }
    pod
}

/// Time until a new pod of this namespace is Ready, with its EIP.
async fn time_to_ready(stand: &Stand, namespace: &str, name: &str) -> Result<Duration> {
    let pods = Api::<Pod>::namespaced(stand.client.clone(), namespace);
    let begun = Instant::now();
    pods.create(&PostParams::default(), &annotated_pod(name, &[WITH_EIP])).await?;
    let ready = || async {
        let pod = pods.get(name).await?;
        let right = [GATE, "Ready"].map(|kind| condition_status(&pod, kind) == Some("True"));
        Ok((right == [true, true]).then_some(()))
    };
    stand.eventually(ready, "the pod is Ready", TIMEOUT).await?;
    Ok(begun.elapsed())
}

#[tokio::test]
async fn texts_that_cannot_be_stored_are_refused_or_told_and_delay_no_other_pod() -> Result<()> {
    let worker = ["--cooldown-seconds", "0", "--resync-seconds", "1"].map(str::to_owned).to_vec();
    let stand = Stand::start_with(Options { worker, ..Options::default() }).await?;
    let other = format!("other-{}", stand.id);
    stand.installation.serve_namespace(&other).await?;
    let wrong = pods_with_wrong_texts();
    ensure!(wrong.len() > 25, "only {} texts", wrong.len());
    for (pod, key) in &wrong {
        let refused = stand.create_pod(pod).await.err().with_context(|| format!("{key} passes"))?;
        let said = format!("{refused:#}");
        ensure!(said.contains(key) && said.contains("U+0000"), "{key}: {said}");
    }

    stand.webhook.stop().await?;
    let before = time_to_ready(&stand, &other, "before").await?;
    for (pod, _) in &wrong {
        stand.create_pod(pod).await?;
    }
    let beside = time_to_ready(&stand, &other, "beside").await?;
    ensure!(
        beside <= before * 2 + Duration::from_secs(3),
        "Ready after {beside:?} instead of {before:?}"
    );
    for (pod, key) in &wrong {
        let name = pod.metadata.name.as_deref().context("a name")?;
        wait_for_reason(&stand, name, GATE, "InvalidAnnotations", &[key, "U+0000"]).await?;
    }
    Ok(())
}
