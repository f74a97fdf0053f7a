//! The state required in the end, after all events.

use crate::cluster::Pod;
use crate::eip_sources::is_older;
use crate::ports::Slot;
use crate::store::{Row, outlives_pod};
use crate::world::World;
use simulator::cloud::{EipStatus, Target};
use std::collections::BTreeSet;
use waygate_core::condition::Reason;
use waygate_core::lease::{Lease, Phase};
use waygate_core::ownership::read_entry_name;
use waygate_core::plan::Deletion;
use waygate_core::request::{EipRequest, EipSource, ExposedPort, Request};

impl World {
    /// Why this is not yet how it must be in the end; none once it is.
    pub(crate) fn find_unmet(&mut self) -> Option<String> {
        if let Some(asked) = self.store.operations.first() {
            return Some(format!("{asked:?} is unresolved"));
        }
        if !self.cloud.has_no_late_calls() {
            return Some("a late call is still on its way".to_owned());
        }
        for (cluster, pod) in self.list_living_pods() {
            if let Some(why) = self.find_lack_of_pod(cluster, &pod) {
                return Some(why);
            }
        }
        let left = self.store.rows.values().find_map(|row| self.find_leftover_lease(row));
        left.or_else(|| self.find_leftover_eip())
            .or_else(|| self.find_leftover_entry())
            .or_else(|| self.find_leftover_resource())
    }

    fn find_lack_of_pod(&mut self, cluster: usize, pod: &Pod) -> Option<String> {
        let asked = pod.request.as_ref().map(Request::kind);
        if let Some(kind) = pod.address_annotations.keys().find(|kind| Some(**kind) != asked) {
            return Some(format!("pod {} still announces its {kind:?}", pod.uid));
        }
        let kind = asked?;
        let condition = pod.conditions.get(&kind).cloned();
        if condition.as_ref().is_some_and(|v| v.status && v.reason != Reason::NotRequested.as_str())
            && pod.address_annotations.contains_key(&kind)
        {
            return self.broken_address(cluster, pod, kind);
        }
        let of_pod = |row: &&Row| {
            row.lease.pod_uid == pod.uid
                && row.lease.kind == kind
                && row.lease.phase != Phase::Releasing
        };
        let lease = self.store.rows.values().find(of_pod).map(|row| row.lease.clone());
        let reason =
            condition.as_ref().map(|condition| condition.reason.clone()).unwrap_or_default();
        if lease.is_some_and(|lease| self.is_rightly_blocked(cluster, &lease, &reason)) {
            return None;
        }
        Some(format!("pod {} has no {kind:?}: {condition:?}", pod.uid))
    }

    /// True if the reason in the pod's condition rightly keeps the address from it for good.
    fn is_rightly_blocked(&mut self, cluster: usize, lease: &Lease, reason: &str) -> bool {
        let is = |known: Reason| reason == known.as_str();
        if is(Reason::EipPreempted) {
            return lease.preempted_by.is_some();
        }
        if is(Reason::EipHeldByAnotherPod) {
            // Several pods name one given EIP: the holder has it, the others report why they do
            // not.
            return self.is_held_by_another(lease);
        }
        if is(Reason::EipPoolExhausted) {
            return self.pool_eips.iter().all(|id| self.store.find_holder(id).is_some());
        }
        if is(Reason::EipNotFound) {
            let Some(own) = lease.eip.as_ref().filter(|_| outlives_pod(&lease.request)) else {
                return false;
            };
            return !self
                .cloud
                .at_time(self.now)
                .eips()
                .any(|eip| eip.id == own.allocation_id.as_str());
        }
        if is(Reason::CustomResourceTaken) {
            // The resource is retained for another controller's pod of this name, or a process that
            // had lost its claim wrote it.
            let resource =
                self.clusters[cluster].resources.get(&(lease.kind, lease.pod_name.clone()));
            return resource.is_some_and(|resource| {
                let holder = self.store.rows.get(&resource.lease).map(|row| &row.lease);
                holder.is_some_and(|it| {
                    it.phase == Phase::Retained && it.controller != lease.controller
                }) || self.late_writers.contains(&resource.lease)
            });
        }
        if is(Reason::QuotaExceeded) || reason == "EntryQuotaExceeded" {
            let own = lease.ports.first().map(|port| port.gateway_id.clone());
            let gateways =
                own.map_or_else(|| self.store.rooms.keys().cloned().collect(), |own| vec![own]);
            return gateways
                .iter()
                .any(|gateway| !self.has_room_for_lease(gateway.as_str(), lease));
        }
        is(Reason::NoFreePort) && !self.has_free_ports(lease)
    }

    /// True if the EIP that the lease's pod names is another living pod's, and must not be taken
    /// from that pod.
    fn is_held_by_another(&self, lease: &Lease) -> bool {
        let Request::Eip(EipRequest { source: EipSource::Given(id), .. }) = &lease.request else {
            return false;
        };
        let Some((holder, own)) = self.store.find_holder(id).zip(self.store.rows.get(&lease.id))
        else {
            return false;
        };
        let lives = self.list_living_pods().iter().any(|(_, pod)| pod.uid == holder.lease.pod_uid);
        let stays = holder.lease.phase != Phase::Releasing
            && !(self.preemption_allowed && is_older(holder, own));
        holder.lease.id != lease.id && lives && stays
    }

