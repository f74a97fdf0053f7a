//! `manifests/waygate.yaml` is rendered from `manifests/chart`; this test holds the file to the
//! chart, and writes it when `UPDATE_MANIFESTS` is set.

use crate::files::{read_text, repository_root};
use anyhow::{Context as _, Result, ensure};
use std::path::Path;
use std::process::{Command, Stdio};

/// The first lines of the file: the origin, and the reader's own part.
const HEADER: &str = "\
# Rendered from manifests/chart with namespace.create=true, by `make manifests`: an installation without Helm.
#
# Before applying it, replace the image waygate:0.1.0, and create in the namespace waygate-system:
#   ConfigMap waygate-config, key config.yaml    the configuration (that of ack-extend-network-controller is read unchanged)
#   Secret    waygate-database, key url          postgres://USER:PASSWORD@HOST:PORT/DATABASE
#   Secret    waygate-credentials                optional: keys accessKeyId and accessKeySecret, where the configuration names none
#
# Kubernetes before 1.36 lacks MutatingAdmissionPolicy: kubectl applies the rest, and says that it does not know these two objects.
";

/// Runs a program and returns its standard output; its progress is shown.
fn run_program(program: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(repository_root())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("{} does not start", program.display()))?;
    ensure!(output.status.success(), "{} failed", program.display());
    Ok(String::from_utf8(output.stdout)?)
}

fn render_chart(arguments: &[&str]) -> Result<String> {
    let build = repository_root().canonicalize()?.join("tests/controlplane/build");
    let renderer = run_program(&build, &["chart"])?;
    let arguments = [&["render", "manifests/chart"], arguments].concat();
    run_program(Path::new(renderer.trim_end()), &arguments)
}

#[test]
fn the_installation_without_helm_is_the_charts() -> Result<()> {
    let rendered = format!("{HEADER}{}", render_chart(&["--set", "namespace.create=true"])?);
    let path = repository_root().join("manifests/waygate.yaml");
    if std::env::var_os("UPDATE_MANIFESTS").is_some() {
        std::fs::write(&path, &rendered)?;
    }
    ensure!(
        read_text(&path).unwrap_or_default() == rendered,
        "manifests/waygate.yaml is out of date: run make manifests"
    );
    Ok(())
}

#[test]
fn the_chart_brings_the_generated_definitions() -> Result<()> {
    let manifests = repository_root().join("manifests");
    let (chart, generated) = (
        read_text(&manifests.join("chart/crds/crds.yaml"))?,
        read_text(&manifests.join("crds.yaml"))?,
    );
    ensure!(chart == generated, "manifests/chart/crds/crds.yaml is no link to ../../crds.yaml");
    Ok(())
}

/// A registration, policy or configuration that kept another selector would serve other namespaces
/// than the rest.
#[test]
fn one_value_narrows_registrations_policy_and_configuration() -> Result<()> {
    let narrow = r#"namespaceSelector={"matchLabels":{"team":"games"},"matchExpressions":[{"key":"tier","operator":"Exists"}]}"#;
    let rendered = render_chart(&["--set-json", narrow, "--set", "config.clusterID=c1"])?;
    let objects: Vec<serde_json::Value> = serde_saphyr::from_multiple(&rendered)?;
    let mut selectors = Vec::new();
    for object in &objects {
        let webhooks = object["webhooks"].as_array().into_iter().flatten();
        selectors.extend(webhooks.map(|webhook| webhook["namespaceSelector"].clone()));
        selectors.extend(object.pointer("/spec/matchResources/namespaceSelector").cloned());
        if let Some(text) = object.pointer("/data/config.yaml").and_then(|text| text.as_str()) {
            let config: serde_json::Value = serde_saphyr::from_str(text)?;
            ensure!(config["clusterID"] == "c1", "{config}");
            selectors.push(config["serve"]["namespaceSelector"].clone());
        }
    }
    ensure!(selectors.len() == 5, "{selectors:?}");
    for selector in selectors {
        ensure!(selector["matchLabels"]["team"] == "games", "{selector}");
        let expressions = selector["matchExpressions"].as_array().context("expressions")?;
        ensure!(expressions.iter().any(|one| one["key"] == "tier"), "{selector}");
    }
    Ok(())
}

#[test]
fn only_objects_that_live_in_no_namespace_get_the_suffix() -> Result<()> {
    let rendered = render_chart(&["--namespace", "n", "--set", "nameSuffix=-x1"])?;
    let objects: Vec<serde_json::Value> = serde_saphyr::from_multiple(&rendered)?;
    for object in &objects {
        let metadata = &object["metadata"];
        let name = metadata["name"].as_str().context("a name")?;
        let namespaced = !metadata["namespace"].is_null();
        ensure!(name.ends_with("-x1") != namespaced, "{metadata}");
        ensure!(!namespaced || metadata["namespace"] == "n", "{metadata}");
        let refers_to_suffixed = |reference: Option<&serde_json::Value>| {
            reference.and_then(|name| name.as_str()).is_none_or(|name| name.ends_with("-x1"))
        };
        ensure!(refers_to_suffixed(object.pointer("/spec/policyName")), "{object}");
        if object["roleRef"]["kind"] == "ClusterRole" {
            ensure!(refers_to_suffixed(object.pointer("/roleRef/name")), "{object}");
        }
    }
    ensure!(!rendered.contains("waygate-system"), "another namespace is named");
    Ok(())
}
