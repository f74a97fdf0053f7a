//! The custom resources that other programs read: `PodEIP` and `PodDNAT` of group
//! `alibabacloud.com`, field by field as the original controller wrote them. Version `v1beta1` is
//! stored, because OpenKruiseGame reads it and ships its own PodDNAT at only that version; `v1` has
//! the same schema. No field is required and unknown ones are preserved: objects written by other
//! programs must stay valid.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps,
};
use kube::{CustomResource, CustomResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Finalizer of PodEIP: keeps the object until its EIP is unbound.
pub const POD_EIP_FINALIZER: &str = "podeip-controller.alibabacloud.com/finalizer";
/// Finalizer of PodDNAT: keeps the object until its entries are deleted.
pub const POD_DNAT_FINALIZER: &str = "natgw-controller";
/// Annotation on a custom resource with the ID of the lease that writes it.
pub const LEASE_ANNOTATION: &str = "waygate.dev/lease";
/// Annotation by which an operator confirms the deletion of a custom resource: `"true"` also
/// releases the address it describes.
pub const RELEASE_ANNOTATION: &str = "waygate.dev/release";
/// Annotation on a custom resource with the UID of its pod; a later pod of the same name has
/// another UID.
pub const POD_UID_ANNOTATION: &str = "waygate.dev/pod-uid";

/// Annotation that makes Helm keep an object that is no longer in a chart. OpenKruiseGame's charts
/// up to 0.9 contained these definitions, later ones do not: without the annotation an upgrade
/// deletes the definitions and every custom resource with them.
const HELM_KEEP: (&str, &str) = ("helm.sh/resource-policy", "keep");

/// The EIP of a pod, its source and its release.
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
    /// Instance ID of the EIP, `eip-…`.
    #[serde(rename = "allocationID", default, skip_serializing_if = "Option::is_none")]
    pub allocation_id: Option<String>,
    /// Shared bandwidth package that the EIP joins, `cbwp-…`.
    #[serde(rename = "bandwidthPackageID", default, skip_serializing_if = "Option::is_none")]
    pub bandwidth_package_id: Option<String>,
    /// Source of the EIP, and time of its release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocation_type: Option<AllocationType>,
}

/// Source of an EIP, and time of its release.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AllocationType {
    /// `Auto`: allocated for the pod. `Static`: named by the pod.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Release strategy: `Follow`, `TTL` or `Never`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_strategy: Option<String>,
    /// For `TTL`: a Go duration, counted from the pod's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_after: Option<String>,
}

/// Observed state of a pod's EIP.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodEipStatus {
    /// Network interface that the EIP is bound to, `eni-…`.
    #[serde(rename = "networkInterfaceID", default, skip_serializing_if = "Option::is_none")]
    pub network_interface_id: Option<String>,
    /// Private IPv4 address of the pod.
    #[serde(rename = "privateIPAddress", default, skip_serializing_if = "Option::is_none")]
    pub private_ip_address: Option<String>,
    /// Public IPv4 address. OpenKruiseGame considers the pod ready when this is not empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eip_address: Option<String>,
    /// Line type, such as `BGP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isp: Option<String>,
    /// Billing of traffic: `PayByTraffic` or `PayByBandwidth`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub internet_charge_type: Option<String>,
    /// Resource group of the EIP, `rg-…`.
    #[serde(rename = "resourceGroupID", default, skip_serializing_if = "Option::is_none")]
    pub resource_group_id: Option<String>,
    /// Name of the EIP in the cloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Address pool of the EIP, `pippool-…`.
    #[serde(rename = "publicIpAddressPoolID", default, skip_serializing_if = "Option::is_none")]
    pub public_ip_address_pool_id: Option<String>,
    /// Shared bandwidth package of the EIP, `cbwp-…`.
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
    /// Time when the pod was last known to exist, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_last_seen: Option<String>,
}

/// The ports of a NAT gateway that are forwarded to a pod.
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
    /// Network interface that has the pod's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eni: Option<String>,
    /// vSwitch of the network interface, `vsw-…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vswitch: Option<String>,
    /// Zone of the network interface, such as `cn-hangzhou-j`.
    #[serde(rename = "zoneID", default, skip_serializing_if = "Option::is_none")]
    pub zone_id: Option<String>,
    /// Public IPv4 address, an EIP of the gateway.
    #[serde(rename = "externalIP", default, skip_serializing_if = "Option::is_none")]
    pub external_ip: Option<String>,
    /// Private IPv4 address of the pod.
    #[serde(rename = "internalIP", default, skip_serializing_if = "Option::is_none")]
    pub internal_ip: Option<String>,
    /// The protocol of the first port; each entry of the status names its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// ID of the NAT gateway, despite the field name: the original controller fills it like this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_id: Option<String>,
    /// External ports and the pod's ports behind them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_mapping: Option<Vec<PortMapping>>,
    /// Retired; Waygate never sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_port: Option<String>,
    /// Retired; Waygate never sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub internal_port: Option<String>,
    /// Retired; Waygate never sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry_id: Option<String>,
}

/// An external port and the pod's port behind it; both are strings, as in the original.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// Port on the gateway's EIP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_port: Option<String>,
    /// Port of the pod, forwarded to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub internal_port: Option<String>,
}

/// The forward entries that work.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodDnatStatus {
    /// One entry for each exposed port, in the order requested. OpenKruiseGame counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entries: Option<Vec<PodDnatEntry>>,
    /// Time when the entries were first complete, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
}

/// A forward entry that works.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodDnatEntry {
    /// Public IPv4 address, an EIP of the gateway.
    #[serde(rename = "externalIP", default, skip_serializing_if = "Option::is_none")]
    pub external_ip: Option<String>,
    /// Port on the gateway's EIP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_port: Option<String>,
    /// Private IPv4 address of the pod.
    #[serde(rename = "internalIP", default, skip_serializing_if = "Option::is_none")]
    pub internal_ip: Option<String>,
    /// Port of the pod, forwarded to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub internal_port: Option<String>,
    /// Protocol in lower case: `tcp` or `udp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_protocol: Option<String>,
    /// ID of the forward entry, `fwd-…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward_entry_id: Option<String>,
}

/// Both definitions, served at both versions and protected from Helm.
pub fn crd_definitions() -> [CustomResourceDefinition; 2] {
    [PodEIP::crd(), PodDNAT::crd()].map(|definition| add_helm_keep(both_versions(definition)))
}

fn add_helm_keep(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
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
