//! The custom resources that other programs read: `PodEIP` and `PodDNAT` of group
//! `alibabacloud.com`, field by field as the original controller wrote them. Served at `v1beta1`
//! (stored, because OpenKruiseGame reads that and ships its own PodDNAT at only that) and `v1` with
//! one schema. No field is required and unknown ones are preserved: objects written by others must
//! stay valid.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps,
};
use kube::{CustomResource, CustomResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Finalizer of PodEIP: the object stays until its EIP is unbound.
pub const POD_EIP_FINALIZER: &str = "podeip-controller.alibabacloud.com/finalizer";
/// Finalizer of PodDNAT: the object stays until its entries are deleted.
pub const POD_DNAT_FINALIZER: &str = "natgw-controller";
/// Annotation on a custom resource: the lease that writes it.
pub const LEASE_ANNOTATION: &str = "waygate.dev/lease";
/// Annotation by which a person says that a deleted custom resource means it: `"true"` releases
/// what it stands for.
pub const RELEASE_ANNOTATION: &str = "waygate.dev/release";
/// Annotation on a custom resource: the pod it speaks of. A pod of the same name may be another.
pub const POD_UID_ANNOTATION: &str = "waygate.dev/pod-uid";

/// Annotation by which Helm leaves an object standing that is no longer in a chart.
/// OpenKruiseGame's charts up to 0.9 brought these definitions, its later ones do not: without the
/// annotation an upgrade deletes them, and every custom resource with them.
const HELM_KEEP: (&str, &str) = ("helm.sh/resource-policy", "keep");

/// What a pod's EIP is, and what becomes of it.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "alibabacloud.com",
    version = "v1beta1",
    kind = "PodEIP",
    plural = "podeips",
    singular = "podeip",
    namespaced,
    status = "PodEipStatus",
    derive = "PartialEq",
    derive = "Default",
    printcolumn = r#"{"name":"EIP","type":"string","jsonPath":".status.eipAddress"}"#,
    printcolumn = r#"{"name":"Private IP","type":"string","jsonPath":".status.privateIPAddress"}"#,
    printcolumn = r#"{"name":"Status","type":"string","jsonPath":".status.status"}"#,
    printcolumn = r#"{"name":"Allocation ID","type":"string","jsonPath":".spec.allocationID"}"#,
    printcolumn = r#"{"name":"Strategy","type":"string","jsonPath":".spec.allocationType.releaseStrategy","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct PodEipSpec {
    /// The EIP's instance ID.
    #[serde(rename = "allocationID", default, skip_serializing_if = "Option::is_none")]
    pub allocation_id: Option<String>,
    /// The shared bandwidth package it joins.
    #[serde(rename = "bandwidthPackageID", default, skip_serializing_if = "Option::is_none")]
    pub bandwidth_package_id: Option<String>,
    /// Where it comes from and when it is released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocation_type: Option<AllocationType>,
}

/// Where an EIP comes from and when it is released.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AllocationType {
    /// `Auto`: allocated for the pod. `Static`: named by the pod.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// `Follow`, `TTL` or `Never`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_strategy: Option<String>,
    /// For `TTL`: a Go duration, counted from the pod's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_after: Option<String>,
}

/// What the EIP of a pod shows.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodEipStatus {
    /// The interface it is bound to.
    #[serde(rename = "networkInterfaceID", default, skip_serializing_if = "Option::is_none")]
    pub network_interface_id: Option<String>,
    /// The pod's address.
    #[serde(rename = "privateIPAddress", default, skip_serializing_if = "Option::is_none")]
    pub private_ip_address: Option<String>,
    /// The public address. OpenKruiseGame takes the pod for ready when this is not empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eip_address: Option<String>,
    /// Line type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isp: Option<String>,
    /// `PayByTraffic` or `PayByBandwidth`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub internet_charge_type: Option<String>,
    /// Resource group.
    #[serde(rename = "resourceGroupID", default, skip_serializing_if = "Option::is_none")]
    pub resource_group_id: Option<String>,
    /// The EIP's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Address pool.
    #[serde(rename = "publicIpAddressPoolID", default, skip_serializing_if = "Option::is_none")]
    pub public_ip_address_pool_id: Option<String>,
    /// Shared bandwidth package.
    #[serde(rename = "bandwidthPackageID", default, skip_serializing_if = "Option::is_none")]
    pub bandwidth_package_id: Option<String>,
    /// Peak bandwidth in Mbit/s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<String>,
    /// Subscription period of a PrePaid EIP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<String>,
    /// The EIP's status in the cloud, such as `InUse`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// When the pod was last known to be there, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_last_seen: Option<String>,
}

