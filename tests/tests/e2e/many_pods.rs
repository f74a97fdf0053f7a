//! Many pods at once.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};
use testbed::{
    address_kinds::EIP,
    leftovers::{list_allocated_eips, wait_until_nothing_is_left},
    nodes::OwnNode,
    pods::annotation_value,
    stand::{Options, Stand},
};

/// Fewer than the calls a minute that the cloud allows of any action: none of them waits for a minute
/// to pass. `make bench` has crowds that do.
const PODS: usize = 100;

/// Ten times what it takes on a machine that does nothing else.
const CROWD_TIMEOUT: Duration = Duration::from_mins(4);

const CHANGES: [&str; 3] = ["AllocateEipAddress", "AssociateEipAddress", "UnassociateEipAddress"];
const READS: [&str; 2] = ["DescribeEipAddresses", "DescribeNetworkInterfaces"];

/// A cloud that takes its time.
async fn start_with_slow_cloud(node: &OwnNode) -> Result<Stand> {
    let topology = node.topology.display().to_string();
    let simulator =
        ["--profile", "instant", "--quota-eips", "200", "--topology", &topology].map(str::to_owned);
    let stand =
        Stand::start_with(Options { simulator: simulator.to_vec(), ..Options::default() }).await?;
    stand
        .cloud
        .change_at_console(
            "pace",
            json!({"call": [20, 40], "association": [500, 1000], "release": [100, 300]}),
        )
        .await?;
    Ok(stand)
}

async fn count_calls(stand: &Stand, actions: &[&str]) -> Result<u64> {
    let mut sum = 0;
    for action in actions {
        sum += stand.cloud.count_calls_of(action).await?;
    }
    Ok(sum)
}

async fn wait_until_ready(stand: &Stand, sets: &Api<ReplicaSet>) -> Result<()> {
    let ready = || async {
        let ready = sets
            .get_status("crowd")
            .await?
            .status
            .and_then(|status| status.ready_replicas)
            .unwrap_or_default();
        ensure!(usize::try_from(ready)? == PODS, "{ready} are");
        Ok(Some(()))
    };
    stand.eventually(ready, &format!("{PODS} pods are Ready"), CROWD_TIMEOUT).await
}

async fn wait_until_gone(stand: &Stand) -> Result<()> {
    let gone = || async {
        let leases: i64 =
            sqlx::query_scalar("SELECT count(*) FROM lease").fetch_one(&stand.database).await?;
        ensure!(leases == 0, "{leases} leases are left");
        Ok(Some(()))
    };
    stand.eventually(gone, "every lease has ended", CROWD_TIMEOUT).await?;
    wait_until_nothing_is_left(stand).await
}

#[tokio::test]
async fn a_crowd_of_one_replica_set_has_an_eip_each_and_leaves_nothing() -> Result<()> {
    let node = OwnNode::new("10.1.128.0/22").await?;
    let stand = start_with_slow_cloud(&node).await?;
    node.create_node(&stand.client).await?;
    let sets = Api::<ReplicaSet>::namespaced(stand.client.clone(), &stand.namespace);
    let set: ReplicaSet = serde_json::from_value(json!({
        "metadata": {"name": "crowd"},
        "spec": {"replicas": PODS, "selector": {"matchLabels": {"app": "crowd"}}, "template": {
            "metadata": {"labels": {"app": "crowd"}, "annotations": {EIP.request[0].0: EIP.request[0].1}},
            "spec": {"nodeName": node.name, "containers": [{"name": "main", "image": "example.com/main:1"}]},
        }},
    }))?;
    let began = Instant::now();
    sets.create(&PostParams::default(), &set).await?;
    wait_until_ready(&stand, &sets).await?;
    let up = began.elapsed();
    let (changes, reads) =
        (count_calls(&stand, &CHANGES).await?, count_calls(&stand, &READS).await?);

    let pods = stand.pods().list(&ListParams::default().labels("app=crowd")).await?.items;
    let addresses: BTreeSet<_> =
        pods.iter().filter_map(|pod| annotation_value(pod, EIP.address_key)).collect();
    let bound: BTreeSet<_> = list_allocated_eips(&stand)
        .await?
        .into_iter()
        .map(|eip| eip["PrivateIpAddress"].to_string())
        .collect();
    assert_eq!((addresses.len(), bound.len()), (PODS, PODS));

    let began = Instant::now();
    sets.patch("crowd", &PatchParams::default(), &Patch::Merge(json!({"spec": {"replicas": 0}})))
        .await?;
    wait_until_gone(&stand).await?;
    let down = began.elapsed();
    let all_reads = count_calls(&stand, &READS).await?;
    let ended = count_calls(&stand, &["UnassociateEipAddress", "ReleaseEipAddress"]).await?;
    println!(
        "{PODS} pods: up in {up:?} by {changes} changes and {reads} reads, down in {down:?} by {ended} changes and {} reads",
        all_reads - reads
    );
    let pods = u64::try_from(PODS)?;
    // Allocate and associate; unassociate, release and the release that is refused, which is the
    // proof.
    assert!(changes * 50 <= pods * 2 * 51, "{changes} changes to bind {pods} EIPs");
    assert!(ended * 50 <= pods * 3 * 51, "{ended} changes to give {pods} EIPs back");
    // An observation that is written after its pod is gone makes a lease only to end it.
    let ends = stand.worker.read_logs()?.matches("lease deleted").count();
    assert!(ends * 10 <= PODS * 11, "{ends} leases have ended for {PODS} pods");
    node.delete_node(&stand.client).await.context("the node goes")
}
