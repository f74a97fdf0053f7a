//! Checks of manifests and configuration files, with all findings on standard output.

use crate::objects::{self, PodLike};
use anyhow::Context as _;
use serde_json::Value;
use std::io::Read as _;
use std::path::Path;
use waygate_core::annotations::{self, Context};
use waygate_core::config::{Config, Gateway};
use waygate_core::request::Kind;

/// True if the admission server would admit every pod in the files.
pub(crate) fn check_manifests(files: &[std::path::PathBuf]) -> anyhow::Result<bool> {
    let mut right = true;
    for file in files {
        let options = serde_saphyr::options! { with_snippet: false };
        let documents: Vec<Value> =
            serde_saphyr::from_multiple_with_options(&read_file_or_stdin(file)?, options)
                .with_context(|| format!("{} is not valid YAML", file.display()))?;
        for pod in documents.iter().flat_map(objects::pods_in_document) {
            right &= print_pod_findings(&pod);
        }
    }
    Ok(right)
}

fn print_pod_findings(pod: &PodLike) -> bool {
    let context =
        Context { host_network: pod.host_network, stateful: pod.stateful, ..Context::default() };
    let parsed = annotations::parse_annotations(&pod.annotations, &context);
    let kinds: Vec<_> = parsed.requests.kinds().map(Kind::as_str).collect();
    match (kinds.is_empty(), parsed.problems.is_empty()) {
        (false, _) => println!("{}: requests {}", pod.name, kinds.join(", ")),
        (true, true) => println!("{}: requests no address", pod.name),
        (true, false) => println!("{}: would be rejected", pod.name),
    }
    parsed.problems.iter().for_each(|problem| println!("  error: {problem}"));
    parsed.warnings.iter().for_each(|warning| println!("  warning: {warning}"));
    parsed.problems.is_empty()
}

/// True if Waygate would start with this configuration.
pub(crate) fn check_config(file: &Path) -> anyhow::Result<bool> {
    match Config::from_yaml(&read_file_or_stdin(file)?) {
        Ok((config, warnings)) => {
            println!("{}: valid configuration of cluster {}", file.display(), config.cluster_id);
            config
                .gateways
                .iter()
                .for_each(|gateway| println!("  pool: {}", describe_gateway(gateway)));
            for warning in &warnings {
                println!("  warning: {warning}");
            }
            Ok(true)
        }
        Err(errors) => {
            println!("{}: {errors}", file.display());
            Ok(false)
        }
    }
}

/// Describes a pool entry: ports, EIPs and the namespaces it serves.
fn describe_gateway(gateway: &Gateway) -> String {
    let eips = match gateway.eips.as_slice() {
        [] => "all its EIPs".to_owned(),
        eips => eips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    let served = if gateway.namespaces.is_empty() {
        "every namespace that no other entry names".to_owned()
    } else {
        let namespaces: Vec<_> = gateway.namespaces.iter().map(String::as_str).collect();
        format!("namespaces {} only", namespaces.join(", "))
    };
    format!(
        "{gateway}: ports {}–{} of {eips}, for {served}",
        gateway.ports.start(),
        gateway.ports.end()
    )
}

fn read_file_or_stdin(file: &Path) -> anyhow::Result<String> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        return Ok(text);
    }
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_is_shown_with_its_names_and_whose_it_is() {
        let file = "{clusterID: a, regionID: cn-hangzhou, vpcID: vpc-1, enableControllers: [natgw], networkController: {natGwPool: [
            {natgwId: ngw-1, zoneId: cn-hangzhou-j, portRangeStart: 1, portRangeEnd: 9, name: games, namespaces: [match, lobby], eips: [1.2.3.4]},
            {natgwId: ngw-2, zoneId: cn-hangzhou-j, portRangeStart: 512, portRangeEnd: 1024}]}}";
        let (config, _) = Config::from_yaml(file).unwrap();
        let shown: Vec<_> = config.gateways.iter().map(describe_gateway).collect();
        assert_eq!(
            shown,
            [
                "games (ngw-1): ports 1–9 of 1.2.3.4, for namespaces lobby, match only",
                "ngw-2: ports 512–1024 of all its EIPs, for every namespace that no other entry names",
            ]
        );
    }
}
