//! Network interfaces, which no action makes: they are derived from the addresses asked for.

use std::collections::BTreeSet;

use serde_json::Value;
use simulator::profile::Profile;

use super::stand::Stand;

#[test]
fn every_pod_address_appears_after_a_moment_and_every_kind_is_among_the_first_twenty() {
    let mut stand = Stand::new(Profile::Realistic);
    assert!(stand.interface("10.1.0.5").is_none(), "a new pod's address takes a second to appear");
    stand.pass_time(999);
    assert!(stand.interface("10.1.0.5").is_none());
    stand.pass_time(1);
    assert!(stand.interface("10.1.0.5").is_some());
    for (net, wanted) in [
        ("10.1.0", vec!["primary", "secondary"]),
        ("10.4.0", vec!["prefix", "primary", "secondary"]),
    ] {
        let kinds: BTreeSet<&str> =
            (1..=20).map(|host| kind_of(&mut stand, &format!("{net}.{host}"))).collect();
        assert_eq!(kinds, wanted.into_iter().collect(), "{net}");
    }
    let announced: Vec<String> = (0..=255).map(|host| format!("10.4.0.{host}")).collect();
    for address in announced {
        kind_of(&mut stand, &address);
    }
}

fn kind_of(stand: &mut Stand, address: &str) -> &'static str {
    stand.interface_id(address);
    let interface = stand.interface(address).unwrap();
    let sets = interface["PrivateIpSets"]["PrivateIpSet"].as_array().unwrap();
    match sets.iter().find(|set| set["PrivateIpAddress"] == address) {
        Some(set) if set["Primary"] == true => "primary",
        Some(_) => "secondary",
        None => {
            assert!(
                interface["Ipv4PrefixSets"]["Ipv4PrefixSet"][0]["Ipv4Prefix"]
                    .as_str()
                    .unwrap()
                    .ends_with("/28")
            );
            "prefix"
        }
    }
}

#[test]
fn an_eip_on_a_primary_address_shows_no_private_address() {
    let mut stand = Stand::new(Profile::Instant);
    let (on_primary, on_secondary) = (stand.allocate(), stand.allocate());
    stand.bind(&on_primary, "10.1.0.10").unwrap();
    stand.bind(&on_secondary, "10.1.0.11").unwrap();
    assert_eq!(stand.eip(&on_primary)["PrivateIpAddress"], "");
    assert_eq!(stand.eip(&on_secondary)["PrivateIpAddress"], "10.1.0.11");
}

#[test]
fn a_detached_interface_frees_its_eips_and_its_addresses_return_on_another() {
    let mut stand = Stand::new(Profile::Instant);
    let id = stand.allocate();
    stand.bind(&id, "10.1.0.11").unwrap();
    let old = stand.interface_id("10.1.0.11");
    stand.cloud.detach_interface(&old).unwrap();
    assert_eq!(
        (&stand.eip(&id)["Status"], &stand.eip(&id)["InstanceId"]),
        (&Value::from("Available"), &Value::from(""))
    );
    assert_ne!(stand.interface_id("10.1.0.11"), old);
}

#[test]
fn a_strict_cloud_shows_members_of_trunks_and_protocols_in_lower_case() {
    let mut stand = Stand::new(Profile::Strict);
    stand.interface_id("10.1.0.15");
    let member = stand.interface("10.1.0.15").unwrap();
    assert_eq!(
        (&member["InstanceId"], &member["Attachment"]["InstanceId"]),
        (&Value::from(""), &Value::from("i-bp1nodej10000000000"))
    );
    stand.create("80", "10.1.0.5", "80", "UDP").unwrap();
    assert_eq!(stand.cloud.state()["forwardEntries"][0]["IpProtocol"], "udp");
    let (_, table, _, _) = stand.gateway();
    let found = stand
        .call("DescribeForwardTableEntries", &format!("ForwardTableId={table}&IpProtocol=UDP"))
        .unwrap();
    assert_eq!(found["TotalCount"], 1);
}
