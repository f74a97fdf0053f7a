//! The cloud without its shell: time is an argument, so nothing here waits.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::Value;
use simulator::{
    cloud::{Call, Cloud, Quotas, Settings},
    params::{Params, decode},
    profile::Profile,
    topology::Topology,
};

/// A cloud, its clock, and the answers as (code or empty, body).
struct Stand {
    cloud: Cloud,
    key: String,
    now: Timestamp,
}

impl Stand {
    fn new(profile: Profile) -> Self {
        Self::seeded(profile, 7)
    }

    fn seeded(profile: Profile, seed: u64) -> Self {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let settings = Settings { topology: Topology::built_in(), pace: profile.pace(), quotas: Quotas::default(), seed, start: now };
        let cloud = Cloud::new(settings);
        let key = cloud.first_access_key().unwrap().id.clone();
        Self { cloud, key, now }
    }

    fn pass(&mut self, ms: i64) {
        self.now += SignedDuration::from_millis(ms);
        self.cloud.advance(self.now);
    }

    fn call(&mut self, action: &str, query: &str) -> Result<Value, String> {
        let version = match action {
            "DescribeNetworkInterfaces" | "DescribeSecurityGroupAttribute" => "2014-05-26",
            "AssumeRole" | "AssumeRoleWithOIDC" | "GetCallerIdentity" => "2015-04-01",
            _ => "2016-04-28",
        };
        let params = Params::new(decode(format!("RegionId=cn-hangzhou&{query}").as_bytes()));
        let caller = (action != "AssumeRoleWithOIDC").then_some(self.key.as_str());
        let reply = self.cloud.handle(&Call { action, version, params: &params, caller }, self.now);
        reply.outcome.map_err(|refusal| refusal.code)
    }

    /// The same, after everything before has settled.
    fn calm(&mut self, action: &str, query: &str) -> Result<Value, String> {
        self.pass(10_000);
        self.call(action, query)
    }

    fn gateway(&self) -> (String, String, String, String) {
        let gateway = &self.cloud.gateway_summary()[0];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let eip = &gateway["eips"][0];
        (text(&gateway["natGatewayId"]), text(&gateway["forwardTableId"]), text(&eip["allocationId"]), text(&eip["ipAddress"]))
    }

    fn entry(&self, external_port: &str, internal_ip: &str, internal_port: &str, protocol: &str) -> String {
        let (_, table, _, address) = self.gateway();
        format!(
            "ForwardTableId={table}&ExternalIp={address}&ExternalPort={external_port}&InternalIp={internal_ip}\
             &InternalPort={internal_port}&IpProtocol={protocol}"
        )
    }

    fn create(&mut self, external_port: &str, internal_ip: &str, internal_port: &str, protocol: &str) -> Result<Value, String> {
        let query = self.entry(external_port, internal_ip, internal_port, protocol);
        self.calm("CreateForwardEntry", &query)
    }

    fn allocate(&mut self) -> String {
        self.calm("AllocateEipAddress", "").unwrap()["AllocationId"].as_str().unwrap().to_owned()
    }

    fn eip(&mut self, id: &str) -> Value {
        self.call("DescribeEipAddresses", &format!("AllocationId={id}")).unwrap()["EipAddresses"]["EipAddress"][0].clone()
    }

    fn interface(&mut self, address: &str) -> Option<Value> {
        let query = format!("PrivateIpAddress.1={address}");
        let found = self.call("DescribeNetworkInterfaces", &query).unwrap();
        found["NetworkInterfaceSets"]["NetworkInterfaceSet"].get(0).cloned()
    }

    /// Asks twice, as a new pod's address takes a moment to appear.
    fn interface_id(&mut self, address: &str) -> String {
        self.interface(address);
        self.pass(2000);
        self.interface(address).unwrap()["NetworkInterfaceId"].as_str().unwrap().to_owned()
    }

