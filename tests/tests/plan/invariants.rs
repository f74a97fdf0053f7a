//! Invariants that hold at every moment.

use crate::cloud_call::modified_eip;
use crate::cluster::Pod;
use crate::operations::OperationRow;
use crate::ports::Slot;
use crate::store::{Claim, outlives_pod};
use crate::worker::Scene;
use crate::world::World;
use serde_json::Value;
use simulator::cloud::{EipStatus, Target};
use std::collections::BTreeMap;
use waygate_core::change::Change;
use waygate_core::cloud_facts::{ForwardEntry, ForwardEntryStatus};
use waygate_core::condition::{ConditionState, Reason};
use waygate_core::ids::{ForwardEntryId, PodUid};
use waygate_core::lease::{Lease, LeasedPort, Phase};
use waygate_core::operation::Operation;
use waygate_core::ownership::{TAG_LEASE, read_entry_name};
use waygate_core::plan::{
    CustomResourceContent, CustomResourceObject, CustomResourceState, Deletion, EndReason,
    PodState, Step,
};
use waygate_core::request::{Kind, Protocol, Request};

impl World {
    /// Checks a step before it is taken. The store refuses decisions of a process that has lost its
    /// claim.
    pub(crate) fn check_step(&mut self, claim: &Claim, scene: &Scene, step: &Step) {
        let lease = &scene.loaded.lease;
        if !self.store.is_claim_held(claim) {
            return;
        }
        let wrong = match step {
            Step::Withdraw(withdrawal) | Step::WithdrawLimited(withdrawal) => {
                let ip = if let PodState::Present(view) = &scene.pod { view.ip } else { None };
                let stayed =
                    ip.is_some() && lease.target.as_ref().map(|target| target.private_ip) == ip;
                let hasty = stayed
                    && withdrawal.reason == Reason::AddressLost
                    && lease.phase == Phase::Bound
                    && lease.missed_reads == 0;
                hasty.then(|| format!("withdrawn after one read: {}", withdrawal.message))
            }
            Step::BeginRelease(EndReason::PodGone | EndReason::PodExited) | Step::Retain(_) => {
                let pod = self.clusters[claim.cluster]
                    .pods
                    .get(&lease.pod_name)
                    .filter(|pod| pod.uid == lease.pod_uid);
                pod.is_some_and(|pod| !pod.exited).then(|| "a living pod is given up".to_owned())
            }
            Step::BeginRelease(EndReason::Expired) => lease
                .retained_until
                .is_none_or(|end| end > self.now)
                .then(|| format!("ended before its time: {:?}", lease.retained_until)),
            Step::ReleaseRetained => {
                let resource = self.clusters[claim.cluster]
                    .resources
                    .values()
                    .find(|resource| resource.lease == lease.id);
                let requested = resource.is_some_and(|resource| {
                    resource.removal == Deletion::Requested && !resource.object.is_owned_by_pod()
                });
                (!requested).then(|| {
                    "a retained address is released, but its custom resource was not deleted"
                        .to_owned()
                })
            }
            Step::CoolDownPorts(port)
                if lease.phase != Phase::Releasing && self.retained.contains_key(&lease.id) =>
            {
                Some(format!("{port:?}, which was retained, is freed"))
            }
            Step::TransferToSuccessor(successor) => {
                self.wrong_transfer(claim, lease, &successor.uid)
            }
            Step::PreemptEip(id) if !self.preemption_allowed => {
                Some(format!("{id} is preempted, which is not allowed"))
            }
            _ => None,
        };
        if let Some(why) = wrong {
            self.note_failure(|| format!("lease {}: {why}", lease.id));
        }
        match step {
            Step::Retain(_) | Step::BeginHandover => {
                drop(self.retained.insert(lease.id, lease.clone()));
            }
            // The address is no longer to be retained.
            Step::UpdateRequest(request) if !outlives_pod(request) => {
                drop(self.retained.remove(&lease.id));
            }
            // A person has taken something of it.
            Step::MarkForeignPorts(_) | Step::ForgetEip | Step::BeginRelease(_) => {
                drop(self.retained.remove(&lease.id));
            }
            _ => {}
        }
    }

