//! Events of pods and of their custom resources.

use crate::cluster::Pod;
use crate::ports::PORTS;
use crate::store::RequestingPod;
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use uuid::Uuid;
use waygate_core::ids::PodUid;
use waygate_core::plan::Deletion;
use waygate_core::request::{
    DnatRequest, EipRequest, EipSource, EipSpec, ExposedPort, InstanceChargeType,
    InternetChargeType, Protocol, ReleaseStrategy, Request,
};

/// Names that pods have, one after the other, in each cluster.
const NAMES: [&str; 3] = ["a", "b", "c"];
/// Addresses that pods get; few, so that they come back soon. The first is its interface's primary
/// one.
const ADDRESSES: u32 = 7;
/// The pool of EIPs.
pub(crate) const POOL: &str = "game";

impl World {
    fn pick_pod(&mut self) -> Option<(usize, String)> {
        let all = self.clusters.iter().enumerate();
        let pods: Vec<_> = all
            .flat_map(|(cluster, it)| it.pods.keys().map(move |name| (cluster, name.clone())))
            .collect();
        self.pick_one(&pods)
    }

    /// The address of some pod.
    pub(crate) fn pick_address(&mut self) -> Option<Ipv4Addr> {
        let (cluster, name) = self.pick_pod()?;
        self.clusters[cluster].pods.get(&name)?.ip
    }

    pub(crate) fn create_pod(&mut self) {
        let cluster = self.roll_below(2);
        let name = NAMES[self.roll_below(NAMES.len())];
        if self.clusters[cluster].pods.contains_key(name) {
            return;
        }
        self.born += 1;
        let uid = PodUid::new(Uuid::from_u128(self.born).to_string());
        let controller = match self.roll_below(8) {
            0..5 => Some(format!("StatefulSet/{name}")),
            5 => Some("StatefulSet/other".to_owned()),
            _ => None,
        };
        let request = self.pick_request(controller.is_some());
        if self.chance(0.5) {
            let pod = RequestingPod {
                cluster,
                name,
                uid: &uid,
                controller: controller.as_deref(),
                created_at: None,
                request: &request,
            };
            self.store.announce_pod(self.now, pod);
        }
        let (version, created_at) = (
            self.clusters[cluster].next_version(),
            self.now.round(jiff::Unit::Second).unwrap_or(self.now),
        );
        let ip = if self.draw_fault(0.3) { None } else { self.pick_free_address() };
        self.note_event(|| {
            format!("pod {cluster}/{name} {uid} of {controller:?} with {ip:?} asks for {request:?}")
        });
        let pod = Pod {
            name: name.to_owned(),
            uid,
            created_at,
            version,
            ip,
            exited: false,
            terminating: false,
            controller,
            request: Some(request),
            conditions: BTreeMap::new(),
            address_annotations: BTreeMap::new(),
        };
        self.clusters[cluster].pods.insert(name.to_owned(), pod);
        self.deliver_pod_event(cluster, name);
    }

    fn pick_request(&mut self, stateful: bool) -> Request {
        match self.roll_below(11) {
            0..3 => {
                let bandwidth_package = self.chance(0.2).then(|| self.cloud.package.clone());
                let bandwidth = if self.chance(0.2) { 20 } else { 5 };
                let mut spec = EipSpec { bandwidth, bandwidth_package, ..EipSpec::default() };
                if self.chance(0.1) {
                    spec = EipSpec {
                        instance_charge_type: InstanceChargeType::PrePaid,
                        internet_charge_type: InternetChargeType::PayByBandwidth,
                        ..EipSpec::default()
                    };
                }
                Request::Eip(EipRequest {
                    source: EipSource::Allocate(spec),
                    release: self.pick_release(stateful),
                })
            }
            3..5 => {
                let index = self.roll_below(self.given_eips.len() + 1);
                let source = self.given_eips.get(index).map_or_else(
                    || EipSource::Pool(POOL.to_owned()),
                    |id| EipSource::Given(id.clone()),
                );
                Request::Eip(EipRequest { source, release: ReleaseStrategy::Follow })
            }
            _ => self.pick_ports(stateful),
        }
    }

    fn pick_release(&mut self, stateful: bool) -> ReleaseStrategy {
        let ttl = |seconds: u64| ReleaseStrategy::Ttl { seconds, text: format!("{seconds}s") };
        match self.roll_below(6) {
            _ if !stateful => ReleaseStrategy::Follow,
            0 => ReleaseStrategy::Follow,
            1..3 => ReleaseStrategy::Never,
            3 => ttl(5),
            4 => ttl(60),
            _ => ttl(3600),
        }
    }

    /// A few ports, among them adjacent ones, in any order.
    fn pick_ports(&mut self, stateful: bool) -> Request {
        let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
        let all = [(80, tcp), (81, tcp), (82, tcp), (53, udp), (54, udp), (80, udp), (443, tcp)];
        let same_port = self.chance(0.1);
        let first = self.roll_below(all.len());
        let count = self.roll_below(5) + 1;
        let asked = (0..count).map(|index| all[(first + index) % all.len()]);
        let equal = |(port, protocol): (u16, Protocol)| {
            (if same_port { PORTS.start() + port % 4 + 8 } else { port }, protocol)
        };
        let mut ports: Vec<_> =
            asked.map(equal).map(|(port, protocol)| ExposedPort { port, protocol }).collect();
        ports.sort();
        ports.dedup();
        let rotation = self.roll_below(ports.len());
        ports.rotate_left(rotation);
        Request::Dnat(DnatRequest { ports, fixed: stateful && self.chance(0.5), same_port })
    }