    fn bind(&mut self, id: &str, address: &str) -> Result<Value, String> {
        let interface = self.interface_id(address);
        let query = format!("AllocationId={id}&InstanceId={interface}&InstanceType=NetworkInterface&PrivateIpAddress={address}");
        self.calm("AssociateEipAddress", &query)
    }
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, String>) -> String {
    outcome.unwrap_err()
}

#[test]
fn an_eip_passes_through_every_state_of_its_life() {
    let mut stand = Stand::new(Profile::Realistic);
    let id = stand.allocate();
    assert_eq!(stand.eip(&id)["Status"], "Available");
    stand.bind(&id, "10.1.0.21").unwrap();
    assert_eq!(stand.eip(&id)["Status"], "Associating");
    assert_eq!(refused(stand.call("ReleaseEipAddress", &format!("AllocationId={id}"))), "TaskConflict");
    stand.pass(1000);
    assert_eq!(refused(stand.call("UnassociateEipAddress", &format!("AllocationId={id}"))), "IncorrectEipStatus");
    stand.pass(5000);
    assert_eq!(stand.eip(&id)["Status"], "InUse");
    assert_eq!(refused(stand.call("ReleaseEipAddress", &format!("AllocationId={id}"))), "IncorrectEipStatus");
    stand.call("UnassociateEipAddress", &format!("AllocationId={id}")).unwrap();
    assert_eq!(stand.eip(&id)["Status"], "Unassociating");
    stand.calm("ReleaseEipAddress", &format!("AllocationId={id}")).unwrap();
    assert_eq!(stand.eip(&id)["Status"], "Releasing");
    stand.pass(5000);
    assert_eq!(stand.eip(&id), Value::Null);
    assert_eq!(refused(stand.call("ReleaseEipAddress", &format!("AllocationId={id}"))), "InvalidAllocationId.NotFound");
}

#[test]
fn a_token_replays_its_answer_and_its_refusal_but_not_while_processing_nor_for_another_request() {
    let mut stand = Stand::new(Profile::Realistic);
    let first = stand.call("AllocateEipAddress", "ClientToken=t&Bandwidth=5").unwrap();
    assert_eq!(refused(stand.call("AllocateEipAddress", "ClientToken=t&Bandwidth=5")), "LastTokenProcessing");
    assert_eq!(stand.calm("AllocateEipAddress", "ClientToken=t&Bandwidth=5").unwrap(), first);
    assert_eq!(refused(stand.call("AllocateEipAddress", "ClientToken=t&Bandwidth=6")), "IdempotentParameterMismatch");
    let missing = stand.entry("80", "10.1.0.5", "80", "TCP").replace("ftb-", "ftb-x") + "&ClientToken=e";
    assert_eq!(refused(stand.calm("CreateForwardEntry", &missing)), "InvalidForwardTableId.NotFound");
    assert_eq!(refused(stand.calm("CreateForwardEntry", &missing)), "InvalidForwardTableId.NotFound");
    let id = first["AllocationId"].as_str().unwrap();
    let query = format!("AllocationId={id}&InstanceId=eni-none&InstanceType=NetworkInterface&ClientToken=a");
    assert_eq!(refused(stand.call("AssociateEipAddress", &query)), "InvalidInstanId.NotFound");
}

#[test]
fn a_replayed_conflict_stays_a_conflict_until_the_token_is_new() {
    let mut stand = Stand::new(Profile::Realistic);
    stand.create("80", "10.1.0.5", "80", "TCP").unwrap();
    let query = stand.entry("81", "10.1.0.5", "81", "TCP");
    assert_eq!(refused(stand.call("CreateForwardEntry", &format!("{query}&ClientToken=same"))), "OperationConflict");
    assert_eq!(refused(stand.calm("CreateForwardEntry", &format!("{query}&ClientToken=same"))), "OperationConflict");
    stand.call("CreateForwardEntry", &format!("{query}&ClientToken=new")).unwrap();
}

