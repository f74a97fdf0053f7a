//! Reasons and messages of a pod's condition while the pod waits.

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::PodReadinessGate;
use serde_json::{Value, json};
use testbed::{
    condition_reasons::wait_for_reason,
    eip::{GATE, WITH_EIP},
    layout,
    leftovers::wait_until_nothing_is_left,
    pods::{annotated_pod, annotation_value},
    stand::{Options, Stand},
    wait::TIMEOUT,
};

const WITH_DNAT: [(&str, &str); 2] =
    [("k8s.aliyun.com/pod-dnat", "true"), ("k8s.aliyun.com/pod-dnat-expose-port", "80")];
const DNAT: &str = "k8s.aliyun.com/dnat";

fn options_with_simulator(words: &str) -> Options {
    Options { simulator: words.split(' ').map(str::to_owned).collect(), ..Options::default() }
}

#[tokio::test]
async fn a_wrong_pod_that_was_admitted_says_why_it_waits() -> Result<()> {
    let stand = Stand::start_with(Options {
        config: json!({"admission": {"mode": "warn"}}),
        ..Options::default()
    })
    .await?;
    let mut pod = annotated_pod("wrong", &[WITH_EIP, ("k8s.aliyun.com/eip-bandwidth", "fast")]);
    if let Some(spec) = &mut pod.spec {
        spec.readiness_gates = Some(vec![PodReadinessGate { condition_type: GATE.to_owned() }]);
    }
    stand.create_pod(&pod).await?;
    wait_for_reason(
        &stand,
        "wrong",
        GATE,
        "InvalidAnnotations",
        &["k8s.aliyun.com/eip-bandwidth", "fast"],
    )
    .await
}

#[tokio::test]
async fn a_pod_whose_node_has_no_interface_says_so() -> Result<()> {
    let printed = tokio::process::Command::new(layout::program_path("simulator")?)
        .arg("--print-topology")
        .output()
        .await?;
    let mut topology: Value = serde_json::from_slice(&printed.stdout)?;
    for node in topology["nodes"].as_array_mut().context("nodes")? {
        node["eni"] = json!("none");
    }
    let file = layout::scratch_folder().join(format!("overlay-{}.json", uuid::Uuid::new_v4()));
    std::fs::write(&file, topology.to_string())?;
    let stand = Stand::start_with(options_with_simulator(&format!(
        "--profile instant --topology {}",
        file.display()
    )))
    .await?;
    std::fs::remove_file(&file)?;
    stand.create_pod(&annotated_pod("overlay", &[WITH_EIP])).await?;
    wait_for_reason(&stand, "overlay", GATE, "WaitingForNetworkInterface", &["not supported"])
        .await?;
    stand.delete_pod("overlay").await?;
    wait_until_nothing_is_left(&stand).await
}

#[tokio::test]
async fn a_given_eip_that_does_not_exist_is_named() -> Result<()> {
    let stand = Stand::start().await?;
    stand
        .create_pod(&annotated_pod(
            "lost",
            &[("k8s.aliyun.com/pod-eip-instanceid", "eip-bp1nowhere")],
        ))
        .await?;
    wait_for_reason(&stand, "lost", GATE, "EipNotFound", &["eip-bp1nowhere"]).await?;
    stand.delete_pod("lost").await?;
    wait_until_nothing_is_left(&stand).await
}

