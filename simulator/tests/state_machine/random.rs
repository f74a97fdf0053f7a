//! Random calls, and what holds after every one of them.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::Value;
use simulator::{cloud::Cloud, profile::Profile};

use super::stand::Stand;

/// A random call: its action, a resource and a token out of a few, and the time until the next
/// call.
type Step = (u8, u8, u8, u8, u16);

/// Invariants that hold after every step.
#[derive(Default)]
struct Watch {
    statuses: BTreeMap<String, String>,
    prepaid: BTreeSet<String>,
    entries: BTreeMap<String, String>,
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
            let (table, protocol) =
                (entry["ForwardTableId"].to_string(), entry["IpProtocol"].to_string());
            for port in ports("ExternalPort") {
                let tuple =
                    (table.clone(), entry["ExternalIp"].to_string(), port, protocol.clone());
                assert!(external.insert(tuple.clone()), "two entries have {tuple:?}");
            }
            for port in ports("InternalPort") {
                let tuple =
                    (table.clone(), entry["InternalIp"].to_string(), port, protocol.clone());
                assert!(internal.insert(tuple.clone()), "two entries have {tuple:?}");
            }
        }
        self.check_entries(&state);
        self.check_transitions(&state);
    }

    fn check_entries(&mut self, state: &Value) {
        let text = |entry: &Value, name: &str| entry[name].as_str().unwrap().to_owned();
        let list = state["forwardEntries"].as_array().unwrap();
        let seen: BTreeMap<String, String> = list
            .iter()
            .map(|entry| (text(entry, "ForwardEntryId"), text(entry, "Status")))
            .collect();
        for (id, before) in &self.entries {
            // Made or changed, in effect, on its way out: each can last shorter than the look away.
            let is_legal = match (before.as_str(), seen.get(id).map(String::as_str)) {
                ("Pending" | "Available", Some("Pending" | "Available" | "Deleting"))
                | ("Deleting", Some("Deleting") | None) => true,
                (_, after) => after == Some(before.as_str()),
            };
            assert!(is_legal, "{id} went from {before} to {:?}", seen.get(id));
        }
        self.entries = seen;
    }

    fn check_transitions(&mut self, state: &Value) {
        let eips = state["eips"].as_array().unwrap();
        let mut private = BTreeSet::new();
        for eip in eips {
            let (id, status) =
                (eip["AllocationId"].as_str().unwrap(), eip["Status"].as_str().unwrap());
            let bound = !eip["InstanceId"].as_str().unwrap().is_empty();
            assert_eq!(bound, ["Associating", "InUse", "Unassociating"].contains(&status), "{eip}");
            let address = eip["PrivateIpAddress"].as_str().unwrap();
            assert!(
                address.is_empty() || private.insert(address.to_owned()),
                "{address} has two EIPs"
            );
            if eip["ChargeType"] == "PrePaid" {
                assert_ne!(status, "Releasing", "{id} is paid for");
                self.prepaid.insert(id.to_owned());
            }
            if let Some(before) = self.statuses.insert(id.to_owned(), status.to_owned()) {
                assert!(is_legal(&before, status), "{id} went from {before} to {status}");
            }
        }
        let is_there = |id: &String| eips.iter().any(|eip| eip["AllocationId"] == id.as_str());
        self.statuses.retain(|id, before| {
            is_there(id) || {
                assert!(before == "Releasing" && !self.prepaid.contains(id), "{id} vanished");
                false
            }
        });
    }
}

/// True if a state may follow the other. Between two observations either time passed or a call was
/// made, so no state is skipped.
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
    stand.pass_time(i64::from(ms % 300));
    watch.check(&stand.cloud);
    let eips: Vec<String> = watch.statuses.keys().cloned().collect();
    let eip = eips.get(usize::from(thing) % eips.len().max(1)).map_or("eip-none", String::as_str);
    let pod = format!("10.1.0.{}", other % 12 + 1);
    let entries = stand.cloud.state()["forwardEntries"].clone();
    let entry = entries.get(usize::from(thing) % 8).cloned().unwrap_or_default();
    let (table, id) = (
        entry["ForwardTableId"].as_str().unwrap_or("ftb-x"),
        entry["ForwardEntryId"].as_str().unwrap_or("fwd-x"),
    );
    let tokened = format!("ClientToken=token-{}-{}", action % 8, token % 16);
    let (name, query) = match action % 8 {
        0 if token % 4 == 0 => (
            "AllocateEipAddress",
            format!("InstanceChargeType=PrePaid&Period=1&AutoPay=true&{tokened}"),
        ),
        0 => ("AllocateEipAddress", tokened.clone()),
        1 => ("ReleaseEipAddress", format!("AllocationId={eip}")),
        2 => ("UnassociateEipAddress", format!("AllocationId={eip}")),
        3 => {
            let interface = stand
                .interface(&pod)
                .map(|it| it["NetworkInterfaceId"].as_str().unwrap().to_owned())
                .unwrap_or_default();
            let query = format!(
                "AllocationId={eip}&InstanceId={interface}&InstanceType=NetworkInterface&PrivateIpAddress={pod}"
            );
            ("AssociateEipAddress", query)
        }
        4 | 5 => {
            let (external, internal) = (7000 + u16::from(thing % 16), 80 + u16::from(token % 4));
            let length = u16::from(other % 3);
            let ports = |from: u16| format!("{from}/{}", from + length);
            let query = stand.entry(
                &ports(external),
                &pod,
                &ports(internal),
                if thing % 2 == 0 { "TCP" } else { "UDP" },
            );
            ("CreateForwardEntry", format!("{query}&{tokened}"))
        }
        6 => (
            "ModifyForwardEntry",
            format!("ForwardTableId={table}&ForwardEntryId={id}&InternalIp={pod}"),
        ),
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
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_calls_breaks_the_invariants(seed: u64, strictness in 0..3_u8, steps in prop::collection::vec(any::<Step>(), 1..170)) {
        let profile = [Profile::Instant, Profile::Realistic, Profile::Strict][usize::from(strictness)];
        let mut stand = Stand::seeded(profile, seed);
        let mut watch = Watch::default();
        watch.check(&stand.cloud);
        for one in steps {
            step(&mut stand, &mut watch, one);
        }
    }
}
