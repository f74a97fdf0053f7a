use super::*;
use crate::ids::{AllocationId, BandwidthPackageId};
use crate::request::{
    EipRequest, EipSpec, ExposedPort, InstanceChargeType, InternetChargeType, Protocol,
    ReleaseStrategy,
};
use crate::text::Alphabet;

const STATEFUL: Context =
    Context { host_network: false, owner: None, stateful: true, port_ranges: None };
const STATELESS: Context = Context { stateful: false, ..STATEFUL };

/// Keys without a prefix get the original's.
fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let full = |key: &str| {
        if key.contains('/') { key.to_owned() } else { format!("{}{key}", ORIGINAL_PREFIXES[0]) }
    };
    pairs.iter().map(|(key, value)| (full(key), (*value).to_owned())).collect()
}

fn read_as(context: &Context, pairs: &[(&str, &str)]) -> ParsedAnnotations {
    parse_annotations(&annotations(pairs), context)
}

fn eip(pairs: &[(&str, &str)]) -> EipRequest {
    let parsed = read_as(&STATEFUL, pairs);
    match parsed.requests.address {
        Some(Request::Eip(eip)) => eip,
        other => panic!("{pairs:?} gave {other:?} with {:?}", parsed.problems),
    }
}

fn spec(pairs: &[(&str, &str)]) -> EipSpec {
    match eip(&[&[("pod-with-eip", "true")], pairs].concat()).source {
        EipSource::Allocate(spec) => spec,
        source => panic!("{pairs:?} gave {source:?}"),
    }
}

fn ports(pairs: &[(&str, &str)]) -> Vec<String> {
    let parsed = read_as(&STATEFUL, &[&[("pod-dnat", "true")], pairs].concat());
    match parsed.requests.address {
        Some(Request::Dnat(dnat)) => dnat.ports.iter().map(ExposedPort::to_string).collect(),
        other => panic!("{pairs:?} gave {other:?} with {:?}", parsed.problems),
    }
}

/// The names of the keys that are refused, without the usual prefix.
fn refused(context: &Context, pairs: &[(&str, &str)]) -> Vec<String> {
    let parsed = read_as(context, pairs);
    assert_eq!(
        parsed.requests.address.is_none(),
        !parsed.problems.is_empty() || pairs.is_empty(),
        "{pairs:?}: {parsed:?}"
    );
    names(&parsed.problems)
}

fn names(problems: &[Problem]) -> Vec<String> {
    problems
        .iter()
        .map(|problem| problem.key.trim_start_matches(ORIGINAL_PREFIXES[0]).to_owned())
        .collect()
}

#[test]
fn the_documents_deployment_for_dnat_reads_as_one_tcp_port() {
    assert_eq!(ports(&[("pod-dnat", ""), ("pod-dnat-expose-port", "80")]), ["80/tcp"]);
}

#[test]
fn the_documents_stateful_set_for_eips_reads_as_a_retained_eip() {
    let eip = eip(&[("pod-with-eip", "true"), ("pod-eip-release-strategy", "10m")]);
    assert_eq!(eip.release, ReleaseStrategy::Ttl { seconds: 600, text: "10m".into() });
    assert_eq!(eip.source, EipSource::Allocate(EipSpec::default()));
}

