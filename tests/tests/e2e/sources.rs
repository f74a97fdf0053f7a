//! Sources of EIPs other than buying: pools, older pods, reusable prepaid EIPs, former addresses.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::{api::apps::v1::Deployment, jiff::Timestamp};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use testbed::{
    eip::{ADDRESS, GATE, WITH_EIP},
    nothing_left::{eips_of_ours, nothing_is_left},
    pods::{annotated, annotation, condition, whole_condition},
    stand::{Options, Stand},
    wait::PATIENCE,
    workloads::{scale, stateful, successor},
};
use waygate_core::resources::PodEIP;

/// Buys an EIP at the console; returns its ID and its address.
async fn bought(stand: &Stand, tags: Value) -> Result<(String, String)> {
    let made = stand.cloud.console("allocate-eip", json!({"tag": tags})).await?;
    let text = |key: &str| {
        made[key].as_str().map(str::to_owned).with_context(|| format!("{key} in {made}"))
    };
    Ok((text("AllocationId")?, text("EipAddress")?))
}

async fn status_of(stand: &Stand, id: &str) -> Result<String> {
    let eips = stand.cloud.list("eips").await?;
    let eip = eips
        .iter()
        .find(|eip| eip["AllocationId"] == id)
        .with_context(|| format!("{id} is not there any more"))?;
    Ok(eip["Status"].as_str().unwrap_or_default().to_owned())
}

/// Waits until the pod's condition has said all of `words`.
async fn told(stand: &Stand, pod: &str, words: &[&str]) -> Result<()> {
    let probe = || async {
        let found = stand.pods().get(pod).await?;
        let said = serde_json::to_string(&whole_condition(&found, GATE))?;
        ensure!(words.iter().all(|word| said.contains(word)), "it says {said}");
        Ok(Some(()))
    };
    stand.eventually(probe, &format!("the condition of {pod} says {words:?}"), PATIENCE).await
}

#[tokio::test]
async fn pods_take_the_eips_of_a_pool_in_turns_and_leave_them_as_they_were() -> Result<()> {
    let stand = Stand::start().await?;
    let tag = json!([{"key": "waygate.dev/eip-pool", "value": "games"}]);
    let pool = [bought(&stand, tag.clone()).await?, bought(&stand, tag).await?];
    bought(&stand, json!([{"key": "waygate.dev/eip-pool", "value": "others"}])).await?;
    let asks = [WITH_EIP, ("waygate.dev/eip-pool", "games")];
    let mut addresses = Vec::new();
    for name in ["a", "b"] {
        stand.create(&annotated(name, &asks)).await?;
        let pod = stand.condition(name, GATE, "True", PATIENCE).await?;
        addresses.push(annotation(&pod, ADDRESS).context("an address")?.to_owned());
    }
    addresses.sort();
    let mut bought: Vec<_> = pool.iter().map(|(_, address)| address.clone()).collect();
    bought.sort();
    assert_eq!(addresses, bought);
    let resource =
        Api::<PodEIP>::namespaced(stand.client.clone(), &stand.namespace).get("a").await?;
    assert_eq!(resource.spec.allocation_type.and_then(|kind| kind.kind).as_deref(), Some("Static"));

    stand.create(&annotated("c", &asks)).await?;
    told(&stand, "c", &["EipPoolExhausted", "games"]).await?;
    stand.delete("a").await?;
    stand.condition("c", GATE, "True", PATIENCE).await?;
    stand.delete("b").await?;
    stand.delete("c").await?;
    nothing_is_left(&stand).await?;
    for (id, _) in pool {
        assert_eq!(status_of(&stand, &id).await?, "Available");
    }
    Ok(())
}

