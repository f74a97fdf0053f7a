//! Refusals that the simulator returns by itself, and their classification.

use crate::harness::{PATIENCE, Simulator, Unlimited, allocate, eventually, soon, token};
use anyhow::Result;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use waygate_cloud::Class::{self, AlreadyDone, Conflict, Denied, NotFound, Permanent, Quota};
use waygate_cloud::{Cloud, Error};
use waygate_core::change::{Change, ForwardEntrySpec};
use waygate_core::cloud_facts::{EipStatus, ForwardEntryStatus};
use waygate_core::ids::{AllocationId, BandwidthPackageId, EniId, ForwardEntryId, ForwardTableId};
use waygate_core::request::{EipSpec, InstanceChargeType, InternetChargeType};

/// Two unbound EIPs, one bound to `BOUND`, one prepaid for a month, and a forward entry to
/// `FORWARDED`.
struct Scene {
    simulator: Simulator,
    cloud: Cloud,
    free: AllocationId,
    other: AllocationId,
    bound: AllocationId,
    prepaid: AllocationId,
    eni: EniId,
    package: BandwidthPackageId,
    entry: ForwardEntryId,
}

/// Secondary addresses of one interface.
const BOUND: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 21);
const FREE: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 22);
const FORWARDED: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 23);

fn month() -> EipSpec {
    EipSpec {
        instance_charge_type: InstanceChargeType::PrePaid,
        internet_charge_type: InternetChargeType::PayByBandwidth,
        ..EipSpec::default()
    }
}

fn buy(spec: EipSpec, tags: &[(&str, &str)]) -> Change {
    Change::AllocateEipAddress {
        spec,
        tags: tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
    }
}

fn bind(allocation_id: &AllocationId, eni_id: &EniId, private_ip: Ipv4Addr) -> Change {
    Change::AssociateEipAddress {
        allocation_id: allocation_id.clone(),
        eni_id: eni_id.clone(),
        private_ip,
    }
}

fn unbind(allocation_id: &AllocationId, eni_id: &EniId, private_ip: Ipv4Addr) -> Change {
    Change::UnassociateEipAddress {
        allocation_id: allocation_id.clone(),
        eni_id: eni_id.clone(),
        private_ip,
    }
}

fn release(allocation_id: &AllocationId) -> Change {
    Change::ReleaseEipAddress { allocation_id: allocation_id.clone() }
}

impl Scene {
    async fn set() -> Result<Self> {
        let simulator = Simulator::start(&["--profile", "instant"]).await?;
        let cloud = simulator.cloud_with(Unlimited);
        let [free, other, bound] = [
            allocate(&cloud, "free").await,
            allocate(&cloud, "other").await,
            allocate(&cloud, "bound").await,
        ];
        let prepaid = cloud
            .send_change(&buy(month(), &[]), Some(&token()), soon(), PATIENCE)
            .await?
            .allocation_id
            .unwrap();
        let mut eni = None;
        for ip in [BOUND, FREE, FORWARDED] {
            let owner = eventually("an interface", async || {
                cloud.eni_by_private_ip(ip).await.unwrap().value
            })
            .await;
            assert_eq!(*eni.get_or_insert(owner.eni_id.clone()), owner.eni_id);
        }
        let eni = eni.unwrap();
        cloud.send_change(&bind(&bound, &eni, BOUND), Some(&token()), soon(), PATIENCE).await?;
        eventually("bound", async || {
            cloud
                .eip_by_id(&bound)
                .await
                .unwrap()
                .value
                .filter(|eip| eip.status == EipStatus::InUse)
        })
        .await;
        let forward = ForwardEntrySpec { internal_ip: FORWARDED, ..simulator.forward(0) };
        let entry = cloud
            .send_change(&Change::CreateForwardEntry(forward), Some(&token()), soon(), PATIENCE)
            .await?
            .entry_id
            .unwrap();
        let stands = async || {
            let entries = cloud.forward_entries(&simulator.gateway()).await.unwrap().value;
            entries.into_iter().find(|entry| entry.status == ForwardEntryStatus::Available)
        };
        eventually("the entry stands", stands).await;
        let package = BandwidthPackageId::new(simulator.text("/bandwidthPackages/0/id"));
        Ok(Self { simulator, cloud, free, other, bound, prepaid, eni, package, entry })
    }

    async fn refused(&self, change: &Change) -> Error {
        let outcome = self.cloud.send_change(change, Some(&token()), soon(), PATIENCE).await;
        outcome.expect_err(&format!("{change:?}"))
    }

    /// Checks code, class and reason of the refusal of each change.
    async fn check(&self, rows: Vec<(Change, &str, Class, &str)>) {
        for (change, code, class, reason) in rows {
            let error = self.refused(&change).await;
            assert_eq!(
                (error.code(), error.class(), error.reason()),
                (Some(code), class, reason),
                "{change:?}: {error}"
            );
            assert!(error.is_definite(), "{error}");
        }
    }

