//! The state required in the end, after all events.

use crate::cluster::Pod;
use crate::ports::Slot;
use crate::sources::is_older;
use crate::store::{Row, keeps};
use crate::world::World;
use simulator::cloud::{EipStatus, Target};
use std::collections::BTreeSet;
use waygate_core::condition::Reason;
use waygate_core::lease::{Lease, Phase};
use waygate_core::names::read_entry_name;
use waygate_core::plan::Removal;
use waygate_core::request::{EipRequest, EipSource, ExposedPort, Request};

impl World {
    /// Why this is not yet how it must be in the end; none once it is.
    pub(crate) fn unmet(&mut self) -> Option<String> {
        if let Some(asked) = self.store.operations.first() {
            return Some(format!("{asked:?} is unresolved"));
        }
        if !self.cloud.is_quiet() {
            return Some("something is on its way".to_owned());
        }
        for (cluster, pod) in self.living_pods() {
            if let Some(why) = self.pod_lacks(cluster, &pod) {
                return Some(why);
            }
        }
        let left = self.store.rows.values().find_map(|row| self.lease_is_left(row));
        left.or_else(|| self.eip_is_left())
            .or_else(|| self.entry_is_left())
            .or_else(|| self.resource_is_left())
    }

    fn pod_lacks(&mut self, cluster: usize, pod: &Pod) -> Option<String> {
        let asked = pod.asks.as_ref().map(Request::kind);
        if let Some(kind) = pod.announced.keys().find(|kind| Some(**kind) != asked) {
            return Some(format!("pod {} still announces its {kind:?}", pod.uid));
        }
        let kind = asked?;
        let told = pod.verdicts.get(&kind).cloned();
        if told.as_ref().is_some_and(|v| v.status && v.reason != Reason::NotRequested.as_str())
            && pod.announced.contains_key(&kind)
        {
            return self.untrue(cluster, pod, kind);
        }
        let of_pod = |row: &&Row| {
            row.lease.pod_uid == pod.uid
                && row.lease.kind == kind
                && row.lease.phase != Phase::Ending
        };
        let lease = self.store.rows.values().find(of_pod).map(|row| row.lease.clone());
        let reason = told.as_ref().map(|verdict| verdict.reason.clone()).unwrap_or_default();
        if lease.is_some_and(|lease| self.is_blocked(cluster, &lease, &reason)) {
            return None;
        }
        Some(format!("pod {} has no {kind:?}: {told:?}", pod.uid))
    }

    /// True if the reason in the pod's condition rightly keeps the address from it for good.
    fn is_blocked(&mut self, cluster: usize, lease: &Lease, reason: &str) -> bool {
        let is = |known: Reason| reason == known.as_str();
        if is(Reason::EipTakenOver) {
            return lease.lost_to.is_some();
        }
        if is(Reason::EipHeld) {
            // Several pods name one given EIP: the holder has it, the others report why they do
            // not.
            return self.is_held_by_another(lease);
        }
        if is(Reason::EipPoolExhausted) {
            return self.pool_eips.iter().all(|id| self.store.holder(id).is_some());
        }
        if is(Reason::EipNotFound) {
            let Some(own) = lease.eip.as_ref().filter(|_| keeps(&lease.request)) else {
                return false;
            };
            return !self.cloud.at(self.now).eips().any(|eip| eip.id == own.allocation_id.as_str());
        }
        if is(Reason::ResourceTaken) {
            // The resource is retained for another controller's pod of this name, or a process that
            // had lost its claim wrote it.
            let resource =
                self.clusters[cluster].resources.get(&(lease.kind, lease.pod_name.clone()));
            return resource.is_some_and(|resource| {
                let holder = self.store.rows.get(&resource.lease).map(|row| &row.lease);
                holder
                    .is_some_and(|it| it.phase == Phase::Kept && it.controller != lease.controller)
                    || self.late_writers.contains(&resource.lease)
            });
        }
        if is(Reason::QuotaExceeded) || reason == "EntryQuotaExceeded" {
            let own = lease.ports.first().map(|port| port.gateway_id.clone());
            let gateways =
                own.map_or_else(|| self.store.rooms.keys().cloned().collect(), |own| vec![own]);
            return gateways.iter().any(|gateway| !self.takes_all_of(gateway.as_str(), lease));
        }
        is(Reason::NoFreePort) && !self.has_ports(lease)
    }

    /// True if the EIP that the lease's pod names is another living pod's, and must not be taken
    /// from that pod.
    fn is_held_by_another(&self, lease: &Lease) -> bool {
        let Request::Eip(EipRequest { source: EipSource::Given(id), .. }) = &lease.request else {
            return false;
        };
        let Some((holder, own)) = self.store.holder(id).zip(self.store.rows.get(&lease.id)) else {
            return false;
        };
        let lives = self.living_pods().iter().any(|(_, pod)| pod.uid == holder.lease.pod_uid);
        let stays =
            holder.lease.phase != Phase::Ending && !(self.takeover && is_older(holder, own));
        holder.lease.id != lease.id && lives && stays
    }

    /// True if the gateway has room for an entry for each port of the lease, beside foreign entries
    /// and the ones that other leases, retained leases included, may make.
    fn takes_all_of(&mut self, gateway: &str, lease: &Lease) -> bool {
        let Request::Dnat(request) = &lease.request else { return false };
        let theirs = self.store.rows.values().map(|row| &row.lease).filter(|it| it.id != lease.id);
        let held: usize = theirs
            .map(|it| {
                it.runs().iter().filter(|run| run.head.gateway_id.as_str() == gateway).count()
            })
            .sum();
        let machine = self.cloud.at(self.now);
        let (Some(table), Some(quota)) =
            (machine.forward_table(gateway), machine.entry_quota(gateway))
        else {
            return false;
        };
        let others = machine
            .forward_entries()
            .filter(|entry| entry.table == table && read_entry_name(&entry.name).is_none())
            .count();
        others + held + request.ports.len() <= quota
    }

