//! Cloud, clusters, store and workers under one clock, and what may happen to them.

use crate::cloud::Cloud;
use crate::cluster::Cluster;
use crate::lane::Lanes;
use crate::pods::POOL;
use crate::pool::Pool;
use crate::store::Store;
use crate::worker::{List, Worker};
use jiff::{SignedDuration, Timestamp};
use simulator::cidr::Cidr;
use simulator::dice::Dice;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;
use waygate_core::ids::{AllocationId, LeaseId, NatGatewayId, PodUid};
use waygate_core::lease::Lease;
use waygate_core::names::{Owner, TAG_POOL};
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
    pub disturbed: u64,
    pub cloud: Cloud,
    /// Two clusters that share cloud, gateways and store.
    pub clusters: [Cluster; 2],
    pub owners: [Owner; 2],
    pub store: Store,
    pub pool: Pool,
    pub workers: Vec<Worker>,
    /// The last list of each gateway's entries.
    pub lists: BTreeMap<NatGatewayId, List>,
    /// EIPs that pods may name.
    pub given: Vec<AllocationId>,
    /// EIPs of the pool, some of which pods may name, too.
    pub pool_eips: Vec<AllocationId>,
    /// True if a younger pod may take a given EIP from an older one.
    pub takeover: bool,
    /// Pods whose published address of this kind another user has broken since.
    pub excused: BTreeSet<(PodUid, Kind)>,
    /// Leases for which a process wrote that had lost its claim. The cluster knows no claims, so
    /// the model must allow such a write: the next read finds it, and the plan undoes it.
    pub late_writers: BTreeSet<LeaseId>,
    /// Addresses of leases that outlive their pods, when they were published or their pods went.
    pub kept: BTreeMap<LeaseId, Lease>,
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
        let mut cloud = Cloud::new(dice.chance(0.3), seed, now);
        let takeover = dice.chance(0.5);
        for action in ["vpc:ModifyForwardEntry", "vpc:ModifyEipAddressAttribute"] {
            if dice.chance(0.15) {
                cloud.deny(action);
            }
        }
        let pool = [("Tag.1.Key", TAG_POOL.to_owned()), ("Tag.1.Value", POOL.to_owned())];
        let mut buy = |tags: &[(&str, String)]| {
            let bought = cloud.by_hand("AllocateEipAddress", tags);
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
            lanes: Lanes::new(),
        };
        let mut world = Self {
            dice,
            faults: true,
            now,
            moment: 0,
            disturbed: 0,
            network: cloud.pod_network(),
            store: Store::new(&cloud.gateways),
            cloud,
            clusters: Default::default(),
            owners: [8, 9].map(|cluster| Owner {
                store: Uuid::from_u128(7),
                cluster: Uuid::from_u128(cluster),
            }),
            pool: Pool::default(),
            workers: (0..2 * WORKERS).map(worker).collect(),
            lists: BTreeMap::new(),
            given,
            pool_eips,
            takeover,
            excused: BTreeSet::new(),
            late_writers: BTreeSet::new(),
            kept: BTreeMap::new(),
            failure: None,
            blind_until: now,
            born: 0,
            trace: tracing.then(Vec::new),
        };
        world.look_at_gateways();
        world
    }

    /// Returns the recorded events.
    pub(crate) fn trace(&self) -> Vec<String> {
        self.trace.iter().flatten().map(|(at, what)| format!("{at} {what}")).collect()
    }

    pub(crate) fn note(&mut self, what: impl FnOnce() -> String) {
        let Some(trace) = &mut self.trace else { return };
        let what = what();
        // Waiting repeats itself.
        if trace.iter().rev().take(8).all(|(_, before)| *before != what) {
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

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.dice.chance(probability)
    }

    /// Returns dice of their own, so that their use does not shift the history.
    pub(crate) fn another_dice(&mut self) -> Dice {
        Dice::new(self.dice.roll())
    }

    /// Picks an element at random.
    pub(crate) fn one<T: Clone>(&mut self, of: &[T]) -> Option<T> {
        let index = self.dice_below(of.len());
        of.get(index).cloned()
    }

    /// True if this fails now, with this probability.
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
            if alive {
                self.store.renew_lanes(self.now, self.workers[index].owner);
            }
        }
        self.now += time;
        if self.cloud.arrive(self.now) > 0 {
            self.note(|| "something late arrived".to_owned());
        }
        if self.pool.is_due(self.now) && !self.fault(0.2) {
            self.look_at_gateways();
        }
    }

    /// True while lists are empty, as wrong credentials make them.
    pub(crate) fn is_blind(&mut self) -> bool {
        if self.fault(0.005) {
            self.blind_until = self.now + SignedDuration::from_secs(2);
        }
        self.faults && self.now < self.blind_until
    }

    /// True if people have bought the EIP, so that Waygate may not change or release it.
    pub(crate) fn is_bought_by_people(&self, id: &AllocationId) -> bool {
        self.given.contains(id) || self.pool_eips.contains(id)
    }

    /// Excuses pods whose published address another user has just broken, until they are published
    /// again.
    pub(crate) fn disturb(&mut self) {
        self.moment += 1;
        self.disturbed = self.moment;
        self.cloud.take_down(self.now);
        let untold = self.told_untruths();
        self.excused.extend(untold);
    }

    /// A process that has lost its claim writes to the cluster.
    pub(crate) fn late_write(&mut self, lease: &Lease) {
        self.note(|| format!("a late write for {}", lease.id));
        self.late_writers.insert(lease.id);
        self.moment += 1;
        self.disturbed = self.moment;
        self.excused.insert((lease.pod_uid.clone(), lease.kind));
    }

    /// The next thing happens.
    pub(crate) fn happen(&mut self) {
        self.moment += 1;
        match self.dice_below(100) {
            0..55 => {
                let worker = self.dice_below(self.workers.len());
                for _ in 0..=self.dice_below(14) {
                    if !self.advance(worker) {
                        break;
                    }
                }
            }
            55 => self.look_at_gateways(),
            56..67 => {
                let millis = [50, 300, 1500, 5000][self.dice_below(4)];
                self.pass(SignedDuration::from_millis(millis));
            }
            67..70 => {
                let seconds = [9, 16, 61, 100][self.dice_below(4)];
                self.pass(SignedDuration::from_secs(seconds));
            }
            70..80 => self.create_pod(),
            80..84 => self.remove_pod(),
            84..85 => self.with_pod("terminates", |pod| pod.terminating = true),
            85..87 => self.with_pod("exits", |pod| pod.exited = true),
            87..89 => self.readdress_pod(),
            89..92 => self.change_request(),
            92..93 => self.delete_resource(),
            93..97 => self.interfere(),
            97..99 => self.crash(),
            _ => self.relist(),
        }
    }

    /// Something happens to a pod, and nothing else does.
    pub(crate) fn happen_to_pods(&mut self) {
        match self.dice_below(6) {
            0..3 => self.create_pod(),
            3..5 => self.remove_pod(),
            _ => self.change_request(),
        }
    }

    /// The watch starts anew: every pod is brought, and every lease looks for itself.
    pub(crate) fn relist(&mut self) {
        for cluster in 0..self.clusters.len() {
            let names: Vec<_> = self.clusters[cluster].pods.keys().cloned().collect();
            for name in &names {
                self.pod_event(cluster, name);
            }
            self.store.wake_all(self.now, cluster);
        }
    }

    /// A worker dies at any stage, and starts again with a new identity.
    fn crash(&mut self) {
        let index = self.dice_below(self.workers.len());
        self.born += 1;
        let owner = Uuid::from_u128(0xDEAD_0000 + self.born);
        self.note(|| format!("worker {index} crashes"));
        self.workers[index] =
            Worker { cluster: self.workers[index].cluster, owner, task: None, lanes: Lanes::new() };
    }
}
