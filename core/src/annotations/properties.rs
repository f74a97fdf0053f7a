//! Properties that hold for any annotations.

use super::keys::Key;
use super::*;
use crate::ids::{AllocationId, BandwidthPackageId};
use crate::request::{
    DnatRequest, EipRequest, EipSpec, ExposedPort, InstanceChargeType, InternetChargeType,
    Protocol, ReleaseStrategy,
};
use proptest::collection::{btree_map, btree_set};
use proptest::option;
use proptest::prelude::*;

fn any_known_key() -> impl Strategy<Value = String> {
    prop::sample::select(Key::all_keys().map(|key| key.key().to_owned()).collect::<Vec<_>>())
}

/// Mostly keys that Waygate reads, with mostly valid values.
fn arbitrary_annotations() -> impl Strategy<Value = BTreeMap<String, String>> {
    let known = any_known_key();
    let other = (0..2usize, any_known_key()).prop_map(|(prefix, canonical)| {
        format!(
            "{}{}",
            ORIGINAL_PREFIXES[prefix],
            canonical.split_once('/').map_or("", |(_, name)| name)
        )
    });
    let key = prop_oneof![4 => known, 2 => other, 1 => ".*", 1 => "k8s.aliyun.com/[a-z-]{0,20}"];
    let value = prop_oneof![
        Just("true".to_owned()),
        Just("false".to_owned()),
        Just(String::new()),
        "[0-9]{1,6}",
        "[0-9]{1,5}(/(tcp|udp))?(,[0-9]{1,5}(/(tcp|udp))?){0,3}",
        "(eip|cbwp|pippool|rg)-[a-z0-9]{0,8}",
        "[0-9]{1,3}(ms|s|m|h)",
        "(Follow|Never|PayByTraffic|PayByBandwidth|PrePaid|BGP)",
        ".*",
    ];
    btree_map(key, value, 0..8)
}

fn arbitrary_contexts() -> impl Strategy<Value = (bool, bool)> {
    (any::<bool>(), any::<bool>())
}

fn tag_map() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map("[b-z][a-z0-9/.-]{0,20}", ".{0,20}", 0..17).prop_map(|tags| {
        let allowed = |(key, value): &(String, String)| {
            !key.starts_with("waygate.dev/") && Text::TagValue.allows(value)
        };
        tags.into_iter().filter(allowed).collect()
    })
}

fn eip_request() -> impl Strategy<Value = EipRequest> {
    let texts = (option::of("[a-z]{1,20}/[a-z]{1,20}"), option::of("[a-zA-Z ]{1,40}"), tag_map());
    let ids = (
        option::of("pippool-[a-z0-9]{1,20}"),
        option::of("rg-[a-z0-9]{1,20}"),
        option::of("cbwp-[a-z0-9]{1,20}"),
    );
    let money = (any::<bool>(), any::<bool>(), 1..=200u32);
    let spec = (texts, ids, money).prop_map(
        |(
            (name, description, tags),
            (pool, group, package),
            (by_bandwidth, prepaid, bandwidth),
        )| {
            let prepaid = prepaid && by_bandwidth;
            EipSpec {
                bandwidth,
                internet_charge_type: if by_bandwidth {
                    InternetChargeType::PayByBandwidth
                } else {
                    InternetChargeType::PayByTraffic
                },
                instance_charge_type: if prepaid {
                    InstanceChargeType::PrePaid
                } else {
                    InstanceChargeType::PostPaid
                },
                isp: prepaid.then(|| "BGP_PRO".to_owned()),
                public_ip_address_pool_id: pool,
                resource_group_id: group,
                bandwidth_package: package.filter(|_| !prepaid).map(BandwidthPackageId::new),
                name,
                description,
                security_protection_types: if prepaid {
                    vec!["AntiDDoS_Enhanced".to_owned()]
                } else {
                    Vec::new()
                },
                tags,
            }
        },
    );
    prop_oneof![
        (spec, release_strategy())
            .prop_map(|(spec, release)| EipRequest { source: EipSource::Allocate(spec), release }),
        ("[a-z]{1,20}", release_strategy())
            .prop_map(|(pool, release)| EipRequest { source: EipSource::Pool(pool), release }),
        "eip-[a-z0-9]{1,20}".prop_map(|id| EipRequest {
            source: EipSource::Given(AllocationId::new(id)),
            release: ReleaseStrategy::Follow
        }),
    ]
}

fn release_strategy() -> impl Strategy<Value = ReleaseStrategy> {
    prop_oneof![
        Just(ReleaseStrategy::Follow),
        Just(ReleaseStrategy::Never),
        (1..1_000_000u64).prop_map(|seconds| ReleaseStrategy::Ttl {
            seconds,
            text: format!("{}h{}m{}s", seconds / 3600, seconds / 60 % 60, seconds % 60)
        }),
    ]
}

fn dnat_request() -> impl Strategy<Value = DnatRequest> {
    let port = (1..=u16::MAX, prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)])
        .prop_map(|(port, protocol)| ExposedPort { port, protocol });
    (btree_set(port, 1..10), any::<bool>(), any::<bool>()).prop_map(|(ports, fixed, same_port)| {
        DnatRequest { ports: ports.into_iter().collect(), fixed, same_port }
    })
}

