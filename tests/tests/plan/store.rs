//! The lease store as tables in memory: every write does what the SQL of `waygate-store` does, its
//! claim checks and unique indexes included.

use crate::cloud::Gateway;
use crate::eip_sources::FormerAddress;
use crate::gateway_queue::GatewayLockRow;
use crate::operations::OperationRow;
use crate::ports::{OfferedEip, Room, Slot, SlotKey};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;
use uuid::Uuid;
use waygate_core::ids::{AllocationId, LeaseId, NatGatewayId, PodUid};
use waygate_core::lease::{Constraint, GatewayState, Lease, LeasedPort, Phase, Target};
use waygate_core::operation::{Operation, Refusal, Rejection};
use waygate_core::request::{Kind, Request, Retention};
use waygate_core::rules::refusals;
use waygate_core::rules::timing::{ANNOUNCEMENT_LIFETIME, CLAIM};

/// Reason that the store refuses a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreError {
    ClaimLost,
    GatewayLockLost,
    Conflict(Constraint),
}

pub(crate) type Done = Result<(), StoreError>;

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
    pub pod_created_at: Option<Timestamp>,
    /// The cloud's refusal of a queued change, not reported yet.
    pub rejection: Option<Rejection>,
    /// Number of such refusals in a row.
    pub rejections: i32,
    /// The last one that was reported.
    pub refusal: Option<Refusal>,
    /// Begin of the last look that ended with a plan.
    pub looked_at: Timestamp,
    /// Time at which it was woken for such a look last.
    pub look_asked_at: Timestamp,
    /// Time of the last settled operation, or of the last change of its gateway.
    pub last_change_at: Timestamp,
}

/// A lease as its claim holder reads it.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub lease: Lease,
    pub operations: Vec<Operation>,
    pub gateway: GatewayState,
    pub wake: u64,
    pub tries: i32,
    pub reason: Option<String>,
    pub rejection: Option<Rejection>,
    pub rejections: i32,
    pub refusal: Option<Refusal>,
    pub last_change_at: Timestamp,
    pub now: Timestamp,
}

/// A pod that asks, as it was admitted or seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestingPod<'a> {
    pub cluster: usize,
    pub name: &'a str,
    pub uid: &'a PodUid,
    pub controller: Option<&'a str>,
    /// None where that is not known.
    pub created_at: Option<Timestamp>,
    pub request: &'a Request,
}

/// All tables of the lease store.
#[derive(Default)]
pub(crate) struct Store {
    pub rows: BTreeMap<LeaseId, Row>,
    /// Unresolved operations, the oldest first.
    pub operations: Vec<OperationRow>,
    pub gateway_locks: BTreeMap<NatGatewayId, GatewayLockRow>,
    /// By cluster and pod's name.
    pub former_addresses: BTreeMap<(usize, String), FormerAddress>,
    pub slots: BTreeMap<SlotKey, Slot>,
    pub offers: BTreeMap<AllocationId, OfferedEip>,
    pub rooms: BTreeMap<NatGatewayId, Room>,
    born: u128,
}

impl Store {
    pub(crate) fn new(gateways: &[Gateway]) -> Self {
        let mut store = Self::default();
        for gateway in gateways {
            store.offer_new_eip(gateway);
        }
        store
    }

    pub(crate) fn new_id(&mut self) -> Uuid {
        self.born += 1;
        Uuid::from_u128(0x1000_0000 + self.born)
    }

    /// Announces a pod at admission, unless a lease is retained for it.
    pub(crate) fn announce_pod(&mut self, now: Timestamp, pod: RequestingPod<'_>) {
        if !self.is_retained_for(pod) && self.live_row(pod).is_none() {
            self.insert_lease(now, pod, Phase::Announced, now + ANNOUNCEMENT_LIFETIME);
        }
    }