#[test]
fn every_setting_of_an_eip_reaches_the_request() {
    let spec = spec(&[
        ("eip-bandwidth", "1000"),
        ("eip-charge-type", "PayByBandwidth"),
        ("eip-instance-charge-type", "PrePaid"),
        ("eip-isp", "BGP_PRO"),
        ("eip-public-ip-address-pool-id", "pippool-bp1bbpq1jjncxxxx"),
        ("eip-resource-group-id", "rg-acfmwxxxxxsq"),
        ("eip-description", "a game"),
        ("eip-security-protection-types", "AntiDDoS_Enhanced"),
        ("eip-tags", r#"{"team":"game","empty":""}"#),
    ]);
    assert_eq!(
        (spec.bandwidth, spec.internet_charge_type),
        (1000, InternetChargeType::PayByBandwidth)
    );
    assert_eq!(spec.instance_charge_type, InstanceChargeType::PrePaid);
    assert_eq!(spec.isp.as_deref(), Some("BGP_PRO"));
    assert_eq!(spec.public_ip_address_pool_id.as_deref(), Some("pippool-bp1bbpq1jjncxxxx"));
    assert_eq!(spec.resource_group_id.as_deref(), Some("rg-acfmwxxxxxsq"));
    assert_eq!(spec.description.as_deref(), Some("a game"));
    assert_eq!(spec.security_protection_types, ["AntiDDoS_Enhanced"]);
    assert_eq!(spec.tags["team"], "game");
}

#[test]
fn a_name_may_hold_a_slash_and_a_package_may_be_joined() {
    let spec =
        spec(&[("eip-name", "default/game-0"), ("eip-common-bandwidth-package-id", "cbwp-bp1abc")]);
    assert_eq!(spec.name.as_deref(), Some("default/game-0"));
    assert_eq!(spec.bandwidth_package, Some(BandwidthPackageId::new("cbwp-bp1abc")));
}

#[test]
fn an_instance_id_is_bound_with_the_switch_for_allocation_on_or_off() {
    for switch in [
        &[][..],
        &[("pod-with-eip", "true")],
        &[("pod-with-eip", "false")],
        &[("eci-with-eip", "1")],
    ] {
        let eip = eip(&[switch, &[("pod-eip-instanceid", "eip-bp14q")]].concat());
        assert_eq!(eip.source, EipSource::Given(AllocationId::new("eip-bp14q")));
    }
    assert_eq!(
        eip(&[("eci-eip-instanceid", "eip-1")]).source,
        EipSource::Given(AllocationId::new("eip-1"))
    );
}

#[test]
fn allocation_settings_contradict_an_instance_id_unless_allocation_is_off() {
    let beside = [("pod-eip-instanceid", "eip-1"), ("eip-bandwidth", "5"), ("eip-isp", "BGP")];
    assert_eq!(refused(&STATEFUL, &beside), ["eip-bandwidth", "eip-isp"]);
    let off = read_as(&STATEFUL, &[&beside[..], &[("pod-with-eip", "false")]].concat());
    assert!(off.requests.address.is_some() && off.problems.is_empty());
    assert_eq!(names(&off.warnings), ["eip-bandwidth", "eip-isp"]);
}

#[test]
fn bools_are_those_of_go() {
    for on in ["1", "t", "T", "TRUE", "true", "True"] {
        assert!(read_as(&STATEFUL, &[("pod-with-eip", on)]).requests.address.is_some(), "{on}");
    }
    for off in ["0", "f", "F", "FALSE", "false", "False"] {
        let parsed = read_as(&STATEFUL, &[("pod-with-eip", off), ("pod-dnat", off)]);
        assert_eq!((parsed.requests.address, parsed.problems), (None, vec![]), "{off}");
    }
    for wrong in ["yes", "on", "tRUE", " true", ""] {
        assert_eq!(refused(&STATEFUL, &[("pod-with-eip", wrong)]), ["pod-with-eip"], "{wrong}");
    }
}

#[test]
fn ports_are_read_with_their_protocols() {
    for (value, usual, expected) in [
        ("80,443", "tcp", vec!["80/tcp", "443/tcp"]),
        ("80, 443", "UDP", vec!["80/udp", "443/udp"]),
        ("443,53/udp", "Tcp", vec!["443/tcp", "53/udp"]),
        ("53/UDP,53/tcp", "tcp", vec!["53/udp", "53/tcp"]),
        ("1,65535", "tcp", vec!["1/tcp", "65535/tcp"]),
    ] {
        assert_eq!(
            ports(&[("pod-dnat-expose-port", value), ("pod-dnat-expose-protocol", usual)]),
            expected
        );
    }
}

#[test]
fn wrong_ports_are_refused() {
    for wrong in [
        "0",
        "65536",
        "-1",
        "+80",
        "80,",
        ",",
        "http",
        "80/sctp",
        "80/",
        "80,80",
        "80/tcp,80",
        "1e3",
        "8 0",
        "٨٠",
    ] {
        assert_eq!(
            refused(&STATEFUL, &[("pod-dnat", "true"), ("pod-dnat-expose-port", wrong)]),
            ["pod-dnat-expose-port"],
            "{wrong}"
        );
    }
    let both = read_as(&STATEFUL, &[("pod-dnat", ""), ("pod-dnat-expose-port", "0,80,80,x")]);
    let message = both.problems[0].to_string();
    assert!(message.contains("\"0\", \"x\"") && message.contains("80/tcp"), "{message}");
}

#[test]
fn dnat_without_ports_names_the_missing_key() {
    for pairs in [&[("pod-dnat", "true")][..], &[("pod-dnat", ""), ("pod-dnat-expose-port", "")]] {
        assert_eq!(refused(&STATEFUL, pairs), ["pod-dnat-expose-port"]);
    }
}

#[test]
fn ports_that_no_gateway_can_hold_are_refused() {
    let ranges = [512..=513, 7000..=7002];
    let context = Context { port_ranges: Some(&ranges), ..STATEFUL };
    let on = ("pod-dnat", "true");
    assert!(
        refused(&context, &[on, ("pod-dnat-expose-port", "1,2,3,1/udp,2/udp,3/udp")]).is_empty()
    );
    assert_eq!(
        refused(&context, &[on, ("pod-dnat-expose-port", "1,2,3,4")]),
        ["pod-dnat-expose-port"]
    );
    let same = ("waygate.dev/same-port", "true");
    assert!(refused(&context, &[on, same, ("pod-dnat-expose-port", "7000,7002/udp")]).is_empty());
    assert_eq!(
        refused(&context, &[on, same, ("pod-dnat-expose-port", "512,7000")]),
        ["pod-dnat-expose-port"]
    );
}

#[test]
fn ports_in_a_namespace_that_no_gateway_serves_are_refused() {
    let context = Context { port_ranges: Some(&[]), ..STATEFUL };
    let parsed = read_as(&context, &[("pod-dnat", "true"), ("pod-dnat-expose-port", "80")]);
    let problems: Vec<_> = parsed.problems.iter().map(ToString::to_string).collect();
    assert!(
        problems.len() == 1 && problems[0].contains("cannot be given in this namespace"),
        "{problems:?}"
    );
    assert!(refused(&context, &[("pod-with-eip", "true")]).is_empty());
}

#[test]
fn bandwidth_is_bounded_by_how_it_is_paid() {
    let traffic = ("eip-internet-charge-type", "PayByTraffic");
    let peak = ("eip-internet-charge-type", "PayByBandwidth");
    let prepaid = ("eip-instance-charge-type", "PrePaid");
    for (settings, most) in
        [(vec![], 200), (vec![traffic], 200), (vec![peak], 500), (vec![peak, prepaid], 1000)]
    {
        let with = |bandwidth: &str| {
            let all =
                [&[("pod-with-eip", "true"), ("eip-bandwidth", bandwidth)], &settings[..]].concat();
            refused(&STATEFUL, &all)
        };
        assert!(with("1").is_empty() && with(&most.to_string()).is_empty(), "{settings:?}");
        for wrong in [
            "0".to_owned(),
            (most + 1).to_string(),
            "-1".into(),
            "5M".into(),
            "5.5".into(),
            "99999999999".into(),
        ] {
            assert_eq!(with(&wrong), ["eip-bandwidth"], "{settings:?} {wrong}");
        }
    }
}

#[test]
fn prepaid_needs_pay_by_bandwidth_and_no_package() {
    let prepaid = [("pod-with-eip", "true"), ("eip-instance-charge-type", "PrePaid")];
    assert_eq!(refused(&STATEFUL, &prepaid), ["eip-internet-charge-type"]);
    let package =
        [("eip-charge-type", "PayByBandwidth"), ("eip-common-bandwidth-package-id", "cbwp-1")];
    assert_eq!(
        refused(&STATEFUL, &[&prepaid[..], &package].concat()),
        ["eip-common-bandwidth-package-id"]
    );
}

#[test]
fn durations_are_those_of_go() {
    for (text, seconds) in [
        ("5m30s", 330),
        ("1h", 3600),
        ("1.5h", 5400),
        ("300ms", 1),
        ("1s1ns", 2),
        (".5m", 30),
        ("1.s", 1),
        ("100us", 1),
        ("1µs", 1),
        ("1μs", 1),
        ("+2s", 2),
        ("2540400h10m10.000000000s", 2_540_400 * 3600 + 610),
    ] {
        let eip = eip(&[("pod-with-eip", "true"), ("pod-eip-release-strategy", text)]);
        assert_eq!(eip.release, ReleaseStrategy::Ttl { seconds, text: text.into() });
    }
    for wrong in [
        "0",
        "0s",
        "-1h",
        "5",
        "5 m",
        "1d",
        "h",
        ".s",
        "1..5h",
        "9999999h",
        "99999999999999999999h",
        "5m30",
        "P1D",
        "follow",
    ] {
        let pairs = [("pod-with-eip", "true"), ("pod-eip-release-strategy", wrong)];
        assert_eq!(refused(&STATEFUL, &pairs), ["pod-eip-release-strategy"], "{wrong}");
    }
}

#[test]
fn only_a_stateful_pod_keeps_its_address() {
    let never = [("pod-with-eip", "true"), ("pod-eip-release-strategy", "Never")];
    assert_eq!(eip(&never).release, ReleaseStrategy::Never);
    assert_eq!(refused(&STATELESS, &never), ["pod-eip-release-strategy"]);
    assert!(
        refused(&STATELESS, &[("pod-with-eip", "true"), ("pod-eip-release-strategy", "Follow")])
            .is_empty()
    );

    let fixed = [("pod-dnat", ""), ("pod-dnat-expose-port", "80"), ("pod-dnat-fixed", "true")];
    let is_fixed = |parsed: ParsedAnnotations| matches!(parsed.requests.address, Some(Request::Dnat(dnat)) if dnat.fixed);
    assert!(is_fixed(read_as(&STATEFUL, &fixed)));
    let stateless = read_as(&STATELESS, &fixed);
    assert_eq!(names(&stateless.warnings), ["pod-dnat-fixed"]);
    assert!(!is_fixed(stateless));
    assert!(!is_fixed(read_as(&STATEFUL, &[fixed[0], fixed[1], ("pod-dnat-fixed", "false")])));
}

#[test]
fn ids_and_words_of_the_wrong_shape_are_refused() {
    let long = format!("pippool-{}", "a".repeat(64));
    for (name, value) in [
        ("eip-common-bandwidth-package-id", "eip-1"),
        ("eip-public-ip-address-pool-id", long.as_str()),
        ("eip-resource-group-id", "rg-"),
        ("eip-resource-group-id", "rg-A"),
        ("eip-isp", "bgp"),
        ("eip-internet-charge-type", "PayByMoon"),
        ("eip-instance-charge-type", "Free"),
        ("eip-name", "https://example.com"),
        ("eip-description", "http://example.com"),
        ("eip-security-protection-types", "AntiDDoS"),
    ] {
        assert_eq!(
            refused(&STATEFUL, &[("pod-with-eip", "true"), (name, value)]),
            [name],
            "{value}"
        );
    }
    assert_eq!(refused(&STATEFUL, &[("pod-eip-instanceid", "i-1")]), ["pod-eip-instanceid"]);
    assert_eq!(refused(&STATEFUL, &[("pod-eip-instanceid", "eip-1\n")]), ["pod-eip-instanceid"]);
    assert_eq!(
        refused(&STATEFUL, &[("pod-with-eip", "true"), ("eip-name", &"ä".repeat(129))]),
        ["eip-name"]
    );
    assert!(
        refused(&STATEFUL, &[("pod-with-eip", "true"), ("eip-name", &"ä".repeat(128))]).is_empty()
    );
}

#[test]
fn tags_are_bounded_and_reserved_ones_refused() {
    let many: BTreeMap<String, String> =
        (0..18).map(|i| (format!("k{i}"), String::new())).collect();
    let long = format!(r#"{{"{}":""}}"#, "k".repeat(129));
    let wrong = [
        "",
        "{",
        "[]",
        r#"{"a":1}"#,
        r#"{"":"x"}"#,
        r#"{"aliyun-x":"x"}"#,
        r#"{"ACS:x":"x"}"#,
        r#"{"waygate.dev/lease":"x"}"#,
        r#"{"x-http://":"x"}"#,
        &serde_json::to_string(&many).unwrap(),
        &long,
    ];
    for text in &wrong[1..] {
        assert_eq!(
            refused(&STATEFUL, &[("pod-with-eip", "true"), ("eip-tags", text)]),
            ["eip-tags"],
            "{text}"
        );
    }
}

#[test]
fn both_prefixes_count_and_must_agree() {
    let other = |name: &str| format!("{}{name}", ORIGINAL_PREFIXES[1]);
    let (switch, bandwidth) = (other("pod-with-eip"), other("eip-bandwidth"));
    assert!(
        refused(&STATEFUL, &[(&switch, "true"), ("eip-bandwidth", "7"), (&bandwidth, "7")])
            .is_empty()
    );
    let differing =
        refused(&STATEFUL, &[(&switch, "true"), ("eip-bandwidth", "7"), (&bandwidth, "8")]);
    assert_eq!(differing, ["network.alibabacloud.com/eip-bandwidth"]);
    assert_eq!(
        refused(&STATEFUL, &[(&switch, "true"), ("eip-bandwidth", "7"), (&bandwidth, "")]).len(),
        1
    );
    let spellings = [
        ("pod-with-eip", "true"),
        ("eip-charge-type", "PayByTraffic"),
        ("eip-internet-charge-type", "PayByBandwidth"),
    ];
    assert_eq!(refused(&STATEFUL, &spellings), ["eip-internet-charge-type"]);
    assert_eq!(
        refused(&STATEFUL, &[("pod-with-eip", "true"), ("eci-with-eip", "false")]),
        ["pod-with-eip"]
    );
}

#[test]
fn an_eip_and_dnat_exclude_each_other_unless_one_is_off() {
    let eip = ("pod-with-eip", "true");
    assert_eq!(
        refused(&STATEFUL, &[eip, ("pod-dnat", "true"), ("pod-dnat-expose-port", "80")]),
        ["pod-dnat"]
    );
    assert!(refused(&STATEFUL, &[eip, ("pod-dnat", "false")]).is_empty());
}

#[test]
fn pods_on_their_nodes_network_are_refused_only_if_they_ask() {
    let context = Context { host_network: true, ..STATEFUL };
    assert_eq!(
        refused(&context, &[("pod-dnat", ""), ("pod-dnat-expose-port", "80")]),
        ["pod-dnat"]
    );
    assert_eq!(refused(&context, &[("pod-eip-instanceid", "eip-1")]), ["pod-eip-instanceid"]);
    assert!(read_as(&context, &[("pod-with-eip", "false")]).problems.is_empty());
}

#[test]
fn settings_beside_a_feature_that_is_off_only_warn() {
    let parsed = read_as(
        &STATELESS,
        &[
            ("pod-with-eip", "false"),
            ("eip-bandwidth", "many"),
            ("pod-eip-release-strategy", "Never"),
        ],
    );
    assert_eq!((parsed.requests.address, parsed.problems), (None, vec![]));
    assert_eq!(names(&parsed.warnings), ["eip-bandwidth", "pod-eip-release-strategy"]);
    let parsed = read_as(&STATELESS, &[("pod-dnat-expose-port", "80")]);
    assert_eq!(names(&parsed.warnings), ["pod-dnat-expose-port"]);
}

#[test]
fn an_empty_setting_is_no_setting_and_says_so() {
    let parsed = read_as(
        &STATELESS,
        &[
            ("pod-with-eip", "true"),
            ("eip-bandwidth", ""),
            ("pod-eip-instanceid", ""),
            ("eip-name", ""),
        ],
    );
    assert_eq!(parsed.requests.address.map(|request| request.kind()), Some(Kind::Eip));
    assert_eq!(names(&parsed.warnings).len(), 3);
    let fixed = [("pod-dnat", ""), ("pod-dnat-expose-port", "80"), ("pod-dnat-fixed", "")];
    assert!(
        matches!(read_as(&STATEFUL, &fixed).requests.address, Some(Request::Dnat(dnat)) if dnat.fixed)
    );
}

#[test]
fn a_typo_in_a_key_is_not_silently_ignored() {
    let parsed = read_as(&STATELESS, &[("pod-dnat-expose-prot", "80")]);
    let message = parsed.warnings[0].to_string();
    assert!(message.contains("did you mean k8s.aliyun.com/pod-dnat-expose-port?"), "{message}");
    let misplaced = read_as(&STATELESS, &[("k8s.aliyun.com/same-port", "true")]);
    assert!(misplaced.warnings[0].why.contains("waygate.dev/same-port"));
}

#[test]
fn keys_of_others_are_left_alone() {
    let others = [
        ("pod-ips", "10.0.0.1"),
        ("eci-use-specs", "2-4Gi"),
        ("ingress-bandwidth", "10M"),
        ("ipv6-bandwidth", "5"),
        ("allocated-eipAddress", "1.2.3.4"),
        ("example.com/pod-dnat", "no"),
        ("waygate.dev/pod", "eip"),
    ];
    let parsed = read_as(&STATELESS, &others);
    assert_eq!((parsed.requests.address, parsed.problems, parsed.warnings), (None, vec![], vec![]));
}

#[test]
fn what_is_not_served_yet_is_checked_and_says_so() {
    let on = [
        ("pod-with-eip", "true"),
        ("waygate.dev/on-timeout", "fail"),
        ("waygate.dev/ready-timeout", "10m"),
    ];
    let parsed = read_as(&STATELESS, &on);
    assert!(parsed.requests.address.is_some());
    assert_eq!(names(&parsed.warnings), ["waygate.dev/on-timeout", "waygate.dev/ready-timeout"]);
    let wrong = [
        on[0],
        ("waygate.dev/on-timeout", "explode"),
        ("waygate.dev/ready-timeout", "10"),
        ("waygate.dev/wait-for-address", "x"),
    ];
    assert_eq!(refused(&STATELESS, &wrong).len(), 3);
}

#[test]
fn all_problems_are_named_at_once() {
    let wrong = [
        ("pod-with-eip", "maybe"),
        ("eip-bandwidth", "9000"),
        ("eip-isp", "x"),
        ("pod-dnat", "true"),
        ("pod-dnat-expose-port", "0"),
        ("pod-dnat-expose-protocol", "sctp"),
    ];
    let mut names = refused(&STATELESS, &wrong);
    names.sort();
    names.dedup();
    assert_eq!(names.len(), wrong.len(), "{names:?}");
}

#[test]
fn a_message_escapes_and_shortens_what_the_author_wrote() {
    let hostile = format!("\u{1b}[31m\n{}", "x".repeat(100_000));
    let parsed = read_as(&STATELESS, &[("pod-with-eip", &hostile)]);
    let message = parsed.problems[0].to_string();
    assert!(message.len() < 300 && !message.contains(['\u{1b}', '\n']), "{message}");
}

#[test]
fn gates_follow_the_request_and_the_wish() {
    let given = read_as(&STATELESS, &[("pod-eip-instanceid", "eip-1")]).requests.address.unwrap();
    let allocated = read_as(&STATELESS, &[("pod-with-eip", "true")]).requests.address.unwrap();
    let dnat = read_as(&STATELESS, &[("pod-dnat", ""), ("pod-dnat-expose-port", "1")])
        .requests
        .address
        .unwrap();
    assert_eq!(readiness_gate_for(&given, GatePreference::Default, false), None);
    assert_eq!(readiness_gate_for(&given, GatePreference::Default, true), Some(Kind::Eip));
    assert_eq!(readiness_gate_for(&given, GatePreference::Always, false), Some(Kind::Eip));
    assert_eq!(readiness_gate_for(&allocated, GatePreference::Default, false), Some(Kind::Eip));
    assert_eq!(readiness_gate_for(&allocated, GatePreference::Never, true), None);
    assert_eq!(readiness_gate_for(&dnat, GatePreference::Default, false), Some(Kind::Dnat));
    assert_eq!(
        dnat,
        Request::Dnat(crate::request::DnatRequest {
            ports: vec![ExposedPort { port: 1, protocol: Protocol::Tcp }],
            fixed: false,
            same_port: false,
        })
    );
    for (text, wish) in [("true", GatePreference::Always), ("false", GatePreference::Never)] {
        assert_eq!(
            read_as(&STATELESS, &[("pod-with-eip", "true"), ("waygate.dev/readiness-gate", text)])
                .gate,
            wish
        );
    }
}

#[test]
fn a_sweep_sees_who_wants_an_address() {
    for (pairs, wants) in [
        (&[("pod-dnat", "")][..], true),
        (&[("pod-dnat", "false")], false),
        (&[("eci-with-eip", "true")], true),
        (&[("pod-with-eip", "rubbish")], true),
        (&[("pod-eip-instanceid", "eip-1")], true),
        (&[("pod-eip-instanceid", "")], false),
        (&[("eip-bandwidth", "5")], false),
    ] {
        assert_eq!(requests_address(&annotations(pairs)), wants, "{pairs:?}");
    }
    assert_eq!(requested_kind(&annotations(&[("pod-dnat", "")])), Some(Kind::Dnat));
    assert_eq!(
        requested_kind(&annotations(&[("pod-dnat", ""), ("pod-with-eip", "x")])),
        Some(Kind::Eip)
    );
}

/// What each key may be, so that nothing but the control character is wrong.
fn legal(key: Key) -> &'static str {
    match key {
        Key::ExposePort => "80,443",
        Key::ExposeProtocol => "tcp",
        Key::PodEipInstanceId => "eip-1",
        Key::Bandwidth => "5",
        Key::InternetChargeType => "PayByTraffic",
        Key::InstanceChargeType => "PostPaid",
        Key::BandwidthPackage => "cbwp-1",
        Key::Isp => "BGP",
        Key::AddressPool => "pippool-1",
        Key::ResourceGroup => "rg-1",
        Key::Name | Key::Description | Key::EipPool => "game",
        Key::SecurityProtection => "AntiDDoS_Enhanced",
        Key::Tags => r#"{"team":"game"}"#,
        Key::ReleaseStrategy | Key::ReadyTimeout => "5m",
        Key::OnTimeout => "hold",
        _ => "true",
    }
}

#[test]
fn no_key_in_any_spelling_takes_a_control_character_and_the_refusal_says_which() {
    for (key, spelling) in Key::all_keys()
        .flat_map(|key| key.spellings().into_iter().map(move |spelling| (key, spelling)))
    {
        for control in ('\0'..='\u{9f}').filter(|c| {
            c.is_control() && !(key.rule().alphabet == Alphabet::Lines && "\t\n\r".contains(*c))
        }) {
            // First, last and in the middle; with and without what else an address needs.
            let text = legal(key);
            let values = [
                format!("{control}{text}"),
                format!("{text}{control}"),
                format!("{}{control}{}", &text[..1], &text[1..]),
            ];
            for (value, switch) in values.iter().flat_map(|value| {
                [None, Some(Key::PodWithEip), Some(Key::PodDnat)].map(|it| (value, it))
            }) {
                let mut pairs: BTreeMap<String, String> = switch
                    .into_iter()
                    .map(|switch| (switch.key().to_owned(), "true".to_owned()))
                    .collect();
                pairs.insert(spelling.clone(), value.clone());
                let parsed = parse_annotations(&pairs, &STATEFUL);
                let why = format!("contains the control character U+{:04X}", u32::from(control));
                let named = |problem: &&Problem| {
                    problem.key == spelling && problem.value == *value && problem.why == why
                };
                assert_eq!(
                    parsed.problems.iter().filter(named).count(),
                    1,
                    "{spelling} {value:?}: {:?}",
                    parsed.problems
                );
                assert_eq!(
                    parsed
                        .problems
                        .iter()
                        .filter(|problem| problem.key == spelling && problem.why.starts_with("is "))
                        .count(),
                    0
                );
                assert_eq!(parsed.requests.address, None);
            }
        }
    }
}

#[test]
fn tags_hold_no_control_character_that_their_json_escapes() {
    for tags in
        [r#"{"a\u0000b":"c"}"#, r#"{"a":"b\u0000c"}"#, r#"{"a":"b\nc"}"#, r#"{"a\u007f":"b"}"#]
    {
        let parsed = read_as(&STATEFUL, &[("pod-with-eip", "true"), ("eip-tags", tags)]);
        assert_eq!(names(&parsed.problems), ["eip-tags"], "{tags}");
        assert!(parsed.problems[0].why.contains("control character U+00"), "{:?}", parsed.problems);
    }
}

#[test]
fn lists_and_objects_may_be_written_in_several_lines() {
    assert_eq!(ports(&[("pod-dnat-expose-port", "80,\n\t443\r\n")]), ["80/tcp", "443/tcp"]);
    assert_eq!(spec(&[("eip-tags", "{\n\t\"team\": \"game\"\r\n}\n")]).tags["team"], "game");
}

#[test]
fn every_key_has_a_longest_value_and_the_refusal_says_how_long() {
    for key in Key::all_keys() {
        let longest = key.rule().longest;
        let value = "ä".repeat(longest + 1);
        let pairs = BTreeMap::from([(key.key().to_owned(), value)]);
        let parsed = parse_annotations(&pairs, &STATEFUL);
        let about: Vec<_> = parsed.problems.iter().filter(|it| it.key == key.key()).collect();
        assert_eq!(about.len(), 1, "{:?}", parsed.problems);
        assert_eq!(about[0].why, format!("is longer than {longest} characters"));
        assert!(about[0].to_string().chars().count() < 300, "{}", about[0]);
        assert_eq!(parsed.requests.address, None);
    }
}

#[test]
fn text_that_is_shown_otherwise_than_it_is_and_every_problem_beside_it_are_named() {
    let parsed = read_as(
        &STATEFUL,
        &[("pod-with-eip", "true"), ("eip-name", "a\u{202e}b"), ("eip-description", "a\u{2028}b")],
    );
    let said = parsed.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    assert_eq!(names(&parsed.problems), ["eip-description", "eip-name"], "{said}");
    for part in ["\"a\\u{202e}b\"", "U+202E", "\"a\\u{2028}b\"", "U+2028"] {
        assert!(said.contains(part), "{part} is missing in {said}");
    }
}

#[test]
fn an_owner_that_no_object_is_called_is_refused_where_an_address_is_requested() {
    let owned = |kind, name| Context { owner: Some(Owner { kind, name }), ..STATEFUL };
    let asks = [("pod-with-eip", "true")];
    assert!(refused(&owned("StatefulSet", "web"), &asks).is_empty());
    let long = "w".repeat(254);
    for (kind, name, key) in [
        ("StatefulSet", "a\0b", "metadata.ownerReferences[].name"),
        ("StatefulSet", long.as_str(), "metadata.ownerReferences[].name"),
        ("State/fulSet", "web", "metadata.ownerReferences[].kind"),
        ("", "web", "metadata.ownerReferences[].kind"),
    ] {
        let parsed = read_as(&owned(kind, name), &asks);
        let keys: Vec<_> = parsed.problems.iter().map(|problem| problem.key.as_str()).collect();
        assert_eq!(keys, [key], "{kind} {name}");
        assert_eq!(parsed.requests.address, None);
        assert!(read_as(&owned(kind, name), &[("pod-with-eip", "false")]).problems.is_empty());
    }
}
