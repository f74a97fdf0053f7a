//! The life of an EIP: allocation, binding, attributes, release.

use crate::harness::{PATIENCE, Simulator, allocate, eventually, soon, token};
use anyhow::Result;
use jiff::Timestamp;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use waygate_cloud::Class;
use waygate_core::change::Change;
use waygate_core::cloud_facts::EipStatus;
use waygate_core::request::{EipSpec, InstanceChargeType, InternetChargeType};

#[tokio::test]
async fn an_eip_lives_from_allocation_to_release() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "instant"]).await?;
    let cloud = simulator.cloud();
    // A secondary address: bound to a primary one, the API shows the EIP without its private
    // address.
    let private_ip: Ipv4Addr = "10.1.0.22".parse()?;
    let id = allocate(&cloud, "lease-1").await;

    let tags = [("waygate.dev/lease".to_owned(), "lease-1".to_owned())].into();
    let found = cloud.eips_by_tags(&tags).await?.value;
    assert_eq!(found.len(), 1);
    assert_eq!(
        (&found[0].allocation_id, found[0].status, &found[0].binding),
        (&id, EipStatus::Available, &None)
    );
    assert_eq!(found[0].internet_charge_type, "PayByTraffic");
    assert_eq!(cloud.eips_by_address(&[found[0].ip_address]).await?.value, found);

    let eni = eventually("the pod's interface shows", async || {
        cloud.eni_by_private_ip(private_ip).await.unwrap().value
    })
    .await;
    let (allocation_id, eni_id) = (id.clone(), eni.eni_id.clone());
    let bind = Change::AssociateEipAddress {
        allocation_id: id.clone(),
        eni_id: eni_id.clone(),
        private_ip,
    };
    cloud.send_change(&bind, Some(&token()), soon(), PATIENCE).await?;
    let status =
        async |wanted| cloud.eip_by_id(&id).await.unwrap().value.filter(|eip| eip.status == wanted);
    let bound = eventually("bound", async || status(EipStatus::InUse).await).await.binding.unwrap();
    assert_eq!((bound.instance_id.as_str(), bound.private_ip), (eni_id.as_str(), Some(private_ip)));
    let owner = cloud.eni_by_private_ip(private_ip).await?.value.unwrap();
    assert_eq!(owner.associated.get(&private_ip), Some(&id));

    let release = Change::ReleaseEipAddress { allocation_id: id.clone() };
    let refused = cloud.send_change(&release, None, soon(), PATIENCE).await.unwrap_err();
    assert_eq!(
        (refused.class(), refused.reason(), refused.is_definite()),
        (Class::Conflict, "EipNotReady", true)
    );

    cloud
        .send_change(
            &Change::UnassociateEipAddress { allocation_id, eni_id, private_ip },
            Some(&token()),
            soon(),
            PATIENCE,
        )
        .await?;
    eventually("unbound", async || status(EipStatus::Available).await).await;
    cloud.send_change(&release, None, soon(), PATIENCE).await?;
    eventually("gone", async || cloud.eip_by_id(&id).await.unwrap().value.is_none().then_some(()))
        .await;
    let gone = cloud.send_change(&release, None, soon(), PATIENCE).await.unwrap_err();
    assert_eq!(
        (gone.class(), gone.code()),
        (Class::NotFound, Some("InvalidAllocationId.NotFound"))
    );
    Ok(())
}

#[tokio::test]
async fn every_kind_of_private_address_is_found() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "instant"]).await?;
    let cloud = simulator.cloud();
    // The first node has primaries and secondaries, the last one prefixes.
    for node in ["10.1.0", "10.4.0"] {
        for host in 1..20 {
            let ip: Ipv4Addr = format!("{node}.{host}").parse()?;
            let eni = eventually("an interface", async || {
                cloud.eni_by_private_ip(ip).await.unwrap().value
            })
            .await;
            assert!(eni.eni_id.as_str().starts_with("eni-"), "{ip}");
        }
    }
    assert!(cloud.eni_by_private_ip("192.0.2.1".parse()?).await?.value.is_none());
    Ok(())
}

