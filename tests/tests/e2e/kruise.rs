//! OpenKruiseGame reads our custom resources and looks at them only when a pod's object changes.

mod plugin;
mod webhook;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use testbed::{
    address_kinds::{DNAT, EIP, Kind},
    leftovers::wait_until_nothing_is_left,
    pods::{annotated_pod, annotation_value, pod_ip_of},
    stand::Stand,
    wait::TIMEOUT,
    workloads::{create_stateful_set, wait_for_successor},
};
use waygate_core::annotations::POD_LABEL;

use plugin::{Kruise, Look, Plugin};
use webhook::{KruiseWebhook, NETWORK_TYPE};

/// Waits until it takes the pod for ready, and returns what it saw of it.
async fn wait_until_seen_ready(stand: &Stand, kruise: &Kruise, pod: &Pod) -> Result<Vec<Look>> {
    let probe = || async {
        let looks = kruise.list_looks(pod);
        ensure!(looks.last().is_some_and(|look| look.ready), "it saw {looks:?}");
        Ok(Some(looks))
    };
    stand.eventually(probe, "OpenKruiseGame takes the pod for ready", TIMEOUT).await
}

fn ensure_all_right(looks: &[Look]) {
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
async fn openkruisegame_sees_a_pod_as_ready_once_its_eip_is_published() -> Result<()> {
    let stand = Stand::start().await?;
    let kruise = Kruise::watch_namespace(&stand, Plugin::Eip);
    let name = format!("{}/arena", stand.namespace);
    // As its plugin writes them.
    stand
        .create_pod(&annotated_pod("arena", &[EIP.request[0], ("k8s.aliyun.com/eip-name", &name)]))
        .await?;
    let pod = stand.wait_for_condition("arena", EIP.gate, "True", TIMEOUT).await?;
    let looks = wait_until_seen_ready(&stand, &kruise, &pod).await?;
    ensure_all_right(&looks);
    let last = looks.last().context("a look")?;
    assert_eq!(last.internal, [pod_ip_of(&pod)]);
    assert_eq!(last.external, [annotation_value(&pod, EIP.address_key).context("the annotation")?]);
    let eips = stand.cloud.list_resources("eips").await?;
    assert!(
        eips.iter().any(
            |eip| eip["Name"] == name.as_str() && eip["IpAddress"] == last.external[0].as_str()
        )
    );
    drop(kruise);
    stand.delete_pod("arena").await?;
    wait_until_nothing_is_left(&stand).await
}

/// Deletes a pod of a set while the cloud refuses to free its address, so that the successor exists
/// long before the address is its own.
async fn restart_while_release_fails(
    kind: Kind,
    plugin: Plugin,
    refused: &str,
    also: (&str, &str),
) -> Result<()> {
    const LOOKS: usize = 6;
    let stand = Stand::start().await?;
    let kruise = Kruise::watch_namespace(&stand, plugin);
    create_stateful_set(&stand, &[kind.request, &[also]].concat()).await?;
    let first = stand.wait_for_condition("db-0", kind.gate, "True", TIMEOUT).await?;
    let before = wait_until_seen_ready(&stand, &kruise, &first).await?;
    stand
        .cloud
        .set_fault(json!({"action": refused, "kind": "error", "code": "TaskConflict"}))
        .await?;
    stand.delete_pod("db-0").await?;
    // Any change of the successor's object makes OpenKruiseGame look. The predecessor is left
    // alone, because kwok ends no pod that keeps changing.
    let poke = || async {
        let pod = stand.pods().get("db-0").await?;
        ensure!(pod.metadata.uid != first.metadata.uid, "the successor is not there");
        stand
            .annotate_pod("db-0", json!({"example.com/poke": uuid::Uuid::new_v4().to_string()}))
            .await?;
        let looks = kruise.list_looks(&pod);
        ensure!(looks.len() >= LOOKS, "{} times", looks.len());
        Ok(Some(looks))
    };
    let looks = stand
        .eventually(
            poke,
            &format!("OpenKruiseGame has looked at the successor {LOOKS} times"),
            TIMEOUT,
        )
        .await?;
    ensure!(
        !after_the_exit(&looks).is_empty(),
        "no address leads to the successor, and OpenKruiseGame saw {looks:?}"
    );
    ensure_all_right(after_the_exit(&looks));

    stand.cloud.clear_faults().await?;
    let second = wait_for_successor(&stand, &first, kind.gate).await?;
    let looks = wait_until_seen_ready(&stand, &kruise, &second).await?;
    ensure_all_right(after_the_exit(&looks));
    let (was, is) = (before.last().context("a look")?, looks.last().context("a look")?);
    assert_eq!(was.external, is.external, "the retained address is the former one");
    Ok(())
}

#[tokio::test]
async fn openkruisegame_never_sees_a_retained_eip_at_the_successor_too_early() -> Result<()> {
    restart_while_release_fails(
        EIP,
        Plugin::Eip,
        "UnassociateEipAddress",
        ("k8s.aliyun.com/pod-eip-release-strategy", "Never"),
    )
    .await
}

#[tokio::test]
async fn openkruisegame_never_sees_fixed_ports_at_the_successor_too_early() -> Result<()> {
    restart_while_release_fails(
        DNAT,
        Plugin::NatGw,
        "ModifyForwardEntry",
        ("k8s.aliyun.com/pod-dnat-fixed", "true"),
    )
    .await
}

#[tokio::test]
async fn openkruisegame_counts_a_status_entry_for_each_exposed_port() -> Result<()> {
    let stand = Stand::start().await?;
    let kruise = Kruise::watch_namespace(&stand, Plugin::NatGw);
    // The first are adjacent, and share one forward entry.
    for (name, ports, protocols, entries) in [
        ("adjacent", "7000,7001,7002", ["tcp", "tcp", "tcp"], 1),
        ("mixed", "80,443,53/udp", ["tcp", "tcp", "udp"], 3),
    ] {
        stand
            .create_pod(&annotated_pod(
                name,
                &[DNAT.request[0], ("k8s.aliyun.com/pod-dnat-expose-port", ports)],
            ))
            .await?;
        let pod = stand.wait_for_condition(name, DNAT.gate, "True", TIMEOUT).await?;
        let looks = wait_until_seen_ready(&stand, &kruise, &pod).await?;
        ensure_all_right(&looks);
        let last = looks.last().context("a look")?;
        let asked = ports.split(',').map(|port| port.trim_end_matches("/udp"));
        let expected: Vec<_> = asked
            .zip(protocols)
            .map(|(port, protocol)| format!("{}:{port}/{protocol}", pod_ip_of(&pod)))
            .collect();
        assert_eq!(last.internal, expected, "one for each, in the order asked for");
        let inside = stand
            .cloud
            .list_resources("forwardEntries")
            .await?
            .into_iter()
            .filter(|entry| entry["InternalIp"] == pod_ip_of(&pod));
        assert_eq!(inside.count(), entries);
        stand.delete_pod(name).await?;
    }
    wait_until_nothing_is_left(&stand).await
}

/// Policies are asked before its webhook has written our keys onto the pod.
#[tokio::test]
async fn openkruisegames_pods_are_labelled_and_gated_without_our_webhook() -> Result<()> {
    let stand = Stand::start().await?;
    let _kruise = KruiseWebhook::serve_and_register(&stand).await?;
    stand.webhook.stop().await?;
    for (name, network_type, kind) in
        [("arena", "AlibabaCloud-EIP", EIP), ("lobby", "AlibabaCloud-NATGW", DNAT)]
    {
        let pod = stand.create_pod(&annotated_pod(name, &[(NETWORK_TYPE, network_type)])).await?;
        assert_eq!(network_label(&pod), kind.gate.strip_prefix("k8s.aliyun.com/"), "{name}");
        assert_eq!(list_gates(&pod), [kind.gate], "{name}");
        stand.wait_for_condition(name, kind.gate, "True", TIMEOUT).await?;
    }
    let other =
        stand.create_pod(&annotated_pod("other", &[(NETWORK_TYPE, "AlibabaCloud-SLB")])).await?;
    assert_eq!(
        (network_label(&other), list_gates(&other)),
        (None, vec![]),
        "its plugin wants nothing of us"
    );
    Ok(())
}

fn network_label(pod: &Pod) -> Option<&str> {
    pod.metadata.labels.as_ref()?.get(POD_LABEL).map(String::as_str)
}

fn list_gates(pod: &Pod) -> Vec<&str> {
    let gates = pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
    gates.map(|gate| gate.condition_type.as_str()).collect()
}
