//! Reasons and messages of a pod's condition while the pod waits.

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::PodReadinessGate;
use serde_json::{Value, json};
use testbed::{
    eip::{GATE, WITH_EIP},
    layout,
    nothing_left::nothing_is_left,
    pods::{annotated, annotation},
    reasons::told,
    stand::{Options, Stand},
    wait::PATIENCE,
};

const WITH_DNAT: [(&str, &str); 2] =
    [("k8s.aliyun.com/pod-dnat", "true"), ("k8s.aliyun.com/pod-dnat-expose-port", "80")];
const DNAT: &str = "k8s.aliyun.com/dnat";

fn simulator(words: &str) -> Options {
    Options { simulator: words.split(' ').map(str::to_owned).collect(), ..Options::default() }
}

#[tokio::test]
async fn a_wrong_pod_that_was_admitted_says_why_it_waits() -> Result<()> {
    let stand = Stand::start_with(Options {
        config: json!({"admission": {"mode": "warn"}}),
        ..Options::default()
    })
    .await?;
    let mut pod = annotated("wrong", &[WITH_EIP, ("k8s.aliyun.com/eip-bandwidth", "fast")]);
    if let Some(spec) = &mut pod.spec {
        spec.readiness_gates = Some(vec![PodReadinessGate { condition_type: GATE.to_owned() }]);
    }
    stand.create(&pod).await?;
    told(&stand, "wrong", GATE, "InvalidAnnotations", &["k8s.aliyun.com/eip-bandwidth", "fast"])
        .await
}

#[tokio::test]
async fn a_pod_whose_node_has_no_interface_says_so() -> Result<()> {
    let printed = tokio::process::Command::new(layout::program("simulator")?)
        .arg("--print-topology")
        .output()
        .await?;
    let mut topology: Value = serde_json::from_slice(&printed.stdout)?;
    for node in topology["nodes"].as_array_mut().context("nodes")? {
        node["eni"] = json!("none");
    }
    let file = layout::scratch().join(format!("overlay-{}.json", uuid::Uuid::new_v4()));
    std::fs::write(&file, topology.to_string())?;
    let stand =
        Stand::start_with(simulator(&format!("--profile instant --topology {}", file.display())))
            .await?;
    std::fs::remove_file(&file)?;
    stand.create(&annotated("overlay", &[WITH_EIP])).await?;
    told(&stand, "overlay", GATE, "WaitingForNetworkInterface", &["not supported"]).await?;
    stand.delete("overlay").await?;
    nothing_is_left(&stand).await
}

#[tokio::test]
async fn a_given_eip_that_does_not_exist_is_named() -> Result<()> {
    let stand = Stand::start().await?;
    stand
        .create(&annotated("lost", &[("k8s.aliyun.com/pod-eip-instanceid", "eip-bp1nowhere")]))
        .await?;
    told(&stand, "lost", GATE, "EipNotFound", &["eip-bp1nowhere"]).await?;
    stand.delete("lost").await?;
    nothing_is_left(&stand).await
}

#[tokio::test]
async fn a_given_eip_that_somebody_bound_elsewhere_is_left_there() -> Result<()> {
    let stand = Stand::start().await?;
    let made = stand.cloud.console("allocate-eip", json!({})).await?;
    let id = made["AllocationId"]
        .as_str()
        .or(made["allocationId"].as_str())
        .context("an allocation ID")?
        .to_owned();
    let elsewhere = stand.cloud.account.nat_gateways[0].nat_gateway_id.clone();
    stand
        .cloud
        .console(
            "associate-eip",
            json!({"allocationId": id, "instanceId": elsewhere, "instanceType": "Nat"}),
        )
        .await?;
    stand.create(&annotated("late", &[("k8s.aliyun.com/pod-eip-instanceid", &id)])).await?;
    told(&stand, "late", GATE, "EipBoundElsewhere", &[&elsewhere]).await?;
    stand.delete("late").await?;
    nothing_is_left(&stand).await?;
    let eip = stand
        .cloud
        .list("eips")
        .await?
        .into_iter()
        .find(|eip| eip["AllocationId"] == id.as_str())
        .context("the EIP is still there")?;
    assert_eq!(
        (eip["Status"].as_str(), eip["InstanceId"].as_str()),
        (Some("InUse"), Some(elsewhere.as_str()))
    );
    Ok(())
}

#[tokio::test]
async fn a_pool_without_room_is_named() -> Result<()> {
    let stand = Stand::start().await?;
    sqlx::query("UPDATE port SET state = 'quiet', quiet_until = now() + interval '1 hour' WHERE state = 'free'")
        .execute(&stand.database)
        .await?;
    stand.create(&annotated("late", &WITH_DNAT)).await?;
    told(&stand, "late", DNAT, "NoFreePort", &["widen the port range"]).await?;
    sqlx::query("UPDATE port SET state = 'free', quiet_until = NULL WHERE state = 'quiet'")
        .execute(&stand.database)
        .await?;
    stand.condition("late", DNAT, "True", PATIENCE).await?;
    Ok(())
}

#[tokio::test]
async fn somebody_elses_entry_to_the_pods_port_is_named_and_left_alone() -> Result<()> {
    let stand = Stand::start().await?;
    stand.worker.stop().await?;
    stand.create(&annotated("shared", &WITH_DNAT)).await?;
    let ip =
        || async { Ok(stand.pods().get("shared").await?.status.and_then(|status| status.pod_ip)) };
    let pod_ip = stand.eventually(ip, "the pod has an IP", PATIENCE).await?;
    let mut theirs = Vec::new();
    for gateway in &stand.cloud.account.nat_gateways {
        let entry = json!({
            "forwardTableId": gateway.forward_table_id, "externalIp": gateway.eips[0].ip_address, "externalPort": "2000", "internalIp": pod_ip,
            "internalPort": "80", "ipProtocol": "TCP", "forwardEntryName": "legacy-entry",
        });
        theirs.push((
            gateway.forward_table_id.clone(),
            stand.cloud.console("create-forward-entry", entry).await?,
        ));
    }
    stand.worker.start().await?;
    told(&stand, "shared", DNAT, "PortForwardedElsewhere", &["legacy-entry", "2000"]).await?;
    assert_eq!(stand.cloud.list("forwardEntries").await?.len(), theirs.len());
    for (table, made) in theirs {
        let id = made["ForwardEntryId"]
            .as_str()
            .or(made["forwardEntryId"].as_str())
            .context("an entry ID")?
            .to_owned();
        stand
            .cloud
            .console("delete-forward-entry", json!({"forwardTableId": table, "forwardEntryId": id}))
            .await?;
    }
    stand.condition("shared", DNAT, "True", PATIENCE).await?;
    Ok(())
}

#[tokio::test]
async fn a_pod_beyond_the_quota_says_so_and_gets_its_eip_when_there_is_room() -> Result<()> {
    // Four EIPs are the gateways'.
    let stand = Stand::start_with(simulator("--profile instant --quota-eips 5")).await?;
    stand.create(&annotated("first", &[WITH_EIP])).await?;
    stand.condition("first", GATE, "True", PATIENCE).await?;
    stand.create(&annotated("second", &[WITH_EIP])).await?;
    told(&stand, "second", GATE, "EipQuotaExceeded", &["quota"]).await?;
    assert!(
        annotation(&stand.pods().get("second").await?, "k8s.aliyun.com/allocated-eipAddress")
            .is_none()
    );
    stand.delete("first").await?;
    stand.condition("second", GATE, "True", PATIENCE).await?;
    Ok(())
}