/// What ports of a gateway forward to a pod.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "alibabacloud.com",
    version = "v1beta1",
    kind = "PodDNAT",
    plural = "poddnats",
    singular = "poddnat",
    namespaced,
    status = "PodDnatStatus",
    derive = "PartialEq",
    derive = "Default",
    printcolumn = r#"{"name":"External IP","type":"string","jsonPath":".spec.externalIP"}"#,
    printcolumn = r#"{"name":"First Port","type":"string","jsonPath":".status.entries[0].externalPort"}"#,
    printcolumn = r#"{"name":"Internal IP","type":"string","jsonPath":".spec.internalIP"}"#,
    printcolumn = r#"{"name":"Gateway","type":"string","jsonPath":".spec.tableId","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct PodDnatSpec {
    /// The interface that owns the pod's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eni: Option<String>,
    /// Its vSwitch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vswitch: Option<String>,
    /// Its zone.
    #[serde(rename = "zoneID", default, skip_serializing_if = "Option::is_none")]
    pub zone_id: Option<String>,
    /// The public address.
    #[serde(rename = "externalIP", default, skip_serializing_if = "Option::is_none")]
    pub external_ip: Option<String>,
    /// The pod's address.
    #[serde(rename = "internalIP", default, skip_serializing_if = "Option::is_none")]
    pub internal_ip: Option<String>,
    /// The protocol of the first port; each entry of the status names its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The NAT gateway's ID: so the original fills it, whatever the field is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_id: Option<String>,
    /// Which external port leads to which port of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_mapping: Option<Vec<PortMapping>>,
    /// Retired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_port: Option<String>,
    /// Retired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub internal_port: Option<String>,
    /// Retired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry_id: Option<String>,
}

/// An external port and the pod's port behind it; ports are strings, as the original has them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// On the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_port: Option<String>,
    /// On the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub internal_port: Option<String>,
}

/// The forward entries that work.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodDnatStatus {
    /// One for each exposed port, in the order asked for. OpenKruiseGame counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entries: Option<Vec<PodDnatEntry>>,
    /// When the entries were first complete, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
}

/// One forward entry that works.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodDnatEntry {
    /// The public address.
    #[serde(rename = "externalIP", default, skip_serializing_if = "Option::is_none")]
    pub external_ip: Option<String>,
    /// On the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_port: Option<String>,
    /// The pod's address.
    #[serde(rename = "internalIP", default, skip_serializing_if = "Option::is_none")]
    pub internal_ip: Option<String>,
    /// On the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub internal_port: Option<String>,
    /// `tcp` or `udp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_protocol: Option<String>,
    /// The entry's ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward_entry_id: Option<String>,
}

/// Both definitions, each served at both versions and kept by Helm.
pub fn definitions() -> [CustomResourceDefinition; 2] {
    [PodEIP::crd(), PodDNAT::crd()].map(|definition| kept_by_helm(both_versions(definition)))
}

fn kept_by_helm(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    let (key, value) = HELM_KEEP;
    crd.metadata.annotations.get_or_insert_default().insert(key.to_owned(), value.to_owned());
    crd
}

/// Adds `v1` with the schema of `v1beta1`, which stays the stored one, and preserves unknown fields
/// in both.
fn both_versions(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        if let Some(schema) =
            version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut())
        {
            preserve_unknown(schema);
        }
    }
    let served = crd.spec.versions.iter().map(|version| {
        let mut version = version.clone();
        "v1".clone_into(&mut version.name);
        version.storage = false;
        version
    });
    let served: Vec<_> = served.collect();
    crd.spec.versions.extend(served);
    crd
}

fn preserve_unknown(schema: &mut JSONSchemaProps) {
    schema.required = None;
    for (name, property) in schema.properties.iter_mut().flatten() {
        if name == "spec" || name == "status" {
            property.x_kubernetes_preserve_unknown_fields = Some(true);
        }
    }
}
