//! Content of a PodDNAT, of the pod's annotation and of its condition for forwarded ports.

use crate::cloud_facts::ForwardEntry;
use crate::condition::Reason;
use crate::lease::{Lease, LeasedPort, PortRange, Target};
use crate::plan::situation::{CustomResourceObject, CustomResourceState, Situation};
use crate::plan::step::{CustomResourceContent, Publication};
use crate::resources::{PodDnatEntry, PodDnatSpec, PodDnatStatus, PortMapping};

/// Builds the publication, with one status entry per port, in the order of the request; ports of
/// the same forward entry share its ID.
pub(super) fn dnat_publication(
    s: &Situation<'_>,
    target: &Target,
    ready: &[(PortRange<'_>, &ForwardEntry)],
) -> Publication {
    let entry_id = |port: &LeasedPort| {
        let covering = ready.iter().find(|(range, _)| {
            range.first.protocol() == port.protocol() && range.first.range_start == port.range_start
        });
        covering.map(|(_, entry)| entry.entry_id.to_string())
    };
    let entries = s.lease.ports.iter().map(|port| PodDnatEntry {
        external_ip: Some(port.external_ip.to_string()),
        external_port: Some(port.external_port.to_string()),
        internal_ip: Some(target.private_ip.to_string()),
        internal_port: Some(port.exposed.port.to_string()),
        ip_protocol: Some(port.protocol().to_string()),
        forward_entry_id: entry_id(port),
    });
    // A status that was not cleared since describes the same address.
    let shown = if let CustomResourceState::Owned(CustomResourceObject::Dnat(object), _) =
        s.custom_resource
    {
        object.status.as_ref()
    } else {
        None
    };
    let created = shown.and_then(|status| status.created.clone());
    let now = || s.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let status = PodDnatStatus {
        entries: Some(entries.collect()),
        created: Some(created.unwrap_or_else(now)),
    };
    let mapping_json = |port: &LeasedPort| {
        serde_json::json!({
            "externalIP": port.external_ip, "externalPort": port.external_port,
            "internalPort": port.exposed.port, "protocol": port.protocol(),
        })
    };
    let list: Vec<_> = s.lease.ports.iter().map(mapping_json).collect();
    let mappings: Vec<_> = s
        .lease
        .ports
        .iter()
        .map(|port| format!("{}:{} → {}", port.external_ip, port.external_port, port.exposed))
        .collect();
    Publication {
        content: dnat_content(s.lease, Some(target), Some(status)),
        annotation: serde_json::Value::from(list).to_string(),
        reason: Reason::EntriesAvailable,
        message: mappings.join(", "),
    }
}

/// Builds the lease's custom resource; without a target or status where nothing is forwarded.
pub(in crate::plan) fn dnat_content(
    lease: &Lease,
    target: Option<&Target>,
    status: Option<PodDnatStatus>,
) -> CustomResourceContent {
    let first = lease.ports.first();
    let mapping = |port: &LeasedPort| PortMapping {
        external_port: Some(port.external_port.to_string()),
        internal_port: Some(port.exposed.port.to_string()),
    };
    let spec = PodDnatSpec {
        eni: target.map(|target| target.eni_id.to_string()),
        vswitch: target.map(|target| target.vswitch_id.to_string()),
        zone_id: target.map(|target| target.zone_id.to_string()),
        external_ip: first.map(|port| port.external_ip.to_string()),
        internal_ip: target.map(|target| target.private_ip.to_string()),
        protocol: first.map(|port| port.protocol().to_string()),
        table_id: first.map(|port| port.gateway_id.to_string()),
        port_mapping: Some(lease.ports.iter().map(mapping).collect()),
        ..PodDnatSpec::default()
    };
    CustomResourceContent::Dnat { spec: Box::new(spec), status }
}
