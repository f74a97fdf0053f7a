//! Lives of EIPs: states, targets, packages, gateways.

use serde_json::Value;
use simulator::{
    cloud::Quotas,
    params::{Params, decode_query},
    profile::Profile,
};

use super::stand::{Stand, refusal_code};

#[test]
fn an_eip_passes_through_every_state_of_its_life() {
    let mut stand = Stand::new(Profile::Realistic);
    let id = stand.allocate();
    assert_eq!(stand.eip(&id)["Status"], "Available");
    stand.bind(&id, "10.1.0.21").unwrap();
    assert_eq!(stand.eip(&id)["Status"], "Associating");
    assert_eq!(
        refusal_code(stand.call("ReleaseEipAddress", &format!("AllocationId={id}"))),
        "TaskConflict"
    );
    stand.pass_time(1000);
    assert_eq!(
        refusal_code(stand.call("UnassociateEipAddress", &format!("AllocationId={id}"))),
        "IncorrectEipStatus"
    );
    stand.pass_time(5000);
    assert_eq!(stand.eip(&id)["Status"], "InUse");
    assert_eq!(
        refusal_code(stand.call("ReleaseEipAddress", &format!("AllocationId={id}"))),
        "IncorrectEipStatus"
    );
    stand.call("UnassociateEipAddress", &format!("AllocationId={id}")).unwrap();
    assert_eq!(stand.eip(&id)["Status"], "Unassociating");
    stand.call_after_settling("ReleaseEipAddress", &format!("AllocationId={id}")).unwrap();
    assert_eq!(stand.eip(&id)["Status"], "Releasing");
    stand.pass_time(5000);
    assert_eq!(stand.eip(&id), Value::Null);
    assert_eq!(
        refusal_code(stand.call("ReleaseEipAddress", &format!("AllocationId={id}"))),
        "InvalidAllocationId.NotFound"
    );
}

#[test]
fn a_private_address_has_either_an_eip_or_entries() {
    let mut stand = Stand::new(Profile::Instant);
    let (first, second) = (stand.allocate(), stand.allocate());
    stand.create("80", "10.1.0.5", "80", "TCP").unwrap();
    assert_eq!(
        refusal_code(stand.bind(&first, "10.1.0.5")),
        "BIND_INSTANCE_HAVE_PORTMAP_OR_BIND_EIP"
    );
    stand.bind(&first, "10.1.0.6").unwrap();
    assert_eq!(refusal_code(stand.bind(&second, "10.1.0.6")), "InvalidAssociation.Duplicated");
    assert_eq!(refusal_code(stand.create("81", "10.1.0.6", "80", "TCP")), "Forbindden");
}

#[test]
fn an_eip_with_entries_stays_on_its_gateway_unless_forced() {
    let mut stand = Stand::new(Profile::Instant);
    let (gateway, _, eip, _) = stand.gateway();
    let entry = stand.entry("80", "10.1.0.5", "80", "TCP");
    stand.call("CreateForwardEntry", &entry).unwrap();
    let query = format!("AllocationId={eip}&InstanceId={gateway}&InstanceType=Nat");
    assert_eq!(
        refusal_code(stand.call_after_settling("UnassociateEipAddress", &query)),
        "InvalidIpStatus.HasBeenUsedByForwardEntry"
    );
    stand.call("UnassociateEipAddress", &format!("{query}&Force=True")).unwrap();
    stand.pass_time(1000);
    assert!(stand.cloud.state()["forwardEntries"].as_array().unwrap().is_empty());
    assert_eq!(refusal_code(stand.call("CreateForwardEntry", &entry)), "InvalidIp.NotInNatgw");
}

#[test]
fn an_address_just_bound_to_a_gateway_is_still_in_binding() {
    let mut stand = Stand::new(Profile::Strict);
    let (gateway, table, _, _) = stand.gateway();
    let id = stand.allocate();
    let address = stand.eip(&id)["IpAddress"].as_str().unwrap().to_owned();
    stand
        .call_after_settling(
            "AssociateEipAddress",
            &format!("AllocationId={id}&InstanceId={gateway}&InstanceType=Nat"),
        )
        .unwrap();
    while stand.eip(&id)["Status"] != "InUse" {
        stand.pass_time(100);
    }
    let query = format!(
        "ForwardTableId={table}&ExternalIp={address}&ExternalPort=1&InternalIp=10.1.0.5&InternalPort=1&IpProtocol=TCP"
    );
    assert_eq!(
        refusal_code(stand.call("CreateForwardEntry", &query)),
        "OperationUnsupported.EipInBinding"
    );
    stand.pass_time(3000);
    stand.call("CreateForwardEntry", &query).unwrap();
}

