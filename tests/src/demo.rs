//! `testbed demo`: a few pods get their addresses and give them back, each change printed as it
//! happens.
//!
//! The demo runs under `testbed run`, in a control plane of its own, against a cloud with the real
//! one's latencies, and ends by itself.

mod narrator;
mod text;
mod workloads;

use std::{cell::RefCell, process::ExitCode};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::{Pod, Service},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, PostParams},
};
use narrator::ChangePrinter;
use text::{ADDRESS_KEYS, print_heading, readable_address};
use waygate_core::resources::PodDNAT;

use crate::{
    pods::{annotation_value, condition_status},
    stand::{Options, Stand},
    wait::TIMEOUT,
};

/// Pods of the Deployment and of the StatefulSets.
const PODS: usize = 5;
/// Pods whose successors get the same address.
const STATEFUL: [&str; 2] = ["db-0", "game-0"];

/// Runs the demo. Exit code 0: every printed step happened.
pub async fn run_demo() -> Result<ExitCode> {
    print_heading("A Waygate of its own: Postgres, simulated cloud, two webhooks, two workers");
    let mut stand = Stand::start_with(Options {
        simulator: vec!["--profile".into(), "realistic".into()],
        ..Options::default()
    })
    .await?;
    println!(
        "  webhooks and workers are ready; pods get nodes, IPs and readiness from a real control plane"
    );

    let narrator = ChangePrinter::start(&stand);
    show_refusal(&stand).await?;
    print_heading(
        "Three pods ask for an EIP each, two for ports 80/tcp and 7777/udp on a NAT gateway",
    );
    let given = apply_workloads(&stand).await?;
    narrator.pause().await;
    print_addresses(&given);

    print_heading("Two stateful pods are deleted; their successors get the same addresses");
    narrator.resume();
    replace_stateful_pods(&stand, &given).await?;
    narrator.pause().await;

    print_heading("All of it is deleted, the PodDNATs of the fixed ports as well");
    narrator.resume();
    delete_workloads(&stand).await?;
    wait_until_released(&stand).await?;
    narrator.pause().await;
    println!(
        "\n  The cloud holds nothing of Waygate's any more: no EIP, no forward entry; no lease, no custom resource.\n"
    );
    stand.stop().await?;
    println!("{}", text::TRY_NEXT);
    Ok(ExitCode::SUCCESS)
}

/// A pod with three faults is refused at once, with all three.
async fn show_refusal(stand: &Stand) -> Result<()> {
    print_heading("A pod with three wrong annotations");
    let refusal = stand
        .create_pod(&workloads::wrong_pod())
        .await
        .err()
        .context("a wrong pod was admitted")?;
    let text = refusal.downcast_ref::<kube::Error>().map_or_else(
        || format!("{refusal:#}"),
        |error| match error {
            kube::Error::Api(status) => status.message.clone(),
            other => other.to_string(),
        },
    );
    println!("  refused by kube-apiserver:");
    text.split("; ").for_each(|line| println!("    {line}"));
    Ok(())
}

/// Applies the workloads and waits until every pod is ready and every endpoint takes traffic.
async fn apply_workloads(stand: &Stand) -> Result<Vec<Pod>> {
    let namespace = &stand.namespace;
    let (client, new) = (stand.client.clone(), PostParams::default());
    for service in workloads::workload_services()? {
        Api::<Service>::namespaced(client.clone(), namespace).create(&new, &service).await?;
    }
    Api::<Deployment>::namespaced(client.clone(), namespace)
        .create(&new, &workloads::web_deployment()?)
        .await?;
    let sets = Api::<StatefulSet>::namespaced(client, namespace);
    sets.create(&new, &workloads::game_stateful_set()?).await?;
    sets.create(&new, &workloads::db_stateful_set()?).await?;
    let ready = || async {
        let pods = stand.pods().list(&ListParams::default()).await?.items;
        let count =
            pods.iter().filter(|pod| condition_status(pod, "Ready") == Some("True")).count();
        ensure!(count == PODS, "{count} of {PODS} are ready");
        Ok(Some(pods))
    };
    let pods = stand.eventually(ready, "all pods are ready", TIMEOUT).await?;
    stand.wait_for_ready_endpoints("web", 2, TIMEOUT).await?;
    stand.wait_for_ready_endpoints("game", 2, TIMEOUT).await?;
    Ok(pods)
}

/// Deletes the stateful pods, and holds their successors to the same addresses.
async fn replace_stateful_pods(stand: &Stand, before: &[Pod]) -> Result<()> {
    for name in STATEFUL {
        stand.delete_pod(name).await?;
    }
    for name in STATEFUL {
        let former = before
            .iter()
            .find(|pod| pod.name_any() == name)
            .with_context(|| format!("pod {name}"))?;
        let probe = || async {
            let pod = stand.pods().get(name).await?;
            let ready = pod.metadata.uid != former.metadata.uid
                && condition_status(&pod, "Ready") == Some("True");
            Ok(ready.then_some(pod))
        };
        let successor = stand.eventually(probe, &format!("{name} is there again"), TIMEOUT).await?;
        for key in ADDRESS_KEYS {
            ensure!(
                annotation_value(&successor, key) == annotation_value(former, key),
                "{name} has another address than its predecessor"
            );
        }
    }
    Ok(())
}

fn print_addresses(pods: &[Pod]) {
    println!("\n  {:<24} {:<12} PUBLIC ADDRESS", "POD", "POD IP");
    for pod in pods {
        let ip =
            pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()).unwrap_or_default();
        let address = ADDRESS_KEYS
            .iter()
            .find_map(|key| annotation_value(pod, key))
            .map(readable_address)
            .unwrap_or_default();
        println!("  {:<24} {ip:<12} {address}", pod.name_any());
    }
}

async fn delete_workloads(stand: &Stand) -> Result<()> {
    let (client, namespace, how) =
        (stand.client.clone(), &stand.namespace, DeleteParams::background());
    Api::<Deployment>::namespaced(client.clone(), namespace).delete("web", &how).await?;
    let sets = Api::<StatefulSet>::namespaced(client.clone(), namespace);
    sets.delete("game", &how).await?;
    sets.delete("db", &how).await?;
    Api::<PodDNAT>::namespaced(client, namespace)
        .delete_collection(&how, &ListParams::default())
        .await?;
    Ok(())
}

async fn wait_until_released(stand: &Stand) -> Result<()> {
    let announced_left = RefCell::new(String::new());
    let probe = || async {
        let eips = stand
            .cloud
            .list_resources("eips")
            .await?
            .iter()
            .filter(|eip| eip["Tags"].to_string().contains("waygate.dev/lease"))
            .count();
        let entries = stand.cloud.list_resources("forwardEntries").await?.len();
        let leases: i64 =
            sqlx::query_scalar("SELECT count(*) FROM lease").fetch_one(&stand.database).await?;
        let left = format!("{eips} EIPs, {entries} forward entries, {leases} leases are left");
        if *announced_left.borrow() != left {
            println!("           in the cloud           {left}");
            announced_left.replace(left.clone());
        }
        ensure!(eips + entries == 0 && leases == 0, left);
        Ok(Some(()))
    };
    stand.eventually(probe, "everything was given back", TIMEOUT).await
}
