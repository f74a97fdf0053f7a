//! A crowd of DNAT pods on four gateways that take one entry after the other: what the gateways need
//! is known, and all beside it is Waygate's.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::{
    dnat::{WITH_DNAT, ports_annotation},
    layout,
    pods::{annotated_pod, condition_status},
    stand::{Options, Stand},
};

/// A call takes 100 to 200 ms and an entry is `Pending` for 800 to 1200 ms, in the profiles with
/// the real cloud's latencies.
const ONE_ENTRY: Duration = Duration::from_millis(150 + 1000);

/// The nodes of the testbed, of which each gets a gateway of its own.
const NODES: [&str; 4] = ["node-j-1", "node-j-2", "node-k-1", "node-k-2"];

/// Entries of each pod: its two ports are not adjacent.
const ENTRIES: usize = 2;

/// What a crowd took.
#[derive(Debug)]
pub struct StrictRun {
    /// Time that a gateway's entries take by themselves: calls and Pending.
    pub bound: Duration,
    /// Time from the first pod's creation until all were Ready.
    pub took: Duration,
    /// Time from the first accepted entry until the last.
    pub sending: Duration,
    /// Changes of forward entries that the cloud was asked for.
    pub calls: u64,
    /// Entries that were needed.
    pub entries: u64,
    /// Seconds an entry at each gateway.
    pub paces: Vec<f64>,
}

/// Serves a crowd that the four gateways share evenly, in a stand of its own.
pub async fn serve_crowd(pods: usize) -> Result<StrictRun> {
    let per_gateway = u32::try_from(pods * ENTRIES / NODES.len())?;
    let bound = ONE_ENTRY * per_gateway;
    let mut stand = start_with_four_gateways(per_gateway).await?;
    let began = Instant::now();
    for number in 0..pods {
        let mut pod =
            annotated_pod(&format!("player-{number}"), &[WITH_DNAT, ports_annotation("80,443")]);
        if let Some(spec) = &mut pod.spec {
            spec.node_name = Some(NODES[number % NODES.len()].to_owned());
        }
        stand.create_pod(&pod).await?;
    }
    wait_until_bound(&stand, pods, bound * 3).await?;
    wait_until_all_ready(&stand, Duration::from_mins(1)).await?;
    let took = began.elapsed();
    let run = StrictRun {
        bound,
        took,
        sending: Duration::from_secs_f64(read_sending(&stand).await?),
        calls: count_entry_calls(&stand).await?,
        entries: u64::from(per_gateway) * 4,
        paces: read_paces(&stand).await?,
    };
    stand.stop().await?;
    Ok(run)
}

async fn start_with_four_gateways(entries: u32) -> Result<Stand> {
    let topology = layout::scratch_folder().join("logs").join("four-gateways.json");
    std::fs::create_dir_all(topology.parent().context("a folder")?)?;
    std::fs::write(&topology, four_zone_topology().to_string())?;
    let (quota, topology) = (entries.to_string(), topology.display().to_string());
    let simulator = ["--profile", "strict", "--quota-entries", &quota, "--topology", &topology]
        .map(str::to_owned);
    Stand::start_with(Options { simulator: simulator.to_vec(), ..Options::default() }).await
}

/// Four zones of one gateway each, whose nodes are those of the testbed.
fn four_zone_topology() -> Value {
    let places = [("j", NODES[0], 1), ("k", NODES[1], 2), ("l", NODES[2], 3), ("m", NODES[3], 4)];
    let zone = |letter: &str| format!("cn-hangzhou-{letter}");
    let switch = |letter: &str| format!("vsw-bp1{letter}0000000000000");
    json!({
        "region": "cn-hangzhou",
        "vpc": {"id": "vpc-bp1waygate0000000", "cidr": "10.0.0.0/8"},
        "zones": places.map(|(letter, ..)| zone(letter)),
        "vSwitches": places.map(|(letter, _, net)| json!({"id": switch(letter), "zone": zone(letter), "cidr": format!("10.{net}.0.0/16")})),
        "nodes": places.map(|(letter, node, net)| json!({
            "name": node, "instanceId": format!("i-bp1{letter}0000000000000"), "zone": zone(letter), "vSwitch": switch(letter),
            "podCIDR": format!("10.{net}.0.0/24"), "eni": "secondary",
        })),
        "natGateways": places.map(|(letter, ..)| json!({
            "id": format!("ngw-bp1{letter}0000000000000"), "table": format!("ftb-bp1{letter}0000000000000"), "zone": zone(letter), "eips": 1,
        })),
    })
}

/// Asks the store: on a small machine listing pods costs more than what is measured.
async fn wait_until_bound(stand: &Stand, pods: usize, timeout: Duration) -> Result<()> {
    let probe = || async {
        let bound: i64 = sqlx::query_scalar("SELECT count(*) FROM lease WHERE phase = 'bound'")
            .fetch_one(&stand.database)
            .await?;
        ensure!(usize::try_from(bound)? == pods, "{bound} are bound");
        Ok(Some(()))
    };
    stand.eventually(probe, "all addresses are published", timeout).await
}

/// Waits until all pods of the stand's namespace are Ready.
pub async fn wait_until_all_ready(stand: &Stand, timeout: Duration) -> Result<()> {
    let pods = stand.pods();
    let probe = || async {
        let pods = pods.list(&ListParams::default()).await?.items;
        let waiting =
            pods.iter().filter(|pod| condition_status(pod, "Ready") != Some("True")).count();
        ensure!(waiting == 0, "{waiting} of {} are not", pods.len());
        Ok(Some(()))
    };
    stand.eventually(probe, "all pods are Ready", timeout).await
}

async fn read_sending(stand: &Stand) -> Result<f64> {
    let statement = "SELECT extract(epoch FROM max(settled_at) - min(settled_at))::float8 FROM operation WHERE outcome = 'done'";
    Ok(sqlx::query_scalar(statement).fetch_one(&stand.database).await?)
}

async fn read_paces(stand: &Stand) -> Result<Vec<f64>> {
    let statement = "SELECT extract(epoch FROM max(settled_at) - min(settled_at))::float8 / (count(*) - 1) FROM operation WHERE outcome = 'done' GROUP BY gateway_id";
    Ok(sqlx::query_scalar(statement).fetch_all(&stand.database).await?)
}

async fn count_entry_calls(stand: &Stand) -> Result<u64> {
    let mut calls = 0;
    for action in ["CreateForwardEntry", "ModifyForwardEntry", "DeleteForwardEntry"] {
        calls += stand.cloud.count_calls_of(action).await?;
    }
    Ok(calls)
}