#[tokio::test]
async fn a_given_eip_passes_to_a_younger_pod_where_that_is_allowed_and_never_back() -> Result<()> {
    let config = json!({"networkController": {"eipController": {"allowTakeover": true}}});
    let stand = Stand::start_with(Options { config, ..Options::default() }).await?;
    let (id, address) = bought(&stand, json!([])).await?;
    let asks = [
        ("k8s.aliyun.com/pod-eip-instanceid", id.as_str()),
        ("waygate.dev/readiness-gate", "true"),
    ];
    stand.create(&annotated("older", &asks)).await?;
    let older = stand.condition("older", GATE, "True", PATIENCE).await?;
    // Pods are as old as their creation times, which have seconds.
    let created = older.metadata.creation_timestamp.context("a creation time")?.0;
    let probe = || async { Ok((Timestamp::now().as_second() > created.as_second()).then_some(())) };
    stand.eventually(probe, "a second has passed", PATIENCE).await?;

    stand.create(&annotated("younger", &asks)).await?;
    let younger = stand.condition("younger", GATE, "True", PATIENCE).await?;
    assert_eq!(annotation(&younger, ADDRESS), Some(address.as_str()));
    told(&stand, "older", &["EipTakenOver", "younger", "False"]).await?;
    assert!(annotation(&stand.pods().get("older").await?, ADDRESS).is_none());

    stand.delete("younger").await?;
    stand.gone("younger", PATIENCE).await?;
    let probe = || async { Ok((status_of(&stand, &id).await? == "Available").then_some(())) };
    stand.eventually(probe, "the EIP is unbound", PATIENCE).await?;
    // An annotation wakes the preempted pod's lease, which still does not take the EIP back.
    stand.annotate("older", json!({"example.com/poke": "1"})).await?;
    let leases = || async {
        let waiting: Option<String> = sqlx::query_scalar(
            "SELECT reason FROM lease WHERE pod_name = 'older' AND owner IS NULL",
        )
        .fetch_optional(&stand.database)
        .await?;
        Ok((waiting.as_deref() == Some("EipTakenOver")).then_some(()))
    };
    stand.eventually(leases, "the loser's lease rests", PATIENCE).await?;
    assert_eq!(status_of(&stand, &id).await?, "Available");
    stand.delete("older").await?;
    nothing_is_left(&stand).await
}

/// An interface, and one of its secondary addresses, which a pod of no concern to us has.
async fn strangers_address(stand: &Stand) -> Result<(String, String)> {
    // An interface's first address is its primary one, and few pods have it.
    for number in 0..8 {
        let name = format!("stranger-{number}");
        let mut pod = annotated(&name, &[]);
        // Interfaces of this node have secondary addresses instead of a prefix.
        pod.spec.get_or_insert_default().node_name = Some("node-j-1".to_owned());
        stand.create(&pod).await?;
        let ip = stand
            .condition(&name, "Ready", "True", PATIENCE)
            .await?
            .status
            .and_then(|status| status.pod_ip)
            .context("an IP")?;
        stand.cloud.console("announce", json!({"ips": [ip]})).await?;
        for eni in stand.cloud.list("networkInterfaces").await? {
            let sets = eni["PrivateIpSets"]["PrivateIpSet"].as_array().context("addresses")?;
            if sets.iter().any(|set| set["Primary"] == false && set["PrivateIpAddress"] == ip) {
                return Ok((eni["NetworkInterfaceId"].as_str().context("an ID")?.to_owned(), ip));
            }
        }
    }
    anyhow::bail!("no pod has an interface's secondary address")
}

#[tokio::test]
async fn an_eip_on_a_strangers_interface_is_taken_where_that_is_allowed() -> Result<()> {
    let config = json!({"networkController": {"eipController": {"allowTakeover": true}}});
    let stand = Stand::start_with(Options { config, ..Options::default() }).await?;
    let (id, address) = bought(&stand, json!([])).await?;
    let (eni, ip) = strangers_address(&stand).await?;
    let body = json!({"allocationId": id, "instanceId": eni, "instanceType": "NetworkInterface", "privateIpAddress": ip});
    stand.cloud.console("associate-eip", body).await?;
    let asks = [
        ("k8s.aliyun.com/pod-eip-instanceid", id.as_str()),
        ("waygate.dev/readiness-gate", "true"),
    ];
    stand.create(&annotated("taker", &asks)).await?;
    let taker = stand.condition("taker", GATE, "True", PATIENCE).await?;
    assert_eq!(annotation(&taker, ADDRESS), Some(address.as_str()));
    Ok(())
}

#[tokio::test]
async fn a_rolling_deployment_with_a_given_eip_does_not_wait_for_itself() -> Result<()> {
    let stand = Stand::start().await?;
    let (id, address) = bought(&stand, json!([])).await?;
    let deployment: Deployment = serde_json::from_value(json!({
        "metadata": {"name": "web"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}, "annotations": {"k8s.aliyun.com/pod-eip-instanceid": id}},
            "spec": {"containers": [{"name": "main", "image": "example.com/web:1"}]},
        }},
    }))?;
    let deployments = Api::<Deployment>::namespaced(stand.client.clone(), &stand.namespace);
    deployments.create(&PostParams::default(), &deployment).await?;
    let served_by = |image: &'static str| {
        let (pods, address) = (stand.pods(), &address);
        move || {
            let pods = pods.clone();
            async move {
                let all = pods.list(&ListParams::default()).await?.items;
                let bearers: Vec<_> = all
                    .iter()
                    .filter(|pod| annotation(pod, ADDRESS) == Some(address.as_str()))
                    .collect();
                ensure!(
                    all.len() == 1 && bearers.len() == 1,
                    "{} pods, {} with the address",
                    all.len(),
                    bearers.len()
                );
                let is = bearers[0].spec.as_ref().and_then(|spec| spec.containers[0].image.clone());
                ensure!(is.as_deref() == Some(image), "it is {is:?}");
                ensure!(condition(bearers[0], "Ready") == Some("True"), "it is not ready");
                Ok(Some(()))
            }
        }
    };
    stand.eventually(served_by("example.com/web:1"), "the first pod has the EIP", PATIENCE).await?;
    let next = json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "example.com/web:2"}]}}}});
    deployments.patch("web", &PatchParams::default(), &Patch::Strategic(next)).await?;
    stand
        .eventually(
            served_by("example.com/web:2"),
            "the rollout is through and the EIP has moved",
            PATIENCE,
        )
        .await
}

