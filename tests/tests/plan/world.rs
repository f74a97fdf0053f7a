//! Cloud, cluster, store and workers under one clock, and everything that may happen to them.

use crate::cloud::{Cloud, Gateway};
use crate::cluster::{Cluster, Pod};
use crate::store::{Slot, Store};
use crate::worker::Worker;
use jiff::{SignedDuration, Timestamp};
use simulator::cidr::Cidr;
use simulator::dice::Dice;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use uuid::Uuid;
use waygate_core::ids::{AllocationId, LeaseId, PodUid};
use waygate_core::lease::Lease;
use waygate_core::names::Owner;
use waygate_core::request::{DnatRequest, EipRequest, EipSource, EipSpec, ExposedPort, Protocol, ReleaseStrategy, Request};

/// Names that pods have, one after the other.
const NAMES: [&str; 4] = ["a", "b", "c", "d"];
/// Addresses that pods get; few, so that they come back soon. The first is its interface's primary one.
const ADDRESSES: u32 = 5;
/// An address that no pod ever gets: where the console binds EIPs to.
const ELSEWHERE: u32 = 45;
/// External ports of each gateway's EIP.
const PORTS: std::ops::Range<u16> = 300..316;
const WORKERS: u128 = 3;

/// All of it.
pub(crate) struct World {
    dice: Dice,
    /// Whether anything goes wrong.
    pub faults: bool,
    pub now: Timestamp,
    /// Counts what happens.
    pub moment: u64,
    /// When somebody else last changed something that we had read.
    pub disturbed: u64,
    pub owner: Owner,
    pub cloud: Cloud,
    pub cluster: Cluster,
    pub store: Store,
    pub workers: Vec<Worker>,
    /// EIPs that pods may name.
    pub given: Vec<AllocationId>,
    /// Pods whose published address somebody else has broken since.
    pub excused: BTreeSet<PodUid>,
    /// Leases for which a process wrote that had lost its claim. The cluster knows no claims, so that cannot be kept from happening: it is
    /// found by the next read, and undone.
    pub late_writers: BTreeSet<LeaseId>,
    /// The first thing that must not be.
    pub failure: Option<String>,
    network: Option<Cidr>,
    born: u128,
    trace: Option<Vec<(Timestamp, String)>>,
}

impl World {
    pub(crate) fn new(seed: u64, tracing: bool) -> Self {
        let now = Timestamp::from_second(1_800_000_000).unwrap_or_default();
        let mut dice = Dice::new(seed);
        let mut cloud = Cloud::new(dice.chance(0.3), seed, now);
        let bought = (0..2).filter_map(|_| cloud.by_hand("AllocateEipAddress", &[]));
        let given = bought.filter_map(|answer| answer["AllocationId"].as_str().map(AllocationId::new)).collect();
        let store = Store::new(cloud.gateways.clone(), PORTS);
        let workers = (1..=WORKERS).map(|owner| Worker { owner: Uuid::from_u128(owner), task: None }).collect();
        Self {
            dice,
            faults: true,
            now,
            moment: 0,
            disturbed: 0,
            owner: Owner { store: Uuid::from_u128(7), cluster: Uuid::from_u128(8) },
            network: cloud.pod_network(),
            cloud,
            cluster: Cluster::default(),
            store,
            workers,
            given,
            excused: BTreeSet::new(),
            late_writers: BTreeSet::new(),
            failure: None,
            born: 0,
            trace: tracing.then(Vec::new),
        }
    }

    /// What happened, if it was written down.
    pub(crate) fn trace(&self) -> Vec<String> {
        self.trace.iter().flatten().map(|(at, what)| format!("{at} {what}")).collect()
    }

    pub(crate) fn note(&mut self, what: impl FnOnce() -> String) {
        let Some(trace) = &mut self.trace else { return };
        let what = what();
        // Waiting repeats itself.
        if trace.iter().rev().take(6).all(|(_, before)| *before != what) {
            trace.push((self.now, what));
        }
    }

    pub(crate) fn fail(&mut self, what: impl FnOnce() -> String) {
        if self.failure.is_none() {
            self.failure = Some(what());
        }
    }

    pub(crate) fn dice_below(&mut self, most: usize) -> usize {
        usize::try_from(self.dice.roll() % u64::try_from(most.max(1)).unwrap_or(1)).unwrap_or(0)
    }

    /// Whether this goes wrong.
    pub(crate) fn fault(&mut self, probability: f64) -> bool {
        self.faults && self.dice.chance(probability)
    }

