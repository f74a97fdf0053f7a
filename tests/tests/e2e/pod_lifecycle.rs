//! Beginnings and ends of pods, and the effect on their addresses.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Container;
use kube::api::{DeleteParams, EvictParams};
use serde_json::json;
use std::time::Duration;
use testbed::{
    address_kinds::{ADDRESS_KINDS, EIP, count_resources_leading_to},
    condition_reasons::wait_for_reason,
    eip::GATE,
    leftovers::{list_allocated_eips, wait_until_nothing_is_left},
    nodes::OwnNode,
    pods::{ask, condition_status, pod_ip_of, pod_phase},
    stand::{Options, Stand},
    wait::TIMEOUT,
    workloads::{create_stateful_set, wait_for_successor},
};

/// The garbage collector looks every 20 s and gives a node that is gone 40 s to come back.
const COLLECTION_TIMEOUT: Duration = Duration::from_secs(150);

#[tokio::test]
async fn a_failed_pod_gives_its_address_back() -> Result<()> {
    let stand = Stand::start().await?;
    for kind in ADDRESS_KINDS {
        stand.create_pod(&kind.requesting_pod(&[])).await?;
        kind.wait_until_it_works(&stand).await?;
        stand.annotate_pod(kind.pod, json!({ask::STATE: "Failed"})).await?;
    }
    wait_until_nothing_is_left(&stand).await?;
    for kind in ADDRESS_KINDS {
        assert_eq!(
            pod_phase(&stand.pods().get(kind.pod).await?),
            "Failed",
            "the object stays, and says why"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_failed_pod_of_a_stateful_set_leaves_its_eip_to_its_successor() -> Result<()> {
    let stand = Stand::start().await?;
    create_stateful_set(
        &stand,
        &[EIP.request[0], ("k8s.aliyun.com/pod-eip-release-strategy", "Never")],
    )
    .await?;
    let first = stand.wait_for_condition("db-0", GATE, "True", TIMEOUT).await?;
    stand.annotate_pod("db-0", json!({ask::STATE: "Failed"})).await?;
    let second = wait_for_successor(&stand, &first, GATE).await?;
    let address = |pod| testbed::pods::annotation_value(pod, EIP.address_key).map(str::to_owned);
    assert_eq!(address(&first), address(&second));
    assert_eq!(list_allocated_eips(&stand).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_pod_that_takes_long_to_end_keeps_its_address_until_it_has() -> Result<()> {
    let stand = Stand::start().await?;
    for kind in ADDRESS_KINDS {
        stand.create_pod(&kind.requesting_pod(&[(ask::STOP_AFTER, "3s")])).await?;
        let before = kind.wait_until_it_works(&stand).await?;
        stand.delete_pod(kind.pod).await?;
        // So that the worker looks at the pod meanwhile.
        stand.wake_leases().await?;
        let looks = kind.watch_address_until_exit(&stand, &before).await?;
        ensure!(looks > 5, "{looks} looks are not enough to tell");
    }
    wait_until_nothing_is_left(&stand).await
}

#[tokio::test]
async fn an_evicted_pod_keeps_its_address_until_it_has_ended() -> Result<()> {
    let stand = Stand::start().await?;
    for kind in ADDRESS_KINDS {
        stand.create_pod(&kind.requesting_pod(&[(ask::STOP_AFTER, "2s")])).await?;
        let before = kind.wait_until_it_works(&stand).await?;
        stand.pods().evict(kind.pod, &EvictParams::default()).await?;
        let looks = kind.watch_address_until_exit(&stand, &before).await?;
        ensure!(looks > 3, "{looks} looks are not enough to tell");
    }
    wait_until_nothing_is_left(&stand).await
}

#[tokio::test]
async fn a_force_deleted_pod_leaves_nothing_and_a_pod_of_its_name_has_its_own_address_at_once()
-> Result<()> {
    let stand = Stand::start().await?;
    let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    for kind in ADDRESS_KINDS {
        // The node would take an hour to end the pod, but a forced deletion does not wait for it.
        stand.create_pod(&kind.requesting_pod(&[(ask::STOP_AFTER, "1h")])).await?;
        let first = kind.wait_until_it_works(&stand).await?;
        stand.pods().delete(kind.pod, &at_once).await?;
        ensure!(stand.pods().get_opt(kind.pod).await?.is_none(), "the object is gone at once");
        stand.create_pod(&kind.requesting_pod(&[])).await?;
        let second = kind.wait_until_it_works(&stand).await?;
        assert_ne!(first.metadata.uid, second.metadata.uid);
        assert_eq!(
            kind.count_shown_addresses(&stand, pod_ip_of(&second)).await?,
            kind.resource_count
        );
        assert_eq!(
            count_resources_leading_to(&stand, pod_ip_of(&second)).await?,
            kind.resource_count
        );
        if pod_ip_of(&first) != pod_ip_of(&second) {
            assert_eq!(
                count_resources_leading_to(&stand, pod_ip_of(&first)).await?,
                0,
                "nothing leads to where the first pod was"
            );
        }
        stand.delete_pod(kind.pod).await?;
    }
    wait_until_nothing_is_left(&stand).await
}

#[tokio::test]
async fn pods_of_a_node_that_is_gone_give_their_addresses_back_when_they_are_collected()
-> Result<()> {
    let node = OwnNode::new("10.1.64.0/24").await?;
    let simulator = ["--profile", "instant", "--topology", &node.topology.display().to_string()]
        .map(str::to_owned)
        .to_vec();
    let stand = Stand::start_with(Options { simulator, ..Options::default() }).await?;
    node.create_node(&stand.client).await?;
    let mut pods = Vec::new();
    for kind in ADDRESS_KINDS {
        let mut pod = kind.requesting_pod(&[(ask::STOP_AFTER, "1h")]);
        if let Some(spec) = &mut pod.spec {
            spec.node_name = Some(node.name.clone());
        }
        stand.create_pod(&pod).await?;
        pods.push(kind.wait_until_it_works(&stand).await?);
        // Deletes as the control plane does for a node that does not answer; no kubelet is there to
        // end the pod.
        stand.delete_pod(kind.pod).await?;
    }
    node.delete_node(&stand.client).await?;
    for (kind, pod) in ADDRESS_KINDS.iter().zip(&pods) {
        assert_eq!(
            count_resources_leading_to(&stand, pod_ip_of(pod)).await?,
            kind.resource_count,
            "a pod of a silent node may still run"
        );
    }
    for kind in ADDRESS_KINDS {
        stand.wait_until_gone(kind.pod, COLLECTION_TIMEOUT).await?;
    }
    wait_until_nothing_is_left(&stand).await
}

#[tokio::test]
async fn a_pod_whose_init_container_runs_for_long_has_its_address_meanwhile() -> Result<()> {
    let stand = Stand::start().await?;
    for kind in ADDRESS_KINDS {
        let mut pod = kind.requesting_pod(&[(ask::STATE, "Initializing")]);
        if let Some(spec) = &mut pod.spec {
            let init = Container {
                name: "init".to_owned(),
                image: Some("example.com/init:1".to_owned()),
                ..Container::default()
            };
            spec.init_containers = Some(vec![init]);
        }
        stand.create_pod(&pod).await?;
        let pod = kind.wait_until_it_works(&stand).await?;
        assert_eq!(
            (pod_phase(&pod), condition_status(&pod, "Initialized")),
            ("Pending", Some("False"))
        );
        assert_eq!(count_resources_leading_to(&stand, pod_ip_of(&pod)).await?, kind.resource_count);
        stand.annotate_pod(kind.pod, json!({ask::STATE: null})).await?;
        stand.wait_for_condition(kind.pod, "Ready", "True", TIMEOUT).await?;
        stand.delete_pod(kind.pod).await?;
    }
    wait_until_nothing_is_left(&stand).await
}

#[tokio::test]
async fn a_pod_deleted_before_it_had_an_ip_leaves_nothing() -> Result<()> {
    let stand = Stand::start().await?;
    for kind in ADDRESS_KINDS {
        stand.create_pod(&kind.requesting_pod(&[(ask::START_AFTER, "1h")])).await?;
        wait_for_reason(&stand, kind.pod, kind.gate, "WaitingForPodIP", &[]).await?;
        stand.delete_pod(kind.pod).await?;
        stand.wait_until_gone(kind.pod, TIMEOUT).await?;
    }
    wait_until_nothing_is_left(&stand).await
}
