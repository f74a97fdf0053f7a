//! Reads of the network around the pods, and changes that belong to no pod.

use crate::harness::{PATIENCE, Simulator, allocate, eventually, soon, token};
use anyhow::Result;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use waygate_core::change::Change;
use waygate_core::cloud_facts::EipStatus;
use waygate_core::ids::BandwidthPackageId;

#[tokio::test]
async fn the_network_around_a_pod_can_be_read() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "instant"]).await?;
    let (cloud, gateway) = (simulator.cloud(), simulator.gateway());
    let vpc = cloud.vpc_by_id(&simulator.settings().vpc).await?.value.unwrap();
    assert_eq!(vpc.cidrs, ["10.0.0.0/8"]);

    let eni = cloud.eni_by_private_ip("10.1.0.5".parse()?).await?.value.unwrap();
    let vswitch = cloud.vswitch_by_id(&eni.vswitch_id).await?.value.unwrap();
    assert_eq!((&vswitch.zone_id, &vswitch.vpc_id), (&eni.zone_id, &vpc.vpc_id));
    assert!(cloud.vswitches_of_vpc().await?.value.contains(&vswitch));

    let tables = cloud.route_tables().await?.value;
    let system = tables.iter().find(|table| table.system).unwrap();
    assert_eq!(vswitch.route_table_id.as_ref(), Some(&system.route_table_id));
    let routes = cloud.route_entries(&system.route_table_id).await?.value;
    assert!(routes.iter().any(|route| route.is_egress_through(&gateway)), "{routes:?}");

    let groups = cloud.security_groups(&eni.eni_id).await?.value.unwrap();
    let rules = cloud.inbound_rules(&groups[0]).await?.value;
    assert!(
        !rules.is_empty() && rules.iter().all(|rule| (1..=100).contains(&rule.priority)),
        "{rules:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_gateways_snat_entries_are_listed() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "instant"]).await?;
    let (cloud, gateway) = (simulator.cloud(), simulator.gateway());
    let before = cloud.snat_entries(&gateway).await?.value.len();
    let ip = simulator.text("/natGateways/0/eips/0/ipAddress");
    let entry =
        json!({"natGatewayId": gateway.as_str(), "snatIp": ip, "sourceCIDR": "10.1.0.0/16"});
    simulator.post("/console/snat-entry", entry).await;
    let entries = cloud.snat_entries(&gateway).await?.value;
    assert_eq!(entries.len(), before + 1);
    let ours =
        entries.iter().find(|entry| entry.source_cidr == "10.1.0.0/16").expect("the new entry");
    assert_eq!((&ours.ips, ours.available), (&vec![ip.parse::<Ipv4Addr>()?], true));
    Ok(())
}

#[tokio::test]
async fn tags_say_whose_a_gateway_is() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "instant"]).await?;
    let (cloud, gateway) = (simulator.cloud(), simulator.gateway());
    let tags = BTreeMap::from([("waygate.dev/store".to_owned(), "s-1".to_owned())]);
    for _ in 0..2 {
        cloud.tag_resources("NATGATEWAY", &[gateway.as_str()], &tags).await?;
    }
    let found = cloud.resource_tags("NATGATEWAY", &[gateway.as_str()]).await?.value;
    let ours: Vec<_> = found.iter().filter(|tag| tag.key == "waygate.dev/store").collect();
    assert_eq!(ours.len(), 1);
    assert_eq!((ours[0].resource_id.as_str(), ours[0].value.as_str()), (gateway.as_str(), "s-1"));
    Ok(())
}

#[tokio::test]
async fn an_eip_joins_and_leaves_a_bandwidth_package() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "instant"]).await?;
    let cloud = simulator.cloud();
    let package_id = BandwidthPackageId::new(
        simulator.admin("/state").await["bandwidthPackages"][0]["BandwidthPackageId"]
            .as_str()
            .unwrap(),
    );
    let allocation_id = allocate(&cloud, "lease").await;
    let package =
        async || cloud.eip_by_id(&allocation_id).await.unwrap().value.unwrap().bandwidth_package;

    let join = Change::AddCommonBandwidthPackageIp {
        allocation_id: allocation_id.clone(),
        package_id: package_id.clone(),
    };
    cloud.send_change(&join, Some(&token()), soon(), PATIENCE).await?;
    eventually("joined", async || package().await.filter(|id| *id == package_id)).await;
    let leave =
        Change::RemoveCommonBandwidthPackageIp { allocation_id: allocation_id.clone(), package_id };
    eventually("left", async || {
        cloud.send_change(&leave, Some(&token()), soon(), PATIENCE).await.ok()
    })
    .await;
    eventually("out", async || package().await.is_none().then_some(())).await;
    let again = cloud.send_change(&leave, Some(&token()), soon(), PATIENCE).await.unwrap_err();
    assert_eq!(again.class(), waygate_cloud::Class::AlreadyDone, "{again}");
    assert_eq!(cloud.eip_by_id(&allocation_id).await?.value.unwrap().status, EipStatus::Available);
    Ok(())
}