#[test]
fn a_gateway_takes_one_writer_at_a_time_and_a_strict_one_none_while_an_entry_is_pending() {
    let mut realistic = Stand::new(Profile::Realistic);
    realistic.create("80", "10.1.0.5", "80", "TCP").unwrap();
    assert_eq!(
        refused({
            let query = realistic.entry("81", "10.1.0.5", "81", "TCP");
            realistic.call("CreateForwardEntry", &query)
        }),
        "OperationConflict"
    );
    realistic.pass(250);
    let query = realistic.entry("81", "10.1.0.5", "81", "TCP");
    realistic.call("CreateForwardEntry", &query).unwrap();

    let mut strict = Stand::new(Profile::Strict);
    strict.create("80", "10.1.0.5", "80", "TCP").unwrap();
    strict.pass(250);
    assert_eq!(refused(strict.call("CreateForwardEntry", &query)), "IncorretForwardEntryStatus");
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
    assert_eq!(refused(stand.create("7009", "10.1.0.6", "1", "TCP")), "OperationUnsupported.ForwardEntry");
    assert_eq!(refused(stand.create("9000", "10.1.0.5", "85", "TCP")), "Forbidden.Already.Bounded");
    stand.create("7009", "10.1.0.5", "89", "UDP").unwrap();
    stand.create("7010", "10.1.0.5", "90", "TCP").unwrap();
    assert_eq!(refused(stand.create("1/2", "10.1.0.7", "5/7", "TCP")), "InvalidInternalPort.Malformed");
    assert_eq!(refused(stand.create("Any", "10.1.0.7", "Any", "Any")), "OperationUnsupported.ForwardEntry");
    assert_eq!(refused(stand.create("5", "10.1.0.7", "5", "Any")), "InvalidProtocal.ValueNotSupported");
    assert_eq!(refused(stand.create("5", "10.1.0.7", "5", "SCTP")), "InvalidProtocal.ValueNotSupported");
    assert_eq!(refused(stand.create("0", "10.1.0.7", "5", "TCP")), "InvalidExternalPort.Malformed");
    assert_eq!(refused(stand.create("5", "172.16.0.1", "5", "TCP")), "Forbidden.DestnationIpOutOfVpcCIDR");
    let elsewhere = stand.entry("5", "10.1.0.7", "5", "TCP").replace("198.18.0.1", "198.18.0.3");
    assert_eq!(refused(stand.call("CreateForwardEntry", &elsewhere)), "InvalidIp.NotInNatgw");
    let nowhere = elsewhere.replace("198.18.0.3", "9.9.9.9");
    assert_eq!(refused(stand.call("CreateForwardEntry", &nowhere)), "InvalidExternalIp.NotFound");
}

#[test]
fn a_modified_entry_keeps_its_id_and_may_not_take_what_another_has() {
    let mut stand = Stand::new(Profile::Realistic);
    let (_, table, _, _) = stand.gateway();
    stand.create("80", "10.1.0.5", "80", "TCP").unwrap();
    let id = stand.create("81", "10.1.0.6", "81", "TCP").unwrap()["ForwardEntryId"].as_str().unwrap().to_owned();
    let modify = |change: &str| format!("ForwardTableId={table}&ForwardEntryId={id}&{change}");
    assert_eq!(refused(stand.calm("ModifyForwardEntry", &modify("ExternalPort=80"))), "OperationUnsupported.ForwardEntry");
    stand.calm("ModifyForwardEntry", &modify("InternalIp=10.1.0.7")).unwrap();
    let listed = stand.call("DescribeForwardTableEntries", &format!("ForwardTableId={table}&ForwardEntryId={id}")).unwrap();
    let entry = &listed["ForwardTableEntries"]["ForwardTableEntry"][0];
    assert_eq!((&entry["Status"], &entry["InternalIp"]), (&Value::from("Pending"), &Value::from("10.1.0.7")));
    stand.pass(250);
    assert_eq!(refused(stand.call("DeleteForwardEntry", &modify(""))), "IncorretForwardEntryStatus");
}

