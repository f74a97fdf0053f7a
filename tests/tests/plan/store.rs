//! The lease store as tables in memory: every write does what the SQL of `waygate-store` does, its
//! fences and unique indexes included.

use crate::cloud::Gateway;
use crate::operations::Asked;
use crate::ports::{Offered, Room, Slot, SlotKey};
use crate::queue::LaneRow;
use crate::sources::Former;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;
use uuid::Uuid;
use waygate_core::ids::{AllocationId, LeaseId, NatGatewayId, PodUid};
use waygate_core::lease::{Constraint, GatewayFact, Lease, LeasedPort, Phase, Target};
use waygate_core::operation::{Operation, Refused};
use waygate_core::request::{Keep, Kind, Request};
use waygate_core::rules::timing::{CLAIM, HEAD_START};

/// Why the store says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum No {
    ClaimLost,
    LaneLost,
    Conflict(Constraint),
}

pub(crate) type Done = Result<(), No>;

/// A lease that a worker has claimed for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub lease_id: LeaseId,
    /// Cluster of the claim holder, which is the lease's.
    pub cluster: usize,
    pub owner: Uuid,
    pub epoch: u64,
}

/// A lease and its job.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub cluster: usize,
    pub lease: Lease,
    pub due: Timestamp,
    pub wake: u64,
    pub owner: Option<Uuid>,
    pub epoch: u64,
    tries: i32,
    pub reason: Option<String>,
    /// When the pod was made; none before it was seen.
    pub made: Option<Timestamp>,
    /// The cloud's refusal of a queued change, not reported yet.
    pub refused: Option<Refused>,
    /// Number of such refusals in a row.
    pub refusals: i32,
    /// Time of the last settled operation, or of the last change of its gateway.
    pub stirred: Timestamp,
}

/// A lease as its claim holder reads it.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub lease: Lease,
    pub operations: Vec<Operation>,
    pub gateway: GatewayFact,
    pub wake: u64,
    pub tries: i32,
    pub reason: Option<String>,
    pub refused: Option<Refused>,
    pub refusals: i32,
    pub stirred: Timestamp,
    pub now: Timestamp,
}

/// A pod that asks, as it was admitted or seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking<'a> {
    pub cluster: usize,
    pub name: &'a str,
    pub uid: &'a PodUid,
    pub controller: Option<&'a str>,
    /// None where that is not known.
    pub made: Option<Timestamp>,
    pub request: &'a Request,
}

/// All tables of the lease store.
#[derive(Default)]
pub(crate) struct Store {
    pub rows: BTreeMap<LeaseId, Row>,
    /// Unresolved operations, the oldest first.
    pub operations: Vec<Asked>,
    pub lanes: BTreeMap<NatGatewayId, LaneRow>,
    /// By cluster and pod's name.
    pub former: BTreeMap<(usize, String), Former>,
    pub slots: BTreeMap<SlotKey, Slot>,
    pub offers: BTreeMap<AllocationId, Offered>,
    pub rooms: BTreeMap<NatGatewayId, Room>,
    born: u128,
}

impl Store {
    pub(crate) fn new(gateways: &[Gateway]) -> Self {
        let mut store = Self::default();
        for gateway in gateways {
            store.offer_first(gateway);
        }
        store
    }

    pub(crate) fn id(&mut self) -> Uuid {
        self.born += 1;
        Uuid::from_u128(0x1000_0000 + self.born)
    }

    /// Announces a pod at admission, unless a lease is retained for it.
    pub(crate) fn hand_off(&mut self, now: Timestamp, pod: Asking<'_>) {
        if !self.is_kept_for(pod) && self.live_row(pod).is_none() {
            self.insert(now, pod, Phase::Headstart, now + HEAD_START);
        }
    }

    /// Observes a pod: it gets a lease, or the one that is retained for it, which is woken.
    pub(crate) fn sight(&mut self, now: Timestamp, pod: Asking<'_>) {
        let own = self.live_row(pod).map(|row| (row.lease.id, row.lease.phase == Phase::Headstart));
        match own {
            _ if self.is_kept_for(pod) => self.wake_kept(now, pod),
            Some((id, true)) if self.kept_is_taken(id, pod.request) => self.wake_kept(now, pod),
            Some((id, starts)) => {
                let Some(row) = self.rows.get_mut(&id) else { return };
                row.lease.phase = if starts { Phase::Wanted } else { row.lease.phase };
                row.made = row.made.or(pod.made);
                row.news(now);
            }
            None => self.insert(now, pod, Phase::Wanted, now),
        }
    }

