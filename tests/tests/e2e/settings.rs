//! Settings of a pod's EIP, and the fields of its custom resources.

use anyhow::{Context as _, Result, ensure};
use kube::{
    Api,
    api::DynamicObject,
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use testbed::{
    address_kinds::{DNAT, EIP, Kind},
    leftovers::{list_allocated_eips, wait_until_nothing_is_left},
    pods::{annotated_pod, annotation_value, pod_ip_of},
    stand::Stand,
    wait::TIMEOUT,
};

/// The pod's custom resource at a version, as it is.
async fn read_custom_resource(
    stand: &Stand,
    kind: &str,
    version: &str,
    name: &str,
) -> Result<Value> {
    let plural = ApiResource::from_gvk(&GroupVersionKind::gvk("alibabacloud.com", version, kind));
    let api: Api<DynamicObject> =
        Api::namespaced_with(stand.client.clone(), &stand.namespace, &plural);
    Ok(serde_json::to_value(api.get(name).await?)?)
}

fn list_keys(object: &Value) -> BTreeSet<&str> {
    object.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect()
}

/// Asserts that a time is written as the documents write it, and is not long ago.
fn ensure_recent(time: &Value) -> Result<()> {
    let text = time.as_str().context("a time")?;
    ensure!(text.len() == "2023-12-15T05:18:47Z".len() && text.ends_with('Z'), "{text}");
    let age = jiff::Timestamp::now().duration_since(text.parse()?).as_secs();
    ensure!((-1..120).contains(&age), "{text} is {age} s ago");
    Ok(())
}

#[tokio::test]
async fn every_setting_of_a_pod_shows_in_its_eip() -> Result<()> {
    let stand = Stand::start().await?;
    let name = format!("{}/arena", stand.namespace);
    let settings = [
        ("k8s.aliyun.com/pod-with-eip", "true"),
        ("k8s.aliyun.com/eip-bandwidth", "300"),
        ("k8s.aliyun.com/eip-internet-charge-type", "PayByBandwidth"),
        ("k8s.aliyun.com/eip-instance-charge-type", "PostPaid"),
        ("k8s.aliyun.com/eip-isp", "BGP_PRO"),
        ("k8s.aliyun.com/eip-public-ip-address-pool-id", "pippool-bp1waygate"),
        ("k8s.aliyun.com/eip-resource-group-id", "rg-acfmwaygate"),
        ("k8s.aliyun.com/eip-name", &name),
        ("k8s.aliyun.com/eip-description", "the arena's own"),
        ("k8s.aliyun.com/eip-security-protection-types", "AntiDDoS_Enhanced"),
        ("k8s.aliyun.com/eip-tags", r#"{"team": "games"}"#),
    ];
    stand.create_pod(&annotated_pod("arena", &settings)).await?;
    stand.wait_for_condition("arena", EIP.gate, "True", TIMEOUT).await?;
    let eip = list_allocated_eips(&stand).await?.pop().context("an EIP")?;
    let shown = json!({
        "Bandwidth": "300", "InternetChargeType": "PayByBandwidth", "ChargeType": "PostPaid", "ISP": "BGP_PRO",
        "PublicIpAddressPoolId": "pippool-bp1waygate", "ResourceGroupId": "rg-acfmwaygate", "Name": name, "Description": "the arena's own",
        "SecurityProtectionTypes": {"SecurityProtectionType": ["AntiDDoS_Enhanced"]},
    });
    for (field, value) in shown.as_object().context("fields")? {
        assert_eq!(&eip[field], value, "{field}");
    }
    let tags = eip["Tags"]["Tag"].as_array().context("tags")?;
    assert!(
        tags.contains(&json!({"Key": "team", "Value": "games"})) && tags.len() == 4,
        "the pod's and the three by which we find it: {tags:?}"
    );
    let status = read_custom_resource(&stand, "PodEIP", "v1beta1", "arena").await?["status"].take();
    let expected = json!({
        "bandwidth": "300", "internetChargeType": "PayByBandwidth", "isp": "BGP_PRO", "publicIpAddressPoolID": "pippool-bp1waygate",
        "resourceGroupID": "rg-acfmwaygate", "name": name,
    });
    for (field, value) in expected.as_object().context("fields")? {
        assert_eq!(&status[field], value, "{field}");
    }
    stand.delete_pod("arena").await?;
    wait_until_nothing_is_left(&stand).await
}

/// The EIPs in the one bandwidth package, and how they are there.
async fn list_package_members(stand: &Stand) -> Result<(String, Vec<Value>)> {
    let package =
        stand.cloud.list_resources("bandwidthPackages").await?.pop().context("a package")?;
    let id = package["BandwidthPackageId"].as_str().context("its ID")?.to_owned();
    Ok((
        id,
        package["PublicIpAddresses"]["PublicIpAddresse"].as_array().cloned().unwrap_or_default(),
    ))
}

#[tokio::test]
async fn an_eip_joins_its_bandwidth_package_and_leaves_it_before_it_is_released() -> Result<()> {
    let stand = Stand::start().await?;
    let (package, _) = list_package_members(&stand).await?;
    stand
        .create_pod(
            &EIP.requesting_pod(&[("k8s.aliyun.com/eip-common-bandwidth-package-id", &package)]),
        )
        .await?;
    EIP.wait_until_it_works(&stand).await?;
    let eip = list_allocated_eips(&stand).await?.pop().context("an EIP")?;
    let joined = || async {
        let (_, members) = list_package_members(&stand).await?;
        let relation = json!({"AllocationId": eip["AllocationId"], "IpAddress": eip["IpAddress"], "BandwidthPackageIpRelationStatus": "BINDED"});
        ensure!(members == [relation], "its members are {members:?}");
        Ok(Some(()))
    };
    stand.eventually(joined, "the EIP is in the package", TIMEOUT).await?;
    let object = read_custom_resource(&stand, "PodEIP", "v1beta1", EIP.pod).await?;
    assert_eq!(
        (&object["spec"]["bandwidthPackageID"], &object["status"]["bandwidthPackageID"]),
        (&json!(package), &json!(package))
    );

    stand
        .cloud
        .set_fault(json!({"action": "ReleaseEipAddress", "kind": "error", "code": "TaskConflict"}))
        .await?;
    stand.delete_pod(EIP.pod).await?;
    let asked =
        || async { Ok((stand.cloud.count_calls_of("ReleaseEipAddress").await? > 0).then_some(())) };
    stand.eventually(asked, "its release is asked for", TIMEOUT).await?;
    assert!(list_package_members(&stand).await?.1.is_empty(), "by then it has left");
    let left = list_allocated_eips(&stand).await?.pop().context("it is not released yet")?;
    assert_eq!(
        (left["Status"].as_str(), left["BandwidthPackageId"].as_str()),
        (Some("Available"), Some(""))
    );
    stand.cloud.clear_faults().await?;
    wait_until_nothing_is_left(&stand).await?;
    for action in ["AddCommonBandwidthPackageIp", "RemoveCommonBandwidthPackageIp"] {
        assert_eq!(stand.cloud.count_calls_of(action).await?, 1, "{action}");
    }
    Ok(())
}

/// A pod's custom resource, the same at both versions.
async fn read_at_both_versions(stand: &Stand, kind: &Kind, name: &str) -> Result<Value> {
    stand.create_pod(&kind.requesting_pod(&[])).await?;
    kind.wait_until_it_works(stand).await?;
    let [older, newer] = [
        read_custom_resource(stand, name, "v1beta1", kind.pod).await?,
        read_custom_resource(stand, name, "v1", kind.pod).await?,
    ];
    assert_eq!(newer["apiVersion"], "alibabacloud.com/v1");
    assert_eq!(older["apiVersion"], "alibabacloud.com/v1beta1");
    for part in ["metadata", "spec", "status"] {
        assert_eq!(older[part], newer[part], "{part}");
    }
    Ok(newer)
}

#[tokio::test]
async fn a_poddnat_is_at_both_versions_what_the_documents_show() -> Result<()> {
    let stand = Stand::start().await?;
    let object = read_at_both_versions(&stand, &DNAT, "PodDNAT").await?;
    let pod = stand.pods().get(DNAT.pod).await?;
    let spec = &object["spec"];
    let documented = [
        "eni",
        "externalIP",
        "internalIP",
        "portMapping",
        "protocol",
        "tableId",
        "vswitch",
        "zoneID",
    ];
    assert_eq!(list_keys(spec), documented.into());
    assert_eq!(
        (spec["internalIP"].as_str(), spec["protocol"].as_str()),
        (Some(pod_ip_of(&pod)), Some("tcp"))
    );
    let gateways = &stand.cloud.account.nat_gateways;
    let gateway = gateways
        .iter()
        .find(|it| spec["tableId"] == it.nat_gateway_id.as_str())
        .context("tableId is the gateway's ID")?;
    assert!(gateway.eips.iter().any(|eip| spec["externalIP"] == eip.ip_address.as_str()));
    assert!(
        spec["eni"].as_str().is_some_and(|id| id.starts_with("eni-"))
            && spec["vswitch"].as_str().is_some_and(|id| id.starts_with("vsw-"))
    );
    let mapped: Vec<_> = spec["portMapping"]
        .as_array()
        .context("ports")?
        .iter()
        .map(|it| it["internalPort"].clone())
        .collect();
    assert_eq!(mapped, ["80", "443"]);

    let entries = object["status"]["entries"].as_array().context("entries")?;
    for (entry, mapping) in entries.iter().zip(spec["portMapping"].as_array().into_iter().flatten())
    {
        let documented = [
            "externalIP",
            "externalPort",
            "forwardEntryId",
            "internalIP",
            "internalPort",
            "ipProtocol",
        ];
        assert_eq!(list_keys(entry), documented.into());
        assert_eq!(
            (entry["ipProtocol"].as_str(), &entry["internalIP"]),
            (Some("tcp"), &spec["internalIP"])
        );
        assert_eq!(
            (&entry["externalPort"], &entry["internalPort"]),
            (&mapping["externalPort"], &mapping["internalPort"])
        );
    }
    assert_eq!(entries.len(), 2);
    ensure_recent(&object["status"]["created"])
}

#[tokio::test]
async fn a_podeip_is_at_both_versions_what_the_documents_show() -> Result<()> {
    let stand = Stand::start().await?;
    let object = read_at_both_versions(&stand, &EIP, "PodEIP").await?;
    let pod = stand.pods().get(EIP.pod).await?;
    let eip = list_allocated_eips(&stand).await?.pop().context("an EIP")?;
    assert_eq!(
        object["metadata"]["finalizers"],
        json!(["podeip-controller.alibabacloud.com/finalizer"])
    );
    let spec = json!({"allocationID": eip["AllocationId"], "allocationType": {"type": "Auto", "releaseStrategy": "Follow"}});
    assert_eq!(object["spec"], spec);
    let status = &object["status"];
    let documented = [
        "eipAddress",
        "internetChargeType",
        "isp",
        "networkInterfaceID",
        "podLastSeen",
        "privateIPAddress",
        "resourceGroupID",
        "status",
    ];
    let missing: Vec<_> =
        documented.into_iter().filter(|key| !list_keys(status).contains(key)).collect();
    assert!(missing.is_empty(), "{missing:?} are not in {status}");
    assert_eq!(
        (status["eipAddress"].as_str(), status["status"].as_str()),
        (annotation_value(&pod, EIP.address_key), Some("InUse"))
    );
    assert_eq!(
        (&status["networkInterfaceID"], status["privateIPAddress"].as_str()),
        (&eip["InstanceId"], Some(pod_ip_of(&pod)))
    );
    ensure_recent(&status["podLastSeen"])
}
