//! Property tests: no answer, however malformed, may panic the parsers or pass for an empty list.

use super::read_as_everything;
use crate::wire::Page;
use crate::wire::eip::Eips;
use crate::wire::eni::Interfaces;
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// Names the API uses, so that arbitrary objects reach deep into the parsers.
const NAMES: &[&str] = &[
    "RequestId",
    "TotalCount",
    "PageNumber",
    "NextToken",
    "EipAddresses",
    "EipAddress",
    "AllocationId",
    "IpAddress",
    "Status",
    "PrivateIpAddress",
    "Bandwidth",
    "Tags",
    "Tag",
    "Key",
    "Value",
    "NetworkInterfaceSets",
    "NetworkInterfaceSet",
    "NetworkInterfaceId",
    "PrivateIpSets",
    "Ipv4PrefixSets",
    "Ipv4Prefix",
    "AssociatedPublicIp",
    "NatGateways",
    "ForwardTableIds",
    "IpLists",
    "ForwardTableEntries",
    "ForwardEntryId",
    "ForwardTableId",
    "ExternalIp",
    "InternalIp",
    "SnatTableEntries",
    "SnatIp",
    "VSwitches",
    "Vpcs",
    "RouterTableList",
    "RouteEntrys",
    "NextHops",
    "Permissions",
    "TagResources",
    "Credentials",
    "Expiration",
    "Code",
];

fn anything() -> impl Strategy<Value = Value> {
    let words = [
        "",
        "eip-1",
        "10.0.0.1",
        "10.0.0.0/28",
        "10.0.0.0/99",
        "-1",
        "4294967296",
        "Available",
        "Success",
        "\u{0}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(words.to_vec()).prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(prop::sample::select(NAMES), inner, 0..8).prop_map(|map| {
                Value::from(
                    map.into_iter()
                        .map(|(name, value)| (name.to_owned(), value))
                        .collect::<Map<_, _>>(),
                )
            }),
        ]
    })
}

fn parse<T: DeserializeOwned>(answer: &Value) -> Option<T> {
    serde_json::from_value(answer.clone()).ok()
}

fn eip() -> Value {
    json!({"RequestId": "r", "TotalCount": "1", "EipAddresses": {"EipAddress": [{
        "AllocationId": "eip-1", "IpAddress": "203.0.113.1", "Status": "InUse", "Bandwidth": 5, "InstanceId": "eni-1",
        "InstanceType": "NetworkInterface", "PrivateIpAddress": "", "ServiceManaged": 0, "Tags": {"Tag": [{"Key": "k", "Value": "v"}]}}]}})
}

proptest! {
    #[test]
    fn nothing_panics_on_any_json(answer in anything()) {
        read_as_everything(answer.to_string().as_bytes());
    }

    /// A valid answer with one field replaced by arbitrary JSON parses or is an error, but never
    /// loses the EIP.
    #[test]
    fn no_item_is_lost_silently(field in prop::sample::select(vec!["AllocationId", "IpAddress", "Status", "Bandwidth", "Tags"]), value in anything()) {
        let mut answer = eip();
        answer["EipAddresses"]["EipAddress"][0][field] = value;
        if let Some(page) = parse::<Eips>(&answer) && let Ok(items) = page.into_page_items() {
            prop_assert_eq!(items.len(), 1);
        }
    }
}

#[test]
fn numbers_and_texts_are_the_same() {
    let page: Eips = parse(&eip()).unwrap();
    assert_eq!(page.total_count(), 1);
    let eip = page.into_page_items().unwrap().remove(0);
    assert_eq!((eip.bandwidth, eip.tags["k"].as_str()), (5, "v"));
    assert_eq!(eip.binding.unwrap().private_ip, None);
}

#[test]
fn the_end_of_an_eip_is_read_with_seconds_and_without() {
    for (text, end) in [
        ("2026-02-02T16:00Z", Some("2026-02-02T16:00:00Z")),
        ("2026-02-02T16:00:00Z", Some("2026-02-02T16:00:00Z")),
        ("", None),
        ("soon", None),
    ] {
        let mut answer = eip();
        answer["EipAddresses"]["EipAddress"][0]["ExpiredTime"] = text.into();
        let eip = parse::<Eips>(&answer).unwrap().into_page_items().unwrap().remove(0);
        assert_eq!(eip.expires_at, end.map(|end| end.parse().unwrap()), "{text}");
    }
}

#[test]
fn an_answer_without_its_list_is_not_an_empty_list() {
    let empty = json!({"RequestId": "r", "TotalCount": 0});
    assert!(parse::<Eips>(&empty).is_none());
    assert!(parse::<Interfaces>(&empty).is_none());
    let none = json!({"RequestId": "r", "TotalCount": 0, "EipAddresses": {"EipAddress": []}});
    assert!(parse::<Eips>(&none).unwrap().into_page_items().unwrap().is_empty());
}