#[test]
fn a_gateway_takes_many_eips_in_one_call_until_it_is_full_or_locked() {
    let mut stand = Stand::new(Profile::Instant);
    let (gateway, ..) = stand.gateway();
    let bound = |stand: &Stand| stand.cloud.gateway_summary()[0]["eips"].as_array().unwrap().len();
    let (before, ids) = (bound(&stand), [stand.allocate(), stand.allocate(), stand.allocate()]);
    let batch = format!(
        "BindedInstanceId={gateway}&BindedInstanceType=Nat&InstanceIds.1={}&InstanceIds.2={}",
        ids[0], ids[1]
    );
    stand.call_after_settling("AssociateEipAddressBatch", &batch).unwrap();
    stand.pass_time(1000);
    assert_eq!(bound(&stand), before + 2);
    let quotas = stand.cloud.quotas();
    stand.cloud.set_quotas(Quotas { eips_per_gateway: before + 2, ..quotas });
    let one_more = format!("AllocationId={}&InstanceId={gateway}&InstanceType=Nat", ids[2]);
    assert_eq!(
        refusal_code(stand.call_after_settling("AssociateEipAddress", &one_more)),
        "QuotaExceeded.NumberOfEip"
    );
    stand.cloud.lock_nat_gateway(&gateway, true).unwrap();
    assert_eq!(
        refusal_code(stand.call_after_settling("AssociateEipAddress", &one_more)),
        "NATGATEWAY_FINANCIALLOCKED"
    );
}

#[test]
fn an_eip_joins_a_bandwidth_package_and_shows_its_bandwidth() {
    let mut stand = Stand::new(Profile::Realistic);
    let id = stand.allocate();
    let query = format!("BandwidthPackageId=cbwp-bp1waygate0000000&IpInstanceId={id}");
    stand.call("AddCommonBandwidthPackageIp", &query).unwrap();
    assert_eq!(
        refusal_code(stand.call("AddCommonBandwidthPackageIp", &query)),
        "IpInstanceId.AlreadyInBandwidthPackage"
    );
    let relation = |stand: &mut Stand| {
        let packages = stand.call("DescribeCommonBandwidthPackages", "").unwrap();
        packages["CommonBandwidthPackages"]["CommonBandwidthPackage"][0]["PublicIpAddresses"]["PublicIpAddresse"][0]
            ["BandwidthPackageIpRelationStatus"]
            .clone()
    };
    assert_eq!(relation(&mut stand), "BINDING");
    stand.pass_time(2000);
    assert_eq!(relation(&mut stand), "BINDED");
    assert_eq!(stand.eip(&id)["Bandwidth"], "1000");
    stand.call("RemoveCommonBandwidthPackageIp", &query).unwrap();
    assert_eq!(
        refusal_code(stand.call("RemoveCommonBandwidthPackageIp", &query)),
        "OperationUnsupported.IpNotInCbwp"
    );
    assert_eq!(stand.eip(&id)["Bandwidth"], "5");
}

#[test]
fn console_changes_take_effect_at_once() {
    let mut stand = Stand::new(Profile::Strict);
    let (gateway, _, eip, _) = stand.gateway();
    let id = stand.create("80", "10.1.0.5", "80", "TCP").unwrap()["ForwardEntryId"]
        .as_str()
        .unwrap()
        .to_owned();
    stand.pass_time(5000);
    let by_hand = |stand: &mut Stand, action: &str, query: String| {
        stand.cloud.apply_as_console(action, &Params::new(decode_query(query.as_bytes())))
    };
    by_hand(&mut stand, "DeleteForwardEntry", format!("ForwardEntryId={id}")).unwrap();
    assert!(stand.cloud.state()["forwardEntries"].as_array().unwrap().is_empty());
    by_hand(&mut stand, "UnassociateEipAddress", format!("AllocationId={eip}")).unwrap();
    assert_eq!(stand.eip(&eip)["Status"], "Available");
    by_hand(&mut stand, "ReleaseEipAddress", format!("AllocationId={eip}")).unwrap();
    assert_eq!(stand.eip(&eip), Value::Null);
    stand.cloud.delete_nat_gateway(&gateway).unwrap();
    assert_eq!(stand.cloud.gateway_summary().len(), 1);
}