fn arbitrary_request() -> impl Strategy<Value = Request> {
    prop_oneof![eip_request().prop_map(Request::Eip), dnat_request().prop_map(Request::Dnat)]
}

/// The annotations that ask for `request`.
fn render_annotations(request: &Request) -> BTreeMap<String, String> {
    let pairs = match request {
        Request::Dnat(dnat) => {
            let ports: Vec<String> = dnat.ports.iter().map(ExposedPort::to_string).collect();
            vec![
                (Key::PodDnat, String::new()),
                (Key::ExposePort, ports.join(",")),
                (Key::Fixed, dnat.fixed.to_string()),
                (Key::SamePort, dnat.same_port.to_string()),
            ]
        }
        Request::Eip(EipRequest { source: EipSource::Given(id), .. }) => {
            vec![(Key::PodEipInstanceId, id.to_string())]
        }
        Request::Eip(EipRequest { source: EipSource::Pool(pool), release }) => {
            vec![
                (Key::PodWithEip, "true".to_owned()),
                (Key::EipPool, pool.clone()),
                (Key::ReleaseStrategy, render_release(release)),
            ]
        }
        Request::Eip(EipRequest { source: EipSource::Allocate(spec), release }) => {
            render_spec(spec, release)
        }
    };
    pairs
        .into_iter()
        .filter(|(key, value)| *key == Key::PodDnat || !value.is_empty())
        .map(|(key, value)| (key.key().to_owned(), value))
        .collect()
}

fn render_release(release: &ReleaseStrategy) -> String {
    match release {
        ReleaseStrategy::Follow => "Follow".to_owned(),
        ReleaseStrategy::Never => "Never".to_owned(),
        ReleaseStrategy::Ttl { text, .. } => text.clone(),
    }
}

fn render_spec(spec: &EipSpec, release: &ReleaseStrategy) -> Vec<(Key, String)> {
    let package = spec.bandwidth_package.as_ref().map(ToString::to_string);
    vec![
        (Key::PodWithEip, "true".to_owned()),
        (Key::Bandwidth, spec.bandwidth.to_string()),
        (Key::InternetChargeType, spec.internet_charge_type.as_str().to_owned()),
        (Key::InstanceChargeType, spec.instance_charge_type.as_str().to_owned()),
        (Key::Isp, spec.isp.clone().unwrap_or_default()),
        (Key::AddressPool, spec.public_ip_address_pool_id.clone().unwrap_or_default()),
        (Key::ResourceGroup, spec.resource_group_id.clone().unwrap_or_default()),
        (Key::BandwidthPackage, package.unwrap_or_default()),
        (Key::Name, spec.name.clone().unwrap_or_default()),
        (Key::Description, spec.description.clone().unwrap_or_default()),
        (Key::SecurityProtection, spec.security_protection_types.join(",")),
        (Key::Tags, serde_json::to_string(&spec.tags).unwrap()),
        (Key::ReleaseStrategy, render_release(release)),
    ]
}

proptest! {
    #[test]
    fn a_request_implies_no_problem_and_every_message_is_short(annotations in arbitrary_annotations(), (host_network, stateful) in arbitrary_contexts()) {
        let parsed = parse_annotations(&annotations, &Context { host_network, stateful, ..Context::default() });
        prop_assert!(parsed.requests.address.is_none() || parsed.problems.is_empty());
        for problem in parsed.problems.iter().chain(&parsed.warnings) {
            let message = problem.to_string();
            prop_assert!(message.len() < 2000 && message.chars().all(|c| !c.is_control()), "{message}");
        }
    }

    #[test]
    fn every_problem_names_a_key_that_is_present_or_required(annotations in arbitrary_annotations(), (host_network, stateful) in arbitrary_contexts()) {
        let required = [Key::ExposePort.key(), Key::InternetChargeType.key()];
        let parsed = parse_annotations(&annotations, &Context { host_network, stateful, ..Context::default() });
        for problem in parsed.problems.iter().chain(&parsed.warnings) {
            let present = annotations.get(&problem.key).is_some_and(|value| *value == problem.value);
            prop_assert!(present || required.contains(&problem.key.as_str()), "{problem:?}");
        }
    }

    #[test]
    fn what_wants_no_address_gets_none(annotations in arbitrary_annotations(), (host_network, stateful) in arbitrary_contexts()) {
        let parsed = parse_annotations(&annotations, &Context { host_network, stateful, ..Context::default() });
        prop_assert!(parsed.requests.address.is_none() || requests_address(&annotations));
    }

    #[test]
    fn a_request_survives_being_written_and_read(request in arbitrary_request()) {
        let parsed = parse_annotations(&render_annotations(&request), &Context { stateful: true, ..Context::default() });
        prop_assert_eq!(&parsed.problems, &vec![]);
        prop_assert_eq!(parsed.requests.address, Some(request));
    }

    #[test]
    fn either_prefix_reads_the_same(request in arbitrary_request()) {
        let other: BTreeMap<String, String> =
            render_annotations(&request).into_iter().map(|(key, value)| (key.replace(ORIGINAL_PREFIXES[0], ORIGINAL_PREFIXES[1]), value)).collect();
        let parsed = parse_annotations(&other, &Context { stateful: true, ..Context::default() });
        prop_assert_eq!(parsed.requests.address, Some(request));
    }
}
