//! OpenKruiseGame reads our custom resources and looks at them only when a pod's object changes.

mod plugin;
mod webhook;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use testbed::{
    kinds::{DNAT, EIP, Kind},
    nothing_left::nothing_is_left,
    pods::{annotated, annotation, ip},
    stand::Stand,
    wait::PATIENCE,
    workloads::{stateful, successor},
};
use waygate_core::annotations::LABEL;

use plugin::{Kruise, Look, Plugin};
use webhook::{KruiseWebhook, NETWORK_TYPE};

/// Waits until it takes the pod for ready, and returns what it saw of it.
async fn believed(stand: &Stand, kruise: &Kruise, pod: &Pod) -> Result<Vec<Look>> {
    let probe = || async {
        let looks = kruise.looks_at(pod);
        ensure!(looks.last().is_some_and(|look| look.ready), "it saw {looks:?}");
        Ok(Some(looks))
    };
    stand.eventually(probe, "OpenKruiseGame takes the pod for ready", PATIENCE).await
}

fn all_right(looks: &[Look]) {
    let wrong: Vec<_> = looks.iter().filter(|look| look.right == Some(false)).collect();
    assert!(wrong.is_empty(), "OpenKruiseGame read an address that led elsewhere: {wrong:?}");
}

/// A pod's exit is known once its object is gone, and its successor may be looked at in that very
/// moment; never later.
fn after_the_exit(looks: &[Look]) -> &[Look] {
    let until = looks.iter().position(|look| look.right != Some(false)).unwrap_or(looks.len());
    &looks[until..]
}

#[tokio::test]
async fn openkruisegame_takes_a_pod_for_ready_when_its_eip_is_announced() -> Result<()> {
    let stand = Stand::start().await?;
    let kruise = Kruise::watch(&stand, Plugin::Eip);
    let name = format!("{}/arena", stand.namespace);
    // As its plugin writes them.
    stand.create(&annotated("arena", &[EIP.asks[0], ("k8s.aliyun.com/eip-name", &name)])).await?;
    let pod = stand.condition("arena", EIP.gate, "True", PATIENCE).await?;
    let looks = believed(&stand, &kruise, &pod).await?;
    all_right(&looks);
    let last = looks.last().context("a look")?;
    assert_eq!(last.internal, [ip(&pod)]);
    assert_eq!(last.external, [annotation(&pod, EIP.tells).context("the annotation")?]);
    let eips = stand.cloud.list("eips").await?;
    assert!(
        eips.iter().any(
            |eip| eip["Name"] == name.as_str() && eip["IpAddress"] == last.external[0].as_str()
        )
    );
    drop(kruise);
    stand.delete("arena").await?;
    nothing_is_left(&stand).await
}

/// Deletes a pod of a set while the cloud refuses to free its address, so that the successor exists
/// long before the address is its own.
async fn restarted(kind: Kind, plugin: Plugin, refused: &str, also: (&str, &str)) -> Result<()> {
    const LOOKS: usize = 6;
    let stand = Stand::start().await?;
    let kruise = Kruise::watch(&stand, plugin);
    stateful(&stand, &[kind.asks, &[also]].concat()).await?;
    let first = stand.condition("db-0", kind.gate, "True", PATIENCE).await?;
    let before = believed(&stand, &kruise, &first).await?;
    stand.cloud.fault(json!({"action": refused, "kind": "error", "code": "TaskConflict"})).await?;
    stand.delete("db-0").await?;
    // Any change of the successor's object makes OpenKruiseGame look. The predecessor is left
    // alone, because kwok ends no pod that keeps changing.
    let poke = || async {
        let pod = stand.pods().get("db-0").await?;
        ensure!(pod.metadata.uid != first.metadata.uid, "the successor is not there");
        stand
            .annotate("db-0", json!({"example.com/poke": uuid::Uuid::new_v4().to_string()}))
            .await?;
        let looks = kruise.looks_at(&pod);
        ensure!(looks.len() >= LOOKS, "{} times", looks.len());
        Ok(Some(looks))
    };
    let looks = stand
        .eventually(
            poke,
            &format!("OpenKruiseGame has looked at the successor {LOOKS} times"),
            PATIENCE,
        )
        .await?;
    ensure!(
        !after_the_exit(&looks).is_empty(),
        "no address leads to the successor, and OpenKruiseGame saw {looks:?}"
    );
    all_right(after_the_exit(&looks));

    stand.cloud.clear_faults().await?;
    let second = successor(&stand, &first, kind.gate).await?;
    let looks = believed(&stand, &kruise, &second).await?;
    all_right(after_the_exit(&looks));
    let (was, is) = (before.last().context("a look")?, looks.last().context("a look")?);
    assert_eq!(was.external, is.external, "the retained address is the former one");
    Ok(())
}

