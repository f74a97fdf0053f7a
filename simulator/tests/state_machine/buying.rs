//! Buying EIPs, buying a former address back, and finding EIPs.

use simulator::{cloud::Quotas, profile::Profile};

use super::stand::{Stand, refusal_code};

const PREPAID: &str = "InstanceChargeType=PrePaid&Period=1&AutoPay=true";
const DAY: i64 = 24 * 3600 * 1000;

fn release(stand: &mut Stand, id: &str) -> Result<serde_json::Value, String> {
    let outcome = stand.call_after_settling("ReleaseEipAddress", &format!("AllocationId={id}"));
    stand.pass_time(5000);
    outcome
}

#[test]
fn a_prepaid_eip_cannot_be_released_before_its_month_is_over() {
    let mut stand = Stand::new(Profile::Realistic);
    let answer =
        stand.call_after_settling("AllocateEipAddress", &format!("{PREPAID}&Name=n")).unwrap();
    let id = answer["AllocationId"].as_str().unwrap();
    assert!(answer["OrderId"].is_u64(), "{answer}");
    let eip = stand.eip(id);
    assert_eq!(
        (&eip["ChargeType"], &eip["InternetChargeType"], &eip["Name"]),
        (&"PrePaid".into(), &"PayByBandwidth".into(), &"".into())
    );
    assert!(eip["ExpiredTime"].as_str().unwrap().starts_with("2026-02-02T03:04:"), "{eip}");
    assert_eq!(refusal_code(release(&mut stand, id)), "Forbidden.ChargeTypeIsPrepaid");
    let join = format!("BandwidthPackageId=cbwp-bp1waygate0000000&IpInstanceId={id}");
    assert_eq!(
        refusal_code(stand.call_after_settling("AddCommonBandwidthPackageIp", &join)),
        "IpInstanceId.ChargeType.NotSupport"
    );

    stand.bind(id, "10.1.0.21").unwrap();
    stand.pass_time(31 * DAY);
    let eip = stand.eip(id);
    assert_eq!(
        (&eip["BusinessStatus"], &eip["Status"]),
        (&"FinancialLocked".into(), &"InUse".into())
    );
    assert_eq!(eip["OperationLocks"]["LockReason"][0]["LockReason"], "financial");
    let locked = stand
        .call_after_settling("DescribeEipAddresses", "LockReason=financial&ChargeType=PrePaid")
        .unwrap();
    assert_eq!(locked["TotalCount"], 1);
    assert_eq!(refusal_code(release(&mut stand, id)), "IncorrectEipStatus", "it is still bound");
    stand.call_after_settling("UnassociateEipAddress", &format!("AllocationId={id}")).unwrap();
    stand.pass_time(5000);
    assert_eq!(refusal_code(stand.bind(id, "10.1.0.22")), "Forbidden.FinancialLocked");
    release(&mut stand, id).unwrap();
    assert_eq!(stand.eip(id), serde_json::Value::Null);
}

#[test]
fn an_impossible_purchase_is_refused_and_an_unpaid_order_makes_no_eip() {
    let mut stand = Stand::new(Profile::Instant);
    for (query, code) in [
        ("InstanceChargeType=PrePaid&AutoPay=true", "MissingParameter"),
        ("InstanceChargeType=PrePaid&AutoPay=true&Period=10", "InvalidParameter"),
        ("InstanceChargeType=PrePaid&AutoPay=true&Period=1&PricingCycle=Week", "InvalidParameter"),
        (
            "InstanceChargeType=PrePaid&AutoPay=true&Period=1&InternetChargeType=PayByTraffic",
            "InvalidParameter",
        ),
        ("InstanceChargeType=PrePaid&AutoPay=true&Period=1&Bandwidth=1001", "InvalidParameter"),
        ("InstanceChargeType=Later", "InvalidParameter"),
        ("Bandwidth=501", "InvalidParameter"),
        ("InternetChargeType=PayByTraffic&Bandwidth=201", "InvalidParameter"),
    ] {
        assert_eq!(refusal_code(stand.call("AllocateEipAddress", query)), code, "{query}");
    }
    let before = stand.cloud.state()["eips"].as_array().unwrap().len();
    let order = stand
        .call("AllocateEipAddress", "InstanceChargeType=PrePaid&Period=1&PricingCycle=Year")
        .unwrap();
    assert!(order["OrderId"].is_u64() && order["AllocationId"].is_null(), "{order}");
    assert_eq!(stand.cloud.state()["eips"].as_array().unwrap().len(), before);
}

