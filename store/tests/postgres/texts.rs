//! Every text of `waygate_core::text` against Postgres: an arbitrary one is refused at its edge,
//! with its key, or it is stored and read back equal. The edges are the parsers themselves, so that
//! no rule stands here a second time.

use crate::database::{Bench, bought, in_database, target};
use anyhow::{Context as _, Result, ensure};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config as Runs, TestCaseError, TestRunner};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::runtime::Handle;
use uuid::Uuid;
use waygate_core::annotations::{Context, Owner, parse_annotations};
use waygate_core::change::{Answer, Change};
use waygate_core::config::Config;
use waygate_core::ids::{
    AllocationId, BandwidthPackageId, EniId, ForwardEntryId, ForwardTableId, NatGatewayId, PodUid,
    VSwitchId, VpcId, ZoneId,
};
use waygate_core::lease::Target;
use waygate_core::operation::Rejection;
use waygate_core::request::Request;
use waygate_core::retry::RetryPolicy;
use waygate_core::text::{Edge, Origin, Text, describe_fault, find_forbidden};
use waygate_store::{
    Finish, GatewayEip, OfferedPorts, PodObservation, RefusalHistory, SettledBy, Settlement,
};

/// Values of each text. A run takes some milliseconds.
const RUNS: u32 = 8;

/// What became of a value.
enum Fate {
    /// Refused at the edge, with this message.
    Refused(String),
    /// Stored, and read back.
    Stored { put: String, got: String },
    /// Accepted, and only compared with other texts.
    Compared,
}

