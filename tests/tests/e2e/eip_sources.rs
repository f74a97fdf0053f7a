//! Sources of EIPs other than buying: pools, older pods, reusable prepaid EIPs, former addresses.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::{api::apps::v1::Deployment, jiff::Timestamp};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use testbed::{
    eip::{ADDRESS_KEY, GATE, WITH_EIP},
    leftovers::{list_allocated_eips, wait_until_nothing_is_left},
    pods::{annotated_pod, annotation_value, condition_status, find_condition},
    stand::{Options, Stand},
    wait::TIMEOUT,
    workloads::{create_stateful_set, scale_stateful_set, wait_for_successor},
};
use waygate_core::resources::PodEIP;

/// Buys an EIP at the console; returns its ID and its address.
async fn buy_eip(stand: &Stand, tags: Value) -> Result<(String, String)> {
    let made = stand.cloud.change_at_console("allocate-eip", json!({"tag": tags})).await?;
    let text = |key: &str| {
        made[key].as_str().map(str::to_owned).with_context(|| format!("{key} in {made}"))
    };
    Ok((text("AllocationId")?, text("EipAddress")?))
}

async fn read_eip_status(stand: &Stand, id: &str) -> Result<String> {
    let eips = stand.cloud.list_resources("eips").await?;
    let eip = eips
        .iter()
        .find(|eip| eip["AllocationId"] == id)
        .with_context(|| format!("{id} is not there any more"))?;
    Ok(eip["Status"].as_str().unwrap_or_default().to_owned())
}

/// Waits until the pod's condition has said all of `words`.
async fn wait_for_message(stand: &Stand, pod: &str, words: &[&str]) -> Result<()> {
    let probe = || async {
        let found = stand.pods().get(pod).await?;
        let said = serde_json::to_string(&find_condition(&found, GATE))?;
        ensure!(words.iter().all(|word| said.contains(word)), "it says {said}");
        Ok(Some(()))
    };
    stand.eventually(probe, &format!("the condition of {pod} says {words:?}"), TIMEOUT).await
}

#[tokio::test]
async fn pods_share_the_eips_of_a_pool_and_leave_them_unchanged() -> Result<()> {
    let stand = Stand::start().await?;
    let tag = json!([{"key": "waygate.dev/eip-pool", "value": "games"}]);
    let pool = [buy_eip(&stand, tag.clone()).await?, buy_eip(&stand, tag).await?];
    buy_eip(&stand, json!([{"key": "waygate.dev/eip-pool", "value": "others"}])).await?;
    let asks = [WITH_EIP, ("waygate.dev/eip-pool", "games")];
    let mut addresses = Vec::new();
    for name in ["a", "b"] {
        stand.create_pod(&annotated_pod(name, &asks)).await?;
        let pod = stand.wait_for_condition(name, GATE, "True", TIMEOUT).await?;
        addresses.push(annotation_value(&pod, ADDRESS_KEY).context("an address")?.to_owned());
    }
    addresses.sort();
    let mut bought: Vec<_> = pool.iter().map(|(_, address)| address.clone()).collect();
    bought.sort();
    assert_eq!(addresses, bought);
    let resource =
        Api::<PodEIP>::namespaced(stand.client.clone(), &stand.namespace).get("a").await?;
    assert_eq!(resource.spec.allocation_type.and_then(|kind| kind.kind).as_deref(), Some("Static"));

    stand.create_pod(&annotated_pod("c", &asks)).await?;
    wait_for_message(&stand, "c", &["EipPoolExhausted", "games"]).await?;
    stand.delete_pod("a").await?;
    stand.wait_for_condition("c", GATE, "True", TIMEOUT).await?;
    stand.delete_pod("b").await?;
    stand.delete_pod("c").await?;
    wait_until_nothing_is_left(&stand).await?;
    for (id, _) in pool {
        assert_eq!(read_eip_status(&stand, &id).await?, "Available");
    }
    Ok(())
}