    /// Lets time pass, and what is due in it happen.
    pub(crate) fn pass(&mut self, time: SignedDuration) {
        for index in 0..self.workers.len() {
            // A process that is paused gives no sign of life.
            let alive = !self.fault(0.4);
            if let (true, Some(task)) = (alive, &self.workers[index].task) {
                self.store.renew(self.now, &task.claim);
            }
        }
        self.now += time;
        if self.cloud.arrive(self.now) > 0 {
            self.note(|| "something late arrived".to_owned());
            self.disturb_all();
        }
        self.store.end_quiet(self.now);
    }

    /// Somebody else has changed something.
    fn disturb(&mut self, pod: &PodUid) {
        self.moment += 1;
        self.disturbed = self.moment;
        self.excused.insert(pod.clone());
    }

    /// A process that has lost its claim writes to the cluster.
    pub(crate) fn late_write(&mut self, lease: &Lease) {
        self.note(|| format!("a late write for {}", lease.id));
        self.late_writers.insert(lease.id);
        self.disturb(&lease.pod_uid);
    }

    fn disturb_all(&mut self) {
        let all: Vec<_> = self.cluster.pods.values().map(|pod| pod.uid.clone()).collect();
        for pod in &all {
            self.disturb(pod);
        }
        self.moment += 1;
        self.disturbed = self.moment;
    }

    /// The next thing happens.
    pub(crate) fn happen(&mut self) {
        self.moment += 1;
        match self.dice_below(100) {
            0..58 => {
                let worker = self.dice_below(self.workers.len());
                for _ in 0..=self.dice_below(12) {
                    if !self.advance(worker) {
                        break;
                    }
                }
            }
            58..70 => {
                let millis = [50, 300, 1500, 5000][self.dice_below(4)];
                self.pass(SignedDuration::from_millis(millis));
            }
            70..73 => {
                let seconds = [9, 16, 61, 100][self.dice_below(4)];
                self.pass(SignedDuration::from_secs(seconds));
            }
            73..82 => self.create_pod(),
            82..85 => self.remove_pod(),
            85..87 => self.with_pod("terminates", |pod| pod.terminating = true),
            87..89 => self.with_pod("exits", |pod| pod.exited = true),
            89..91 => self.readdress_pod(),
            91..94 => self.change_request(),
            94..97 => self.interfere(),
            97..99 => self.crash(),
            _ => self.relist(),
        }
    }

    fn some_pod(&mut self) -> Option<String> {
        let index = self.dice_below(self.cluster.pods.len());
        self.cluster.pods.keys().nth(index).cloned()
    }

    fn create_pod(&mut self) {
        let name = NAMES[self.dice_below(NAMES.len())];
        if self.cluster.pods.contains_key(name) {
            return;
        }
        self.born += 1;
        let uid = PodUid::new(Uuid::from_u128(self.born).to_string());
        let request = self.some_request();
        if self.dice.chance(0.5) {
            self.store.hand_off(self.now, name, &uid, &request);
        }
        let version = self.cluster.next_version();
        let ip = if self.dice.chance(0.7) { self.free_address() } else { None };
        self.note(|| format!("pod {name} {uid} with {ip:?} asks for {request:?}"));
        let (verdicts, announced) = (BTreeMap::new(), BTreeMap::new());
        let pod = Pod { uid, version, ip, exited: false, terminating: false, asks: Some(request), verdicts, announced };
        self.cluster.pods.insert(name.to_owned(), pod);
        self.pod_event(name);
    }

    fn some_request(&mut self) -> Request {
        let release = ReleaseStrategy::Follow;
        match self.dice_below(8) {
            0..3 => {
                let bandwidth_package = self.dice.chance(0.2).then(|| self.cloud.package.clone());
                let bandwidth = if self.dice.chance(0.2) { 20 } else { 5 };
                let spec = EipSpec { bandwidth, bandwidth_package, ..EipSpec::default() };
                Request::Eip(EipRequest { source: EipSource::Allocate(spec), release })
            }
            3 => {
                let index = self.dice_below(self.given.len());
                Request::Eip(EipRequest { source: EipSource::Given(self.given[index].clone()), release })
            }
            _ => {
                let all = [(80, Protocol::Tcp), (443, Protocol::Tcp), (53, Protocol::Udp), (80, Protocol::Udp)];
                let first = self.dice_below(all.len());
                let count = self.dice_below(all.len()) + 1;
                let ports = (0..count).map(|i| all[(first + i) % all.len()]).map(|(port, protocol)| ExposedPort { port, protocol });
                Request::Dnat(DnatRequest { ports: ports.collect(), fixed: false, same_port: false })
            }
        }
    }

