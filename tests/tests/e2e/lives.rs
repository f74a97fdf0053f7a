//! Beginnings and ends of pods, and the effect on their addresses.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Container;
use kube::api::{DeleteParams, EvictParams};
use serde_json::json;
use std::time::Duration;
use testbed::{
    eip::GATE,
    kinds::{BOTH, EIP, lead_to},
    nodes::OwnNode,
    nothing_left::{eips_of_ours, nothing_is_left},
    pods::{ask, condition, ip, phase},
    reasons::told,
    stand::{Options, Stand},
    wait::PATIENCE,
    workloads::{stateful, successor},
};

/// The garbage collector looks every 20 s and gives a node that is gone 40 s to come back.
const COLLECTED: Duration = Duration::from_secs(150);

#[tokio::test]
async fn a_failed_pod_gives_its_address_back() -> Result<()> {
    let stand = Stand::start().await?;
    for kind in BOTH {
        stand.create(&kind.asking(&[])).await?;
        kind.works(&stand).await?;
        stand.annotate(kind.pod, json!({ask::STATE: "Failed"})).await?;
    }
    nothing_is_left(&stand).await?;
    for kind in BOTH {
        assert_eq!(
            phase(&stand.pods().get(kind.pod).await?),
            "Failed",
            "the object stays, and says why"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_failed_pod_of_a_stateful_set_leaves_its_eip_to_its_successor() -> Result<()> {
    let stand = Stand::start().await?;
    stateful(&stand, &[EIP.asks[0], ("k8s.aliyun.com/pod-eip-release-strategy", "Never")]).await?;
    let first = stand.condition("db-0", GATE, "True", PATIENCE).await?;
    stand.annotate("db-0", json!({ask::STATE: "Failed"})).await?;
    let second = successor(&stand, &first, GATE).await?;
    let address = |pod| testbed::pods::annotation(pod, EIP.tells).map(str::to_owned);
    assert_eq!(address(&first), address(&second));
    assert_eq!(eips_of_ours(&stand).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_pod_that_takes_long_to_end_keeps_its_address_until_it_has() -> Result<()> {
    let stand = Stand::start().await?;
    for kind in BOTH {
        stand.create(&kind.asking(&[(ask::STOP_AFTER, "3s")])).await?;
        let before = kind.works(&stand).await?;
        stand.delete(kind.pod).await?;
        // An annotation wakes the lease, so that the worker looks at the pod meanwhile.
        stand.annotate(kind.pod, json!({"example.com/poke": "1"})).await?;
        let looks = kind.stays_until_exit(&stand, &before).await?;
        ensure!(looks > 5, "{looks} looks are not enough to tell");
    }
    nothing_is_left(&stand).await
}

#[tokio::test]
async fn an_evicted_pod_keeps_its_address_until_it_has_ended() -> Result<()> {
    let stand = Stand::start().await?;
    for kind in BOTH {
        stand.create(&kind.asking(&[(ask::STOP_AFTER, "2s")])).await?;
        let before = kind.works(&stand).await?;
        stand.pods().evict(kind.pod, &EvictParams::default()).await?;
        let looks = kind.stays_until_exit(&stand, &before).await?;
        ensure!(looks > 3, "{looks} looks are not enough to tell");
    }
    nothing_is_left(&stand).await
}

#[tokio::test]
async fn a_force_deleted_pod_leaves_nothing_and_a_pod_of_its_name_has_its_own_address_at_once()
-> Result<()> {
    let stand = Stand::start().await?;
    let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    for kind in BOTH {
        // The node would take an hour to end the pod, but a forced deletion does not wait for it.
        stand.create(&kind.asking(&[(ask::STOP_AFTER, "1h")])).await?;
        let first = kind.works(&stand).await?;
        stand.pods().delete(kind.pod, &at_once).await?;
        ensure!(stand.pods().get_opt(kind.pod).await?.is_none(), "the object is gone at once");
        stand.create(&kind.asking(&[])).await?;
        let second = kind.works(&stand).await?;
        assert_ne!(first.metadata.uid, second.metadata.uid);
        assert_eq!(kind.shown(&stand, ip(&second)).await?, kind.things);
        assert_eq!(lead_to(&stand, ip(&second)).await?, kind.things);
        if ip(&first) != ip(&second) {
            assert_eq!(
                lead_to(&stand, ip(&first)).await?,
                0,
                "nothing leads to where the first pod was"
            );
        }
        stand.delete(kind.pod).await?;
    }
    nothing_is_left(&stand).await
}

#[tokio::test]
async fn pods_of_a_node_that_is_gone_give_their_addresses_back_when_they_are_collected()
-> Result<()> {
    let node = OwnNode::new("10.1.64.0/24").await?;
    let simulator = ["--profile", "instant", "--topology", &node.topology.display().to_string()]
        .map(str::to_owned)
        .to_vec();
    let stand = Stand::start_with(Options { simulator, ..Options::default() }).await?;
    node.join(&stand.client).await?;
    let mut pods = Vec::new();
    for kind in BOTH {
        let mut pod = kind.asking(&[(ask::STOP_AFTER, "1h")]);
        if let Some(spec) = &mut pod.spec {
            spec.node_name = Some(node.name.clone());
        }
        stand.create(&pod).await?;
        pods.push(kind.works(&stand).await?);
        // Deletes as the control plane does for a node that does not answer; no kubelet is there to
        // end the pod.
        stand.delete(kind.pod).await?;
    }
    node.leave(&stand.client).await?;
    for (kind, pod) in BOTH.iter().zip(&pods) {
        assert_eq!(
            lead_to(&stand, ip(pod)).await?,
            kind.things,
            "a pod of a silent node may still run"
        );
    }
    for kind in BOTH {
        stand.gone(kind.pod, COLLECTED).await?;
    }
    nothing_is_left(&stand).await
}

#[tokio::test]
async fn a_pod_whose_init_container_runs_for_long_has_its_address_meanwhile() -> Result<()> {
    let stand = Stand::start().await?;
    for kind in BOTH {
        let mut pod = kind.asking(&[(ask::STATE, "Initializing")]);
        if let Some(spec) = &mut pod.spec {
            let init = Container {
                name: "init".to_owned(),
                image: Some("example.com/init:1".to_owned()),
                ..Container::default()
            };
            spec.init_containers = Some(vec![init]);
        }
        stand.create(&pod).await?;
        let pod = kind.works(&stand).await?;
        assert_eq!((phase(&pod), condition(&pod, "Initialized")), ("Pending", Some("False")));
        assert_eq!(lead_to(&stand, ip(&pod)).await?, kind.things);
        stand.annotate(kind.pod, json!({ask::STATE: null})).await?;
        stand.condition(kind.pod, "Ready", "True", PATIENCE).await?;
        stand.delete(kind.pod).await?;
    }
    nothing_is_left(&stand).await
}

#[tokio::test]
async fn a_pod_deleted_before_it_had_an_ip_leaves_nothing() -> Result<()> {
    let stand = Stand::start().await?;
    for kind in BOTH {
        stand.create(&kind.asking(&[(ask::START_AFTER, "1h")])).await?;
        told(&stand, kind.pod, kind.gate, "WaitingForPodIP", &[]).await?;
        stand.delete(kind.pod).await?;
        stand.gone(kind.pod, PATIENCE).await?;
    }
    nothing_is_left(&stand).await
}