    fn wake_kept(&mut self, now: Timestamp, pod: Asking<'_>) {
        let kept = |row: &&mut Row| {
            named(row, pod)
                && row.lease.pod_uid != *pod.uid
                && keeps(&row.lease.request)
                && row.lease.phase != Phase::Ending
        };
        self.rows.values_mut().filter(kept).for_each(|row| row.news(now));
    }

    fn is_kept_for(&self, pod: Asking<'_>) -> bool {
        let controller = pod.controller.map(str::to_owned);
        self.rows.values().any(|row| {
            let lease = &row.lease;
            let theirs =
                named(row, pod) && lease.pod_uid != *pod.uid && lease.controller == controller;
            theirs && keeps(&lease.request) && lease.phase != Phase::Ending
        })
    }

    /// Unique: (kind, pod) unless ending.
    fn live_row(&self, pod: Asking<'_>) -> Option<&Row> {
        let live = |row: &&Row| {
            row.lease.pod_uid == *pod.uid
                && row.lease.kind == pod.request.kind()
                && row.lease.phase != Phase::Ending
        };
        self.rows.values().find(live)
    }

    /// Unique: (kind, name, controller) of what outlives its pod, once its pod was seen and until
    /// it ends.
    fn kept_is_taken(&self, id: LeaseId, request: &Request) -> bool {
        let Some(own) = self.rows.get(&id).filter(|_| keeps(request)) else { return false };
        self.rows.values().any(|row| {
            let (it, own_lease) = (&row.lease, &own.lease);
            it.id != id
                && row.cluster == own.cluster
                && (it.kind, &it.pod_name, &it.controller)
                    == (own_lease.kind, &own_lease.pod_name, &own_lease.controller)
                && keeps(&it.request)
                && matches!(it.phase, Phase::Wanted | Phase::Held | Phase::Kept)
        })
    }

    fn insert(&mut self, now: Timestamp, pod: Asking<'_>, phase: Phase, due: Timestamp) {
        let lease = Lease {
            id: LeaseId(self.id()),
            kind: pod.request.kind(),
            namespace: "ns".to_owned(),
            pod_name: pod.name.to_owned(),
            pod_uid: pod.uid.clone(),
            controller: pod.controller.map(str::to_owned),
            request: pod.request.clone(),
            phase,
            eip: None,
            ports: Vec::new(),
            target: None,
            generation: 0,
            resource: false,
            doubts: 0,
            spilling: false,
            told: false,
            lost_to: None,
            parted_at: None,
            created_at: now,
            ends_at: None,
        };
        let (cluster, made) = (pod.cluster, pod.made);
        let (reason, refused) = (None, None);
        let row = Row {
            cluster,
            lease,
            due,
            wake: 0,
            owner: None,
            epoch: 0,
            tries: 0,
            reason,
            made,
            refused,
            refusals: 0,
            stirred: now,
        };
        self.rows.insert(row.lease.id, row);
    }

    pub(crate) fn wake_lease(&mut self, now: Timestamp, lease: LeaseId) {
        self.rows.values_mut().filter(|row| row.lease.id == lease).for_each(|row| row.news(now));
    }

    pub(crate) fn wake_pod(&mut self, now: Timestamp, pod_uid: &PodUid) {
        self.rows
            .values_mut()
            .filter(|row| row.lease.pod_uid == *pod_uid)
            .for_each(|row| row.news(now));
    }

    pub(crate) fn wake_all(&mut self, now: Timestamp, cluster: usize) {
        let all = self
            .rows
            .values_mut()
            .filter(|row| row.cluster == cluster && row.lease.phase != Phase::Headstart);
        all.for_each(|row| row.news(now));
    }

    pub(crate) fn claim(&mut self, now: Timestamp, cluster: usize, owner: Uuid) -> Option<Claim> {
        let row = self
            .rows
            .values_mut()
            .filter(|row| row.cluster == cluster && row.due <= now)
            .min_by_key(|row| row.due)?;
        row.owner = Some(owner);
        row.epoch += 1;
        row.due = now + CLAIM;
        Some(Claim { lease_id: row.lease.id, cluster, owner, epoch: row.epoch })
    }

    /// A sign of life: extends a claim that has not lapsed.
    pub(crate) fn renew(&mut self, now: Timestamp, claim: &Claim) {
        if let Some(row) = self
            .rows
            .get_mut(&claim.lease_id)
            .filter(|row| row.owner == Some(claim.owner) && row.due > now)
        {
            row.due = now + CLAIM;
        }
    }

    /// True if the claim stands.
    pub(crate) fn holds(&mut self, claim: &Claim) -> bool {
        self.held(claim).is_ok()
    }