    fn forward(&self) -> ForwardEntrySpec {
        ForwardEntrySpec { internal_ip: FREE, ..self.simulator.forward(1) }
    }
}

#[tokio::test]
async fn what_an_eip_cannot_do_is_told_by_its_code() -> Result<()> {
    let scene = Scene::set().await?;
    let Scene { free, other, bound, prepaid, eni, package, .. } = &scene;
    let (nothing, nowhere) = (AllocationId::new("eip-none"), EniId::new("eni-none"));
    let join =
        |id: &AllocationId, package: &BandwidthPackageId| Change::AddCommonBandwidthPackageIp {
            allocation_id: id.clone(),
            package_id: package.clone(),
        };
    let leave = Change::RemoveCommonBandwidthPackageIp {
        allocation_id: other.clone(),
        package_id: package.clone(),
    };
    let faster = |bandwidth| Change::ModifyEipAddressAttribute {
        allocation_id: free.clone(),
        bandwidth: Some(bandwidth),
        name: None,
        description: None,
    };
    scene.cloud.send_change(&join(free, package), Some(&token()), soon(), PATIENCE).await?;
    scene
        .check(vec![
            (bind(&nothing, eni, FREE), "InvalidAllocationId.NotFound", NotFound, "EipNotFound"),
            (bind(free, &nowhere, FREE), "InvalidInstanId.NotFound", NotFound, "TargetNotFound"),
            (
                bind(free, eni, Ipv4Addr::new(10, 1, 0, 99)),
                "InvalidParams.NotFound",
                NotFound,
                "TargetNotFound",
            ),
            (bind(free, eni, BOUND), "InvalidAssociation.Duplicated", Conflict, "TargetHasEip"),
            (
                bind(free, eni, FORWARDED),
                "BIND_INSTANCE_HAVE_PORTMAP_OR_BIND_EIP",
                Conflict,
                "TargetHasForwardEntryOrEip",
            ),
            (bind(bound, eni, FREE), "IncorrectEipStatus", Conflict, "EipNotReady"),
            (unbind(free, eni, FREE), "IncorrectEipStatus", Conflict, "EipNotReady"),
            (unbind(bound, &nowhere, BOUND), "InvalidInstanceId.NotFound", AlreadyDone, "NotBound"),
            (unbind(bound, eni, FREE), "InvalidBindInstance.NotFound", AlreadyDone, "NotBound"),
            (release(&nothing), "InvalidAllocationId.NotFound", NotFound, "EipNotFound"),
            (release(bound), "IncorrectEipStatus", Conflict, "EipNotReady"),
            (release(prepaid), "Forbidden.ChargeTypeIsPrepaid", Permanent, "EipIsPrePaid"),
            (faster(501), "InvalidParameter", Permanent, "InvalidParameter"),
            (
                join(free, package),
                "IpInstanceId.AlreadyInBandwidthPackage",
                AlreadyDone,
                "AlreadyInBandwidthPackage",
            ),
            (
                join(prepaid, package),
                "IpInstanceId.ChargeType.NotSupport",
                Permanent,
                "EipIsPrePaid",
            ),
            (
                join(other, &BandwidthPackageId::new("cbwp-none")),
                "InvalidBandwidthPackageId.NotFound",
                Conflict,
                "SomethingNotFound",
            ),
            (leave, "OperationUnsupported.IpNotInCbwp", AlreadyDone, "NotInBandwidthPackage"),
        ])
        .await;
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_bought_is_told_by_its_code() -> Result<()> {
    let scene = Scene::set().await?;
    let by_traffic = EipSpec { internet_charge_type: InternetChargeType::PayByTraffic, ..month() };
    scene
        .check(vec![
            (buy(by_traffic, &[]), "InvalidParameter", Permanent, "InvalidParameter"),
            (
                buy(EipSpec::default(), &[("acs:mine", "v")]),
                "InvalidTagKey",
                Permanent,
                "InvalidTag",
            ),
            (
                buy(EipSpec::default(), &[("k", "http://v")]),
                "InvalidTagValue",
                Permanent,
                "InvalidTag",
            ),
        ])
        .await;
    let token = token();
    scene.cloud.send_change(&buy(EipSpec::default(), &[]), Some(&token), soon(), PATIENCE).await?;
    let reused = scene
        .cloud
        .send_change(&buy(month(), &[]), Some(&token), soon(), PATIENCE)
        .await
        .unwrap_err();
    assert_eq!(
        (reused.code(), reused.class()),
        (Some("IdempotentParameterMismatch"), Permanent),
        "{reused}"
    );

    let ours = scene.cloud.eip_by_id(&scene.free).await?.value.unwrap().ip_address;
    for (ip, code, reason) in [
        (ours, "Ip.Allocated", "AddressTaken"),
        (Ipv4Addr::new(9, 9, 9, 9), "OperationFailed.AllocateUnfamiliarIp", "AddressNotYours"),
    ] {
        let reclaim = Change::AllocateEipAddressPro {
            ip_address: ip,
            spec: EipSpec::default(),
            tags: BTreeMap::new(),
        };
        let error = scene.refused(&reclaim).await;
        assert_eq!(
            (error.code(), error.class(), error.reason()),
            (Some(code), Permanent, reason),
            "{error}"
        );
    }

    scene.simulator.post("/console/quota", json!({"eips": 1})).await;
    scene
        .check(vec![(buy(EipSpec::default(), &[]), "QuotaExceeded.Eip", Quota, "EipQuotaExceeded")])
        .await;

    scene.simulator.post("/console/policy", json!({"denied": ["vpc:Allocate*"]})).await;
    let denied = scene.refused(&buy(EipSpec::default(), &[])).await;
    assert_eq!(
        (denied.code(), denied.class(), denied.denied_action()),
        (Some("Forbidden.RAM"), Denied, Some("vpc:AllocateEipAddress"))
    );
    Ok(())
}

#[expect(clippy::too_many_lines, reason = "one row a code")]
#[tokio::test]
async fn what_an_entry_cannot_be_is_told_by_its_code() -> Result<()> {
    let scene = Scene::set().await?;
    let free = scene.forward();
    let elsewhere = scene.simulator.text("/natGateways/1/eips/0/ipAddress").parse()?;
    let shared: Ipv4Addr = scene.simulator.text("/natGateways/0/eips/1/ipAddress").parse()?;
    let snat = json!({"natGatewayId": scene.simulator.gateway().as_str(), "snatIp": shared, "sourceCIDR": "10.0.0.0/8"});
    scene.simulator.post("/console/snat-entry", snat).await;
    let create = |change: &dyn Fn(&mut ForwardEntrySpec)| {
        let mut forward = free.clone();
        change(&mut forward);
        Change::CreateForwardEntry(forward)
    };
    let nowhere = ForwardTableId::new("ftb-none");
    let unknown = ForwardEntryId::new("fwd-none");
    scene
        .check(vec![
            (
                create(&|it| it.table_id = nowhere.clone()),
                "InvalidForwardTableId.NotFound",
                NotFound,
                "ForwardTableNotFound",
            ),
            (
                create(&|it| it.external_ip = [9, 9, 9, 9].into()),
                "InvalidExternalIp.NotFound",
                Conflict,
                "AddressNotOnGateway",
            ),
            (
                create(&|it| it.external_ip = elsewhere),
                "InvalidIp.NotInNatgw",
                Conflict,
                "AddressNotOnGateway",
            ),
            (
                create(&|it| it.external_ip = shared),
                "Forbidden.ExternalIp.UsedInSnatTable",
                Permanent,
                "EipUsedBySnat",
            ),
            (
                create(&|it| (it.external_port, it.ports) = (65_535, 2)),
                "InvalidExternalPort.Malformed",
                Permanent,
                "InvalidParameter",
            ),
            (
                create(&|it| it.internal_port = 0),
                "InvalidInternalPort.Malformed",
                Permanent,
                "InvalidParameter",
            ),
            (
                create(&|it| it.name = "1".to_owned()),
                "InvalidParameter.Name.Malformed",
                Permanent,
                "InvalidParameter",
            ),
            (
                create(&|it| it.internal_ip = [172, 16, 0, 1].into()),
                "Forbidden.DestnationIpOutOfVpcCIDR",
                Permanent,
                "AddressOutsideVpc",
            ),
            (create(&|it| it.internal_ip = BOUND), "Forbindden", Permanent, "TargetHasEip"),
            (
                create(&|it| it.external_port -= 1),
                "OperationUnsupported.ForwardEntry",
                Permanent,
                "PortTaken",
            ),
            (
                create(&|it| it.internal_ip = FORWARDED),
                "Forbidden.Already.Bounded",
                Permanent,
                "PortTaken",
            ),
            (
                Change::ModifyForwardEntry { entry_id: unknown.clone(), forward: free.clone() },
                "InvalidForwardEntryId.NotFound",
                NotFound,
                "ForwardEntryNotFound",
            ),
            (
                Change::DeleteForwardEntry {
                    table_id: nowhere.clone(),
                    entry_id: scene.entry.clone(),
                },
                "InvalidForwardTableId.NotFound",
                NotFound,
                "ForwardTableNotFound",
            ),
        ])
        .await;
    let gateway = scene.simulator.gateway();
    scene
        .simulator
        .post("/console/quota", json!({"natGatewayId": gateway.as_str(), "entriesPerGateway": 1}))
        .await;
    scene.check(vec![(create(&|_| {}), "QuotaExceeded", Quota, "EntryQuotaExceeded")]).await;
    scene
        .simulator
        .post("/console/lock-nat-gateway", json!({"natGatewayId": gateway.as_str()}))
        .await;
    scene
        .check(vec![(create(&|_| {}), "Forbidden.FinancialLocked", Denied, "FinancialLocked")])
        .await;
    Ok(())
}
