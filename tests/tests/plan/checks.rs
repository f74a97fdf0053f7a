//! What must always hold, and what must be so in the end.

use crate::cluster::Pod;
use crate::store::Slot;
use crate::worker::modifies;
use crate::world::World;
use std::collections::BTreeSet;
use waygate_core::change::Change;
use waygate_core::facts::{EipStatus, ForwardEntryStatus};
use waygate_core::ids::LeaseId;
use waygate_core::lease::{Lease, Operation, Phase};
use waygate_core::names::TAG_LEASE;
use waygate_core::plan::{PodFact, Reason, ResourceFact, Step};
use waygate_core::request::{EipSource, Kind, Request};

impl World {
    /// Before a step is taken: what was published and works is not withdrawn because one read does not show it.
    pub(crate) fn planned(&mut self, lease: &Lease, pod: &PodFact, step: &Step) {
        let (PodFact::Here(here), Step::Withdraw(withdrawal)) = (pod, step) else { return };
        let stayed = lease.target.as_ref().map(|target| target.private_ip) == here.ip;
        if stayed && withdrawal.reason == Reason::AddressLost && lease.phase == Phase::Held && lease.doubts == 0 {
            self.fail(|| format!("withdrawn after one read: {}", withdrawal.message));
        }
    }

    /// Before a change is sent.
    pub(crate) fn sending(&mut self, operation: &Operation, lease: &Lease) {
        if modifies(&operation.change).is_some_and(|id| self.given.contains(id)) {
            self.fail(|| format!("a given EIP would be modified: {:?}", operation.change));
        }
        // A send of a process that was paused is judged by what was known when it was intended.
        if !self.store.operations.iter().any(|(_, unresolved)| unresolved.id == operation.id) {
            return;
        }
        let (fact, _) = self.cluster.resource_of(&lease.pod_name, lease.kind, lease.id, |_| true);
        let written = matches!(fact, ResourceFact::Mine(..));
        match &operation.change {
            Change::AssociateEipAddress { .. } | Change::CreateForwardEntry(_) if !written => {
                self.fail(|| format!("bound before the custom resource was written: {:?}", operation.change));
            }
            Change::UnassociateEipAddress { .. } | Change::DeleteForwardEntry { .. } | Change::ModifyForwardEntry { .. } => {
                let pod = self.cluster.pods.get(&lease.pod_name).filter(|pod| pod.uid == lease.pod_uid && !pod.exited);
                let announced = pod.is_some_and(|pod| pod.announced.contains_key(&lease.kind) && !self.excused.contains(&pod.uid));
                if (fact.shows_address() || announced) && !self.late_writers.contains(&lease.id) {
                    self.fail(|| format!("taken away while it is published: {:?}", operation.change));
                }
            }
            _ => {}
        }
    }

    /// After a condition True was written, on reads of `read_at`.
    pub(crate) fn published(&mut self, name: &str, kind: Kind, read_at: u64) {
        if read_at < self.disturbed {
            return;
        }
        let Some(pod) = self.cluster.pods.get(name).cloned() else { return };
        self.excused.remove(&pod.uid);
        if let Some(why) = self.untrue(&pod, kind) {
            self.fail(|| format!("published on pod {name} what is not so: {why}"));
        }
    }