#[tokio::test]
async fn a_given_eip_is_preempted_by_a_younger_pod_where_allowed_and_never_passes_back()
-> Result<()> {
    let config = json!({"networkController": {"eipController": {"allowTakeover": true}}});
    let stand = Stand::start_with(Options { config, ..Options::default() }).await?;
    let (id, address) = buy_eip(&stand, json!([])).await?;
    let asks = [
        ("k8s.aliyun.com/pod-eip-instanceid", id.as_str()),
        ("waygate.dev/readiness-gate", "true"),
    ];
    stand.create_pod(&annotated_pod("older", &asks)).await?;
    let older = stand.wait_for_condition("older", GATE, "True", TIMEOUT).await?;
    // Pods are as old as their creation times, which have seconds.
    let created = older.metadata.creation_timestamp.context("a creation time")?.0;
    let probe = || async { Ok((Timestamp::now().as_second() > created.as_second()).then_some(())) };
    stand.eventually(probe, "a second has passed", TIMEOUT).await?;

    stand.create_pod(&annotated_pod("younger", &asks)).await?;
    let younger = stand.wait_for_condition("younger", GATE, "True", TIMEOUT).await?;
    assert_eq!(annotation_value(&younger, ADDRESS_KEY), Some(address.as_str()));
    wait_for_message(&stand, "older", &["EipTakenOver", "younger", "False"]).await?;
    assert!(annotation_value(&stand.pods().get("older").await?, ADDRESS_KEY).is_none());

    stand.delete_pod("younger").await?;
    stand.wait_until_gone("younger", TIMEOUT).await?;
    let probe = || async { Ok((read_eip_status(&stand, &id).await? == "Available").then_some(())) };
    stand.eventually(probe, "the EIP is unbound", TIMEOUT).await?;
    // The preempted pod's lease looks again, and still does not take the EIP back.
    stand.wake_leases().await?;
    let leases = || async {
        let waiting: Option<String> = sqlx::query_scalar(
            "SELECT reason FROM lease WHERE pod_name = 'older' AND owner IS NULL",
        )
        .fetch_optional(&stand.database)
        .await?;
        Ok((waiting.as_deref() == Some("EipTakenOver")).then_some(()))
    };
    stand.eventually(leases, "the preempted pod's lease waits", TIMEOUT).await?;
    assert_eq!(read_eip_status(&stand, &id).await?, "Available");
    stand.delete_pod("older").await?;
    wait_until_nothing_is_left(&stand).await
}

/// An interface, and one of its secondary addresses, which a pod of no concern to us has.
async fn find_foreign_address(stand: &Stand) -> Result<(String, String)> {
    // An interface's first address is its primary one, and few pods have it.
    for number in 0..8 {
        let name = format!("stranger-{number}");
        let mut pod = annotated_pod(&name, &[]);
        // Interfaces of this node have secondary addresses instead of a prefix.
        pod.spec.get_or_insert_default().node_name = Some("node-j-1".to_owned());
        stand.create_pod(&pod).await?;
        let ip = stand
            .wait_for_condition(&name, "Ready", "True", TIMEOUT)
            .await?
            .status
            .and_then(|status| status.pod_ip)
            .context("an IP")?;
        stand.cloud.change_at_console("announce", json!({"ips": [ip]})).await?;
        for eni in stand.cloud.list_resources("networkInterfaces").await? {
            let sets = eni["PrivateIpSets"]["PrivateIpSet"].as_array().context("addresses")?;
            if sets.iter().any(|set| set["Primary"] == false && set["PrivateIpAddress"] == ip) {
                return Ok((eni["NetworkInterfaceId"].as_str().context("an ID")?.to_owned(), ip));
            }
        }
    }
    anyhow::bail!("no pod has an interface's secondary address")
}

#[tokio::test]
async fn an_eip_on_a_foreign_interface_is_preempted_where_allowed() -> Result<()> {
    let config = json!({"networkController": {"eipController": {"allowTakeover": true}}});
    let stand = Stand::start_with(Options { config, ..Options::default() }).await?;
    let (id, address) = buy_eip(&stand, json!([])).await?;
    let (eni, ip) = find_foreign_address(&stand).await?;
    let body = json!({"allocationId": id, "instanceId": eni, "instanceType": "NetworkInterface", "privateIpAddress": ip});
    stand.cloud.change_at_console("associate-eip", body).await?;
    let asks = [
        ("k8s.aliyun.com/pod-eip-instanceid", id.as_str()),
        ("waygate.dev/readiness-gate", "true"),
    ];
    stand.create_pod(&annotated_pod("taker", &asks)).await?;
    let taker = stand.wait_for_condition("taker", GATE, "True", TIMEOUT).await?;
    assert_eq!(annotation_value(&taker, ADDRESS_KEY), Some(address.as_str()));
    Ok(())
}