    /// Reports why the pod must not have the retained lease.
    fn wrong_transfer(&self, claim: &Claim, lease: &Lease, uid: &PodUid) -> Option<String> {
        let pods = &self.clusters[claim.cluster].pods;
        if pods.values().any(|pod| pod.uid == lease.pod_uid && !pod.exited) {
            return Some("given to a successor while its pod lives".to_owned());
        }
        let of_other_controller = pods
            .get(&lease.pod_name)
            .is_some_and(|pod| pod.uid == *uid && pod.controller != lease.controller);
        of_other_controller.then(|| "given to a pod of another controller".to_owned())
    }

    /// Before a change is sent.
    pub(crate) fn check_sent_change(
        &mut self,
        cluster: usize,
        operation: &Operation,
        lease: &Lease,
    ) {
        if modified_eip(&operation.change).is_some_and(|id| self.is_bought_by_people(id)) {
            self.note_failure(|| format!("a given EIP would be modified: {:?}", operation.change));
        }
        // A send of a process that was paused is judged by what was known when it was intended.
        if !self.store.is_unresolved(operation.id) {
            return;
        }
        let (state, _) = self.clusters[cluster].read_resource(lease, |_| true);
        let written = matches!(state, CustomResourceState::Owned(..));
        match &operation.change {
            Change::AssociateEipAddress { .. } | Change::CreateForwardEntry(_) if !written => {
                self.note_failure(|| {
                    format!("bound before the custom resource was written: {:?}", operation.change)
                });
            }
            Change::ReleaseEipAddress { .. }
                if outlives_pod(&lease.request) && lease.phase != Phase::Releasing =>
            {
                self.note_failure(|| {
                    format!("an address to be retained would be released: {:?}", operation.change)
                });
            }
            // An entry moved at the console is no longer published; put back, it is again.
            Change::DeleteForwardEntry { entry_id, .. }
            | Change::ModifyForwardEntry { entry_id, .. }
                if self.cloud.ledger.changed_at_console.contains(entry_id.as_str()) => {}
            Change::UnassociateEipAddress { .. }
            | Change::DeleteForwardEntry { .. }
            | Change::ModifyForwardEntry { .. } => {
                let pod = self.clusters[cluster]
                    .pods
                    .get(&lease.pod_name)
                    .filter(|pod| pod.uid == lease.pod_uid && !pod.exited);
                let annotated = pod.is_some_and(|pod| {
                    pod.address_annotations.contains_key(&lease.kind)
                        && !self.is_excused(pod, lease.kind)
                });
                if (state.shows_address() || annotated) && !self.late_writers.contains(&lease.id) {
                    self.note_failure(|| {
                        format!("taken away while it is published: {:?}", operation.change)
                    });
                }
            }
            _ => {}
        }
        if let Change::DeleteForwardEntry { entry_id, .. }
        | Change::ModifyForwardEntry { entry_id, .. } = &operation.change
        {
            self.check_entry_owner(cluster, entry_id);
        }
    }

    /// Entries are changed by their own cluster only, and those of others never.
    fn check_entry_owner(&mut self, cluster: usize, id: &ForwardEntryId) {
        let changed_at_console = self.cloud.ledger.changed_at_console.contains(id.as_str());
        let entry =
            self.cloud.at_time(self.now).forward_entries().find(|entry| entry.id == id.as_str());
        let Some(name) = entry.map(|entry| entry.name.clone()).filter(|_| !changed_at_console)
        else {
            return;
        };
        if self.owners[cluster].read_entry_name(&name).is_none() {
            self.note_failure(|| {
                format!("entry {id} ({name}) is not cluster {cluster}'s, and would be changed")
            });
        }
    }

    /// Checks a status before it is written: it has an entry for each port that is asked for.
    pub(crate) fn check_status(&mut self, lease: &Lease, content: Option<&CustomResourceContent>) {
        let Some(CustomResourceContent::Dnat { status, .. }) = content else { return };
        let shown = status.as_ref().and_then(|status| status.entries.as_ref()).map_or(0, Vec::len);
        if shown != count_requested_ports(&lease.request) {
            self.note_failure(|| format!("{shown} status entries for {:?}", lease.request));
        }
    }

    /// Before a condition False is written that no withdrawal came before.
    pub(crate) fn check_condition(
        &mut self,
        claim: &Claim,
        scene: &Scene,
        condition: &ConditionState,
    ) {
        let lease = &scene.loaded.lease;
        let Some(pod) = self.clusters[claim.cluster].pods.get(&lease.pod_name).cloned() else {
            return;
        };
        if pod.version != scene.pod_version || lease.phase != Phase::Bound {
            return;
        }
        if is_published(&pod, lease.kind)
            && !self.is_excused(&pod, lease.kind)
            && self.broken_address(claim.cluster, &pod, lease.kind).is_none()
        {
            self.note_failure(|| {
                format!(
                    "the address of pod {} works, and {condition:?} would be published",
                    pod.uid
                )
            });
        }
    }