    /// An address that no running pod has; whether the cloud is done with its former pod is not the network's concern.
    fn free_address(&mut self) -> Option<Ipv4Addr> {
        let taken: BTreeSet<_> = self.cluster.pods.values().filter(|pod| !pod.exited).filter_map(|pod| pod.ip).collect();
        let first = u32::try_from(self.dice_below(5)).unwrap_or(0);
        let network = self.network?;
        (0..ADDRESSES).filter_map(|i| network.nth((first + i) % ADDRESSES)).find(|ip| !taken.contains(ip))
    }

    fn remove_pod(&mut self) {
        let Some(name) = self.some_pod() else { return };
        if let Some(pod) = self.cluster.pods.remove(&name) {
            self.note(|| format!("pod {name} {} is gone", pod.uid));
            if !self.fault(0.1) {
                self.store.wake_pod(self.now, &pod.uid);
            }
        }
    }

    fn with_pod(&mut self, what: &str, change: impl FnOnce(&mut Pod)) {
        let Some(name) = self.some_pod() else { return };
        let Some(version) = self.cluster.pods.get(&name).map(|pod| pod.version) else { return };
        self.note(|| format!("pod {name} {what}"));
        if self.cluster.patch_pod(&name, version, change).is_ok() {
            self.pod_event(&name);
        }
    }

    /// The pod gets its address, or by a new sandbox another.
    fn readdress_pod(&mut self) {
        let Some(name) = self.some_pod() else { return };
        let (Some(ip), Some(pod)) = (self.free_address(), self.cluster.pods.get(&name)) else { return };
        let (uid, version, exited) = (pod.uid.clone(), pod.version, pod.exited);
        if exited {
            return;
        }
        self.note(|| format!("pod {name} has {ip} now"));
        self.disturb(&uid);
        if self.cluster.patch_pod(&name, version, |pod| pod.ip = Some(ip)).is_ok() {
            self.pod_event(&name);
        }
    }

    fn change_request(&mut self) {
        let request = if self.dice.chance(0.5) { Some(self.some_request()) } else { None };
        self.with_pod(&format!("asks for {request:?} now"), |pod| pod.asks = request);
    }

    /// The watch brings a pod, unless the event is lost.
    pub(crate) fn pod_event(&mut self, name: &str) {
        if self.fault(0.05) {
            return;
        }
        let Some(pod) = self.cluster.pods.get(name) else { return };
        let uid = pod.uid.clone();
        if let (Some(request), false, false) = (&pod.asks, pod.exited, pod.terminating) {
            self.store.sight(self.now, name, &uid, request);
        }
        self.store.wake_pod(self.now, &uid);
    }

    /// The watch starts anew: every pod is brought, and every lease looks for itself.
    pub(crate) fn relist(&mut self) {
        let names: Vec<_> = self.cluster.pods.keys().cloned().collect();
        for name in &names {
            self.pod_event(name);
        }
        self.store.wake_all(self.now);
    }

    /// A worker dies, wherever it is, and starts again as somebody else.
    fn crash(&mut self) {
        let index = self.dice_below(self.workers.len());
        self.born += 1;
        let owner = Uuid::from_u128(0xDEAD_0000 + self.born);
        self.note(|| format!("worker {index} crashes"));
        self.workers[index] = Worker { owner, task: None };
    }

    /// Somebody at the console.
    fn interfere(&mut self) {
        let now = self.now;
        match self.dice_below(4) {
            0 => {
                let bound: Vec<_> = self.bound_eips();
                let index = self.dice_below(bound.len());
                let Some((id, _)) = bound.get(index) else { return };
                self.console("UnassociateEipAddress", &[("AllocationId", id.to_string())]);
                if self.dice.chance(0.3) {
                    self.bind_elsewhere(&id.clone());
                } else if self.dice.chance(0.3) && !self.given.contains(id) {
                    self.console("ReleaseEipAddress", &[("AllocationId", id.to_string())]);
                }
            }
            1 => {
                let gateway = self.some_gateway();
                let entries = self.cloud.entries(now, &gateway.id);
                let index = self.dice_below(entries.len());
                let Some(entry) = entries.get(index) else { return };
                self.console("DeleteForwardEntry", &[("ForwardEntryId", entry.entry_id.to_string())]);
            }
            2 => {
                let held: Vec<_> =
                    self.store.slots.iter().filter(|(_, slot)| **slot != Slot::Foreign).map(|(key, _)| key.clone()).collect();
                let held = &held[self.dice_below(held.len())];
                let to = self.network.and_then(|network| network.nth(ELSEWHERE));
                self.enter(held.2, to, 9000 + held.2, held.1);
            }
            _ => {
                let Some(ip) = self.some_pod().and_then(|name| self.cluster.pods.get(&name).and_then(|pod| pod.ip)) else { return };
                self.enter(900, Some(ip), 80, Protocol::Tcp);
            }
        }
        self.disturb_all();
    }