    /// Why what a pod says of its address is not so; none if it is.
    fn untrue(&mut self, pod: &Pod, kind: Kind) -> Option<String> {
        let now = self.now;
        let announced = pod.announced.get(&kind)?;
        let ip = pod.ip?;
        let row = self.store.rows.values().find(|row| row.lease.pod_uid == pod.uid && row.lease.kind == kind && row.lease.target.is_some());
        let Some(lease) = row.map(|row| row.lease.clone()) else { return Some("no lease points anywhere".to_owned()) };
        let Some(target) = &lease.target else { return Some("no target".to_owned()) };
        if kind == Kind::Eip {
            let eip = self.cloud.all_eips(now).into_iter().find(|eip| eip.ip_address.to_string() == *announced);
            let true_ = eip.as_ref().is_some_and(|eip| {
                eip.status == EipStatus::InUse && eip.bound_to(&target.eni_id, ip, target.primary && target.private_ip == ip)
            });
            return (!true_).then(|| format!("{announced} is {eip:?}, the pod has {ip}"));
        }
        let gateway = lease.ports.first().map(|port| port.gateway_id.clone())?;
        let entries = self.cloud.entries(now, &gateway);
        let missing = lease.ports.iter().find(|port| {
            !entries.iter().any(|entry| {
                entry.covers_external(port.external_ip, port.protocol(), port.external_port)
                    && entry.covers_internal(ip, port.protocol(), port.exposed.port)
                    && entry.status == ForwardEntryStatus::Available
            })
        });
        missing.map(|port| format!("{port:?} does not forward to {ip}"))
    }

    /// What holds at any moment.
    pub(crate) fn check(&mut self) {
        let now = self.now;
        let elsewhere = self.elsewhere();
        for eip in self.cloud.all_eips(now) {
            let holder =
                self.store.rows.values().find(|row| row.lease.eip.as_ref().is_some_and(|it| it.allocation_id == eip.allocation_id));
            if let Some(tag) = eip.tags.get(TAG_LEASE) {
                let allocating = |(lease, operation): &(LeaseId, Operation)| {
                    lease.to_string() == *tag && matches!(operation.change, Change::AllocateEipAddress { .. })
                };
                let known = holder.is_some_and(|row| row.lease.id.to_string() == *tag) || self.store.operations.iter().any(allocating);
                if !known {
                    return self.fail(|| format!("a leak: {} of lease {tag}, which does not have it", eip.allocation_id));
                }
            }
            let bound = eip.binding.as_ref().filter(|binding| binding.instance_type == "NetworkInterface");
            if let Some(ip) = bound.and_then(|binding| binding.private_ip).filter(|ip| Some(*ip) != elsewhere) {
                let target = holder.and_then(|row| row.lease.target.as_ref()).map(|target| target.private_ip);
                if target != Some(ip) {
                    return self.fail(|| format!("{} is bound to {ip}, its lease points at {target:?}", eip.allocation_id));
                }
            }
        }
        self.check_entries();
        for pod in self.cluster.pods.values().filter(|pod| !pod.exited && !pod.terminating).cloned().collect::<Vec<_>>() {
            let told = |kind: &Kind| pod.verdicts.get(kind).is_some_and(|v| v.status && v.reason != Reason::NotRequested.as_str());
            for kind in Kind::ALL.into_iter().filter(told) {
                if !self.excused.contains(&pod.uid)
                    && let Some(why) = self.untrue(&pod, kind)
                {
                    self.fail(|| format!("pod {} says what is not so: {why}", pod.uid));
                }
            }
        }
    }

    /// An entry of ours stands on a port that its lease holds: a port is freed only once nothing can be on it.
    fn check_entries(&mut self) {
        let now = self.now;
        for gateway in self.cloud.gateways.clone() {
            for entry in self.cloud.entries(now, &gateway.id) {
                let Some(name) = self.owner.read_entry_name(&entry.name) else { continue };
                let on_it = self
                    .store
                    .slots
                    .iter()
                    .find(|((eip, protocol, port), _)| *eip == gateway.eip && entry.covers_external(gateway.address, *protocol, *port));
                if on_it.map(|(_, slot)| slot) != Some(&Slot::Held(name.lease)) {
                    let state = on_it.map(|(_, slot)| slot.clone());
                    return self.fail(|| format!("entry {} of lease {} stands on a port that is {state:?}", entry.entry_id, name.lease));
                }
            }
        }
    }