    /// After a condition True was written, on reads of `read_at`.
    pub(crate) fn check_published(&mut self, claim: &Claim, lease: &Lease, read_at: u64) {
        let Some(pod) = self.clusters[claim.cluster].pods.get(&lease.pod_name).cloned() else {
            return;
        };
        match self.broken_address(claim.cluster, &pod, lease.kind) {
            None => drop(self.excused.remove(&(pod.uid, lease.kind))),
            // Another user changed the cloud between the read and the write.
            Some(_) if read_at < self.last_disturbance => {
                self.excused.insert((pod.uid, lease.kind));
            }
            Some(why) => {
                self.note_failure(|| {
                    format!("published on pod {} against the cloud: {why}", pod.uid)
                });
            }
        }
        if let Some(retained) = self
            .retained
            .get(&lease.id)
            .cloned()
            .filter(|retained| !has_all_retained(retained, lease))
        {
            self.note_failure(|| {
                format!(
                    "retained: {:?} {:?}, given: {:?} {:?}",
                    retained.eip, retained.ports, lease.eip, lease.ports
                )
            });
        }
        if outlives_pod(&lease.request) {
            self.retained.insert(lease.id, lease.clone());
        }
    }

    fn is_excused(&self, pod: &Pod, kind: Kind) -> bool {
        self.excused.contains(&(pod.uid.clone(), kind))
    }

    /// Pods whose published address does not work, at this moment.
    pub(crate) fn list_broken_addresses(&mut self) -> Vec<(PodUid, Kind)> {
        let mut broken = Vec::new();
        for (cluster, pod) in self.list_living_pods() {
            for kind in Kind::ALL.into_iter().filter(|kind| is_published(&pod, *kind)) {
                broken.extend(
                    self.broken_address(cluster, &pod, kind).map(|_| (pod.uid.clone(), kind)),
                );
            }
        }
        broken
    }

    pub(crate) fn list_living_pods(&self) -> Vec<(usize, Pod)> {
        let all = self
            .clusters
            .iter()
            .enumerate()
            .flat_map(|(cluster, it)| it.pods.values().map(move |pod| (cluster, pod)));
        all.filter(|(_, pod)| !pod.exited).map(|(cluster, pod)| (cluster, pod.clone())).collect()
    }

    /// Why the address that a pod publishes does not work; none if it works.
    pub(crate) fn broken_address(
        &mut self,
        cluster: usize,
        pod: &Pod,
        kind: Kind,
    ) -> Option<String> {
        let annotation = pod.address_annotations.get(&kind)?;
        let ip = pod.ip?;
        let published = parse_published_ports(annotation);
        // A pod that asks for something else has a second lease, while what the first one gave it
        // is taken back.
        let gave = |lease: &&Lease| {
            lease.pod_uid == pod.uid
                && lease.kind == kind
                && lease.target.is_some()
                && lease_provides(lease, annotation, &published)
        };
        if !self.store.rows.values().map(|row| &row.lease).any(|lease| gave(&lease)) {
            return Some(format!("{annotation} is of no lease that points anywhere"));
        }
        if kind == Kind::Eip {
            let eip = self
                .cloud
                .at_time(self.now)
                .eips()
                .find(|eip| eip.address.to_string() == *annotation);
            let bound = eip
                .filter(|eip| eip.status == EipStatus::InUse)
                .and_then(|eip| eip.binding.as_ref()?.private_address);
            return (bound != Some(ip))
                .then(|| format!("{annotation} is {eip:?}, the pod has {ip}"));
        }
        let entries = self.list_entries_of_all();
        let works = |port: &PublishedPort| entries.iter().any(|entry| port.is_served_by(entry, ip));
        if let Some(port) = published.iter().find(|port| !works(port)) {
            return Some(format!("{port:?} does not forward to {ip}"));
        }
        let resource = self.clusters[cluster].resources.get(&(kind, pod.name.clone()))?;
        let shown = ports_in_resource(&resource.object);
        (!shown.is_empty() && shown != published)
            .then(|| format!("the pod says {published:?}, its custom resource {shown:?}"))
    }