#[tokio::test]
async fn a_rolling_deployment_with_a_given_eip_does_not_wait_for_itself() -> Result<()> {
    let stand = Stand::start().await?;
    let (id, address) = buy_eip(&stand, json!([])).await?;
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
                    .filter(|pod| annotation_value(pod, ADDRESS_KEY) == Some(address.as_str()))
                    .collect();
                ensure!(
                    all.len() == 1 && bearers.len() == 1,
                    "{} pods, {} with the address",
                    all.len(),
                    bearers.len()
                );
                let is = bearers[0].spec.as_ref().and_then(|spec| spec.containers[0].image.clone());
                ensure!(is.as_deref() == Some(image), "it is {is:?}");
                ensure!(condition_status(bearers[0], "Ready") == Some("True"), "it is not ready");
                Ok(Some(()))
            }
        }
    };
    stand.eventually(served_by("example.com/web:1"), "the first pod has the EIP", TIMEOUT).await?;
    let next = json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "example.com/web:2"}]}}}});
    deployments.patch("web", &PatchParams::default(), &Patch::Strategic(next)).await?;
    stand
        .eventually(
            served_by("example.com/web:2"),
            "the rollout is through and the EIP has moved",
            TIMEOUT,
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
    stand.create_pod(&annotated_pod("first", &asks)).await?;
    let first = stand.wait_for_condition("first", GATE, "True", TIMEOUT).await?;
    stand.delete_pod("first").await?;
    stand.wait_until_gone("first", TIMEOUT).await?;
    let resources = Api::<PodEIP>::namespaced(stand.client.clone(), &stand.namespace);
    let probe = || async { Ok(resources.get_opt("first").await?.is_none().then_some(())) };
    stand.eventually(probe, "its custom resource is gone", TIMEOUT).await?;
    // The lease records that a moment later, and only then is the EIP another pod's to use.
    let reusable = "SELECT count(*) FROM lease
        WHERE phase = 'releasing' AND private_ip IS NULL AND NOT owns_custom_resource";
    let probe = || async {
        let leases: i64 = sqlx::query_scalar(reusable).fetch_one(&stand.database).await?;
        Ok((leases == 1).then_some(()))
    };
    stand.eventually(probe, "its EIP is reusable", TIMEOUT).await?;
    stand.create_pod(&annotated_pod("second", &asks)).await?;
    let second = stand.wait_for_condition("second", GATE, "True", TIMEOUT).await?;
    assert_eq!(annotation_value(&first, ADDRESS_KEY), annotation_value(&second, ADDRESS_KEY));
    assert_eq!(list_allocated_eips(&stand).await?.len(), 1, "none was bought beside it");
    assert_eq!(stand.cloud.count_calls_of("ReleaseEipAddress").await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_stateful_pod_that_comes_back_late_gets_its_former_address() -> Result<()> {
    let stand = Stand::start().await?;
    create_stateful_set(
        &stand,
        &[
            WITH_EIP,
            ("k8s.aliyun.com/pod-eip-release-strategy", "1s"),
            ("k8s.aliyun.com/eip-name", "db/front"),
        ],
    )
    .await?;
    let first = stand.wait_for_condition("db-0", GATE, "True", TIMEOUT).await?;
    let before = stand.cloud.list_resources("eips").await?;
    scale_stateful_set(&stand, 0).await?;
    wait_until_nothing_is_left(&stand).await?;
    scale_stateful_set(&stand, 1).await?;
    let second = wait_for_successor(&stand, &first, GATE).await?;
    assert_eq!(annotation_value(&first, ADDRESS_KEY), annotation_value(&second, ADDRESS_KEY));
    let address = annotation_value(&second, ADDRESS_KEY).context("an address")?;
    let named = |eips: &[Value], name: &str| {
        eips.iter().find(|eip| eip["IpAddress"] == address).map(|eip| eip[name].clone())
    };
    let probe = || async {
        let after = stand.cloud.list_resources("eips").await?;
        ensure!(
            named(&before, "AllocationId") != named(&after, "AllocationId"),
            "it was not released in between"
        );
        Ok((named(&after, "Name") == Some(json!("db/front"))).then_some(()))
    };
    // AllocateEipAddressPro takes no name, so the worker sets the name once the address works.
    stand.eventually(probe, "the EIP has its name", TIMEOUT).await?;
    Ok(())
}

#[tokio::test]
async fn a_change_that_the_cloud_does_not_allow_is_reported_and_the_pod_stays_ready() -> Result<()>
{
    let stand = Stand::start().await?;
    stand.create_pod(&annotated_pod("steady", &[WITH_EIP])).await?;
    let before = stand.wait_for_condition("steady", GATE, "True", TIMEOUT).await?;
    stand.annotate_pod("steady", json!({"k8s.aliyun.com/eip-isp": "BGP_PRO"})).await?;
    wait_for_message(&stand, "steady", &["\"True\"", "eip-isp is BGP and not BGP_PRO"]).await?;
    let after = stand.pods().get("steady").await?;
    assert_eq!(annotation_value(&before, ADDRESS_KEY), annotation_value(&after, ADDRESS_KEY));
    stand.annotate_pod("steady", json!({"k8s.aliyun.com/eip-isp": null})).await?;
    wait_for_message(&stand, "steady", &["\"True\"", "is bound to pod IP"]).await?;
    let probe = || async {
        let said = serde_json::to_string(&stand.pods().get("steady").await?.status)?;
        ensure!(!said.contains("BGP_PRO"), "it says {said}");
        Ok(Some(()))
    };
    stand.eventually(probe, "it is not said any more", TIMEOUT).await
}