#[tokio::test]
async fn a_prepaid_eip_outlives_its_pod_and_serves_the_next_of_its_kind() -> Result<()> {
    let stand = Stand::start().await?;
    let asks = [
        WITH_EIP,
        ("k8s.aliyun.com/eip-instance-charge-type", "PrePaid"),
        ("k8s.aliyun.com/eip-internet-charge-type", "PayByBandwidth"),
    ];
    stand.create(&annotated("first", &asks)).await?;
    let first = stand.condition("first", GATE, "True", PATIENCE).await?;
    stand.delete("first").await?;
    stand.gone("first", PATIENCE).await?;
    let resources = Api::<PodEIP>::namespaced(stand.client.clone(), &stand.namespace);
    let probe = || async { Ok(resources.get_opt("first").await?.is_none().then_some(())) };
    stand.eventually(probe, "its custom resource is gone", PATIENCE).await?;
    stand.create(&annotated("second", &asks)).await?;
    let second = stand.condition("second", GATE, "True", PATIENCE).await?;
    assert_eq!(annotation(&first, ADDRESS), annotation(&second, ADDRESS));
    assert_eq!(eips_of_ours(&stand).await?.len(), 1, "none was bought beside it");
    assert_eq!(stand.cloud.calls_of("ReleaseEipAddress").await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_kept_pod_that_comes_back_late_gets_its_released_address_again() -> Result<()> {
    let stand = Stand::start().await?;
    stateful(
        &stand,
        &[
            WITH_EIP,
            ("k8s.aliyun.com/pod-eip-release-strategy", "1s"),
            ("k8s.aliyun.com/eip-name", "db/front"),
        ],
    )
    .await?;
    let first = stand.condition("db-0", GATE, "True", PATIENCE).await?;
    let before = stand.cloud.list("eips").await?;
    scale(&stand, 0).await?;
    nothing_is_left(&stand).await?;
    scale(&stand, 1).await?;
    let second = successor(&stand, &first, GATE).await?;
    assert_eq!(annotation(&first, ADDRESS), annotation(&second, ADDRESS));
    let address = annotation(&second, ADDRESS).context("an address")?;
    let named = |eips: &[Value], name: &str| {
        eips.iter().find(|eip| eip["IpAddress"] == address).map(|eip| eip[name].clone())
    };
    let probe = || async {
        let after = stand.cloud.list("eips").await?;
        ensure!(
            named(&before, "AllocationId") != named(&after, "AllocationId"),
            "it was not released in between"
        );
        Ok((named(&after, "Name") == Some(json!("db/front"))).then_some(()))
    };
    // AllocateEipAddressPro takes no name, so the worker sets the name once the address works.
    stand.eventually(probe, "the EIP has its name", PATIENCE).await?;
    Ok(())
}

#[tokio::test]
async fn a_change_that_the_cloud_does_not_allow_is_said_and_takes_nothing_away() -> Result<()> {
    let stand = Stand::start().await?;
    stand.create(&annotated("steady", &[WITH_EIP])).await?;
    let before = stand.condition("steady", GATE, "True", PATIENCE).await?;
    stand.annotate("steady", json!({"k8s.aliyun.com/eip-isp": "BGP_PRO"})).await?;
    told(&stand, "steady", &["\"True\"", "eip-isp is BGP and not BGP_PRO"]).await?;
    let after = stand.pods().get("steady").await?;
    assert_eq!(annotation(&before, ADDRESS), annotation(&after, ADDRESS));
    stand.annotate("steady", json!({"k8s.aliyun.com/eip-isp": null})).await?;
    told(&stand, "steady", &["\"True\"", "is bound to pod IP"]).await?;
    let probe = || async {
        let said = serde_json::to_string(&stand.pods().get("steady").await?.status)?;
        ensure!(!said.contains("BGP_PRO"), "it says {said}");
        Ok(Some(()))
    };
    stand.eventually(probe, "it is not said any more", PATIENCE).await
}