    /// Checks the invariants of all tables and of the cloud.
    pub(crate) fn check_invariants(&mut self) {
        let reused =
            self.cloud.reused.take().map(|why| format!("reused within its cooldown: {why}"));
        let wrong = reused
            .or_else(|| self.find_wrong_eip())
            .or_else(|| self.find_wrong_entry())
            .or_else(|| self.find_address_of_two_pods());
        if let Some(why) = wrong {
            self.note_failure(|| why);
        }
        for (cluster, pod) in self.list_living_pods() {
            for kind in Kind::ALL
                .into_iter()
                .filter(|kind| is_published(&pod, *kind) && !self.is_excused(&pod, *kind))
                .collect::<Vec<_>>()
            {
                if let Some(why) = self.broken_address(cluster, &pod, kind) {
                    self.note_failure(|| {
                        format!("the address of pod {} does not work: {why}", pod.uid)
                    });
                }
            }
        }
    }

    /// Every EIP that Waygate allocated belongs to a lease, and is bound to nothing but the lease's
    /// target.
    fn find_wrong_eip(&mut self) -> Option<String> {
        let elsewhere = self.foreign_address();
        let eips: Vec<_> = self.cloud.at_time(self.now).eips().cloned().collect();
        for eip in eips {
            let holds = |lease: &Lease| {
                lease.eip.as_ref().is_some_and(|it| it.allocation_id.as_str() == eip.id)
            };
            let holder = self.store.rows.values().map(|row| &row.lease).find(|lease| holds(lease));
            if let Some(tag) = eip.tags.get(TAG_LEASE) {
                let allocating = |asked: &OperationRow| {
                    let change = &asked.operation.change;
                    let allocates = matches!(
                        change,
                        Change::AllocateEipAddress { .. } | Change::AllocateEipAddressPro { .. }
                    );
                    asked.lease.to_string() == *tag && allocates
                };
                // A prepaid EIP passes from lease to lease.
                let known = holder.is_some() || self.store.operations.iter().any(allocating);
                if !known && eip.status != EipStatus::Releasing {
                    return Some(format!(
                        "a leak: {} of lease {tag}, which does not have it",
                        eip.id
                    ));
                }
            }
            let bound =
                eip.binding.as_ref().filter(|binding| binding.target == Target::NetworkInterface);
            if let Some(ip) = bound
                .and_then(|binding| binding.private_address)
                .filter(|ip| Some(*ip) != elsewhere)
            {
                let target =
                    holder.and_then(|lease| lease.target.as_ref()).map(|target| target.private_ip);
                if target != Some(ip) {
                    return Some(format!(
                        "{} is bound to {ip}, its lease points at {target:?}",
                        eip.id
                    ));
                }
            }
        }
        None
    }

    /// An entry that Waygate made is on ports that its lease holds, and on none of a lease that
    /// waits for a successor. An entry whose deletion was accepted is about to go: the cooldown of
    /// its ports is longer than that takes.
    fn find_wrong_entry(&mut self) -> Option<String> {
        let entries = self.list_entries_of_all();
        let made_by_waygate = |entry: &&ForwardEntry| {
            entry.status != ForwardEntryStatus::Deleting
                && !self.cloud.ledger.changed_at_console.contains(entry.entry_id.as_str())
        };
        for entry in entries.iter().filter(made_by_waygate) {
            let Some(name) = read_entry_name(&entry.name) else { continue };
            let eip = self
                .store
                .offers
                .values()
                .find(|offered| offered.gateway.address == entry.external_ip)
                .map(|it| &it.gateway.eip);
            let mut on_it = self.store.slots.iter().filter(|((id, protocol, port), _)| {
                Some(id) == eip && entry.covers_external(entry.external_ip, *protocol, *port)
            });
            if let Some((key, slot)) = on_it.find(|(_, slot)| **slot != Slot::Held(name.lease)) {
                return Some(format!(
                    "entry {} of lease {} is on {key:?}, which is {slot:?}",
                    entry.entry_id, name.lease
                ));
            }
            let row = self.store.rows.get(&name.lease);
            if row.is_some_and(|row| row.lease.phase == Phase::Retained) {
                return Some(format!(
                    "entry {} of lease {}, which is retained, has a target",
                    entry.entry_id, name.lease
                ));
            }
        }
        None
    }

