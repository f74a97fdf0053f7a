//! Ports on a NAT gateway: reserve, point, create one entry a port, prove; and back.

use super::eip::waiting_for_interface;
use super::situation::{PodHere, Seen, Situation};
use super::step::{Content, Patience, PortKey, Publication, Reason, Step};
use super::{doubt, moved, publish, resource_step};
use crate::change::{Change, Forward};
use crate::facts::{ForwardEntry, ForwardEntryStatus};
use crate::ids::ForwardEntryId;
use crate::lease::{Lease, LeasedPort, Target};
use crate::request::Request;
use crate::resources::{PodDnatEntry, PodDnatSpec, PodDnatStatus, PortMapping};

pub(super) fn live(s: &Situation<'_>, pod: &PodHere) -> Step {
    let Request::Dnat(request) = &s.lease.request else { return Step::End(super::EndReason::RequestChanged) };
    if let Some(step) = moved(s, pod, s.lease) {
        return step;
    }
    let Some(ip) = pod.ip else {
        return Step::wait(Reason::WaitingForPodIp, Patience::Event, "forward entries wait for the pod's IP".to_owned());
    };
    let target = match &s.lease.target {
        Some(target) if target.private_ip == ip => target,
        Some(_) => return retire(s).unwrap_or(Step::ClearTarget),
        None => {
            let Seen::There(eni) = &s.cloud.eni else { return waiting_for_interface(pod, ip, "DNAT") };
            if s.lease.ports.is_empty() {
                return Step::ReservePorts { zone: eni.zone_id.clone() };
            }
            return Step::SetTarget(Target {
                eni_id: eni.eni_id.clone(),
                vswitch_id: eni.vswitch_id.clone(),
                zone_id: eni.zone_id.clone(),
                vpc_id: eni.vpc_id.clone(),
                private_ip: ip,
                primary: eni.primary_ip == ip,
            });
        }
    };
    if s.lease.ports.len() < request.ports.len() {
        return Step::ReservePorts { zone: target.zone_id.clone() };
    }
    if let Some(step) = resource_step(s, content(s.lease, target, None)) {
        return step;
    }
    forward(s, pod, target)
}

/// What a port's entry needs.
enum Entry<'a> {
    /// It works.
    Ready(&'a ForwardEntry),
    /// The cloud is at it.
    Pending,
    /// This, first.
    Needs(Box<Step>),
}

/// One entry a port; the first port that needs something names the step.
fn forward(s: &Situation<'_>, pod: &PodHere, target: &Target) -> Step {
    let mut ready = Vec::with_capacity(s.lease.ports.len());
    let mut needs = None;
    for port in &s.lease.ports {
        match entry(s, port, target) {
            Entry::Ready(entry) => ready.push((port, entry)),
            Entry::Pending => {}
            Entry::Needs(step) => {
                needs.get_or_insert(*step);
            }
        }
    }
    if ready.len() < s.lease.ports.len() {
        let shown = format!("{} of {} forward entries work", ready.len(), s.lease.ports.len());
        let pending = || Step::wait(Reason::EntriesPending, Patience::Poll, format!("{shown}; the others are being made"));
        return doubt(s, pod, shown.clone()).or(needs).unwrap_or_else(pending);
    }
    if let Some((port, entry)) = ready.iter().find(|(port, entry)| port.entry_id.as_ref() != Some(&entry.entry_id)) {
        return Step::NoteEntry(key(port), entry.entry_id.clone());
    }
    publish(s, pod, publication(s, target, &ready))
}

fn entry<'a>(s: &'a Situation<'_>, port: &LeasedPort, target: &Target) -> Entry<'a> {
    let (protocol, exposed) = (port.protocol(), port.exposed.port);
    let outside = s.cloud.entries.iter().find(|entry| entry.covers_external(port.external_ip, protocol, port.external_port));
    if let Some(found) = outside {
        let name = s.owner.read_entry_name(&found.name);
        let current = name.is_some_and(|name| name.lease == s.lease.id && name.generation == s.lease.generation)
            && found.internal_ip == target.private_ip
            && found.internal_port == exposed.to_string()
            && found.external_port == port.external_port.to_string();
        return match (current, found.status, name) {
            (true, ForwardEntryStatus::Available, _) => Entry::Ready(found),
            (true, _, _) => Entry::Pending,
            // Nobody else's lease can hold this port: whatever of ours stands on it is a leftover.
            (false, _, Some(_)) => Entry::Needs(Box::new(delete(found))),
            (false, _, None) => Entry::Needs(Box::new(Step::MarkForeign(key(port)))),
        };
    }
    let inside = s.cloud.entries.iter().find(|entry| entry.covers_internal(target.private_ip, protocol, exposed));
    match inside {
        Some(found) => Entry::Needs(Box::new(in_the_way(s, found, port))),
        None => Entry::Needs(Box::new(create(s, port, target))),
    }
}

/// A recycled pod IP: another entry already forwards to this port of it.
fn in_the_way(s: &Situation<'_>, found: &ForwardEntry, port: &LeasedPort) -> Step {
    let whose = match s.owner.read_entry_name(&found.name) {
        Some(name) if name.lease != s.lease.id && s.cloud.known_leases.contains(&name.lease) => "of a former pod, which is being deleted",
        Some(_) => return delete(found),
        None => "that is not Waygate's; delete it",
    };
    let message = format!(
        "port {} of pod IP {} is already forwarded from {}:{} by entry {} (\"{}\") {whose}",
        port.exposed, found.internal_ip, found.external_ip, found.external_port, found.entry_id, found.name
    );
    Step::wait(Reason::PortForwardedElsewhere, Patience::Poll, message)
}

