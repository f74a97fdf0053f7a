//! Fields of pods and workloads that decide about an admission. All other fields stay undecoded.

use serde::Deserialize;
use std::collections::BTreeMap;
use waygate_core::annotations::Owner;

/// Labels or annotations by key.
pub(crate) type Map = BTreeMap<String, String>;

/// A pod or pod template.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Pod {
    pub(crate) metadata: Metadata,
    pub(crate) spec: PodSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Metadata {
    pub(crate) name: Option<String>,
    pub(crate) uid: Option<String>,
    pub(crate) labels: Option<Map>,
    pub(crate) annotations: Option<Map>,
    pub(crate) owner_references: Option<Vec<OwnerReference>>,
    pub(crate) deletion_timestamp: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct OwnerReference {
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) controller: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct PodSpec {
    pub(crate) host_network: Option<bool>,
    pub(crate) readiness_gates: Option<Vec<ReadinessGate>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReadinessGate {
    pub(crate) condition_type: String,
}

static NO_MAP: Map = Map::new();

impl Metadata {
    pub(crate) fn annotations(&self) -> &Map {
        self.annotations.as_ref().unwrap_or(&NO_MAP)
    }

    /// The owner reference of the object's controller.
    pub(crate) fn controller(&self) -> Option<&OwnerReference> {
        self.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
    }
}

impl Pod {
    /// The pod's controller.
    pub(crate) fn owner(&self) -> Option<Owner<'_>> {
        self.metadata.controller().map(|owner| Owner { kind: &owner.kind, name: &owner.name })
    }

    pub(crate) fn has_gate(&self, gate: &str) -> bool {
        self.spec.readiness_gates.iter().flatten().any(|present| present.condition_type == gate)
    }

    /// True if the webhook must leave the pod alone: it is being deleted, or it is the mirror of a
    /// static pod, which cannot be changed through the API.
    pub(crate) fn is_untouchable(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
            || self.metadata.annotations().contains_key("kubernetes.io/config.mirror")
    }
}

/// A Deployment, StatefulSet, DaemonSet, Job or CronJob.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Workload {
    spec: WorkloadSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WorkloadSpec {
    template: Option<Pod>,
    job_template: Option<JobTemplate>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct JobTemplate {
    spec: JobSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct JobSpec {
    template: Option<Pod>,
}

impl Workload {
    /// The template of the workload's pods.
    pub(crate) fn pod_template(&self) -> Option<&Pod> {
        let nested = || self.spec.job_template.as_ref().and_then(|job| job.spec.template.as_ref());
        self.spec.template.as_ref().or_else(nested)
    }
}