    /// Observes a pod: it gets a lease, or the one that is retained for it, which is woken.
    pub(crate) fn observe_pod(&mut self, now: Timestamp, pod: RequestingPod<'_>) {
        let own = self.live_row(pod).map(|row| (row.lease.id, row.lease.phase == Phase::Announced));
        match own {
            _ if self.is_retained_for(pod) => self.wake_retained(now, pod),
            Some((id, true)) if self.is_retained_name_in_use(id, pod.request) => {
                self.wake_retained(now, pod);
            }
            Some((id, starts)) => {
                let Some(row) = self.rows.get_mut(&id) else { return };
                row.lease.phase = if starts { Phase::Provisioning } else { row.lease.phase };
                row.pod_created_at = row.pod_created_at.or(pod.created_at);
                row.wake_lease_row(now);
            }
            None => self.insert_lease(now, pod, Phase::Provisioning, now),
        }
    }

    fn wake_retained(&mut self, now: Timestamp, pod: RequestingPod<'_>) {
        let retained = |row: &&mut Row| {
            is_row_of_pod(row, pod)
                && row.lease.pod_uid != *pod.uid
                && outlives_pod(&row.lease.request)
                && row.lease.phase != Phase::Releasing
        };
        self.rows.values_mut().filter(retained).for_each(|row| row.wake_lease_row(now));
    }

    fn is_retained_for(&self, pod: RequestingPod<'_>) -> bool {
        let controller = pod.controller.map(str::to_owned);
        self.rows.values().any(|row| {
            let lease = &row.lease;
            let of_other_pod = is_row_of_pod(row, pod)
                && lease.pod_uid != *pod.uid
                && lease.controller == controller;
            of_other_pod && outlives_pod(&lease.request) && lease.phase != Phase::Releasing
        })
    }

    /// Unique: (kind, pod) unless releasing.
    fn live_row(&self, pod: RequestingPod<'_>) -> Option<&Row> {
        let live = |row: &&Row| {
            row.lease.pod_uid == *pod.uid
                && row.lease.kind == pod.request.kind()
                && row.lease.phase != Phase::Releasing
        };
        self.rows.values().find(live)
    }

    /// Unique: (kind, name, controller) of what outlives its pod, once its pod was seen and until
    /// it is releasing.
    fn is_retained_name_in_use(&self, id: LeaseId, request: &Request) -> bool {
        let Some(own) = self.rows.get(&id).filter(|_| outlives_pod(request)) else { return false };
        self.rows.values().any(|row| {
            let (it, own_lease) = (&row.lease, &own.lease);
            it.id != id
                && row.cluster == own.cluster
                && (it.kind, &it.pod_name, &it.controller)
                    == (own_lease.kind, &own_lease.pod_name, &own_lease.controller)
                && outlives_pod(&it.request)
                && matches!(it.phase, Phase::Provisioning | Phase::Bound | Phase::Retained)
        })
    }

    fn insert_lease(
        &mut self,
        now: Timestamp,
        pod: RequestingPod<'_>,
        phase: Phase,
        due: Timestamp,
    ) {
        let lease = Lease {
            id: LeaseId(self.new_id()),
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
            owns_custom_resource: false,
            missed_reads: 0,
            vacating: false,
            was_published: false,
            preempted_by: None,
            handover_since: None,
            pod_missing_since: None,
            created_at: now,
            retained_until: None,
        };
        let row = Row {
            cluster: pod.cluster,
            lease,
            due,
            wake: 0,
            owner: None,
            epoch: 0,
            tries: 0,
            reason: None,
            pod_created_at: pod.created_at,
            rejection: None,
            rejections: 0,
            refusal: None,
            last_change_at: now,
            looked_at: Timestamp::UNIX_EPOCH,
            look_asked_at: Timestamp::UNIX_EPOCH,
        };
        self.rows.insert(row.lease.id, row);
    }

    pub(crate) fn wake_lease(&mut self, now: Timestamp, lease: LeaseId) {
        self.rows
            .values_mut()
            .filter(|row| row.lease.id == lease)
            .for_each(|row| row.wake_lease_row(now));
    }

    pub(crate) fn wake_pod(&mut self, now: Timestamp, pod_uid: &PodUid) {
        self.rows
            .values_mut()
            .filter(|row| row.lease.pod_uid == *pod_uid)
            .for_each(|row| row.wake_lease_row(now));
    }