fn create(s: &Situation<'_>, port: &LeasedPort, target: &Target) -> Step {
    let forward = Forward {
        table_id: port.table_id.clone(),
        name: s.owner.entry_name(s.lease.id, s.lease.generation),
        external_ip: port.external_ip,
        external_port: port.external_port,
        internal_ip: target.private_ip,
        internal_port: port.exposed.port,
        ports: 1,
        protocol: port.protocol(),
        port_break: false,
    };
    let resource = format!("{}/{}/{}", port.allocation_id, port.protocol(), port.external_port);
    Step::Change { resource, change: Change::CreateForwardEntry(forward) }
}

fn delete(entry: &ForwardEntry) -> Step {
    match entry.status {
        ForwardEntryStatus::Available | ForwardEntryStatus::Other => delete_by_id(&entry.table_id, &entry.entry_id),
        ForwardEntryStatus::Pending | ForwardEntryStatus::Deleting => {
            Step::wait(Reason::EntriesPending, Patience::Poll, format!("forward entry {} is {:?}", entry.entry_id, entry.status))
        }
    }
}

fn delete_by_id(table_id: &crate::ids::ForwardTableId, entry_id: &ForwardEntryId) -> Step {
    Step::Change {
        resource: entry_id.to_string(),
        change: Change::DeleteForwardEntry { table_id: table_id.clone(), entry_id: entry_id.clone() },
    }
}

/// The next step until every entry of the lease is proven gone; none once they are.
fn retire(s: &Situation<'_>) -> Option<Step> {
    let ours = |entry: &&ForwardEntry| s.owner.read_entry_name(&entry.name).is_some_and(|name| name.lease == s.lease.id);
    let standing: Vec<_> = s.cloud.entries.iter().filter(ours).collect();
    // Those that can be deleted first: one that is still changing must not hold up the rest.
    let deletable = |entry: &&&ForwardEntry| entry.status == ForwardEntryStatus::Available;
    if let Some(entry) = standing.iter().find(deletable).or(standing.first()) {
        return Some(delete(entry));
    }
    // Not in the list, though nobody of us deleted it: only the deletion's own answer proves it.
    let vanished = s.lease.ports.iter().find_map(|port| port.entry_id.as_ref().filter(|_| !port.deleted).map(|entry| (port, entry)));
    vanished.map(|(port, entry)| delete_by_id(&port.table_id, entry))
}

/// Takes the entries away and keeps the ports; none once nothing points at the pod's address.
pub(super) fn detach(s: &Situation<'_>) -> Option<Step> {
    retire(s).or_else(|| s.lease.target.is_some().then_some(Step::ClearTarget))
}

/// What is left to take back; none when nothing is.
pub(super) fn ending(s: &Situation<'_>) -> Option<Step> {
    retire(s)
        .or_else(|| s.lease.target.is_some().then_some(Step::ClearTarget))
        .or_else(|| s.lease.ports.first().map(|port| Step::QuietPort(key(port))))
}

fn key(port: &LeasedPort) -> PortKey {
    PortKey { allocation_id: port.allocation_id.clone(), protocol: port.protocol(), port: port.external_port }
}

fn publication(s: &Situation<'_>, target: &Target, ready: &[(&LeasedPort, &ForwardEntry)]) -> Publication {
    let entries = ready.iter().map(|(port, entry)| PodDnatEntry {
        external_ip: Some(port.external_ip.to_string()),
        external_port: Some(port.external_port.to_string()),
        internal_ip: Some(target.private_ip.to_string()),
        internal_port: Some(port.exposed.port.to_string()),
        ip_protocol: Some(port.protocol().to_string()),
        forward_entry_id: Some(entry.entry_id.to_string()),
    });
    let status = PodDnatStatus { entries: Some(entries.collect()), created: Some(s.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()) };
    let list: Vec<_> = ready
        .iter()
        .map(|(port, _)| {
            serde_json::json!({
                "externalIP": port.external_ip, "externalPort": port.external_port,
                "internalPort": port.exposed.port, "protocol": port.protocol(),
            })
        })
        .collect();
    let told: Vec<_> = ready.iter().map(|(port, _)| format!("{}:{} → {}", port.external_ip, port.external_port, port.exposed)).collect();
    Publication {
        content: content(s.lease, target, Some(status)),
        annotation: serde_json::Value::from(list).to_string(),
        reason: Reason::EntriesAvailable,
        message: told.join(", "),
    }
}

fn content(lease: &Lease, target: &Target, status: Option<PodDnatStatus>) -> Content {
    let first = lease.ports.first();
    let mapping = |port: &LeasedPort| PortMapping {
        external_port: Some(port.external_port.to_string()),
        internal_port: Some(port.exposed.port.to_string()),
    };
    let spec = PodDnatSpec {
        eni: Some(target.eni_id.to_string()),
        vswitch: Some(target.vswitch_id.to_string()),
        zone_id: Some(target.zone_id.to_string()),
        external_ip: first.map(|port| port.external_ip.to_string()),
        internal_ip: Some(target.private_ip.to_string()),
        protocol: first.map(|port| port.protocol().to_string()),
        table_id: first.map(|port| port.gateway_id.to_string()),
        port_mapping: Some(lease.ports.iter().map(mapping).collect()),
        ..PodDnatSpec::default()
    };
    Content::Dnat { spec: Box::new(spec), status }
}
