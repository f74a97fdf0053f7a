//! Cloud, clusters, store and workers under one clock, and what may happen to them.

use crate::cloud::Cloud;
use crate::cluster::Cluster;
use crate::discovery::PortPool;
use crate::gateway_sender::GatewaySenders;
use crate::lister::Lister;
use crate::pods::POOL;
use crate::store::Store;
use crate::worker::{List, Worker};
use jiff::{SignedDuration, Timestamp};
use simulator::cidr::Cidr;
use simulator::dice::Dice;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;
use waygate_core::ids::{AllocationId, LeaseId, NatGatewayId, PodUid};
use waygate_core::lease::Lease;
use waygate_core::ownership::{Owner, TAG_POOL};
use waygate_core::request::Kind;

/// Workers of each cluster.
const WORKERS: usize = 2;

/// The whole model and its dice.
pub(crate) struct World {
    dice: Dice,
    /// True while faults happen.
    pub faults: bool,
    pub now: Timestamp,
    /// Counter of events, used as a logical clock.
    pub moment: u64,
    /// Moment of the last change by another user to something that the model had read.
    pub last_disturbance: u64,
    pub cloud: Cloud,
    /// Two clusters that share cloud, gateways and store.
    pub clusters: [Cluster; 2],
    pub owners: [Owner; 2],
    pub store: Store,
    pub pool: PortPool,
    pub lister: Lister,
    pub workers: Vec<Worker>,
    /// The last list of each gateway's entries.
    pub lists: BTreeMap<NatGatewayId, List>,
    /// EIPs that pods may name.
    pub given_eips: Vec<AllocationId>,
    /// EIPs of the pool, some of which pods may name, too.
    pub pool_eips: Vec<AllocationId>,
    /// True if a younger pod may take a given EIP from an older one.
    pub preemption_allowed: bool,
    /// Pods whose published address of this kind another user has broken since.
    pub excused: BTreeSet<(PodUid, Kind)>,
    /// Leases for which a process wrote that had lost its claim. The cluster knows no claims, so
    /// the model must allow such a write: the next read finds it, and the plan undoes it.
    pub late_writers: BTreeSet<LeaseId>,
    /// Addresses of leases that outlive their pods, when they were published or their pods went.
    pub retained: BTreeMap<LeaseId, Lease>,
    /// The first thing that must not be.
    pub failure: Option<String>,
    pub network: Option<Cidr>,
    /// Until then every list is empty, as wrong credentials make it.
    blind_until: Timestamp,
    pub born: u128,
    trace: Option<Vec<(Timestamp, String)>>,
}

impl World {
    pub(crate) fn new(seed: u64, tracing: bool) -> Self {
        let now = Timestamp::from_second(1_800_000_000).unwrap_or_default();
        let mut dice = Dice::new(seed);
        let mut cloud = Cloud::new(dice.draw_chance(0.3), seed, now);
        let preemption_allowed = dice.draw_chance(0.5);
        for action in ["vpc:ModifyForwardEntry", "vpc:ModifyEipAddressAttribute"] {
            if dice.draw_chance(0.15) {
                cloud.deny_action(action);
            }
        }
        let pool = [("Tag.1.Key", TAG_POOL.to_owned()), ("Tag.1.Value", POOL.to_owned())];
        let mut buy = |tags: &[(&str, String)]| {
            let bought = cloud.change_at_console("AllocateEipAddress", tags);
            AllocationId::new(
                bought
                    .and_then(|answer| answer["AllocationId"].as_str().map(str::to_owned))
                    .unwrap_or_default(),
            )
        };
        let pool_eips = vec![buy(&pool), buy(&pool)];
        let given = vec![buy(&[]), pool_eips[0].clone()];
        let worker = |index| Worker {
            cluster: index % 2,
            owner: Uuid::from_u128(index as u128 + 1),
            task: None,
            senders: GatewaySenders::new(),
            deliveries: Vec::new(),
        };
        let mut world = Self {
            dice,
            faults: true,
            now,
            moment: 0,
            last_disturbance: 0,
            network: cloud.pod_network(),
            store: Store::new(&cloud.gateways),
            cloud,
            clusters: Default::default(),
            owners: [8, 9].map(|cluster| Owner {
                store: Uuid::from_u128(7),
                cluster: Uuid::from_u128(cluster),
            }),
            pool: PortPool::default(),
            lister: Lister::default(),
            workers: (0..2 * WORKERS).map(worker).collect(),
            lists: BTreeMap::new(),
            given_eips: given,
            pool_eips,
            preemption_allowed,
            excused: BTreeSet::new(),
            late_writers: BTreeSet::new(),
            retained: BTreeMap::new(),
            failure: None,
            blind_until: now,
            born: 0,
            trace: tracing.then(Vec::new),
        };
        world.discover_gateways();
        world
    }

    /// Returns the recorded events.
    pub(crate) fn list_events(&self) -> Vec<String> {
        self.trace.iter().flatten().map(|(at, what)| format!("{at} {what}")).collect()
    }

    pub(crate) fn note_event(&mut self, what: impl FnOnce() -> String) {
        let Some(trace) = &mut self.trace else { return };
        let what = what();
        // Waiting repeats itself.
        if trace.iter().rev().take(8).all(|(_, before)| *before != what) {
            trace.push((self.now, what));
        }
    }

    pub(crate) fn note_failure(&mut self, what: impl FnOnce() -> String) {
        if self.failure.is_none() {
            self.failure = Some(what());
        }
    }