#[tokio::test]
async fn openkruisegame_never_takes_a_kept_eip_for_the_next_pods_before_it_is() -> Result<()> {
    restarted(
        EIP,
        Plugin::Eip,
        "UnassociateEipAddress",
        ("k8s.aliyun.com/pod-eip-release-strategy", "Never"),
    )
    .await
}

#[tokio::test]
async fn openkruisegame_never_takes_fixed_ports_for_the_next_pods_before_they_are() -> Result<()> {
    restarted(DNAT, Plugin::NatGw, "ModifyForwardEntry", ("k8s.aliyun.com/pod-dnat-fixed", "true"))
        .await
}

#[tokio::test]
async fn openkruisegame_counts_a_status_entry_for_each_exposed_port() -> Result<()> {
    let stand = Stand::start().await?;
    let kruise = Kruise::watch(&stand, Plugin::NatGw);
    // The first are adjacent, and share one forward entry.
    for (name, ports, protocols, entries) in [
        ("adjacent", "7000,7001,7002", ["tcp", "tcp", "tcp"], 1),
        ("mixed", "80,443,53/udp", ["tcp", "tcp", "udp"], 3),
    ] {
        stand
            .create(&annotated(
                name,
                &[DNAT.asks[0], ("k8s.aliyun.com/pod-dnat-expose-port", ports)],
            ))
            .await?;
        let pod = stand.condition(name, DNAT.gate, "True", PATIENCE).await?;
        let looks = believed(&stand, &kruise, &pod).await?;
        all_right(&looks);
        let last = looks.last().context("a look")?;
        let asked = ports.split(',').map(|port| port.trim_end_matches("/udp"));
        let expected: Vec<_> = asked
            .zip(protocols)
            .map(|(port, protocol)| format!("{}:{port}/{protocol}", ip(&pod)))
            .collect();
        assert_eq!(last.internal, expected, "one for each, in the order asked for");
        let inside = stand
            .cloud
            .list("forwardEntries")
            .await?
            .into_iter()
            .filter(|entry| entry["InternalIp"] == ip(&pod));
        assert_eq!(inside.count(), entries);
        stand.delete(name).await?;
    }
    nothing_is_left(&stand).await
}

/// Policies are asked before its webhook has written our keys onto the pod.
#[tokio::test]
async fn with_our_webhook_away_openkruisegames_pods_are_labelled_and_gated_all_the_same()
-> Result<()> {
    let stand = Stand::start().await?;
    let _kruise = KruiseWebhook::register(&stand).await?;
    stand.webhook.stop().await?;
    for (name, network_type, kind) in
        [("arena", "AlibabaCloud-EIP", EIP), ("lobby", "AlibabaCloud-NATGW", DNAT)]
    {
        let pod = stand.create(&annotated(name, &[(NETWORK_TYPE, network_type)])).await?;
        assert_eq!(label(&pod), kind.gate.strip_prefix("k8s.aliyun.com/"), "{name}");
        assert_eq!(gates(&pod), [kind.gate], "{name}");
        stand.condition(name, kind.gate, "True", PATIENCE).await?;
    }
    let other = stand.create(&annotated("other", &[(NETWORK_TYPE, "AlibabaCloud-SLB")])).await?;
    assert_eq!((label(&other), gates(&other)), (None, vec![]), "its plugin wants nothing of us");
    Ok(())
}

fn label(pod: &Pod) -> Option<&str> {
    pod.metadata.labels.as_ref()?.get(LABEL).map(String::as_str)
}

fn gates(pod: &Pod) -> Vec<&str> {
    let gates = pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
    gates.map(|gate| gate.condition_type.as_str()).collect()
}