#[tokio::test]
async fn attributes_are_changed_to_absolute_values() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "instant"]).await?;
    let cloud = simulator.cloud();
    let id = allocate(&cloud, "lease-1").await;
    let change = Change::ModifyEipAddressAttribute {
        allocation_id: id.clone(),
        bandwidth: Some(9),
        name: Some("named".to_owned()),
        description: None,
    };
    cloud.send_change(&change, None, soon(), PATIENCE).await?;
    let eip = eventually("changed", async || {
        cloud.eip_by_id(&id).await.unwrap().value.filter(|eip| eip.bandwidth == 9)
    })
    .await;
    assert_eq!(eip.name, "named");
    Ok(())
}

#[tokio::test]
async fn a_prepaid_eip_tells_its_end_and_can_be_released_then() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "instant"]).await?;
    let cloud = simulator.cloud();
    let spec = EipSpec {
        instance_charge_type: InstanceChargeType::PrePaid,
        internet_charge_type: InternetChargeType::PayByBandwidth,
        ..EipSpec::default()
    };
    let buy = Change::AllocateEipAddress { spec, tags: BTreeMap::new() };
    let id =
        cloud.send_change(&buy, Some(&token()), soon(), PATIENCE).await?.allocation_id.unwrap();
    let eip = cloud.eip_by_id(&id).await?.value.unwrap();
    let left = eip.expires_at.unwrap().duration_since(Timestamp::now());
    assert_eq!(eip.charge_type, "PrePaid");
    assert!((27 * 24..=31 * 24).contains(&left.as_hours()), "a month is left: {left}");
    let post_paid = allocate(&cloud, "lease-1").await;
    assert_eq!(cloud.eip_by_id(&post_paid).await?.value.unwrap().expires_at, None);

    let release = Change::ReleaseEipAddress { allocation_id: id.clone() };
    let refused = cloud.send_change(&release, None, soon(), PATIENCE).await.unwrap_err();
    assert_eq!((refused.class(), refused.reason()), (Class::Permanent, "EipIsPrePaid"));
    simulator.post("/console/time", json!({"advanceMs": left.as_millis() + 1000})).await;
    cloud.send_change(&release, None, soon(), PATIENCE).await?;
    eventually("gone", async || cloud.eip_by_id(&id).await.unwrap().value.is_none().then_some(()))
        .await;
    Ok(())
}

#[tokio::test]
async fn an_address_released_by_mistake_is_bought_back() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "instant"]).await?;
    let cloud = simulator.cloud();
    let lost = allocate(&cloud, "lease-1").await;
    let ip = cloud.eip_by_id(&lost).await?.value.unwrap().ip_address;
    cloud
        .send_change(
            &Change::ReleaseEipAddress { allocation_id: lost.clone() },
            None,
            soon(),
            PATIENCE,
        )
        .await?;
    eventually("gone", async || {
        cloud.eip_by_id(&lost).await.unwrap().value.is_none().then_some(())
    })
    .await;
    let tags = BTreeMap::from([("waygate.dev/lease".to_owned(), "lease-1".to_owned())]);
    let spec = EipSpec { bandwidth: 7, ..EipSpec::default() };
    let reclaim = Change::AllocateEipAddressPro { ip_address: ip, spec, tags: tags.clone() };
    let back = cloud.send_change(&reclaim, Some(&token()), soon(), PATIENCE).await?;
    assert_eq!(back.ip_address, Some(ip));
    let found = cloud.eips_by_tags(&tags).await?.value;
    assert_eq!(
        found.iter().map(|eip| (Some(&eip.allocation_id), eip.ip_address)).collect::<Vec<_>>(),
        [(back.allocation_id.as_ref(), ip)]
    );
    assert_eq!(found[0].bandwidth, 7);
    Ok(())
}