/// Values near the rules: right ones, wrong in one character, too long, and anything.
fn values() -> impl Strategy<Value = String> {
    let right = prop_oneof![
        "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?",
        "(eip|cbwp|pippool|rg|ngw|vpc)-[a-z0-9]{1,20}",
        "cn-[a-z]{2,9}(-[a-z])?",
        "[A-Za-z0-9._/-]{1,30}",
        "[1-9][0-9]{0,3}(,[1-9][0-9]{0,3}/udp)?",
        Just("true".to_owned()),
        Just(Uuid::from_u128(7).to_string()),
    ];
    let anything =
        vec(any::<char>(), 0..20).prop_map(|letters| letters.into_iter().collect::<String>());
    let odd = select(vec!['\0', '\n', '\u{1b}', '\u{7f}', '\u{85}', '\u{2028}', '\u{202e}', 'ä']);
    let spoilt = (right.clone(), prop_oneof![odd, any::<char>()], any::<prop::sample::Index>());
    let spoilt = spoilt.prop_map(|(mut text, odd, at): (String, char, _)| {
        text.insert(at.index(text.len() + 1), odd);
        text
    });
    let long = ("[a-zä]{1,9}", 8..9000_usize).prop_map(|(text, times)| text.repeat(times));
    prop_oneof![3 => right, 3 => spoilt, 2 => anything, 1 => long]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_text_from_outside_is_refused_with_its_key_or_read_back_equal() -> Result<()> {
    in_database(async |bench: &Bench| {
        for text in Text::ALL {
            let runs = Runs { cases: RUNS, failure_persistence: None, ..Runs::default() };
            let ran = tokio::task::block_in_place(|| {
                TestRunner::new(runs).run(&values(), |value| {
                    let judged = Handle::current().block_on(judge(bench, *text, &value));
                    judged.map_err(|why| TestCaseError::fail(format!("{text:?}: {why:#}")))
                })
            });
            ran.map_err(|failed| anyhow::anyhow!("{failed}"))?;
        }
        Ok(())
    })
    .await
}

async fn judge(bench: &Bench, text: Text, value: &str) -> Result<()> {
    let fate = submit(bench, text, value).await?;
    sqlx::query("DELETE FROM lease").execute(&bench.pool).await?;
    sqlx::query("DELETE FROM operation").execute(&bench.pool).await?;
    match fate {
        Fate::Refused(message) => {
            ensure!(text.edge() == Edge::Refused, "{value:?} is refused: {message}");
            // `namespaces[]` stands for every place of the list, `eip-tags, a key` for the key's.
            let key = text.key().split([',', '[']).next().unwrap_or_default();
            ensure!(message.contains(key), "{key} is missing in {message}");
            ensure!(find_forbidden(&message).is_none(), "{message:?} cannot be shown");
            ensure!(message.chars().count() < 800, "{message} is too long");
        }
        Fate::Stored { put, got } => {
            ensure!(put == got, "{put:?} is read back as {got:?}");
            ensure!(text.edge() != Edge::Compared, "{value:?} is stored");
        }
        Fate::Compared => {}
    }
    Ok(())
}

/// Submits a value as what `text` is to the edge and, where that accepts it, to the store.
async fn submit(bench: &Bench, text: Text, value: &str) -> Result<Fate> {
    match (text.edge(), text.origin()) {
        (Edge::Compared, _) => Ok(Fate::Compared),
        (Edge::Cleaned, _) => store_clean(bench, &text.clean(value)).await,
        (Edge::Refused, Origin::Annotation) => submit_annotation(bench, text, value).await,
        (Edge::Refused, Origin::Pod | Origin::Review) => submit_name(bench, text, value).await,
        (Edge::Refused, Origin::Configuration) => configure(bench, text, value).await,
        (Edge::Refused, Origin::Cloud) => store_id(bench, text, value).await,
        (Edge::Refused, Origin::CustomResource | Origin::Server) => {
            anyhow::bail!("{text:?} has no edge that refuses it")
        }
    }
}

const WITH_EIP: [(&str, &str); 1] = [("k8s.aliyun.com/pod-with-eip", "true")];
const WITH_DNAT: [(&str, &str); 2] =
    [("k8s.aliyun.com/pod-dnat", "true"), ("k8s.aliyun.com/pod-dnat-expose-port", "80")];

async fn submit_annotation(bench: &Bench, text: Text, value: &str) -> Result<Fate> {
    match text {
        Text::PodDnat | Text::ExposePort | Text::ExposeProtocol | Text::Fixed | Text::SamePort => {
            annotate(bench, &WITH_DNAT, text.key(), value, None).await
        }
        Text::PodEipInstanceId => annotate(bench, &[], text.key(), value, None).await,
        Text::TagKey | Text::TagValue => {
            let (key, tag) = if text == Text::TagKey { (value, "x") } else { ("x", value) };
            let tags = json!({ key: tag }).to_string();
            annotate(bench, &WITH_EIP, Text::Tags.key(), &tags, None).await
        }
        _ => annotate(bench, &WITH_EIP, text.key(), value, None).await,
    }
}

async fn submit_name(bench: &Bench, text: Text, value: &str) -> Result<Fate> {
    let owner = match text {
        Text::OwnerKind => Owner { kind: value, name: "web" },
        Text::OwnerName => Owner { kind: "StatefulSet", name: value },
        _ => {
            return Ok(match text.check(value) {
                // Only sent back with the answer.
                Ok(()) if text == Text::ReviewUid => Fate::Compared,
                Ok(()) => observe_named(bench, text, value).await?,
                Err(fault) => Fate::Refused(describe_fault(text.key(), value, &fault)),
            });
        }
    };
    let [(key, on)] = WITH_EIP;
    annotate(bench, &[], key, on, Some(owner)).await
}

/// A pod with these annotations, as webhook and worker read it; its request is stored.
async fn annotate(
    bench: &Bench,
    others: &[(&str, &str)],
    key: &str,
    value: &str,
    owner: Option<Owner<'_>>,
) -> Result<Fate> {
    let copy = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    let pairs = others.iter().copied().chain([(key, value)]);
    let annotations: BTreeMap<_, _> = pairs.map(copy).collect();
    let parsed =
        parse_annotations(&annotations, &Context { owner, stateful: true, ..Context::default() });
    if !parsed.problems.is_empty() {
        let problems: Vec<_> = parsed.problems.iter().map(ToString::to_string).collect();
        return Ok(Fate::Refused(problems.join("; ")));
    }
    let Some(request) = parsed.requests.address else { return Ok(Fate::Compared) };
    let controller = owner.map(|owner| format!("{}/{}", owner.kind, owner.name));
    let (name, uid) = ("pod".to_owned(), Uuid::new_v4());
    let (put, got) = observe(bench, "ns", &name, uid, controller, &request).await?;
    Ok(Fate::Stored { put, got })
}

/// Stores a pod's observation and reads the lease back; both as text.
async fn observe(
    bench: &Bench,
    namespace: &str,
    pod_name: &str,
    pod_uid: Uuid,
    controller: Option<String>,
    request: &Request,
) -> Result<(String, String)> {
    let controller = controller.as_deref();
    let observation =
        PodObservation { namespace, pod_name, pod_uid, controller, pod_created_at: None, request };
    bench.store.observe_pod(bench.cluster, &observation).await?;
    let claim = bench.claim_one().await?;
    let lease = bench.load(&claim).await?.lease;
    let uid = PodUid::new(pod_uid.to_string());
    let got = (&*lease.namespace, &*lease.pod_name, &lease.pod_uid, &lease.controller);
    let put = (namespace, pod_name, &uid, &controller.map(str::to_owned));
    Ok((format!("{put:?} {request:?}"), format!("{got:?} {:?}", lease.request)))
}

async fn observe_named(bench: &Bench, text: Text, value: &str) -> Result<Fate> {
    let (mut namespace, mut name, mut uid) = ("ns", "pod", Uuid::new_v4());
    match text {
        Text::PodName => name = value,
        Text::PodUid => uid = value.parse()?,
        _ => namespace = value,
    }
    let (put, got) = observe(bench, namespace, name, uid, None, &bought()).await?;
    // The UID as the pod has it, not as Postgres writes it.
    let put = if text == Text::PodUid { put.replace(&uid.to_string(), value) } else { put };
    Ok(Fate::Stored { put, got })
}

/// A configuration file with this value in the text's place.
fn config_with(text: Text, value: &str) -> Value {
    let mut file = json!({
        "clusterID": "c1", "regionID": "cn-hangzhou", "vpcID": "vpc-1",
        "enableControllers": ["natgw", "eip"],
        "networkController": {"natGwPool": [
            {"natgwId": "ngw-1", "zoneId": "cn-hangzhou-j", "portRangeStart": 1, "portRangeEnd": 2},
            {"natgwId": "ngw-2", "zoneId": "cn-hangzhou-j", "portRangeStart": 1, "portRangeEnd": 2},
        ]},
        "credential": {"accessKey": "k", "accessSecret": "s"},
    });
    let (place, value) = match text {
        Text::ClusterId => ("/clusterID", json!(value)),
        Text::RegionId => ("/regionID", json!(value)),
        Text::VpcId => ("/vpcID", json!(value)),
        Text::AccessKey => ("/credential/accessKey", json!(value)),
        Text::AccessSecret => ("/credential/accessSecret", json!(value)),
        Text::GatewayId => ("/networkController/natGwPool/0/natgwId", json!(value)),
        Text::GatewayZone => ("/networkController/natGwPool/0/zoneId", json!(value)),
        _ => {
            let gateway = &mut file["networkController"]["natGwPool"][0];
            match text {
                Text::GatewayName => gateway["name"] = json!(value),
                Text::GatewayNamespace => gateway["namespaces"] = json!([value]),
                Text::StatefulKind => {
                    file["networkController"]["customStatefulWorkloadKinds"] = json!([value]);
                }
                Text::SelectorKey => {
                    let expression = json!({"key": value, "operator": "Exists"});
                    file["serve"]["namespaceSelector"]["matchExpressions"] = json!([expression]);
                }
                _ => file["serve"]["namespaceSelector"]["matchLabels"] = json!({"x": value}),
            }
            return file;
        }
    };
    if let Some(at) = file.pointer_mut(place) {
        *at = value;
    }
    file
}

/// JSON with everything but printable ASCII escaped: YAML takes no control character as it is.
fn escape_for_yaml(file: &Value) -> String {
    let escape = |letter: char| match letter {
        ' '..='~' => letter.to_string(),
        _ => format!("\\U{:08X}", u32::from(letter)),
    };
    file.to_string().chars().map(escape).collect()
}

async fn configure(bench: &Bench, text: Text, value: &str) -> Result<Fate> {
    let config = match Config::from_yaml(&escape_for_yaml(&config_with(text, value))) {
        Ok((config, _)) => config,
        Err(errors) => {
            let errors = errors.to_string().replace("\n  ", " ");
            let secret = matches!(text, Text::AccessKey | Text::AccessSecret);
            ensure!(!secret || value.len() < 9 || !errors.contains(value), "{errors} quotes it");
            return Ok(Fate::Refused(errors));
        }
    };
    match text {
        Text::ClusterId => {
            // `c1` is the bench's own.
            let name = if value == "c1" { "c2" } else { &config.cluster_id };
            bench.store.register_cluster(Uuid::new_v4(), name).await?;
            let got = sqlx::query_scalar("DELETE FROM cluster WHERE name <> 'c1' RETURNING name")
                .fetch_one(&bench.pool)
                .await?;
            Ok(Fate::Stored { put: name.to_owned(), got })
        }
        Text::GatewayId | Text::GatewayZone => {
            let gateway = config.gateways.first().context("a gateway")?;
            let (id, zone) = (gateway.nat_gateway_id.clone(), gateway.zone_id.clone());
            let eip = AllocationId::new("eip-of-config");
            offer(bench, eip, id, ForwardTableId::new("ftb-1"), zone).await
        }
        _ => Ok(Fate::Compared),
    }
}

/// Offers the ports of an EIP and reads its row back.
async fn offer(
    bench: &Bench,
    allocation_id: AllocationId,
    gateway_id: NatGatewayId,
    table_id: ForwardTableId,
    zone_id: ZoneId,
) -> Result<Fate> {
    let put = format!("{allocation_id} {gateway_id} {table_id} {zone_id}");
    let address = std::net::Ipv4Addr::new(203, 0, 113, 1);
    let id = allocation_id.to_string();
    let eip = GatewayEip { allocation_id, address, gateway_id, table_id, zone_id, snat: false };
    bench.store.offer_ports(&eip, OfferedPorts { first: 1, last: 1 }).await?;
    let row = "DELETE FROM gateway_eip WHERE allocation_id = $1
               RETURNING concat_ws(' ', allocation_id, gateway_id, table_id, zone_id)";
    let got = sqlx::query_scalar(row).bind(id).fetch_one(&bench.pool).await?;
    sqlx::query("DELETE FROM port").execute(&bench.pool).await?;
    Ok(Fate::Stored { put, got })
}

/// An ID of the cloud. Its type escapes what no ID may hold, so that any value can be stored; the
/// client refuses such an answer before.
async fn store_id(bench: &Bench, text: Text, value: &str) -> Result<Fate> {
    let stored = match text {
        Text::AllocationId | Text::ForwardTableId | Text::NatGatewayId => {
            let or = |wanted, other: &str| if text == wanted { value } else { other }.to_owned();
            offer(
                bench,
                AllocationId::new(or(Text::AllocationId, "eip-1")),
                NatGatewayId::new(or(Text::NatGatewayId, "ngw-1")),
                ForwardTableId::new(or(Text::ForwardTableId, "ftb-1")),
                ZoneId::new("z-1"),
            )
            .await?
        }
        Text::EniId | Text::VSwitchId | Text::EniZone | Text::EniVpc => {
            let usual = target(1);
            let target = match text {
                Text::EniId => Target { eni_id: EniId::new(value), ..usual },
                Text::VSwitchId => Target { vswitch_id: VSwitchId::new(value), ..usual },
                Text::EniZone => Target { zone_id: ZoneId::new(value), ..usual },
                _ => Target { vpc_id: VpcId::new(value), ..usual },
            };
            let claim = bench.claimed(&bought()).await?;
            bench.store.under_claim(&claim).set_target(&target).await?;
            let got = bench.load(&claim).await?.lease.target;
            Fate::Stored { put: format!("{:?}", Some(target)), got: format!("{got:?}") }
        }
        _ => {
            let change = match text {
                Text::ForwardEntryId => Change::DeleteForwardEntry {
                    table_id: ForwardTableId::new("ftb-1"),
                    entry_id: ForwardEntryId::new(value),
                },
                _ => Change::AddCommonBandwidthPackageIp {
                    allocation_id: AllocationId::new("eip-1"),
                    package_id: BandwidthPackageId::new(value),
                },
            };
            let claim = bench.claimed(&bought()).await?;
            bench.send(&claim, "eip-1", &change).await?;
            let operations = bench.load(&claim).await?.operations;
            let got = &operations.first().context("an operation")?.change;
            Fate::Stored { put: format!("{change:?}"), got: format!("{got:?}") }
        }
    };
    Ok(match (stored, text.check(value)) {
        (Fate::Stored { put, got }, Err(fault)) if put == got => {
            Fate::Refused(describe_fault(text.key(), value, &fault))
        }
        (stored, _) => stored,
    })
}

/// A text for people, cleaned: as the message of a wait, as an operation's error and answer, and in
/// a rejection.
async fn store_clean(bench: &Bench, clean: &str) -> Result<Fate> {
    let claim = bench.claimed(&bought()).await?;
    let change = Change::ReleaseEipAddress { allocation_id: AllocationId::new("eip-1") };
    let operation = bench.send(&claim, "eip-1", &change).await?;
    let rejection = Rejection {
        change: change.clone(),
        reason: "Test".to_owned(),
        message: clean.to_owned(),
        retry_policy: RetryPolicy::Event,
        min_wait_seconds: 0,
    };
    bench.store.record_rejection(claim.lease_id, &rejection).await?;
    let answer = Answer { request_id: clean.to_owned(), ..Answer::default() };
    let by = SettledBy::Sender(Duration::ZERO);
    bench.store.settle_operation(by, &operation, Settlement::from_success(&answer)).await?;
    let refused = bench.send(&claim, "eip-1", &change).await?;
    bench.store.settle_operation(by, &refused, Settlement::from_refusal(clean)).await?;
    let loaded = bench.load(&claim).await?;
    let finish = Finish {
        wake: loaded.wake,
        retry_in: Duration::from_hours(1),
        tries: 0,
        reason: "Test",
        message: clean,
        looked_at: None,
        pod_missing: None,
        history: RefusalHistory::Unchanged,
    };
    bench.store.under_claim(&claim).finish_claim(&finish).await?;
    let kept = "SELECT jsonb_build_array(l.message, l.rejection ->> 'message',
                    max(o.answer ->> 'request_id'), max(o.error))
                FROM lease l JOIN operation o USING (lease_id) GROUP BY lease_id";
    let got: Value = sqlx::query_scalar(kept).fetch_one(&bench.pool).await?;
    Ok(Fate::Stored { put: json!([clean, clean, clean, clean]).to_string(), got: got.to_string() })
}