    /// True if the gateway has room for an entry for each port of the lease, beside foreign entries
    /// and the ones that other leases, retained leases included, may make.
    fn has_room_for_lease(&mut self, gateway: &str, lease: &Lease) -> bool {
        let Request::Dnat(request) = &lease.request else { return false };
        let other_leases =
            self.store.rows.values().map(|row| &row.lease).filter(|it| it.id != lease.id);
        let held: usize = other_leases
            .map(|it| {
                it.port_ranges()
                    .iter()
                    .filter(|range| range.first.gateway_id.as_str() == gateway)
                    .count()
            })
            .sum();
        let machine = self.cloud.at_time(self.now);
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
    fn has_free_ports(&self, lease: &Lease) -> bool {
        let Request::Dnat(request) = &lease.request else { return false };
        let lacks = |asked: &&ExposedPort| lease.ports.iter().all(|port| port.exposed != **asked);
        let missing: Vec<_> = request.ports.iter().filter(lacks).collect();
        let own_eip = lease.ports.first().map(|port| &port.allocation_id);
        self.store.offers.keys().filter(|eip| own_eip.is_none_or(|own_eip| own_eip == *eip)).any(
            |eip| {
                let free = |exposed: &ExposedPort| {
                    let slots = self.store.slots.iter().filter(|(key, slot)| {
                        key.0 == *eip && key.1 == exposed.protocol && **slot == Slot::Free
                    });
                    slots.filter(|(key, _)| !request.same_port || key.2 == exposed.port).count()
                };
                let alike = |exposed: &ExposedPort| {
                    missing.iter().filter(|it| it.protocol == exposed.protocol).count()
                };
                missing.iter().all(|exposed| {
                    free(exposed) >= if request.same_port { 1 } else { alike(exposed) }
                })
            },
        )
    }

    /// Every lease is for a pod that asks, or retained for one that may come.
    fn find_leftover_lease(&self, row: &Row) -> Option<String> {
        let lease = &row.lease;
        let cluster = &self.clusters[row.cluster];
        let resource = cluster
            .resources
            .get(&(lease.kind, lease.pod_name.clone()))
            .filter(|resource| resource.lease == lease.id);
        let why = match lease.phase {
            Phase::Releasing
                if row.reason.as_deref() == Some(Reason::PrePaidNotReleased.as_str()) =>
            {
                return None;
            }
            Phase::Announced | Phase::Releasing => "is not over".to_owned(),
            Phase::Provisioning | Phase::Bound => {
                let pod = cluster
                    .pods
                    .get(&lease.pod_name)
                    .filter(|pod| pod.uid == lease.pod_uid && !pod.exited);
                let requested = pod.and_then(|pod| pod.request.as_ref()).map(Request::kind);
                if requested == Some(lease.kind) {
                    return None;
                }
                "is for no living pod".to_owned()
            }
            Phase::Retained if !outlives_pod(&lease.request) => {
                "is retained without being asked for".to_owned()
            }
            // A resource deleted along with its namespace stays until a person confirms the
            // deletion.
            Phase::Retained if resource.is_some_and(|it| it.removal == Deletion::Cascaded) => {
                return None;
            }
            Phase::Retained if lease.retained_until.is_some_and(|end| end <= self.now) => {
                "is retained for too long".to_owned()
            }
            Phase::Retained
                if cluster
                    .read_successor(lease)
                    .is_some_and(|pod| pod.controller == lease.controller) =>
            {
                "is retained, and its successor is there".to_owned()
            }
            Phase::Retained => match resource {
                None => "is retained, and no custom resource shows it".to_owned(),
                Some(resource) if resource.removal == Deletion::Requested => {
                    "is retained though its custom resource was deleted".to_owned()
                }
                Some(_) => return None,
            },
        };
        Some(format!("lease {} {why}: {:?} {:?}", lease.id, lease.phase, row.reason))
    }

    fn find_leftover_eip(&mut self) -> Option<String> {
        let held: BTreeSet<_> = self
            .store
            .rows
            .values()
            .filter_map(|row| row.lease.eip.as_ref())
            .map(|eip| eip.allocation_id.to_string())
            .collect();
        let bought: BTreeSet<_> =
            self.given_eips.iter().chain(&self.pool_eips).map(ToString::to_string).collect();
        let unowned = |eip: &&simulator::cloud::Eip| {
            let gateway = eip.binding.as_ref().is_some_and(|binding| binding.target == Target::Nat);
            let free = bought.contains(&eip.id) && eip.status == EipStatus::Available;
            !gateway && !free && !held.contains(&eip.id)
        };
        self.cloud
            .at_time(self.now)
            .eips()
            .find(unowned)
            .map(|eip| format!("{} is {:?} and in no lease", eip.id, eip.status))
    }

    /// Every entry that Waygate made is known to its lease, and every held port is in a lease.
    fn find_leftover_entry(&mut self) -> Option<String> {
        let entries = self.list_entries_of_all();
        for entry in &entries {
            let Some(name) = read_entry_name(&entry.name) else { continue };
            let ports = self.store.rows.get(&name.lease).map(|row| &row.lease.ports);
            let known = ports.is_some_and(|ports| {
                ports.iter().any(|port| port.entry_id.as_ref() == Some(&entry.entry_id))
            });
            if !known {
                return Some(format!("entry {} ({}) is left", entry.entry_id, entry.name));
            }
        }
        let ports: usize = self.store.rows.values().map(|row| row.lease.ports.len()).sum();
        let held = self.store.slots.values().filter(|slot| matches!(slot, Slot::Held(_))).count();
        (ports != held).then(|| format!("{held} held ports, of which leases know {ports}"))
    }

    /// A paused process may have written a resource for a lease that was forgotten meanwhile. The
    /// next pod of the name deletes such a resource.
    fn find_leftover_resource(&self) -> Option<String> {
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
