//! Fuzzes the parsers of annotations and of the configuration file.
//!
//! Input: annotations, one `key=value` per line with `\n` for a line end in a value, then a line
//! `---`, then a configuration file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use secrecy::ExposeSecret as _;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use waygate_core::annotations::{Context, parse_annotations, readiness_gate_for, requested_kind};
use waygate_core::config::Config;
use waygate_core::request::Request;

/// In characters; shorter secrets occur in other words by chance.
const SHORTEST_SECRET: usize = 8;

fuzz_target!(|input: &str| {
    let (annotations, file) = input.split_once("\n---\n").unwrap_or((input, ""));
    let port_ranges = match Config::from_yaml(file) {
        Ok((config, _)) => {
            check_secrets(&config, file);
            config.port_ranges("default")
        }
        Err(errors) => {
            assert!(!errors.to_string().is_empty(), "refused without a reason");
            None
        }
    };
    let line = |line: &str| {
        line.split_once('=').map(|(key, value)| (key.to_owned(), value.replace("\\n", "\n")))
    };
    let annotations: BTreeMap<String, String> = annotations.lines().filter_map(line).collect();
    for (host_network, stateful) in [(false, false), (false, true), (true, false), (true, true)] {
        check_parsed(&annotations, host_network, stateful, port_ranges.as_deref());
    }
});

fn check_parsed(
    annotations: &BTreeMap<String, String>,
    host_network: bool,
    stateful: bool,
    port_ranges: Option<&[RangeInclusive<u16>]>,
) {
    let parsed = parse_annotations(
        annotations,
        &Context { host_network, owner: None, stateful, port_ranges },
    );
    let Some(request) = &parsed.requests.address else {
        assert!(
            requested_kind(annotations).is_none() || !parsed.problems.is_empty(),
            "refused without a reason"
        );
        return;
    };
    assert!(
        parsed.problems.is_empty() && !host_network,
        "{request:?} despite {:?}",
        parsed.problems
    );
    assert_eq!(requested_kind(annotations), Some(request.kind()));
    assert!(
        readiness_gate_for(request, parsed.gate, stateful)
            .is_none_or(|kind| kind == request.kind())
    );
    let stored = serde_json::to_string(request).unwrap_or_default();
    assert_eq!(
        serde_json::from_str::<Request>(&stored).ok().as_ref(),
        Some(request),
        "{stored} reads back as something else"
    );
}

/// A secret that occurs once in the file must not occur in its logged form.
fn check_secrets(config: &Config, file: &str) {
    let Some(credential) = &config.credential else { return };
    let shown = format!("{config:?}");
    for secret in
        [&credential.access_key, &credential.access_secret].map(|secret| secret.expose_secret())
    {
        let stands_once = file.matches(secret).count() == 1;
        assert!(
            secret.len() < SHORTEST_SECRET || !stands_once || !shown.contains(secret),
            "{shown} shows {secret:?}"
        );
    }
}