    /// Why this is not yet how it must be in the end; none once it is.
    pub(crate) fn unmet(&mut self) -> Option<String> {
        if let Some((_, operation)) = self.store.operations.first() {
            return Some(format!("{operation:?} is unresolved"));
        }
        if !self.cloud.is_quiet() {
            return Some("something is on its way".to_owned());
        }
        let pods: Vec<_> = self.cluster.pods.values().cloned().collect();
        if let Some(why) = pods.iter().find_map(|pod| self.pod_lacks(pod)) {
            return Some(why);
        }
        for row in self.store.rows.values() {
            let lease = &row.lease;
            let pod = self.cluster.pods.get(&lease.pod_name).filter(|pod| pod.uid == lease.pod_uid && !pod.exited);
            let asks = pod.and_then(|pod| pod.asks.as_ref()).map(Request::kind);
            if asks != Some(lease.kind) || lease.phase == Phase::Ending {
                return Some(format!("lease {} is left: {:?} {:?}", lease.id, lease.phase, row.reason));
            }
        }
        self.left_behind()
    }

    fn pod_lacks(&mut self, pod: &Pod) -> Option<String> {
        if pod.exited {
            return None;
        }
        let asked = pod.asks.as_ref().map(Request::kind);
        if let Some(kind) = pod.announced.keys().find(|kind| Some(**kind) != asked) {
            return Some(format!("pod {} still announces its {kind:?}", pod.uid));
        }
        let kind = asked?;
        let told = pod.verdicts.get(&kind);
        if told.is_some_and(|v| v.status && v.reason != Reason::NotRequested.as_str()) && pod.announced.contains_key(&kind) {
            return self.untrue(pod, kind);
        }
        // One given EIP, several pods: one has it, the others say why they do not.
        let contested = self.cluster.pods.values().any(|other| other.uid != pod.uid && !other.exited && wants_the_same(other, pod));
        if contested && told.is_some_and(|verdict| verdict.reason == Reason::EipHeld.as_str()) {
            return None;
        }
        Some(format!("pod {} has no {kind:?}: {told:?}", pod.uid))
    }

    /// What exists though nobody has it.
    fn left_behind(&mut self) -> Option<String> {
        let now = self.now;
        let held: BTreeSet<_> =
            self.store.rows.values().filter_map(|row| row.lease.eip.as_ref()).map(|eip| eip.allocation_id.clone()).collect();
        for eip in self.cloud.all_eips(now) {
            let gateway = eip.binding.as_ref().is_some_and(|binding| binding.instance_type == "Nat");
            let free = self.given.contains(&eip.allocation_id) && eip.status == EipStatus::Available;
            if !gateway && !free && !held.contains(&eip.allocation_id) {
                return Some(format!("{} is {:?} and nobody's", eip.allocation_id, eip.status));
            }
        }
        let mut entries = 0;
        for gateway in self.cloud.gateways.clone() {
            let shown = self.cloud.entries(now, &gateway.id);
            entries += shown.iter().filter(|entry| self.owner.read_entry_name(&entry.name).is_some()).count();
        }
        let ports: usize = self.store.rows.values().map(|row| row.lease.ports.len()).sum();
        let slots = self.store.slots.values().filter(|slot| matches!(slot, Slot::Held(_))).count();
        if entries != ports || slots != ports {
            return Some(format!("{entries} entries and {slots} held ports, of which leases know {ports}"));
        }
        // What a paused process wrote for a lease that was forgotten meanwhile is taken away by the next pod of the name.
        let mut resources = self.cluster.resources.values().map(|resource| resource.lease);
        let left = resources.find(|lease| !self.store.rows.contains_key(lease) && !self.late_writers.contains(lease));
        left.map(|lease| format!("the custom resource of lease {lease} is left"))
    }
}

/// Both name one EIP.
fn wants_the_same(one: &Pod, other: &Pod) -> bool {
    let given = |pod: &Pod| match &pod.asks {
        Some(Request::Eip(request)) => match &request.source {
            EipSource::Given(id) => Some(id.clone()),
            EipSource::Allocate(_) | EipSource::Pool(_) => None,
        },
        _ => None,
    };
    given(one).is_some() && given(one) == given(other)
}