#[test]
fn an_address_comes_back_within_a_week_of_its_release_and_no_other_does() {
    let mut stand = Stand::new(Profile::Instant);
    let id = stand.allocate();
    let address = stand.eip(&id)["IpAddress"].as_str().unwrap().to_owned();
    let back =
        |stand: &mut Stand, what: &str| stand.call_after_settling("AllocateEipAddressPro", what);
    let by_address = format!("IpAddress={address}");
    assert_eq!(refusal_code(back(&mut stand, &by_address)), "Ip.Allocated");
    assert_eq!(refusal_code(back(&mut stand, &format!("InstanceId={id}"))), "Ip.Allocated");
    assert_eq!(
        refusal_code(back(&mut stand, "IpAddress=9.9.9.9")),
        "OperationFailed.AllocateUnfamiliarIp"
    );

    release(&mut stand, &id).unwrap();
    stand.pass_time(6 * DAY);
    assert_eq!(
        refusal_code(back(&mut stand, &format!("{by_address}&InstanceId=eip-other"))),
        "OperationFailed.AllocateUnfamiliarIp"
    );
    let again = back(&mut stand, &format!("{by_address}&Tag.1.Key=owner&Tag.1.Value=w")).unwrap();
    let new = again["AllocationId"].as_str().unwrap().to_owned();
    assert_eq!(again["EipAddress"], address.as_str());
    assert_ne!(new, id);
    assert_eq!(stand.eip(&new)["Tags"]["Tag"][0]["Value"], "w");

    release(&mut stand, &new).unwrap();
    stand.pass_time(6 * DAY);
    let third = back(&mut stand, &format!("InstanceId={new}")).unwrap();
    assert_eq!(third["EipAddress"], address.as_str());
    release(&mut stand, third["AllocationId"].as_str().unwrap()).unwrap();
    stand.pass_time(8 * DAY);
    assert_eq!(refusal_code(back(&mut stand, &by_address)), "OperationFailed.AllocateUnfamiliarIp");
}

#[test]
fn eips_are_found_by_a_tags_key_alone_or_with_its_value_and_by_closed_filters() {
    let mut stand = Stand::new(Profile::Instant);
    stand.cloud.set_quotas(Quotas { eips: 100, ..Quotas::default() });
    for query in [
        "Tag.1.Key=owner&Tag.1.Value=a",
        "Tag.1.Key=owner&Tag.1.Value=b&Tag.2.Key=pod&Tag.2.Value=p",
        "Tag.1.Key=pod&Tag.1.Value=p",
    ] {
        stand.call("AllocateEipAddress", query).unwrap();
    }
    for (query, found) in [
        ("Tag.1.Key=owner", 2),
        ("Tag.1.Key=owner&Tag.1.Value=", 2),
        ("Tag.1.Key=owner&Tag.1.Value=b", 1),
        ("Tag.1.Key=owner&Tag.2.Key=pod", 1),
        ("Tag.1.Key=absent", 0),
        ("ChargeType=PrePaid", 0),
        ("LockReason=security", 0),
    ] {
        assert_eq!(
            stand.call("DescribeEipAddresses", query).unwrap()["TotalCount"],
            found,
            "{query}"
        );
    }
    assert_eq!(
        refusal_code(stand.call("DescribeEipAddresses", "ChargeType=Free")),
        "InvalidChargeType.ValueNotSupported"
    );
    assert_eq!(
        refusal_code(stand.call("DescribeEipAddresses", "LockReason=mood")),
        "InvalidLockReason.NotFound"
    );
}
