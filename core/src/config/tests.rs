use super::*;
use secrecy::ExposeSecret;

/// The configuration of the first document. All placeholders are replaced except the one that a
/// user may leave.
const DNAT: &str = r#"
clusterID: "c11ba338192xxxxxxx"          # Replace with the actual value.
regionID: "cn-hangzhou"                  # Replace with the actual value.
vpcID: "vpc-bp1rkq0zxxxxxx"              # Replace with the actual value.
enableControllers:
  - natgw                                  # Enable DNAT.

networkController:
  natGwPool:
    - natgwId: "ngw-bp1abc"
      zoneId: "cn-hangzhou-j"
      portRangeStart: 512                              # The first port.
      portRangeEnd: 1024                               # The last port.
      eips:
        - "<auto config all nat gateway eips if not config. 0.0.0.0 >"

credential:
  accessKey: ""
  accessSecret: ""
"#;

/// The configuration of the fourth document.
const EIP: &str = r#"
clusterID: "c11ba338192xxxxxxx"
regionID: "cn-hangzhou"
vpcID: "vpc-bp1rkq0zxxxxxx"
enableControllers:
  - eip

networkController:
  eipController:
    maxConcurrentReconciles: 1
    garbageCollectionPeriodInMinutes: 1
  customStatefulWorkloadKinds:
  - foo

credential:
  accessKey: ""
  accessSecret: ""
"#;

fn good(text: &str) -> (Config, Vec<String>) {
    match Config::from_yaml(text) {
        Ok((config, warnings)) => (config, warnings.iter().map(ToString::to_string).collect()),
        Err(errors) => panic!("{errors}"),
    }
}

/// The paths at which errors are reported.
fn errors(text: &str) -> Vec<String> {
    match Config::from_yaml(text) {
        Ok(_) => panic!("accepted: {text}"),
        Err(errors) => errors.0.into_iter().map(|finding| finding.path).collect(),
    }
}

#[test]
fn the_documents_file_for_dnat_is_accepted_as_it_is() {
    let (config, warnings) = good(DNAT);
    assert_eq!(config.cluster_id, "c11ba338192xxxxxxx");
    assert_eq!(config.controllers, BTreeSet::from([Controller::Natgw]));
    assert_eq!(config.port_ranges("default"), Some(vec![512..=1024]));
    assert!(config.gateways[0].eips.is_empty() && config.credential.is_none());
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].starts_with("networkController.natGwPool[0].eips[0] is a placeholder"),
        "{warnings:?}"
    );
}

#[test]
fn the_documents_file_for_eips_is_accepted_as_it_is() {
    let (config, warnings) = good(EIP);
    assert_eq!(config.controllers, BTreeSet::from([Controller::Eip]));
    assert_eq!(
        config.eip,
        EipController {
            max_concurrent_reconciles: 1,
            garbage_collection_minutes: 1,
            allow_takeover: false
        }
    );
    assert!(
        config.is_stateful("foo")
            && config.is_stateful("StatefulSet")
            && !config.is_stateful("ReplicaSet")
    );
    assert_eq!(config.admission, AdmissionMode::Reject);
    assert!(warnings.is_empty());
}

#[test]
fn an_unused_pool_may_keep_its_placeholders() {
    let pool = "networkController:\n  natGwPool:\n    - natgwId: \"< nat gateway id. >\"\n      zoneId: x\n";
    let (config, _) = good(&EIP.replace("networkController:\n", pool));
    assert!(config.gateways.is_empty() && config.port_ranges("default").is_none());
}

/// A pool of two entries, each with these extra keys.
fn pool_of_two(first: &str, second: &str) -> String {
    let entry = |id: u8, more: &str| {
        format!(
            "    - {{natgwId: ngw-{id}, zoneId: cn-hangzhou-j, portRangeStart: {id}, portRangeEnd: 9{more}}}\n"
        )
    };
    let (head, tail) = (DNAT.find("    - natgwId").unwrap(), DNAT.find("\ncredential").unwrap());
    format!("{}{}{}{}", &DNAT[..head], entry(1, first), entry(2, second), &DNAT[tail..])
}

