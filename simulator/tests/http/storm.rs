//! Ten thousand calls of eight clients at once, with everything going wrong, and what must hold
//! after.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::Value;
use simulator::dice::Dice;

use super::client::{Answer, Stand};

const CLIENTS: u64 = 8;
const CALLS: usize = 1250;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_calls_of_eight_clients_break_nothing() {
    let stand = Arc::new(Stand::start("--profile instant --quota-eips 60").await);
    for fault in [
        r#"{"action":"*","kind":"lost-response","probability":0.05}"#,
        r#"{"action":"*","kind":"reset","probability":0.03}"#,
        r#"{"action":"*","kind":"throttle","probability":0.03}"#,
        r#"{"action":"*","kind":"error","code":"InternalError","probability":0.03}"#,
        r#"{"action":"*","kind":"delay","delayMs":3,"probability":0.05}"#,
        r#"{"action":"*","kind":"stale-describe","probability":0.05}"#,
    ] {
        stand.set_fault(fault).await;
    }
    let clients = (0..CLIENTS).map(|seed| tokio::spawn(client(stand.clone(), seed)));
    let mut made: BTreeMap<String, String> = BTreeMap::new();
    for client in clients.collect::<Vec<_>>() {
        for (token, id) in client.await.unwrap() {
            assert_eq!(
                *made.entry(token.clone()).or_insert_with(|| id.clone()),
                id,
                "token {token} made two things"
            );
        }
    }
    stand.admin("DELETE", "/faults", "").await;
    check(&stand.state().await);
    let calls = stand.admin("GET", "/calls", "").await.body["calls"].clone();
    let total: u64 = calls.as_object().unwrap().values().filter_map(Value::as_u64).sum();
    assert_eq!(total, CLIENTS * CALLS as u64);
}

/// Random calls; gives what each token's calls answered.
async fn client(stand: Arc<Stand>, seed: u64) -> Vec<(String, String)> {
    let mut dice = Dice::new(seed);
    let (mut eips, mut entries) = (vec!["eip-none".to_owned()], vec!["fwd-none".to_owned()]);
    let mut answers = Vec::new();
    for _ in 0..CALLS {
        let token = format!("token-{}", dice.roll() % 2000);
        let (action, query) = random_call(&stand, &mut dice, &eips, &entries, &token);
        let Ok(answer) = stand.try_call(&stand.key, action, &query).await else { continue };
        if let Some((id, known)) = made(&answer, &mut eips, &mut entries) {
            known.push(id.clone());
            answers.push((format!("{action} {token}"), id));
        }
    }
    answers
}

fn made<'a>(
    answer: &Answer,
    eips: &'a mut Vec<String>,
    entries: &'a mut Vec<String>,
) -> Option<(String, &'a mut Vec<String>)> {
    let id = |field: &str| answer.body[field].as_str().map(str::to_owned);
    id("AllocationId").map(|id| (id, eips)).or(id("ForwardEntryId").map(|id| (id, entries)))
}

fn random_call(
    stand: &Stand,
    dice: &mut Dice,
    eips: &[String],
    entries: &[String],
    token: &str,
) -> (&'static str, String) {
    let gateway = &stand.ready["natGateways"][0];
    let (table, address) = (
        gateway["forwardTableId"].as_str().unwrap(),
        gateway["eips"][0]["ipAddress"].as_str().unwrap(),
    );
    let pick = |dice: &mut Dice, from: &[String]| {
        from[usize::try_from(dice.roll()).unwrap_or(0) % from.len()].clone()
    };
    match dice.roll() % 8 {
        // The parameters follow from the token, so that a repeated token is a repeated operation.
        0 => ("AllocateEipAddress", format!("ClientToken={token}")),
        1 => ("ReleaseEipAddress", format!("AllocationId={}", pick(dice, eips))),
        2 => ("UnassociateEipAddress", format!("AllocationId={}", pick(dice, eips))),
        3 => ("AssociateEipAddress", {
            let node = ["i-bp1nodej10000000000", "i-bp1nodej20000000000"]
                [usize::from(dice.draw_chance(0.5))];
            format!("AllocationId={}&InstanceId={node}", pick(dice, eips))
        }),
        4 | 5 => ("CreateForwardEntry", {
            let number: u16 = token.trim_start_matches("token-").parse().unwrap();
            let (from, to) = (number % 300 + 1, number % 300 + 1 + number % 3);
            format!(
                "ClientToken={token}&ForwardTableId={table}&ExternalIp={address}&ExternalPort={from}%2F{to}&InternalIp=10.1.0.{}\
                 &InternalPort={from}%2F{to}&IpProtocol=TCP",
                number % 40 + 1
            )
        }),
        6 => (
            "DeleteForwardEntry",
            format!("ForwardTableId={table}&ForwardEntryId={}", pick(dice, entries)),
        ),
        _ => ("DescribeForwardTableEntries", format!("ForwardTableId={table}&PageSize=50")),
    }
}

fn check(state: &Value) {
    let mut external = BTreeSet::new();
    for entry in state["forwardEntries"].as_array().unwrap() {
        let ports = entry["ExternalPort"].as_str().unwrap();
        let (from, to) = ports.split_once('/').unwrap_or((ports, ports));
        for port in from.parse::<u16>().unwrap()..=to.parse().unwrap() {
            assert!(
                external.insert((entry["ExternalIp"].to_string(), port)),
                "port {port} is forwarded twice"
            );
        }
    }
    let eips = state["eips"].as_array().unwrap();
    assert!(eips.len() <= 60, "more EIPs than the quota allows");
    let mut hosts = BTreeSet::new();
    for eip in eips.iter().filter(|eip| eip["InstanceType"] == "EcsInstance") {
        assert!(hosts.insert(eip["InstanceId"].to_string()), "an instance has two EIPs");
    }
    let addresses: BTreeSet<String> = eips.iter().map(|eip| eip["IpAddress"].to_string()).collect();
    assert_eq!(addresses.len(), eips.len(), "two EIPs have one address");
}