    fn console(&mut self, action: &str, parameters: &[(&str, String)]) {
        let done = self.cloud.by_hand(action, parameters);
        self.note(|| format!("console: {action} {parameters:?}: {done:?}"));
    }

    fn bind_elsewhere(&mut self, id: &AllocationId) {
        let Some(ip) = self.network.and_then(|network| network.nth(ELSEWHERE)) else { return };
        let now = self.now;
        if let Some(eni) = self.cloud.eni(now, ip) {
            let to = [("InstanceId", eni.eni_id.to_string()), ("InstanceType", "NetworkInterface".to_owned())];
            let what = [("AllocationId", id.to_string()), ("PrivateIpAddress", ip.to_string())];
            self.console("AssociateEipAddress", &[to, what].concat());
        }
    }

    fn some_gateway(&mut self) -> Gateway {
        let index = self.dice_below(self.cloud.gateways.len());
        self.cloud.gateways[index].clone()
    }

    /// A forward entry that is not ours.
    fn enter(&mut self, external_port: u16, to: Option<Ipv4Addr>, internal_port: u16, protocol: Protocol) {
        let gateway = self.some_gateway();
        let Some(to) = to else { return };
        let parameters = [
            ("RegionId", "cn-hangzhou".to_owned()),
            ("ForwardTableId", gateway.table_id.to_string()),
            ("ForwardEntryName", "somebody".to_owned()),
            ("ExternalIp", gateway.address.to_string()),
            ("ExternalPort", external_port.to_string()),
            ("InternalIp", to.to_string()),
            ("InternalPort", internal_port.to_string()),
            ("IpProtocol", protocol.as_str().to_owned()),
        ];
        self.console("CreateForwardEntry", &parameters);
    }

    /// EIPs on interfaces, and the address behind each, where the API shows one.
    pub(crate) fn bound_eips(&mut self) -> Vec<(AllocationId, Option<Ipv4Addr>)> {
        let eips = self.cloud.all_eips(self.now);
        let bound = eips.into_iter().filter_map(|eip| Some((eip.allocation_id, eip.binding?)));
        bound.filter(|(_, binding)| binding.instance_type == "NetworkInterface").map(|(id, binding)| (id, binding.private_ip)).collect()
    }

    /// Everybody else lets go: faults end, terminating pods go, what the console left in the way is taken away.
    pub(crate) fn calm(&mut self) {
        self.note(|| "calm".to_owned());
        self.faults = false;
        self.cluster.pods.retain(|_, pod| !pod.terminating);
        for pod in self.cluster.pods.keys().cloned().collect::<Vec<_>>() {
            if self.cluster.pods.get(&pod).is_some_and(|pod| pod.ip.is_none()) {
                let ip = self.free_address();
                if let Some(pod) = self.cluster.pods.get_mut(&pod) {
                    pod.ip = ip;
                }
            }
        }
        let elsewhere = self.elsewhere();
        for (id, ip) in self.bound_eips() {
            if ip == elsewhere {
                self.console("UnassociateEipAddress", &[("AllocationId", id.to_string())]);
            }
        }
        for gateway in self.cloud.gateways.clone() {
            let now = self.now;
            for entry in self.cloud.entries(now, &gateway.id).iter().filter(|entry| entry.external_port == "900") {
                self.console("DeleteForwardEntry", &[("ForwardEntryId", entry.entry_id.to_string())]);
            }
        }
        self.disturb_all();
        self.relist();
    }

    /// Where only the console binds to.
    pub(crate) fn elsewhere(&self) -> Option<Ipv4Addr> {
        self.network.and_then(|network| network.nth(ELSEWHERE))
    }
}