    /// Reports an address that two pods publish.
    fn find_address_of_two_pods(&self) -> Option<String> {
        let mut publishers = BTreeMap::new();
        for (_, pod) in self.list_living_pods() {
            let annotation =
                |kind| pod.address_annotations.get(&kind).filter(|_| !self.is_excused(&pod, kind));
            let eip = annotation(Kind::Eip).map(|address| (address.clone(), 0, Protocol::Tcp));
            let ports =
                annotation(Kind::Dnat).map(|text| parse_published_ports(text)).unwrap_or_default();
            for address in eip
                .into_iter()
                .chain(ports.into_iter().map(|it| (it.external_ip, it.external_port, it.protocol)))
            {
                if let Some(other) = publishers.insert(address.clone(), pod.uid.clone()) {
                    return Some(format!(
                        "{address:?} is publishers by {other} and by {}",
                        pod.uid
                    ));
                }
            }
        }
        None
    }
}

/// A port, as a pod's annotation or its custom resource shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PublishedPort {
    external_ip: String,
    external_port: u16,
    internal_port: u16,
    protocol: Protocol,
}

impl PublishedPort {
    fn is_served_by(&self, entry: &ForwardEntry, ip: std::net::Ipv4Addr) -> bool {
        entry.external_ip.to_string() == self.external_ip
            && entry.covers_external(entry.external_ip, self.protocol, self.external_port)
            && entry.covers_internal(ip, self.protocol, self.internal_port)
            && entry.status == ForwardEntryStatus::Available
    }
}

fn parse_published_ports(annotation: &str) -> Vec<PublishedPort> {
    let list: Vec<Value> = serde_json::from_str(annotation).unwrap_or_default();
    let number =
        |value: &Value| value.as_u64().and_then(|number| u16::try_from(number).ok()).unwrap_or(0);
    let one = |value: &Value| PublishedPort {
        external_ip: value["externalIP"].as_str().unwrap_or_default().to_owned(),
        external_port: number(&value["externalPort"]),
        internal_port: number(&value["internalPort"]),
        protocol: if value["protocol"] == "udp" { Protocol::Udp } else { Protocol::Tcp },
    };
    list.iter().map(one).collect()
}

fn ports_in_resource(object: &CustomResourceObject) -> Vec<PublishedPort> {
    let CustomResourceObject::Dnat(object) = object else { return Vec::new() };
    let entries =
        object.status.as_ref().and_then(|status| status.entries.clone()).unwrap_or_default();
    let port = |text: Option<String>| text.and_then(|text| text.parse().ok()).unwrap_or(0);
    let one = entries.into_iter().map(|entry| PublishedPort {
        external_ip: entry.external_ip.unwrap_or_default(),
        external_port: port(entry.external_port),
        internal_port: port(entry.internal_port),
        protocol: if entry.ip_protocol.as_deref() == Some("udp") {
            Protocol::Udp
        } else {
            Protocol::Tcp
        },
    });
    one.collect()
}

/// True if the lease gives this: its EIP's address, or a port for each that is asked for.
fn lease_provides(lease: &Lease, annotation: &str, published: &[PublishedPort]) -> bool {
    let has = |shown: &PublishedPort| {
        let matches = |port: &LeasedPort| {
            port.external_ip.to_string() == shown.external_ip
                && port.external_port == shown.external_port
                && port.protocol() == shown.protocol
                && port.exposed.port == shown.internal_port
        };
        lease.ports.iter().any(matches)
    };
    match &lease.eip {
        Some(eip) => eip.ip_address.to_string() == annotation,
        None => {
            published.len() == count_requested_ports(&lease.request) && published.iter().all(has)
        }
    }
}

fn count_requested_ports(request: &Request) -> usize {
    if let Request::Dnat(request) = request { request.ports.len() } else { 0 }
}

/// True if the pod's condition of this kind is True with an address.
fn is_published(pod: &Pod, kind: Kind) -> bool {
    pod.conditions.get(&kind).is_some_and(|condition| {
        condition.status && condition.reason != Reason::NotRequested.as_str()
    })
}

/// True if a successor has all that was retained.
fn has_all_retained(retained: &Lease, lease: &Lease) -> bool {
    let external_ports = |lease: &Lease| {
        lease
            .ports
            .iter()
            .map(|port| (port.external_ip, port.external_port, port.exposed))
            .collect::<Vec<_>>()
    };
    retained.eip == lease.eip
        && external_ports(retained).iter().all(|port| external_ports(lease).contains(port))
}