#[test]
fn a_namespace_that_an_entry_names_uses_the_entries_that_name_it_and_no_others() {
    let (config, warnings) = good(&pool_of_two(", name: games, namespaces: [match, lobby]", ""));
    let shown = |namespace| {
        config.gateways_of(namespace).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(shown("match"), ["games (ngw-1)"]);
    assert_eq!(shown("lobby"), ["games (ngw-1)"]);
    assert_eq!(shown("default"), ["ngw-2"]);
    assert_eq!(
        (config.port_ranges("match"), config.port_ranges("default")),
        (Some(vec![1..=9]), Some(vec![2..=9]))
    );
    assert!(warnings.is_empty(), "{warnings:?}");

    let (config, _) = good(&pool_of_two(", namespaces: [match]", ", namespaces: [match, other]"));
    assert_eq!(config.gateways_of("match").len(), 2, "entries may share a namespace");
    let (config, _) = good(&pool_of_two(", namespaces: []", ""));
    assert_eq!(config.gateways_of("default").len(), 2, "an empty list is as good as none");
}

#[test]
fn a_pool_that_serves_only_named_namespaces_is_warned_of() {
    let (config, warnings) = good(&pool_of_two(", namespaces: [a]", ", namespaces: [b]"));
    assert_eq!(config.port_ranges("default"), Some(Vec::new()));
    assert!(
        warnings[0].starts_with("networkController.natGwPool has no entry without namespaces"),
        "{warnings:?}"
    );
}

#[test]
fn names_and_namespaces_of_the_pool_are_checked_where_they_stand() {
    for (first, second, wrong) in [
        (", namespaces: [a, a]", "", "[0].namespaces[1]"),
        (", namespaces: [a, Vip]", "", "[0].namespaces[1]"),
        (", namespaces: a", "", "[0].namespaces"),
        (", namespaces: [7]", "", "[0].namespaces[0]"),
        (", namespace: [a]", "", "[0].namespace"),
        (", name: a_b", "", "[0].name"),
        (", name: a", ", name: a", "[1].name"),
        (", name: a-", "", "[0].name"),
    ] {
        assert_eq!(
            errors(&pool_of_two(first, second)),
            [format!("networkController.natGwPool{wrong}")],
            "{first}{second}"
        );
    }
}

#[test]
fn every_error_is_named_at_once_with_its_path() {
    let text = "
clusterID: a/b
regionId: cn-hangzhou
vpcID: 7
enableControllers: [natgw, eipp]
networkController:
  natGwPool:
    - {natgwId: ngw-1, zoneId: cn-hangzhou-j, portRangeStart: 0, portRangeEnd: 70000}
    - {natgwId: ngw-1, zoneId: J, portRangeStart: 9, portRangeEnd: 8, eips: [1.2.3, 1.2.3.4, 1.2.3.4]}
  eipController: {maxConcurrentReconcile: 1, allowTakeover: maybe}
  customStatefulWorkloadKinds: foo
admission: {mode: refuse}
";
    assert_eq!(
        errors(text),
        [
            "regionId",
            "clusterID",
            "regionID",
            "vpcID",
            "enableControllers[1]",
            "networkController.natGwPool[0].portRangeStart",
            "networkController.natGwPool[0].portRangeEnd",
            "networkController.natGwPool[1].natgwId",
            "networkController.natGwPool[1].zoneId",
            "networkController.natGwPool[1].eips[0]",
            "networkController.natGwPool[1].eips[2]",
            "networkController.natGwPool[1]",
            "networkController.eipController.maxConcurrentReconcile",
            "networkController.eipController.allowTakeover",
            "networkController.customStatefulWorkloadKinds",
            "admission.mode",
        ]
    );
    let message = Config::from_yaml(text).unwrap_err().to_string();
    for part in [
        "regionId is not known; did you mean regionID?",
        "\"eipp\"",
        "did you mean eip?",
        "70000",
        "above its portRangeEnd",
    ] {
        assert!(message.contains(part), "{part} is missing in {message}");
    }
}

#[test]
fn what_is_missing_is_named() {
    assert_eq!(errors(""), ["clusterID", "regionID", "vpcID", "enableControllers"]);
    assert_eq!(
        errors(&DNAT.replace("natGwPool", "natGwPoolOfTheOthers")),
        ["networkController.natGwPool"]
    );
    assert_eq!(errors("- 1"), ["file", "clusterID", "regionID", "vpcID", "enableControllers"]);
}

#[test]
fn unknown_keys_warn_and_the_charts_own_are_no_slips() {
    let (_, warnings) = good(&format!("{EIP}affinity: {{}}\nvpcid: vpc-1\nreplicas: 2\n"));
    assert_eq!(warnings.len(), 3, "{warnings:?}");
}

#[test]
fn the_third_controller_is_accepted_and_reported() {
    let (config, warnings) = good(&EIP.replace("- eip\n", "- eip\n  - ipv6gw\n"));
    assert_eq!(config.controllers, BTreeSet::from([Controller::Eip]));
    assert!(warnings[0].contains("not served yet"));
    let (config, warnings) = good(&EIP.replace("- eip\n", "- ipv6gw\n"));
    assert!(config.controllers.is_empty() && warnings.len() == 2);
}

#[test]
fn a_secret_is_read_and_never_shown() {
    let text = EIP
        .replace("accessKey: \"\"", "accessKey: \"AK-visible\"")
        .replace("accessSecret: \"\"", "accessSecret: hush-hush");
    let (config, _) = good(&text);
    let credential = config.credential.as_ref().unwrap();
    assert_eq!(credential.access_secret.expose_secret(), "hush-hush");
    assert!(
        !format!("{config:?}").contains("hush") && !format!("{config:?}").contains("AK-visible")
    );

    for broken in [
        text.replace("accessSecret: hush-hush", "accessSecret: [hush-hush]"),
        text.replace("accessSecret: hush-hush", "accessSecret: *hush-hush"),
        text.replace("accessSecret: hush-hush", "accessSecret: \"hush-hush"),
        text.replace("accessSecret: hush-hush", "accessSecrets: hush-hush"),
        text.replace(
            "accessSecret: hush-hush",
            "accessSecret: !hush-hush hush-hush\n  accessSecret: hush-hush",
        ),
        text.replace("  accessKey: \"AK-visible\"\n  accessSecret: hush-hush", " - hush-hush"),
        text.replace(
            "  accessKey: \"AK-visible\"\n  accessSecret: hush-hush",
            "  hush-hush: hush-hush",
        )
        .replace("vpcID", "vpcIDD"),
        text.replace("  accessKey: \"AK-visible\"\n  accessSecret: hush-hush", "  hush-hush"),
    ] {
        let error = Config::from_yaml(&broken).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hush"), "{error}");
    }
    assert_eq!(errors(&EIP.replace("accessKey: \"\"", "accessKey: \"AK\"")), ["credential"]);
}

#[test]
fn namespaces_are_served_by_selector() {
    let serve = "
serve:
  namespaceSelector:
    matchLabels: {waygate: \"on\"}
    matchExpressions:
      - {key: team, operator: NotIn, values: [web]}
      - {key: frozen, operator: DoesNotExist}
admission: {mode: warn}
";
    let (config, _) = good(&format!("{EIP}{serve}"));
    let labels = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    assert!(config.namespace_selector.matches_labels(&labels(&[("waygate", "on")])));
    assert!(
        !config.namespace_selector.matches_labels(&labels(&[("waygate", "on"), ("team", "web")]))
    );
    assert!(
        !config.namespace_selector.matches_labels(&labels(&[("waygate", "on"), ("frozen", "")]))
    );
    assert!(!config.namespace_selector.matches_labels(&labels(&[])));
    assert_eq!(config.admission, AdmissionMode::Warn);
    assert!(good(EIP).0.namespace_selector.matches_labels(&labels(&[])));
}

#[test]
fn a_wrong_selector_is_refused_rather_than_widened() {
    for (expression, path) in [
        ("{key: team, operator: in, values: [a]}", "operator"),
        ("{key: team, values: [a]}", "operator"),
        ("{key: team, operator: In}", "values"),
        ("{key: team, operator: Exists, values: [a]}", "values"),
        ("{operator: Exists}", "key"),
        ("{key: team, operator: In, values: [1]}", "values[0]"),
    ] {
        let text =
            format!("{EIP}serve: {{namespaceSelector: {{matchExpressions: [{expression}]}}}}\n");
        assert!(
            errors(&text).contains(&format!("serve.namespaceSelector.matchExpressions[0].{path}")),
            "{expression}"
        );
    }
    assert_eq!(
        errors(&format!("{EIP}serve: {{namespaceSelectors: {{}}}}\n")),
        ["serve.namespaceSelectors"]
    );
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nothing_a_file_holds_panics(text in "[ -~\n]{0,400}") {
            drop(Config::from_yaml(&text));
        }

        #[test]
        fn a_damaged_file_never_shows_its_secret(at in 0usize..600, with in "[ -~\n]{0,3}") {
            let mut text: Vec<char> = EIP.replace("accessSecret: \"\"", "accessSecret: \"qzqzqz\"").chars().collect();
            let at = at.min(text.len() - 1);
            text.splice(at..=at, with.chars());
            if let Err(errors) = Config::from_yaml(&text.into_iter().collect::<String>()) {
                prop_assert!(!errors.to_string().contains("qzqz"), "{errors}");
            }
        }
    }
}