#[tokio::test]
async fn a_given_eip_that_is_bound_elsewhere_is_left_there() -> Result<()> {
    let stand = Stand::start().await?;
    let made = stand.cloud.change_at_console("allocate-eip", json!({})).await?;
    let id = made["AllocationId"]
        .as_str()
        .or(made["allocationId"].as_str())
        .context("an allocation ID")?
        .to_owned();
    let elsewhere = stand.cloud.account.nat_gateways[0].nat_gateway_id.clone();
    stand
        .cloud
        .change_at_console(
            "associate-eip",
            json!({"allocationId": id, "instanceId": elsewhere, "instanceType": "Nat"}),
        )
        .await?;
    stand.create_pod(&annotated_pod("late", &[("k8s.aliyun.com/pod-eip-instanceid", &id)])).await?;
    wait_for_reason(&stand, "late", GATE, "EipBoundElsewhere", &[&elsewhere]).await?;
    stand.delete_pod("late").await?;
    wait_until_nothing_is_left(&stand).await?;
    let eip = stand
        .cloud
        .list_resources("eips")
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
    sqlx::query("UPDATE port SET state = 'cooldown', cooldown_until = now() + interval '1 hour' WHERE state = 'free'")
        .execute(&stand.database)
        .await?;
    stand.create_pod(&annotated_pod("late", &WITH_DNAT)).await?;
    wait_for_reason(&stand, "late", DNAT, "NoFreePort", &["widen the port range"]).await?;
    sqlx::query("UPDATE port SET state = 'free', cooldown_until = NULL WHERE state = 'cooldown'")
        .execute(&stand.database)
        .await?;
    stand.wait_for_condition("late", DNAT, "True", TIMEOUT).await?;
    Ok(())
}

#[tokio::test]
async fn a_foreign_entry_to_the_pods_port_is_named_and_left_alone() -> Result<()> {
    let stand = Stand::start().await?;
    stand.worker.stop().await?;
    stand.create_pod(&annotated_pod("shared", &WITH_DNAT)).await?;
    let ip =
        || async { Ok(stand.pods().get("shared").await?.status.and_then(|status| status.pod_ip)) };
    let pod_ip = stand.eventually(ip, "the pod has an IP", TIMEOUT).await?;
    let mut foreign = Vec::new();
    for gateway in &stand.cloud.account.nat_gateways {
        let entry = json!({
            "forwardTableId": gateway.forward_table_id, "externalIp": gateway.eips[0].ip_address, "externalPort": "2000", "internalIp": pod_ip,
            "internalPort": "80", "ipProtocol": "TCP", "forwardEntryName": "legacy-entry",
        });
        foreign.push((
            gateway.forward_table_id.clone(),
            stand.cloud.change_at_console("create-forward-entry", entry).await?,
        ));
    }
    stand.worker.start().await?;
    wait_for_reason(&stand, "shared", DNAT, "PortForwardedElsewhere", &["legacy-entry", "2000"])
        .await?;
    assert_eq!(stand.cloud.list_resources("forwardEntries").await?.len(), foreign.len());
    for (table, made) in foreign {
        let id = made["ForwardEntryId"]
            .as_str()
            .or(made["forwardEntryId"].as_str())
            .context("an entry ID")?
            .to_owned();
        stand
            .cloud
            .change_at_console(
                "delete-forward-entry",
                json!({"forwardTableId": table, "forwardEntryId": id}),
            )
            .await?;
    }
    stand.wait_for_condition("shared", DNAT, "True", TIMEOUT).await?;
    Ok(())
}

#[tokio::test]
async fn a_pod_beyond_the_quota_says_so_and_gets_its_eip_when_there_is_room() -> Result<()> {
    // Four EIPs are the gateways'.
    let stand =
        Stand::start_with(options_with_simulator("--profile instant --quota-eips 5")).await?;
    stand.create_pod(&annotated_pod("first", &[WITH_EIP])).await?;
    stand.wait_for_condition("first", GATE, "True", TIMEOUT).await?;
    stand.create_pod(&annotated_pod("second", &[WITH_EIP])).await?;
    wait_for_reason(&stand, "second", GATE, "EipQuotaExceeded", &["quota"]).await?;
    assert!(
        annotation_value(&stand.pods().get("second").await?, "k8s.aliyun.com/allocated-eipAddress")
            .is_none()
    );
    stand.delete_pod("first").await?;
    stand.wait_for_condition("second", GATE, "True", TIMEOUT).await?;
    Ok(())
}