#[test]
fn deleting_a_missing_entry_has_two_answers() {
    let mut stand = Stand::new(Profile::Instant);
    let (_, table, _, _) = stand.gateway();
    let query = format!("ForwardTableId={table}&ForwardEntryId=fwd-none");
    let answers: BTreeSet<String> = (0..32).map(|_| refused(stand.call("DeleteForwardEntry", &query))).collect();
    assert_eq!(answers, BTreeSet::from(["IncorretForwardEntryStatus".to_owned(), "InvalidForwardEntryId.NotFound".to_owned()]));
}

#[test]
fn a_private_address_has_either_an_eip_or_entries() {
    let mut stand = Stand::new(Profile::Instant);
    let (first, second) = (stand.allocate(), stand.allocate());
    stand.create("80", "10.1.0.5", "80", "TCP").unwrap();
    assert_eq!(refused(stand.bind(&first, "10.1.0.5")), "BIND_INSTANCE_HAVE_PORTMAP_OR_BIND_EIP");
    stand.bind(&first, "10.1.0.6").unwrap();
    assert_eq!(refused(stand.bind(&second, "10.1.0.6")), "InvalidAssociation.Duplicated");
    assert_eq!(refused(stand.create("81", "10.1.0.6", "80", "TCP")), "Forbindden");
}

#[test]
fn an_eip_with_entries_stays_on_its_gateway_unless_forced() {
    let mut stand = Stand::new(Profile::Instant);
    let (gateway, _, eip, _) = stand.gateway();
    let entry = stand.entry("80", "10.1.0.5", "80", "TCP");
    stand.call("CreateForwardEntry", &entry).unwrap();
    let query = format!("AllocationId={eip}&InstanceId={gateway}&InstanceType=Nat");
    assert_eq!(refused(stand.calm("UnassociateEipAddress", &query)), "InvalidIpStatus.HasBeenUsedByForwardEntry");
    stand.call("UnassociateEipAddress", &format!("{query}&Force=True")).unwrap();
    stand.pass(1000);
    assert!(stand.cloud.state()["forwardEntries"].as_array().unwrap().is_empty());
    assert_eq!(refused(stand.call("CreateForwardEntry", &entry)), "InvalidIp.NotInNatgw");
}

#[test]
fn an_address_just_bound_to_a_gateway_is_still_in_binding() {
    let mut stand = Stand::new(Profile::Strict);
    let (gateway, table, _, _) = stand.gateway();
    let id = stand.allocate();
    let address = stand.eip(&id)["IpAddress"].as_str().unwrap().to_owned();
    stand.calm("AssociateEipAddress", &format!("AllocationId={id}&InstanceId={gateway}&InstanceType=Nat")).unwrap();
    while stand.eip(&id)["Status"] != "InUse" {
        stand.pass(100);
    }
    let query = format!("ForwardTableId={table}&ExternalIp={address}&ExternalPort=1&InternalIp=10.1.0.5&InternalPort=1&IpProtocol=TCP");
    assert_eq!(refused(stand.call("CreateForwardEntry", &query)), "OperationUnsupported.EipInBinding");
    stand.pass(3000);
    stand.call("CreateForwardEntry", &query).unwrap();
}