    pub(crate) fn roll_below(&mut self, most: usize) -> usize {
        usize::try_from(self.dice.roll() % u64::try_from(most.max(1)).unwrap_or(1)).unwrap_or(0)
    }

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.dice.draw_chance(probability)
    }

    /// Returns dice of their own, so that their use does not shift the history.
    pub(crate) fn derive_dice(&mut self) -> Dice {
        Dice::new(self.dice.roll())
    }

    /// Picks an element at random.
    pub(crate) fn pick_one<T: Clone>(&mut self, of: &[T]) -> Option<T> {
        let index = self.roll_below(of.len());
        of.get(index).cloned()
    }

    /// True if this fails now, with this probability.
    pub(crate) fn draw_fault(&mut self, probability: f64) -> bool {
        self.faults && self.dice.draw_chance(probability)
    }

    /// Lets time pass, and what is due in it happen.
    pub(crate) fn pass_time(&mut self, time: SignedDuration) {
        for index in 0..self.workers.len() {
            // A process that is paused gives no sign of life.
            let alive = !self.draw_fault(0.4);
            if let (true, Some(task)) = (alive, &self.workers[index].task) {
                self.store.renew_claim(self.now, &task.claim);
            }
            if alive {
                self.store.renew_gateway_locks(self.now, self.workers[index].owner);
            }
        }
        self.now += time;
        if self.cloud.deliver_late_calls(self.now) > 0 {
            self.note_event(|| "something late arrived".to_owned());
        }
        if self.pool.is_due(self.now) && !self.draw_fault(0.2) {
            self.discover_gateways();
        }
        if self.lister.is_due(self.now) && !self.draw_fault(0.2) {
            self.compare_lists();
        }
    }

    /// True while lists are empty, as wrong credentials make them.
    pub(crate) fn are_lists_empty(&mut self) -> bool {
        if self.draw_fault(0.005) {
            self.blind_until = self.now + SignedDuration::from_secs(2);
        }
        self.faults && self.now < self.blind_until
    }

    /// True if people have bought the EIP, so that Waygate may not change or release it.
    pub(crate) fn is_bought_by_people(&self, id: &AllocationId) -> bool {
        self.given_eips.contains(id) || self.pool_eips.contains(id)
    }

    /// Excuses pods whose published address another user has just broken, until they are published
    /// again.
    pub(crate) fn note_disturbance(&mut self) {
        self.moment += 1;
        self.last_disturbance = self.moment;
        self.cloud.update_ledger(self.now);
        let broken = self.list_broken_addresses();
        self.excused.extend(broken);
    }

    /// A process that has lost its claim writes to the cluster.
    pub(crate) fn note_late_write(&mut self, lease: &Lease) {
        self.note_event(|| format!("a late write for {}", lease.id));
        self.late_writers.insert(lease.id);
        self.moment += 1;
        self.last_disturbance = self.moment;
        self.excused.insert((lease.pod_uid.clone(), lease.kind));
    }

    /// The next thing happens.
    pub(crate) fn run_random_event(&mut self) {
        self.moment += 1;
        match self.roll_below(100) {
            0..55 => {
                let worker = self.roll_below(self.workers.len());
                for _ in 0..=self.roll_below(14) {
                    if !self.advance_worker(worker) {
                        break;
                    }
                }
            }
            55 => self.discover_gateways(),
            56..67 => {
                let millis = [50, 300, 1500, 5000][self.roll_below(4)];
                self.pass_time(SignedDuration::from_millis(millis));
            }
            67..70 => {
                let seconds = [9, 16, 61, 100][self.roll_below(4)];
                self.pass_time(SignedDuration::from_secs(seconds));
            }
            70..80 => self.create_pod(),
            80..84 => self.remove_pod(),
            84..85 => self.change_some_pod("terminates", |pod| pod.terminating = true),
            85..87 => self.change_some_pod("exits", |pod| pod.exited = true),
            87..89 => self.readdress_pod(),
            89..92 => self.change_request(),
            92..93 => self.delete_resource(),
            93..97 => self.change_something(),
            97..99 => self.crash_worker(),
            _ => self.restart_watch(),
        }
    }

    /// Something happens to a pod, or to what it has in the cloud, and nothing else does.
    pub(crate) fn run_single_event(&mut self) {
        match self.roll_below(8) {
            0..3 => self.create_pod(),
            3..5 => self.remove_pod(),
            5..7 => self.disturb_once(),
            _ => self.change_request(),
        }
    }

    /// The watch starts anew: every pod is brought, and the leases whose pods are not among them look
    /// for themselves.
    pub(crate) fn restart_watch(&mut self) {
        for cluster in 0..self.clusters.len() {
            let names: Vec<_> = self.clusters[cluster].pods.keys().cloned().collect();
            for name in &names {
                self.deliver_pod_event(cluster, name);
            }
            let present: BTreeSet<_> =
                self.clusters[cluster].pods.values().map(|pod| pod.uid.clone()).collect();
            self.store.wake_leases_without_pod(self.now, cluster, &present);
        }
    }

    /// A worker dies at any stage, and starts again with a new identity.
    fn crash_worker(&mut self) {
        let index = self.roll_below(self.workers.len());
        self.born += 1;
        let owner = Uuid::from_u128(0xDEAD_0000 + self.born);
        self.note_event(|| format!("worker {index} crashes"));
        self.workers[index] = Worker {
            cluster: self.workers[index].cluster,
            owner,
            task: None,
            senders: GatewaySenders::new(),
            deliveries: Vec::new(),
        };
    }
}
