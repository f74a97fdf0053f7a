//! The project's manifests: an installation rendered from `manifests/chart`, and the definitions of
//! custom resources.
//!
//! ```text
//! values ─▶ chart renderer (Helm's engine, tests/chart) ─▶ objects ─▶ applied in groups: see Group
//!                                                             └─▶ the configuration of the programs
//! ```

use std::{path::Path, process::Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::layout;

/// The namespace of an installation that serves the whole cluster.
pub const NAMESPACE: &str = "waygate-system";

/// The label by which a stand's namespaces are selected.
pub const STAND_LABEL: &str = "waygate.dev/testbed";

/// Address of a webhook on this machine.
#[derive(Clone, Debug)]
pub struct WebhookAddress {
    /// `https://127.0.0.1:PORT`.
    pub url: String,
    /// Certificate authority that signed the webhook's certificate.
    pub ca_pem: String,
}

/// When the testbed applies an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Before the programs start: namespace, accounts, rights.
    Prerequisite,
    /// Never: a kubelet that runs containers would be needed. The testbed starts the programs.
    Program,
    /// With the webhook, so that pods are gated without it.
    Policy,
    /// Once the webhook answers.
    Registration,
}

impl Group {
    /// Returns the group of a kind; an unknown kind is an error, so that no object of the chart is
    /// left out unnoticed.
    fn from_kind(kind: &str) -> Result<Self> {
        Ok(match kind {
            "Namespace" | "ServiceAccount" | "ClusterRole" | "ClusterRoleBinding" | "Role"
            | "RoleBinding" | "FlowSchema" => Self::Prerequisite,
            "ConfigMap" | "Deployment" | "Job" | "PodDisruptionBudget" | "Service" => Self::Program,
            "MutatingAdmissionPolicy" | "MutatingAdmissionPolicyBinding" => Self::Policy,
            "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => Self::Registration,
            other => bail!("manifests/chart has a {other}, which the testbed does not know"),
        })
    }
}

/// The objects of one installation.
#[derive(Clone, Debug, Default)]
pub struct Rendering(Vec<(Group, Value)>);

impl Rendering {
    /// Renders the chart for a namespace.
    pub async fn render_chart(renderer: &Path, namespace: &str, values: &Value) -> Result<Self> {
        let mut renderer = Command::new(renderer)
            .arg("render")
            .arg(layout::project_folder().join("manifests").join("chart"))
            .args(["--namespace", namespace, "--values", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("the chart's renderer does not start")?;
        let mut stdin = renderer.stdin.take().context("the renderer's standard input")?;
        stdin.write_all(&serde_json::to_vec(values)?).await?;
        drop(stdin);
        let output = renderer.wait_with_output().await?;
        ensure!(
            output.status.success(),
            "manifests/chart is not rendered: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Self::parse(&String::from_utf8(output.stdout)?)
    }

    fn parse(text: &str) -> Result<Self> {
        let objects: Vec<Value> = serde_saphyr::from_multiple(text)?;
        let objects = objects.into_iter().filter(|object| !object.is_null()).map(|object| {
            let group = Group::from_kind(object["kind"].as_str().unwrap_or_default())?;
            Ok((group, object))
        });
        Ok(Self(objects.collect::<Result<_>>()?))
    }

    /// The objects of a group, in the order in which Helm would install them.
    pub fn objects_in(&self, group: Group) -> impl Iterator<Item = &Value> {
        self.0.iter().filter(move |(own, _)| *own == group).map(|(_, object)| object)
    }

    /// Returns the configuration file that the programs would mount.
    pub fn configuration_file(&self) -> Result<&str> {
        self.objects_in(Group::Program)
            .find(|object| object["metadata"]["name"] == "waygate-config")
            .and_then(|object| object.pointer("/data/config.yaml")?.as_str())
            .context("the chart renders no configuration")
    }
}

/// All objects of one file of `manifests/`.
pub fn read_manifest(file: &str) -> Result<Vec<Value>> {
    let path = layout::project_folder().join("manifests").join(file);
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("reading manifests/{file}"))?;
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&text).with_context(|| format!("manifests/{file}"))?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_keep_their_order_within_their_group() {
        let text = "---\nkind: Role\n---\nkind: Deployment\n---\nkind: FlowSchema\n";
        let rendering = Rendering::parse(text).unwrap();
        let kinds: Vec<_> = rendering
            .objects_in(Group::Prerequisite)
            .map(|object| object["kind"].as_str().unwrap_or_default())
            .collect();
        assert_eq!(kinds, ["Role", "FlowSchema"]);
    }

    #[test]
    fn a_kind_that_no_group_has_is_an_error() {
        let error = Rendering::parse("kind: Ingress\n").unwrap_err();
        assert!(error.to_string().contains("Ingress"), "{error}");
    }

    #[test]
    fn the_configuration_is_the_config_maps() {
        let text = "kind: ConfigMap\nmetadata: {name: waygate-config}\ndata:\n  config.yaml: |\n    a: 1\n";
        assert_eq!(Rendering::parse(text).unwrap().configuration_file().unwrap(), "a: 1\n");
        assert!(Rendering::parse("kind: Role\n").unwrap().configuration_file().is_err());
    }
}