#[test]
fn snat_on_the_same_address_wants_port_break_above_1024() {
    let mut stand = Stand::new(Profile::Instant);
    let (gateway, _, eip, address) = stand.gateway();
    let snat = Params::new(decode(format!("NatGatewayId={gateway}&SnatIp={address}&SourceCIDR=10.1.0.0%2F16").as_bytes()));
    let made = stand.cloud.create_snat_entry(&snat).unwrap();
    stand.create("1024", "10.1.0.5", "80", "TCP").unwrap();
    assert_eq!(refused(stand.create("1025", "10.1.0.5", "81", "TCP")), "Forbidden.ExternalIp.UsedInSnatTable");
    let query = stand.entry("1025", "10.1.0.5", "81", "TCP");
    stand.call("CreateForwardEntry", &format!("{query}&PortBreak=true")).unwrap();
    assert_eq!(refused(stand.calm("UnassociateEipAddress", &format!("AllocationId={eip}"))), "InvalidIpStatus.HasBeenUsedBySnatTable");
    let listed = stand.call("DescribeSnatTableEntries", &format!("NatGatewayId={gateway}")).unwrap();
    assert_eq!(listed["SnatTableEntries"]["SnatTableEntry"][0]["SnatEntryId"], made["SnatEntryId"]);
    let gateways = stand.call("DescribeNatGateways", &format!("NatGatewayId={gateway}")).unwrap();
    assert_eq!(gateways["NatGateways"]["NatGateway"][0]["IpLists"]["IpList"][0]["UsingStatus"], "UsedByForwardSnatTable");
}

#[test]
fn quotas_bind_and_a_gateway_may_have_its_own() {
    let mut stand = Stand::new(Profile::Instant);
    for _ in 0..16 {
        stand.allocate();
    }
    assert_eq!(refused(stand.calm("AllocateEipAddress", "")), "QuotaExceeded.Eip");
    let (gateway, _, _, _) = stand.gateway();
    stand.cloud.set_entry_quota(&gateway, 1).unwrap();
    stand.create("80", "10.1.0.5", "80", "TCP").unwrap();
    assert_eq!(refused(stand.create("81", "10.1.0.5", "81", "TCP")), "QuotaExceeded");
}

#[test]
fn rates_are_counted_over_a_sliding_minute() {
    let mut stand = Stand::new(Profile::Realistic);
    stand.cloud.set_quotas(Quotas { eips: 1000, ..Quotas::default() });
    for _ in 0..120 {
        stand.call("AllocateEipAddress", "").unwrap();
    }
    assert_eq!(refused(stand.call("AllocateEipAddress", "")), "Throttling.User");
    stand.call("DescribeEipAddresses", "").unwrap();
    stand.pass(59_999);
    assert_eq!(refused(stand.call("AllocateEipAddress", "")), "Throttling.User");
    stand.pass(1);
    stand.call("AllocateEipAddress", "").unwrap();
}