    pub(crate) fn held(&mut self, claim: &Claim) -> Result<&mut Row, No> {
        let row = self.rows.get_mut(&claim.lease_id).ok_or(No::ClaimLost)?;
        if row.owner == Some(claim.owner) && row.epoch == claim.epoch {
            Ok(row)
        } else {
            Err(No::ClaimLost)
        }
    }

    pub(crate) fn load(&mut self, now: Timestamp, claim: &Claim) -> Result<Loaded, No> {
        let row = self.held(claim)?;
        if row.due <= now {
            return Err(No::ClaimLost);
        }
        row.due = now + CLAIM;
        let Row { lease, wake, tries, reason, refused, refusals, stirred, .. } = row.clone();
        let operations = self.unresolved(now, claim.lease_id);
        let gateway = lease
            .ports
            .first()
            .map_or_else(GatewayFact::default, |port| self.gateway_fact(now, lease.id, port));
        Ok(Loaded {
            lease,
            operations,
            gateway,
            wake,
            tries,
            reason,
            refused,
            refusals,
            stirred,
            now,
        })
    }

    pub(crate) fn finish(&mut self, now: Timestamp, claim: &Claim, finish: Finish) -> Done {
        let row = self.held(claim)?;
        (row.owner, row.tries, row.reason) = (None, finish.tries, Some(finish.reason));
        if finish.heard.is_some() {
            row.refusals += 1;
        }
        row.refused = row.refused.take().filter(|refused| Some(refused) != finish.heard.as_ref());
        row.due = if row.wake == finish.wake { now + finish.again } else { now };
        Ok(())
    }

    pub(crate) fn set_phase(&mut self, claim: &Claim, phase: Phase) -> Done {
        let lease = self.held(claim)?.lease.clone();
        if lease.phase == Phase::Ending && phase != Phase::Ending {
            return Err(No::ClaimLost);
        }
        if phase != Phase::Ending && self.kept_is_taken(lease.id, &lease.request) {
            return Err(No::Conflict(Constraint::KeptLease));
        }
        let row = self.held(claim)?;
        (row.lease.phase, row.lease.doubts) = (phase, 0);
        if phase == Phase::Held {
            (row.lease.told, row.lease.parted_at) = (true, None);
        }
        Ok(())
    }

    pub(crate) fn adjust(&mut self, claim: &Claim, request: &Request) -> Done {
        self.held(claim)?;
        if self.kept_is_taken(claim.lease_id, request) {
            return Err(No::Conflict(Constraint::KeptLease));
        }
        self.held(claim)?.lease.request = request.clone();
        Ok(())
    }