    pub(crate) fn wake_leases_without_pod(
        &mut self,
        now: Timestamp,
        cluster: usize,
        present: &BTreeSet<PodUid>,
    ) {
        let absent = self.rows.values_mut().filter(|row| {
            row.cluster == cluster
                && row.lease.phase != Phase::Announced
                && !present.contains(&row.lease.pod_uid)
        });
        absent.for_each(|row| row.wake_lease_row(now));
    }

    pub(crate) fn claim_due_lease(
        &mut self,
        now: Timestamp,
        cluster: usize,
        owner: Uuid,
    ) -> Option<Claim> {
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
    pub(crate) fn renew_claim(&mut self, now: Timestamp, claim: &Claim) {
        if let Some(row) = self
            .rows
            .get_mut(&claim.lease_id)
            .filter(|row| row.owner == Some(claim.owner) && row.due > now)
        {
            row.due = now + CLAIM;
        }
    }

    /// True if the claim is still held.
    pub(crate) fn is_claim_held(&mut self, claim: &Claim) -> bool {
        self.held_row(claim).is_ok()
    }

    pub(crate) fn held_row(&mut self, claim: &Claim) -> Result<&mut Row, StoreError> {
        let row = self.rows.get_mut(&claim.lease_id).ok_or(StoreError::ClaimLost)?;
        if row.owner == Some(claim.owner) && row.epoch == claim.epoch {
            Ok(row)
        } else {
            Err(StoreError::ClaimLost)
        }
    }

    /// Adds the operations to a loaded lease. False if the lease was woken since: then it is loaded
    /// anew, because an operation may have been settled in between.
    pub(crate) fn load_operations(
        &mut self,
        now: Timestamp,
        claim: &Claim,
        loaded: &mut Loaded,
    ) -> Result<bool, StoreError> {
        let row = self.rows.get(&claim.lease_id).ok_or(StoreError::ClaimLost)?;
        let unwoken = row.wake == loaded.wake;
        loaded.operations = self.list_unresolved(now, claim.lease_id);
        Ok(unwoken)
    }

    /// Loads a lease without its operations.
    pub(crate) fn load_lease(
        &mut self,
        now: Timestamp,
        claim: &Claim,
    ) -> Result<Loaded, StoreError> {
        let row = self.held_row(claim)?;
        if row.due <= now {
            return Err(StoreError::ClaimLost);
        }
        row.due = now + CLAIM;
        let Row {
            lease, wake, tries, reason, rejection, rejections, refusal, last_change_at, ..
        } = row.clone();
        let gateway = lease
            .ports
            .first()
            .map_or_else(GatewayState::default, |port| self.gateway_fact(now, lease.id, port));
        Ok(Loaded {
            lease,
            operations: Vec::new(),
            gateway,
            wake,
            tries,
            reason,
            rejection,
            rejections,
            refusal,
            last_change_at,
            now,
        })
    }

    pub(crate) fn finish_claim(&mut self, now: Timestamp, claim: &Claim, finish: Finish) -> Done {
        let row = self.held_row(claim)?;
        (row.owner, row.tries, row.reason) = (None, finish.tries, Some(finish.reason));
        row.looked_at = finish.looked_at.unwrap_or(row.looked_at);
        match finish.pod_missing {
            Some(true) => {
                row.lease.pod_missing_since.get_or_insert(now);
            }
            Some(false) => row.lease.pod_missing_since = None,
            None => {}
        }
        if let Some(rejection) = &finish.acknowledged {
            let anew = refusals::starts_anew(row.refusal.as_ref(), rejection);
            row.rejections = if anew { 1 } else { row.rejections + 1 };
            let (rejection, until) = (rejection.clone(), now + finish.retry_in);
            row.refusal = Some(Refusal { rejection, until });
        } else if finish.ends_history {
            (row.rejections, row.refusal) = (0, None);
        }
        row.rejection = row
            .rejection
            .take()
            .filter(|rejection| Some(rejection) != finish.acknowledged.as_ref());
        row.due = if row.wake == finish.wake { now + finish.retry_in } else { now };
        Ok(())
    }

    pub(crate) fn set_phase(&mut self, claim: &Claim, phase: Phase) -> Done {
        let lease = self.held_row(claim)?.lease.clone();
        if lease.phase == Phase::Releasing && phase != Phase::Releasing {
            return Err(StoreError::ClaimLost);
        }
        if phase != Phase::Releasing && self.is_retained_name_in_use(lease.id, &lease.request) {
            return Err(StoreError::Conflict(Constraint::RetainedLease));
        }
        let row = self.held_row(claim)?;
        (row.lease.phase, row.lease.missed_reads) = (phase, 0);
        if phase == Phase::Bound {
            (row.lease.was_published, row.lease.handover_since) = (true, None);
        }
        Ok(())
    }

    pub(crate) fn update_request(&mut self, claim: &Claim, request: &Request) -> Done {
        self.held_row(claim)?;
        if self.is_retained_name_in_use(claim.lease_id, request) {
            return Err(StoreError::Conflict(Constraint::RetainedLease));
        }
        self.held_row(claim)?.lease.request = request.clone();
        Ok(())
    }

    pub(crate) fn retain_lease(
        &mut self,
        now: Timestamp,
        claim: &Claim,
        seconds: Option<u64>,
    ) -> Done {
        let lease = &mut self.held_row(claim)?.lease;
        if lease.target.is_some() || lease.phase == Phase::Releasing {
            return Err(StoreError::ClaimLost);
        }
        let ends_at = seconds.map(|seconds| {
            now + SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX))
        });
        (lease.phase, lease.missed_reads, lease.retained_until) = (Phase::Retained, 0, ends_at);
        Ok(())
    }

    pub(crate) fn transfer_to_successor(
        &mut self,
        now: Timestamp,
        claim: &Claim,
        uid: &PodUid,
        request: &Request,
    ) -> Done {
        let lease = self.held_row(claim)?.lease.clone();
        if lease.phase != Phase::Retained
            && (lease.phase == Phase::Releasing || lease.handover_since.is_none())
        {
            return Err(StoreError::ClaimLost);
        }
        let has = |row: &Row| {
            row.lease.pod_uid == *uid
                && row.lease.kind == lease.kind
                && row.lease.phase != Phase::Releasing
        };
        if self.rows.values().any(|row| row.lease.id != lease.id && has(row)) {
            return Err(StoreError::Conflict(Constraint::LeaseOfPod));
        }
        if self.is_retained_name_in_use(lease.id, request) {
            return Err(StoreError::Conflict(Constraint::RetainedLease));
        }
        let row = self.held_row(claim)?;
        row.pod_created_at = None;
        let lease = &mut row.lease;
        (lease.phase, lease.pod_uid, lease.request) =
            (Phase::Provisioning, uid.clone(), request.clone());
        (lease.retained_until, lease.created_at) = (None, now);
        lease.pod_missing_since = None;
        Ok(())
    }

    pub(crate) fn begin_handover(&mut self, now: Timestamp, claim: &Claim) -> Done {
        let lease = &mut self.held_row(claim)?.lease;
        if lease.phase == Phase::Releasing {
            return Err(StoreError::ClaimLost);
        }
        lease.handover_since.get_or_insert(now);
        Ok(())
    }

    pub(crate) fn try_release_retained(&mut self, claim: &Claim) -> Done {
        let lease = &mut self.held_row(claim)?.lease;
        if lease.phase != Phase::Retained {
            return Err(StoreError::ClaimLost);
        }
        lease.phase = Phase::Releasing;
        Ok(())
    }

    pub(crate) fn count_missed_read(&mut self, claim: &Claim) -> Done {
        self.held_row(claim)?.lease.missed_reads += 1;
        Ok(())
    }

    pub(crate) fn delete_empty_lease(&mut self, claim: &Claim) -> Done {
        let unresolved = self.operations.iter().any(|asked| asked.lease == claim.lease_id);
        let lease = &self.held_row(claim)?.lease;
        if unresolved || lease.eip.is_some() || lease.target.is_some() || !lease.ports.is_empty() {
            return Err(StoreError::ClaimLost);
        }
        self.rows.remove(&claim.lease_id);
        Ok(())
    }

    pub(crate) fn clear_eip(&mut self, now: Timestamp, claim: &Claim) -> Done {
        let row = self.held_row(claim)?;
        let name = (row.cluster, row.lease.pod_name.clone());
        let released = row.lease.eip.as_ref().is_some_and(|eip| eip.release_accepted_at.is_some());
        let former = row.take_former_address(now).filter(|_| released);
        if let Some(former) = former {
            self.former_addresses.insert(name, former);
        }
        Ok(())
    }

    pub(crate) fn set_target(&mut self, claim: &Claim, target: &Target) -> Done {
        let lease = self.held_row(claim)?.lease.clone();
        if lease.target.is_some() && lease.kind == Kind::Eip {
            return Err(StoreError::ClaimLost);
        }
        if lease.kind == Kind::Eip
            && self.list_other_leases_at(lease.id, target.private_ip).any(|it| it.kind == Kind::Eip)
        {
            return Err(StoreError::Conflict(Constraint::BoundIp));
        }
        let same = |it: &LeasedPort| {
            lease
                .ports
                .iter()
                .any(|own| it.gateway_id == own.gateway_id && it.exposed == own.exposed)
        };
        if self.list_other_leases_at(lease.id, target.private_ip).flat_map(|it| &it.ports).any(same)
        {
            return Err(StoreError::Conflict(Constraint::ForwardedPort));
        }
        let row = self.held_row(claim)?;
        (row.lease.target, row.lease.handover_since) = (Some(target.clone()), None);
        row.lease.generation += 1;
        Ok(())
    }

    /// Other leases, of whichever cluster, that point at the address.
    pub(crate) fn list_other_leases_at(
        &self,
        lease: LeaseId,
        ip: Ipv4Addr,
    ) -> impl Iterator<Item = &Lease> {
        let cluster = self.rows.get(&lease).map(|row| row.cluster);
        let aims = move |it: &&Lease| {
            it.id != lease
                && self.rows.get(&it.id).map(|row| row.cluster) == cluster
                && it.target.as_ref().is_some_and(|target| target.private_ip == ip)
        };
        self.rows.values().map(|row| &row.lease).filter(aims)
    }

    pub(crate) fn clear_target(&mut self, claim: &Claim) -> Done {
        let lease = &mut self.held_row(claim)?.lease;
        (lease.target, lease.handover_since) = (None, None);
        lease.ports.iter_mut().for_each(forget_entry);
        Ok(())
    }

    pub(crate) fn set_owns_custom_resource(&mut self, claim: &Claim, owns: bool) -> Done {
        let lease = self.held_row(claim)?.lease.clone();
        if !owns {
            self.held_row(claim)?.lease.owns_custom_resource = false;
            return Ok(());
        }
        let row_owns = |row: &Row| {
            row.lease.owns_custom_resource
                && row.cluster == claim.cluster
                && row.lease.kind == lease.kind
                && row.lease.pod_name == lease.pod_name
        };
        if self.rows.values().any(|row| row.lease.id != lease.id && row_owns(row)) {
            return Err(StoreError::Conflict(Constraint::CustomResource));
        }
        self.held_row(claim)?.lease.owns_custom_resource = true;
        Ok(())
    }
}

/// End of a claim: when to look again, and why.
pub(crate) struct Finish {
    /// Wake counter that the last step knew.
    pub wake: u64,
    pub retry_in: Duration,
    pub tries: i32,
    pub reason: String,
    /// The refusal of a queued change that was reported.
    pub acknowledged: Option<Rejection>,
    /// Begin of the look that ended with this wait; none where the look failed.
    pub looked_at: Option<Timestamp>,
    /// True if that look did not find the pod; none where it did not read it.
    pub pod_missing: Option<bool>,
    /// The lease rests.
    pub ends_history: bool,
}

impl Row {
    /// Makes the lease due soon, even while a worker holds its claim.
    pub(crate) fn wake_lease_row(&mut self, now: Timestamp) {
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
pub(crate) fn outlives_pod(request: &Request) -> bool {
    request.retention() != Retention::None
}

/// True if the row is of this pod's name and of the kind it asks for.
fn is_row_of_pod(row: &Row, pod: RequestingPod<'_>) -> bool {
    (row.cluster, row.lease.kind, row.lease.pod_name.as_str())
        == (pod.cluster, pod.request.kind(), pod.name)
}