#[test]
fn every_pod_address_appears_after_a_moment_and_every_kind_is_among_the_first_twenty() {
    let mut stand = Stand::new(Profile::Realistic);
    assert!(stand.interface("10.1.0.5").is_none(), "a new pod's address takes a second to appear");
    stand.pass(999);
    assert!(stand.interface("10.1.0.5").is_none());
    stand.pass(1);
    assert!(stand.interface("10.1.0.5").is_some());
    for (net, wanted) in [("10.1.0", vec!["primary", "secondary"]), ("10.4.0", vec!["prefix", "primary", "secondary"])] {
        let kinds: BTreeSet<&str> = (1..=20).map(|host| kind_of(&mut stand, &format!("{net}.{host}"))).collect();
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
            assert!(interface["Ipv4PrefixSets"]["Ipv4PrefixSet"][0]["Ipv4Prefix"].as_str().unwrap().ends_with("/28"));
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
    assert_eq!((&stand.eip(&id)["Status"], &stand.eip(&id)["InstanceId"]), (&Value::from("Available"), &Value::from("")));
    assert_ne!(stand.interface_id("10.1.0.11"), old);
}

#[test]
fn an_eip_joins_a_bandwidth_package_and_shows_its_bandwidth() {
    let mut stand = Stand::new(Profile::Realistic);
    let id = stand.allocate();
    let query = format!("BandwidthPackageId=cbwp-bp1waygate0000000&IpInstanceId={id}");
    stand.call("AddCommonBandwidthPackageIp", &query).unwrap();
    assert_eq!(refused(stand.call("AddCommonBandwidthPackageIp", &query)), "IpInstanceId.AlreadyInBandwidthPackage");
    let relation = |stand: &mut Stand| {
        let packages = stand.call("DescribeCommonBandwidthPackages", "").unwrap();
        packages["CommonBandwidthPackages"]["CommonBandwidthPackage"][0]["PublicIpAddresses"]["PublicIpAddresse"][0]
            ["BandwidthPackageIpRelationStatus"]
            .clone()
    };
    assert_eq!(relation(&mut stand), "BINDING");
    stand.pass(2000);
    assert_eq!(relation(&mut stand), "BINDED");
    assert_eq!(stand.eip(&id)["Bandwidth"], "1000");
    stand.call("RemoveCommonBandwidthPackageIp", &query).unwrap();
    assert_eq!(refused(stand.call("RemoveCommonBandwidthPackageIp", &query)), "OperationUnsupported.IpNotInCbwp");
    assert_eq!(stand.eip(&id)["Bandwidth"], "5");
}

#[test]
fn a_denied_action_is_refused_with_its_detail_and_a_switched_off_key_altogether() {
    let mut stand = Stand::new(Profile::Instant);
    stand.cloud.access_key_mut(&stand.key).unwrap().denied = vec!["vpc:Release*".to_owned(), "ecs:DescribeNetworkInterfaces".to_owned()];
    assert_eq!(refused(stand.call("ReleaseEipAddress", "AllocationId=x")), "Forbidden.RAM");
    assert_eq!(refused(stand.call("DescribeNetworkInterfaces", "")), "Forbidden.RAM");
    stand.call("DescribeEipAddresses", "").unwrap();
    stand.cloud.access_key_mut(&stand.key).unwrap().is_inactive = true;
    assert_eq!(refused(stand.call("DescribeEipAddresses", "")), "InvalidAccessKeyId.Inactive");
}

#[test]
fn an_oidc_token_is_judged_by_its_claims() {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let mut stand = Stand::new(Profile::Instant);
    let token = |claims: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
    let role = format!("acs:ram::{}:role/worker", stand.cloud.account());
    let provider = format!("acs:ram::{}:oidc-provider/ack", stand.cloud.account());
    let query = |token: &str| format!("RoleSessionName=waygate&RoleArn={role}&OIDCProviderArn={provider}&OIDCToken={token}");
    let mut ask = |claims: &str| stand.call("AssumeRoleWithOIDC", &query(&token(claims)));
    let good = ask(r#"{"iss":"https://k8s","sub":"s","aud":["sts.aliyuncs.com"],"exp":4102444800,"iat":1}"#).unwrap();
    assert!(good["Credentials"]["AccessKeyId"].as_str().unwrap().starts_with("STS."));
    assert_eq!(good["Credentials"]["Expiration"], "2026-01-02T04:04:05Z");
    let code = |outcome| refused::<Value>(outcome).replace("AuthenticationFail.OIDCToken.", "");
    assert_eq!(code(ask(r#"{"iss":"https://k8s","aud":"sts.aliyuncs.com","exp":1}"#)), "Expired");
    assert_eq!(code(ask(r#"{"iss":"https://k8s","aud":"other","exp":4102444800}"#)), "AudienceNotMatch");
    assert_eq!(code(ask(r#"{"iss":"http://k8s","aud":"sts.aliyuncs.com","exp":4102444800}"#)), "HttpsUrlInvalid");
    assert_eq!(code(ask("no json")), "Invalid");
    assert_eq!(code(stand.call("AssumeRoleWithOIDC", &query("no-jwt"))), "Invalid");
}

#[test]
fn common_refusals_come_before_any_action() {
    let mut stand = Stand::new(Profile::Instant);
    assert_eq!(refused(stand.call("DescribeEipAddresses", "RegionId=mars")), "InvalidRegionId.NotFound");
    assert_eq!(refused(stand.call("DeleteForwardEntry", "")), "MissingParameter");
    assert_eq!(refused(stand.call("LaunchRocket", "")), "InvalidAction.NotFound");
    assert_eq!(refused(stand.call("DescribeVpcs", "DryRun=True")), "DryRunOperation");
    let params = Params::default();
    let old = Call { action: "DescribeVpcs", version: "1999-01-01", params: &params, caller: Some(&stand.key) };
    assert_eq!(stand.cloud.handle(&old, stand.now).outcome.unwrap_err().code, "NoSuchVersion");
    let unsigned = Call { action: "DescribeVpcs", version: "2016-04-28", params: &params, caller: None };
    assert_eq!(stand.cloud.handle(&unsigned, stand.now).outcome.unwrap_err().code, "IncompleteSignature");
}

#[test]
fn what_the_console_does_is_in_effect_at_once() {
    let mut stand = Stand::new(Profile::Strict);
    let (gateway, _, eip, _) = stand.gateway();
    let id = stand.create("80", "10.1.0.5", "80", "TCP").unwrap()["ForwardEntryId"].as_str().unwrap().to_owned();
    stand.pass(5000);
    let by_hand = |stand: &mut Stand, action: &str, query: String| stand.cloud.by_hand(action, &Params::new(decode(query.as_bytes())));
    by_hand(&mut stand, "DeleteForwardEntry", format!("ForwardEntryId={id}")).unwrap();
    assert!(stand.cloud.state()["forwardEntries"].as_array().unwrap().is_empty());
    by_hand(&mut stand, "UnassociateEipAddress", format!("AllocationId={eip}")).unwrap();
    assert_eq!(stand.eip(&eip)["Status"], "Available");
    by_hand(&mut stand, "ReleaseEipAddress", format!("AllocationId={eip}")).unwrap();
    assert_eq!(stand.eip(&eip), Value::Null);
    stand.cloud.delete_nat_gateway(&gateway).unwrap();
    assert_eq!(stand.cloud.gateway_summary().len(), 1);
}

/// One random call: which action, for which of a few things, with which of a few tokens, and how much later.
type Step = (u8, u8, u8, u8, u16);

/// What holds after every step, whatever was called.
struct Watch {
    statuses: BTreeMap<String, String>,
    by_token: BTreeMap<String, String>,
}

impl Watch {
    fn check(&mut self, cloud: &Cloud) {
        let state = cloud.state();
        let (mut external, mut internal) = (BTreeSet::new(), BTreeSet::new());
        for entry in state["forwardEntries"].as_array().unwrap() {
            let ports = |name: &str| {
                let text = entry[name].as_str().unwrap();
                let (from, to) = text.split_once('/').unwrap_or((text, text));
                from.parse::<u16>().unwrap()..=to.parse::<u16>().unwrap()
            };
            let (table, protocol) = (entry["ForwardTableId"].to_string(), entry["IpProtocol"].to_string());
            for port in ports("ExternalPort") {
                let tuple = (table.clone(), entry["ExternalIp"].to_string(), port, protocol.clone());
                assert!(external.insert(tuple.clone()), "two entries have {tuple:?}");
            }
            for port in ports("InternalPort") {
                let tuple = (table.clone(), entry["InternalIp"].to_string(), port, protocol.clone());
                assert!(internal.insert(tuple.clone()), "two entries have {tuple:?}");
            }
        }
        self.check_transitions(&state);
    }

    fn check_transitions(&mut self, state: &Value) {
        let eips = state["eips"].as_array().unwrap();
        let mut private = BTreeSet::new();
        for eip in eips {
            let (id, status) = (eip["AllocationId"].as_str().unwrap(), eip["Status"].as_str().unwrap());
            let bound = !eip["InstanceId"].as_str().unwrap().is_empty();
            assert_eq!(bound, ["Associating", "InUse", "Unassociating"].contains(&status), "{eip}");
            let address = eip["PrivateIpAddress"].as_str().unwrap();
            assert!(address.is_empty() || private.insert(address.to_owned()), "{address} has two EIPs");
            if let Some(before) = self.statuses.insert(id.to_owned(), status.to_owned()) {
                assert!(is_legal(&before, status), "{id} went from {before} to {status}");
            }
        }
        let is_there = |id: &String| eips.iter().any(|eip| eip["AllocationId"] == id.as_str());
        self.statuses.retain(|id, before| {
            is_there(id) || {
                assert_eq!(before, "Releasing", "{id} vanished");
                false
            }
        });
    }
}

/// One observation to the next: between two of them either time passed or a call was made, so no state is skipped.
fn is_legal(before: &str, after: &str) -> bool {
    let life = [
        ("Available", "Associating"),
        ("Associating", "InUse"),
        ("InUse", "Unassociating"),
        ("Unassociating", "Available"),
        ("Available", "Releasing"),
    ];
    before == after || life.contains(&(before, after))
}

fn step(stand: &mut Stand, watch: &mut Watch, (action, thing, other, token, ms): Step) {
    stand.pass(i64::from(ms % 300));
    watch.check(&stand.cloud);
    let eips: Vec<String> = watch.statuses.keys().cloned().collect();
    let eip = eips.get(usize::from(thing) % eips.len().max(1)).map_or("eip-none", String::as_str);
    let pod = format!("10.1.0.{}", other % 12 + 1);
    let entries = stand.cloud.state()["forwardEntries"].clone();
    let entry = entries.get(usize::from(thing) % 8).cloned().unwrap_or_default();
    let (table, id) = (entry["ForwardTableId"].as_str().unwrap_or("ftb-x"), entry["ForwardEntryId"].as_str().unwrap_or("fwd-x"));
    let tokened = format!("ClientToken=token-{}-{}", action % 8, token % 16);
    let (name, query) = match action % 8 {
        0 => ("AllocateEipAddress", tokened.clone()),
        1 => ("ReleaseEipAddress", format!("AllocationId={eip}")),
        2 => ("UnassociateEipAddress", format!("AllocationId={eip}")),
        3 => {
            let interface = stand.interface(&pod).map(|it| it["NetworkInterfaceId"].as_str().unwrap().to_owned()).unwrap_or_default();
            let query = format!("AllocationId={eip}&InstanceId={interface}&InstanceType=NetworkInterface&PrivateIpAddress={pod}");
            ("AssociateEipAddress", query)
        }
        4 | 5 => {
            let (external, internal) = (7000 + u16::from(thing % 16), 80 + u16::from(token % 4));
            let length = u16::from(other % 3);
            let ports = |from: u16| format!("{from}/{}", from + length);
            let query = stand.entry(&ports(external), &pod, &ports(internal), if thing % 2 == 0 { "TCP" } else { "UDP" });
            ("CreateForwardEntry", format!("{query}&{tokened}"))
        }
        6 => ("ModifyForwardEntry", format!("ForwardTableId={table}&ForwardEntryId={id}&InternalIp={pod}")),
        _ => ("DeleteForwardEntry", format!("ForwardTableId={table}&ForwardEntryId={id}")),
    };
    let outcome = stand.call(name, &query);
    if name == "AllocateEipAddress"
        && let Ok(body) = &outcome
    {
        let made = body["AllocationId"].as_str().unwrap().to_owned();
        let before = watch.by_token.entry(tokened).or_insert_with(|| made.clone());
        assert_eq!(*before, made, "a replayed token made a second EIP");
    }
    watch.check(&stand.cloud);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_calls_breaks_the_invariants(seed: u64, strictness in 0..3_u8, steps in prop::collection::vec(any::<Step>(), 1..170)) {
        let profile = [Profile::Instant, Profile::Realistic, Profile::Strict][usize::from(strictness)];
        let mut stand = Stand::seeded(profile, seed);
        let mut watch = Watch { statuses: BTreeMap::new(), by_token: BTreeMap::new() };
        watch.check(&stand.cloud);
        for one in steps {
            step(&mut stand, &mut watch, one);
        }
    }
}