    pub(crate) fn keep(&mut self, now: Timestamp, claim: &Claim, seconds: Option<u64>) -> Done {
        let lease = &mut self.held(claim)?.lease;
        if lease.target.is_some() || lease.phase == Phase::Ending {
            return Err(No::ClaimLost);
        }
        let ends_at = seconds.map(|seconds| {
            now + SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX))
        });
        (lease.phase, lease.doubts, lease.ends_at) = (Phase::Kept, 0, ends_at);
        Ok(())
    }

    pub(crate) fn succeed(
        &mut self,
        now: Timestamp,
        claim: &Claim,
        uid: &PodUid,
        request: &Request,
    ) -> Done {
        let lease = self.held(claim)?.lease.clone();
        if lease.phase != Phase::Kept && (lease.phase == Phase::Ending || lease.parted_at.is_none())
        {
            return Err(No::ClaimLost);
        }
        let has = |row: &Row| {
            row.lease.pod_uid == *uid
                && row.lease.kind == lease.kind
                && row.lease.phase != Phase::Ending
        };
        if self.rows.values().any(|row| row.lease.id != lease.id && has(row)) {
            return Err(No::Conflict(Constraint::LeaseOfPod));
        }
        if self.kept_is_taken(lease.id, request) {
            return Err(No::Conflict(Constraint::KeptLease));
        }
        let row = self.held(claim)?;
        row.made = None;
        let lease = &mut row.lease;
        (lease.phase, lease.pod_uid, lease.request) = (Phase::Wanted, uid.clone(), request.clone());
        (lease.ends_at, lease.created_at) = (None, now);
        Ok(())
    }

    pub(crate) fn part(&mut self, now: Timestamp, claim: &Claim) -> Done {
        let lease = &mut self.held(claim)?.lease;
        if lease.phase == Phase::Ending {
            return Err(No::ClaimLost);
        }
        lease.parted_at.get_or_insert(now);
        Ok(())
    }

    pub(crate) fn release_kept(&mut self, claim: &Claim) -> Done {
        let lease = &mut self.held(claim)?.lease;
        if lease.phase != Phase::Kept {
            return Err(No::ClaimLost);
        }
        lease.phase = Phase::Ending;
        Ok(())
    }

    pub(crate) fn doubt(&mut self, claim: &Claim) -> Done {
        self.held(claim)?.lease.doubts += 1;
        Ok(())
    }

    pub(crate) fn forget(&mut self, claim: &Claim) -> Done {
        let unresolved = self.operations.iter().any(|asked| asked.lease == claim.lease_id);
        let lease = &self.held(claim)?.lease;
        if unresolved || lease.eip.is_some() || lease.target.is_some() || !lease.ports.is_empty() {
            return Err(No::ClaimLost);
        }
        self.rows.remove(&claim.lease_id);
        Ok(())
    }

    pub(crate) fn forget_eip(&mut self, claim: &Claim) -> Done {
        self.held(claim)?.lease.eip = None;
        Ok(())
    }

    pub(crate) fn set_target(&mut self, claim: &Claim, target: &Target) -> Done {
        let lease = self.held(claim)?.lease.clone();
        if lease.target.is_some() && lease.kind == Kind::Eip {
            return Err(No::ClaimLost);
        }
        if lease.kind == Kind::Eip
            && self.others_at(lease.id, target.private_ip).any(|it| it.kind == Kind::Eip)
        {
            return Err(No::Conflict(Constraint::BoundIp));
        }
        let same = |it: &LeasedPort| {
            lease
                .ports
                .iter()
                .any(|mine| it.gateway_id == mine.gateway_id && it.exposed == mine.exposed)
        };
        if self.others_at(lease.id, target.private_ip).flat_map(|it| &it.ports).any(same) {
            return Err(No::Conflict(Constraint::ForwardedPort));
        }
        let row = self.held(claim)?;
        (row.lease.target, row.lease.parted_at) = (Some(target.clone()), None);
        row.lease.generation += 1;
        Ok(())
    }

    /// Other leases, of whichever cluster, that point at the address.
    pub(crate) fn others_at(&self, lease: LeaseId, ip: Ipv4Addr) -> impl Iterator<Item = &Lease> {
        let cluster = self.rows.get(&lease).map(|row| row.cluster);
        let aims = move |it: &&Lease| {
            it.id != lease
                && self.rows.get(&it.id).map(|row| row.cluster) == cluster
                && it.target.as_ref().is_some_and(|target| target.private_ip == ip)
        };
        self.rows.values().map(|row| &row.lease).filter(aims)
    }

    pub(crate) fn clear_target(&mut self, claim: &Claim) -> Done {
        let lease = &mut self.held(claim)?.lease;
        (lease.target, lease.parted_at) = (None, None);
        lease.ports.iter_mut().for_each(forget_entry);
        Ok(())
    }

    pub(crate) fn set_resource(&mut self, claim: &Claim, writes: bool) -> Done {
        let lease = self.held(claim)?.lease.clone();
        if !writes {
            self.held(claim)?.lease.resource = false;
            return Ok(());
        }
        let theirs = |row: &Row| {
            row.lease.resource
                && row.cluster == claim.cluster
                && row.lease.kind == lease.kind
                && row.lease.pod_name == lease.pod_name
        };
        if self.rows.values().any(|row| row.lease.id != lease.id && theirs(row)) {
            return Err(No::Conflict(Constraint::CustomResource));
        }
        self.held(claim)?.lease.resource = true;
        Ok(())
    }
}

/// End of a claim: when to look again, and why.
pub(crate) struct Finish {
    /// Wake counter that the last step knew.
    pub wake: u64,
    pub again: Duration,
    pub tries: i32,
    pub reason: String,
    /// The refusal of a queued change that was reported.
    pub heard: Option<Refused>,
}

impl Row {
    /// Makes the lease due soon, even while a worker holds its claim.
    pub(crate) fn news(&mut self, now: Timestamp) {
        self.wake += 1;
        if self.owner.is_none() {
            self.due = now;
        }
    }
}

/// The cloud has not named the port's entry, or it is gone.
pub(crate) fn forget_entry(port: &mut LeasedPort) {
    (port.entry_id, port.deleted) = (None, false);
}

/// True if the requested address outlives its pod.
pub(crate) fn keeps(request: &Request) -> bool {
    request.keep() != Keep::Not
}

/// True if the row is of this pod's name and of the kind it asks for.
fn named(row: &Row, pod: Asking<'_>) -> bool {
    (row.cluster, row.lease.kind, row.lease.pod_name.as_str())
        == (pod.cluster, pod.request.kind(), pod.name)
}