    /// Returns an address that no running pod has. The cloud may still forward to its former pod,
    /// which the network does not know.
    pub(crate) fn pick_free_address(&mut self) -> Option<Ipv4Addr> {
        let pods = self.clusters.iter().flat_map(|cluster| cluster.pods.values());
        let used: BTreeSet<_> = pods.filter(|pod| !pod.exited).filter_map(|pod| pod.ip).collect();
        let first = u32::try_from(self.roll_below(ADDRESSES as usize)).unwrap_or(0);
        let network = self.network?;
        (0..ADDRESSES)
            .filter_map(|i| network.nth((first + i) % ADDRESSES))
            .find(|ip| !used.contains(ip))
    }

    pub(crate) fn remove_pod(&mut self) {
        let Some((cluster, name)) = self.pick_pod() else { return };
        let Some((pod, owned)) = self.clusters[cluster].remove_pod(&name) else { return };
        self.note_event(|| format!("pod {cluster}/{name} {} is gone", pod.uid));
        if !self.draw_fault(0.1) {
            self.store.wake_pod(self.now, &pod.uid);
        }
        for lease in owned {
            self.store.wake_lease(self.now, lease);
        }
    }

    pub(crate) fn change_some_pod(&mut self, what: &str, change: impl FnOnce(&mut Pod)) {
        let Some((cluster, name)) = self.pick_pod() else { return };
        self.note_event(|| format!("pod {cluster}/{name} {what}"));
        self.change_pod(cluster, &name, change);
    }

    fn change_pod(&mut self, cluster: usize, name: &str, change: impl FnOnce(&mut Pod)) {
        let Some(version) = self.clusters[cluster].pods.get(name).map(|pod| pod.version) else {
            return;
        };
        if self.clusters[cluster].patch_pod(name, version, change).is_ok() {
            self.deliver_pod_event(cluster, name);
        }
    }

    /// The pod gets its address, or by a new sandbox another.
    pub(crate) fn readdress_pod(&mut self) {
        let Some((cluster, name)) = self.pick_pod() else { return };
        let (Some(ip), Some(pod)) =
            (self.pick_free_address(), self.clusters[cluster].pods.get(&name))
        else {
            return;
        };
        if pod.exited {
            return;
        }
        self.note_event(|| format!("pod {cluster}/{name} has {ip} now"));
        self.change_pod(cluster, &name, |pod| pod.ip = Some(ip));
        self.note_disturbance();
    }

    /// Edits a running pod's annotations, as a person would.
    pub(crate) fn change_request(&mut self) {
        let Some((cluster, name)) = self.pick_pod() else { return };
        let Some(pod) = self.clusters[cluster].pods.get(&name) else { return };
        let (stateful, asked) = (pod.controller.is_some(), pod.request.clone());
        let request = match (self.roll_below(4), asked) {
            (0, _) => None,
            (1..3, Some(Request::Dnat(request))) => {
                Some(Request::Dnat(DnatRequest { fixed: stateful && !request.fixed, ..request }))
            }
            (1..3, Some(Request::Eip(EipRequest { source: EipSource::Allocate(spec), .. }))) => {
                let spec = EipSpec { bandwidth: if spec.bandwidth == 5 { 20 } else { 5 }, ..spec };
                Some(Request::Eip(EipRequest {
                    source: EipSource::Allocate(spec),
                    release: self.pick_release(stateful),
                }))
            }
            _ => Some(self.pick_request(stateful)),
        };
        self.note_event(|| format!("pod {cluster}/{name} asks for {request:?} now"));
        self.change_pod(cluster, &name, |pod| pod.request = request);
    }

    /// The watch brings a pod, unless the event is lost.
    pub(crate) fn deliver_pod_event(&mut self, cluster: usize, name: &str) {
        if self.draw_fault(0.05) {
            return;
        }
        let Some(pod) = self.clusters[cluster].pods.get(name).cloned() else { return };
        if let (Some(request), false, false) = (&pod.request, pod.exited, pod.terminating) {
            let asking = RequestingPod {
                cluster,
                name,
                uid: &pod.uid,
                controller: pod.controller.as_deref(),
                created_at: Some(pod.created_at),
                request,
            };
            self.store.observe_pod(self.now, asking);
        }
        self.store.wake_pod(self.now, &pod.uid);
    }

    /// A person deletes a custom resource, or an uninstallation does.
    pub(crate) fn delete_resource(&mut self) {
        let cluster = self.roll_below(2);
        let keys: Vec<_> = self.clusters[cluster].resources.keys().cloned().collect();
        let Some(key) = self.pick_one(&keys) else { return };
        let removal = if self.chance(0.3) { Deletion::Cascaded } else { Deletion::Requested };
        let lease = self.clusters[cluster].delete_resource(&key, removal);
        self.note_event(|| {
            format!("custom resource {cluster}/{key:?} of lease {lease:?} is deleted: {removal:?}")
        });
        if let Some(lease) = lease.filter(|_| !self.draw_fault(0.1)) {
            self.store.wake_lease(self.now, lease);
        }
    }
}