    /// True if some EIP has all the ports that the lease lacks.
    fn has_ports(&self, lease: &Lease) -> bool {
        let Request::Dnat(request) = &lease.request else { return false };
        let lacks = |asked: &&ExposedPort| lease.ports.iter().all(|port| port.exposed != **asked);
        let missing: Vec<_> = request.ports.iter().filter(lacks).collect();
        let mine = lease.ports.first().map(|port| &port.allocation_id);
        self.store.offers.keys().filter(|eip| mine.is_none_or(|mine| mine == *eip)).any(|eip| {
            let free = |exposed: &ExposedPort| {
                let slots = self.store.slots.iter().filter(|(key, slot)| {
                    key.0 == *eip && key.1 == exposed.protocol && **slot == Slot::Free
                });
                slots.filter(|(key, _)| !request.same_port || key.2 == exposed.port).count()
            };
            let alike = |exposed: &ExposedPort| {
                missing.iter().filter(|it| it.protocol == exposed.protocol).count()
            };
            missing
                .iter()
                .all(|exposed| free(exposed) >= if request.same_port { 1 } else { alike(exposed) })
        })
    }

    /// Every lease is for a pod that asks, or retained for one that may come.
    fn lease_is_left(&self, row: &Row) -> Option<String> {
        let lease = &row.lease;
        let cluster = &self.clusters[row.cluster];
        let resource = cluster
            .resources
            .get(&(lease.kind, lease.pod_name.clone()))
            .filter(|resource| resource.lease == lease.id);
        let why = match lease.phase {
            Phase::Ending if row.reason.as_deref() == Some(Reason::PrePaid.as_str()) => {
                return None;
            }
            Phase::Headstart | Phase::Ending => "is not over".to_owned(),
            Phase::Wanted | Phase::Held => {
                let pod = cluster
                    .pods
                    .get(&lease.pod_name)
                    .filter(|pod| pod.uid == lease.pod_uid && !pod.exited);
                let asks = pod.and_then(|pod| pod.asks.as_ref()).map(Request::kind);
                if asks == Some(lease.kind) {
                    return None;
                }
                "is for no living pod".to_owned()
            }
            Phase::Kept if !keeps(&lease.request) => {
                "is retained without being asked for".to_owned()
            }
            // A resource deleted along with its namespace stays until a person confirms the
            // deletion.
            Phase::Kept if resource.is_some_and(|it| it.removal == Removal::Swept) => return None,
            Phase::Kept if lease.ends_at.is_some_and(|end| end <= self.now) => {
                "is retained for too long".to_owned()
            }
            Phase::Kept
                if cluster
                    .successor_of(lease)
                    .is_some_and(|pod| pod.controller == lease.controller) =>
            {
                "is retained, and its successor is there".to_owned()
            }
            Phase::Kept => match resource {
                None => "is retained, and no custom resource shows it".to_owned(),
                Some(resource) if resource.removal == Removal::Asked => {
                    "is retained though its custom resource was deleted".to_owned()
                }
                Some(_) => return None,
            },
        };
        Some(format!("lease {} {why}: {:?} {:?}", lease.id, lease.phase, row.reason))
    }

    fn eip_is_left(&mut self) -> Option<String> {
        let held: BTreeSet<_> = self
            .store
            .rows
            .values()
            .filter_map(|row| row.lease.eip.as_ref())
            .map(|eip| eip.allocation_id.to_string())
            .collect();
        let bought: BTreeSet<_> =
            self.given.iter().chain(&self.pool_eips).map(ToString::to_string).collect();
        let nobodys = |eip: &&simulator::cloud::Eip| {
            let gateway = eip.binding.as_ref().is_some_and(|binding| binding.target == Target::Nat);
            let free = bought.contains(&eip.id) && eip.status == EipStatus::Available;
            !gateway && !free && !held.contains(&eip.id)
        };
        self.cloud
            .at(self.now)
            .eips()
            .find(nobodys)
            .map(|eip| format!("{} is {:?} and in no lease", eip.id, eip.status))
    }

    /// Every entry that Waygate made is known to its lease, and every held port is in a lease.
    fn entry_is_left(&mut self) -> Option<String> {
        let entries: Vec<_> =
            self.cloud.at(self.now).forward_entries().map(crate::reads::entry).collect();
        for entry in &entries {
            let Some(name) = read_entry_name(&entry.name) else { continue };
            let ports = self.store.rows.get(&name.lease).map(|row| &row.lease.ports);
            let its = ports.is_some_and(|ports| {
                ports.iter().any(|port| port.entry_id.as_ref() == Some(&entry.entry_id))
            });
            if !its {
                return Some(format!("entry {} ({}) is left", entry.entry_id, entry.name));
            }
        }
        let ports: usize = self.store.rows.values().map(|row| row.lease.ports.len()).sum();
        let held = self.store.slots.values().filter(|slot| matches!(slot, Slot::Held(_))).count();
        (ports != held).then(|| format!("{held} held ports, of which leases know {ports}"))
    }

    /// A paused process may have written a resource for a lease that was forgotten meanwhile. The
    /// next pod of the name deletes such a resource.
    fn resource_is_left(&self) -> Option<String> {
        let mut leases = self
            .clusters
            .iter()
            .flat_map(|cluster| cluster.resources.values())
            .map(|resource| resource.lease);
        let left = leases.find(|lease| {
            !self.store.rows.contains_key(lease) && !self.late_writers.contains(lease)
        });
        left.map(|lease| format!("the custom resource of lease {lease} is left"))
    }
}
