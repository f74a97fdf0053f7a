//! The part of a pod that the worker reads. The rest is dropped while the pod is decoded, so that a
//! page of large pods, and the pods kept for the next listener, take little memory.

use k8s_openapi::api::core::v1::{Pod, PodCondition, PodIP, PodReadinessGate, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::Resource;
use kube::core::NamespaceResourceScope;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use waygate_core::annotations::{POD_LABEL, is_allocated_key, is_waygate_key};
use waygate_core::request::Kind;

/// A pod without what the worker never reads: others' labels, annotations and conditions, managed
/// fields, containers, volumes.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Decoded")]
pub(crate) struct SlimPod {
    metadata: ObjectMeta,
    spec: SlimSpec,
    status: SlimStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SlimSpec {
    node_name: Option<String>,
    host_network: Option<bool>,
    readiness_gates: Option<Vec<PodReadinessGate>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SlimStatus {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<PodIP>>,
    conditions: Option<Vec<PodCondition>>,
}

/// What is decoded of a pod.
#[derive(Deserialize)]
struct Decoded {
    metadata: DecodedMetadata,
    spec: Option<SlimSpec>,
    status: Option<SlimStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DecodedMetadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    labels: Option<OwnKeys>,
    annotations: Option<OwnKeys>,
    owner_references: Option<Vec<OwnerReference>>,
}

/// Labels or annotations with keys that the worker reads.
#[derive(Default)]
struct OwnKeys(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for OwnKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OwnKeysVisitor)
    }
}

struct OwnKeysVisitor;

impl<'de> Visitor<'de> for OwnKeysVisitor {
    type Value = OwnKeys;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("labels or annotations")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<OwnKeys, A::Error> {
        let mut kept = BTreeMap::new();
        while let Some(key) = entries.next_key::<String>()? {
            if is_read_by_worker(&key) {
                kept.insert(key, entries.next_value()?);
            } else {
                entries.next_value::<IgnoredAny>()?;
            }
        }
        Ok(OwnKeys(kept))
    }
}

fn is_read_by_worker(key: &str) -> bool {
    key == POD_LABEL || is_waygate_key(key) || is_allocated_key(key)
}

impl From<DecodedMetadata> for ObjectMeta {
    fn from(decoded: DecodedMetadata) -> Self {
        let controllers = decoded.owner_references.map(|mut owners| {
            owners.retain(|owner| owner.controller == Some(true));
            owners.shrink_to_fit();
            owners
        });
        Self {
            name: decoded.name,
            namespace: decoded.namespace,
            uid: decoded.uid,
            resource_version: decoded.resource_version,
            creation_timestamp: decoded.creation_timestamp,
            deletion_timestamp: decoded.deletion_timestamp,
            labels: Some(decoded.labels.unwrap_or_default().0),
            annotations: Some(decoded.annotations.unwrap_or_default().0),
            owner_references: controllers,
            ..Self::default()
        }
    }
}

impl From<Decoded> for SlimPod {
    fn from(pod: Decoded) -> Self {
        let mut status = pod.status.unwrap_or_default();
        if let Some(conditions) = &mut status.conditions {
            let own = |it: &PodCondition| Kind::ALL.iter().any(|k| it.type_ == k.readiness_gate());
            conditions.retain(own);
            conditions.shrink_to_fit();
        }
        Self { metadata: pod.metadata.into(), spec: pod.spec.unwrap_or_default(), status }
    }
}

impl SlimPod {
    /// The pod as the functions take it that also read whole pods.
    pub(super) fn to_pod(&self) -> Pod {
        let (spec, status) = (self.spec.clone(), self.status.clone());
        Pod {
            metadata: self.metadata.clone(),
            spec: Some(PodSpec {
                node_name: spec.node_name,
                host_network: spec.host_network,
                readiness_gates: spec.readiness_gates,
                ..PodSpec::default()
            }),
            status: Some(PodStatus {
                phase: status.phase,
                pod_ip: status.pod_ip,
                pod_ips: status.pod_ips,
                conditions: status.conditions,
                ..PodStatus::default()
            }),
        }
    }
}

impl Resource for SlimPod {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        Pod::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        Pod::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        Pod::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        Pod::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests;
