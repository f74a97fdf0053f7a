//! Forward entries: writers, tuples, what they share a gateway with.

use std::collections::BTreeSet;

use serde_json::Value;
use simulator::{
    params::{Params, decode_query},
    profile::Profile,
};

use super::stand::{Stand, refusal_code};

#[test]
fn a_gateway_takes_one_writer_at_a_time_and_a_strict_one_none_while_an_entry_is_pending() {
    let mut realistic = Stand::new(Profile::Realistic);
    realistic.create("80", "10.1.0.5", "80", "TCP").unwrap();
    assert_eq!(
        refusal_code({
            let query = realistic.entry("81", "10.1.0.5", "81", "TCP");
            realistic.call("CreateForwardEntry", &query)
        }),
        "OperationConflict"
    );
    realistic.pass_time(250);
    let query = realistic.entry("81", "10.1.0.5", "81", "TCP");
    realistic.call("CreateForwardEntry", &query).unwrap();

    let mut strict = Stand::new(Profile::Strict);
    strict.create("80", "10.1.0.5", "80", "TCP").unwrap();
    strict.pass_time(250);
    assert_eq!(
        refusal_code(strict.call("CreateForwardEntry", &query)),
        "IncorretForwardEntryStatus"
    );
    strict.create("81", "10.1.0.5", "81", "TCP").unwrap();

    let mut instant = Stand::new(Profile::Instant);
    for port in 1..50 {
        let query = instant.entry(&port.to_string(), "10.1.0.5", &port.to_string(), "TCP");
        instant.call("CreateForwardEntry", &query).unwrap();
    }
}

#[test]
fn tuples_are_unique_on_both_sides_and_ranges_may_not_overlap() {
    let mut stand = Stand::new(Profile::Instant);
    stand.create("7000/7009", "10.1.0.5", "80/89", "TCP").unwrap();
    assert_eq!(
        refusal_code(stand.create("7009", "10.1.0.6", "1", "TCP")),
        "OperationUnsupported.ForwardEntry"
    );
    assert_eq!(
        refusal_code(stand.create("9000", "10.1.0.5", "85", "TCP")),
        "Forbidden.Already.Bounded"
    );
    stand.create("7009", "10.1.0.5", "89", "UDP").unwrap();
    stand.create("7010", "10.1.0.5", "90", "TCP").unwrap();
    assert_eq!(
        refusal_code(stand.create("1/2", "10.1.0.7", "5/7", "TCP")),
        "InvalidInternalPort.Malformed"
    );
    assert_eq!(
        refusal_code(stand.create("Any", "10.1.0.7", "Any", "Any")),
        "OperationUnsupported.ForwardEntry"
    );
    assert_eq!(
        refusal_code(stand.create("5", "10.1.0.7", "5", "Any")),
        "InvalidProtocal.ValueNotSupported"
    );
    assert_eq!(
        refusal_code(stand.create("5", "10.1.0.7", "5", "SCTP")),
        "InvalidProtocal.ValueNotSupported"
    );
    assert_eq!(
        refusal_code(stand.create("0", "10.1.0.7", "5", "TCP")),
        "InvalidExternalPort.Malformed"
    );
    assert_eq!(
        refusal_code(stand.create("5", "172.16.0.1", "5", "TCP")),
        "Forbidden.DestnationIpOutOfVpcCIDR"
    );
    let elsewhere = stand.entry("5", "10.1.0.7", "5", "TCP").replace("198.18.0.1", "198.18.0.3");
    assert_eq!(refusal_code(stand.call("CreateForwardEntry", &elsewhere)), "InvalidIp.NotInNatgw");
    let nowhere = elsewhere.replace("198.18.0.3", "9.9.9.9");
    assert_eq!(
        refusal_code(stand.call("CreateForwardEntry", &nowhere)),
        "InvalidExternalIp.NotFound"
    );
}

#[test]
fn a_modified_entry_keeps_its_id_and_may_not_take_what_another_has() {
    let mut stand = Stand::new(Profile::Realistic);
    let (_, table, _, _) = stand.gateway();
    stand.create("80", "10.1.0.5", "80", "TCP").unwrap();
    let id = stand.create("81", "10.1.0.6", "81", "TCP").unwrap()["ForwardEntryId"]
        .as_str()
        .unwrap()
        .to_owned();
    let modify = |change: &str| format!("ForwardTableId={table}&ForwardEntryId={id}&{change}");
    assert_eq!(
        refusal_code(stand.call_after_settling("ModifyForwardEntry", &modify("ExternalPort=80"))),
        "OperationUnsupported.ForwardEntry"
    );
    stand.call_after_settling("ModifyForwardEntry", &modify("InternalIp=10.1.0.7")).unwrap();
    let listed = stand
        .call("DescribeForwardTableEntries", &format!("ForwardTableId={table}&ForwardEntryId={id}"))
        .unwrap();
    let entry = &listed["ForwardTableEntries"]["ForwardTableEntry"][0];
    assert_eq!(
        (&entry["Status"], &entry["InternalIp"]),
        (&Value::from("Pending"), &Value::from("10.1.0.7"))
    );
    stand.pass_time(250);
    assert_eq!(
        refusal_code(stand.call("DeleteForwardEntry", &modify(""))),
        "IncorretForwardEntryStatus"
    );
}

#[test]
fn deleting_a_missing_entry_has_two_answers() {
    let mut stand = Stand::new(Profile::Instant);
    let (_, table, _, _) = stand.gateway();
    let query = format!("ForwardTableId={table}&ForwardEntryId=fwd-none");
    let answers: BTreeSet<String> =
        (0..32).map(|_| refusal_code(stand.call("DeleteForwardEntry", &query))).collect();
    assert_eq!(
        answers,
        BTreeSet::from([
            "IncorretForwardEntryStatus".to_owned(),
            "InvalidForwardEntryId.NotFound".to_owned()
        ])
    );
}

#[test]
fn snat_on_the_same_address_wants_port_break_above_1024() {
    let mut stand = Stand::new(Profile::Instant);
    let (gateway, _, eip, address) = stand.gateway();
    let snat = Params::new(decode_query(
        format!("NatGatewayId={gateway}&SnatIp={address}&SourceCIDR=10.1.0.0%2F16").as_bytes(),
    ));
    let made = stand.cloud.create_snat_entry(&snat).unwrap();
    stand.create("1024", "10.1.0.5", "80", "TCP").unwrap();
    assert_eq!(
        refusal_code(stand.create("1025", "10.1.0.5", "81", "TCP")),
        "Forbidden.ExternalIp.UsedInSnatTable"
    );
    let query = stand.entry("1025", "10.1.0.5", "81", "TCP");
    stand.call("CreateForwardEntry", &format!("{query}&PortBreak=true")).unwrap();
    assert_eq!(
        refusal_code(
            stand.call_after_settling("UnassociateEipAddress", &format!("AllocationId={eip}"))
        ),
        "InvalidIpStatus.HasBeenUsedBySnatTable"
    );
    let listed =
        stand.call("DescribeSnatTableEntries", &format!("NatGatewayId={gateway}")).unwrap();
    assert_eq!(listed["SnatTableEntries"]["SnatTableEntry"][0]["SnatEntryId"], made["SnatEntryId"]);
    let gateways = stand.call("DescribeNatGateways", &format!("NatGatewayId={gateway}")).unwrap();
    assert_eq!(
        gateways["NatGateways"]["NatGateway"][0]["IpLists"]["IpList"][0]["UsingStatus"],
        "UsedByForwardSnatTable"
    );
}
