//! The lease store as a table in memory: every write does what the SQL of `waygate-store` does, its fences and unique indexes included.

use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use uuid::Uuid;
use waygate_core::change::{Answer, Change};
use waygate_core::ids::{AllocationId, ForwardEntryId, LeaseId, PodUid};
use waygate_core::lease::{Lease, LeasedEip, LeasedPort, Operation, Outcome, Phase, Sending, Target};
use waygate_core::plan::{Holder, PortKey, PortSpan, Standing};
use waygate_core::request::{DnatRequest, EipRequest, EipSource, ExposedPort, Kind, Protocol, Request};

use crate::cloud::Gateway;

/// As the worker sets them.
const CLAIM: SignedDuration = SignedDuration::from_secs(15);
pub(crate) const CALL: SignedDuration = SignedDuration::from_secs(10);
pub(crate) const FENCE: SignedDuration = SignedDuration::from_secs(60);
const HEADSTART: SignedDuration = SignedDuration::from_secs(30);
const QUIET: SignedDuration = SignedDuration::from_secs(60);

/// Why the store says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum No {
    ClaimLost,
    Taken(&'static str),
}

type Done = Result<(), No>;

/// A lease that is somebody's for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub lease_id: LeaseId,
    owner: Uuid,
    epoch: u64,
}

/// A lease and its job.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub lease: Lease,
    pub due: Timestamp,
    pub wake: u64,
    pub owner: Option<Uuid>,
    epoch: u64,
    tries: i32,
    pub reason: Option<String>,
}

/// A lease as its claimant reads it.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub lease: Lease,
    pub operations: Vec<Operation>,
    pub wake: u64,
    pub tries: i32,
    pub reason: Option<String>,
    pub now: Timestamp,
}

/// One external port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    Free,
    Held(LeaseId),
    Quiet(Timestamp),
    Foreign,
}

type SlotKey = (AllocationId, Protocol, u16);

/// All tables.
pub(crate) struct Store {
    pub rows: BTreeMap<LeaseId, Row>,
    pub operations: Vec<(LeaseId, Operation)>,
    pub slots: BTreeMap<SlotKey, Slot>,
    gateways: Vec<Gateway>,
    born: u128,
}

impl Store {
    pub(crate) fn new(gateways: Vec<Gateway>, ports: std::ops::Range<u16>) -> Self {
        let of = |gateway: &Gateway| {
            let eip = gateway.eip.clone();
            let both = ports.clone().flat_map(|port| [Protocol::Tcp, Protocol::Udp].map(|protocol| (protocol, port)));
            both.map(move |(protocol, port)| ((eip.clone(), protocol, port), Slot::Free)).collect::<Vec<_>>()
        };
        let slots = gateways.iter().flat_map(of).collect();
        Self { rows: BTreeMap::new(), operations: Vec::new(), slots, gateways, born: 0 }
    }

    fn id(&mut self) -> Uuid {
        self.born += 1;
        Uuid::from_u128(0x1000_0000 + self.born)
    }

    pub(crate) fn hand_off(&mut self, now: Timestamp, name: &str, pod_uid: &PodUid, request: &Request) {
        if self.live_row(pod_uid, request).is_none() {
            self.insert(now, name, pod_uid, request, Phase::Headstart, now + HEADSTART);
        }
    }

    pub(crate) fn sight(&mut self, now: Timestamp, name: &str, pod_uid: &PodUid, request: &Request) {
        match self.live_row(pod_uid, request) {
            Some(row) => {
                if row.lease.phase == Phase::Headstart {
                    row.lease.phase = Phase::Wanted;
                }
                row.news(now);
            }
            None => self.insert(now, name, pod_uid, request, Phase::Wanted, now),
        }
    }

    /// Unique: (kind, pod) unless ending.
    fn live_row(&mut self, pod_uid: &PodUid, request: &Request) -> Option<&mut Row> {
        let live = |row: &&mut Row| row.lease.pod_uid == *pod_uid && row.lease.kind == request.kind() && row.lease.phase != Phase::Ending;
        self.rows.values_mut().find(live)
    }

    fn insert(&mut self, now: Timestamp, name: &str, pod_uid: &PodUid, request: &Request, phase: Phase, due: Timestamp) {
        let lease = Lease {
            id: LeaseId(self.id()),
            kind: request.kind(),
            namespace: "ns".to_owned(),
            pod_name: name.to_owned(),
            pod_uid: pod_uid.clone(),
            controller: None,
            request: request.clone(),
            phase,
            eip: None,
            ports: Vec::new(),
            target: None,
            generation: 0,
            resource: false,
            doubts: 0,
            spilling: false,
            lost_to: None,
            parted_at: None,
            created_at: now,
            ends_at: None,
        };
        self.rows.insert(lease.id, Row { lease, due, wake: 0, owner: None, epoch: 0, tries: 0, reason: None });
    }

    pub(crate) fn wake_pod(&mut self, now: Timestamp, pod_uid: &PodUid) {
        self.rows.values_mut().filter(|row| row.lease.pod_uid == *pod_uid).for_each(|row| row.news(now));
    }

    pub(crate) fn wake_all(&mut self, now: Timestamp) {
        self.rows.values_mut().filter(|row| row.lease.phase != Phase::Headstart).for_each(|row| row.news(now));
    }

    pub(crate) fn end_quiet(&mut self, now: Timestamp) {
        for slot in self.slots.values_mut() {
            if matches!(slot, Slot::Quiet(until) if *until <= now) {
                *slot = Slot::Free;
            }
        }
    }

    pub(crate) fn claim(&mut self, now: Timestamp, owner: Uuid) -> Option<Claim> {
        let row = self.rows.values_mut().filter(|row| row.due <= now).min_by_key(|row| row.due)?;
        row.owner = Some(owner);
        row.epoch += 1;
        row.due = now + CLAIM;
        Some(Claim { lease_id: row.lease.id, owner, epoch: row.epoch })
    }

    /// A sign of life: extends a claim that has not lapsed.
    pub(crate) fn renew(&mut self, now: Timestamp, claim: &Claim) {
        if let Some(row) = self.rows.get_mut(&claim.lease_id).filter(|row| row.owner == Some(claim.owner) && row.due > now) {
            row.due = now + CLAIM;
        }
    }

    /// Whether the claim stands.
    pub(crate) fn holds(&mut self, claim: &Claim) -> bool {
        self.held(claim).is_ok()
    }

    fn held(&mut self, claim: &Claim) -> Result<&mut Row, No> {
        let row = self.rows.get_mut(&claim.lease_id).ok_or(No::ClaimLost)?;
        if row.owner == Some(claim.owner) && row.epoch == claim.epoch { Ok(row) } else { Err(No::ClaimLost) }
    }

    pub(crate) fn load(&mut self, now: Timestamp, claim: &Claim) -> Result<Loaded, No> {
        let row = self.held(claim)?;
        if row.due <= now {
            return Err(No::ClaimLost);
        }
        row.due = now + CLAIM;
        let (lease, wake, tries, reason) = (row.lease.clone(), row.wake, row.tries, row.reason.clone());
        let operations = self.operations.iter().filter(|(id, _)| *id == claim.lease_id).map(|(_, operation)| operation.clone());
        Ok(Loaded { lease, operations: operations.collect(), wake, tries, reason, now })
    }

    pub(crate) fn finish(&mut self, now: Timestamp, claim: &Claim, wake: u64, again: SignedDuration, tries: i32, reason: &str) -> Done {
        let row = self.held(claim)?;
        row.owner = None;
        row.tries = tries;
        row.reason = Some(reason.to_owned());
        row.due = if row.wake == wake { now + again } else { now };
        Ok(())
    }

    pub(crate) fn set_phase(&mut self, claim: &Claim, phase: Phase) -> Done {
        let row = self.held(claim)?;
        if row.lease.phase == Phase::Ending && phase != Phase::Ending {
            return Err(No::ClaimLost);
        }
        row.lease.phase = phase;
        row.lease.doubts = 0;
        Ok(())
    }

    pub(crate) fn adjust(&mut self, claim: &Claim, request: &Request) -> Done {
        self.held(claim)?.lease.request = request.clone();
        Ok(())
    }

    pub(crate) fn doubt(&mut self, claim: &Claim) -> Done {
        self.held(claim)?.lease.doubts += 1;
        Ok(())
    }

    pub(crate) fn forget(&mut self, claim: &Claim) -> Done {
        let unresolved = self.operations.iter().any(|(lease, _)| *lease == claim.lease_id);
        let lease = &self.held(claim)?.lease;
        if unresolved || lease.eip.is_some() || lease.target.is_some() || !lease.ports.is_empty() {
            return Err(No::ClaimLost);
        }
        self.rows.remove(&claim.lease_id);
        Ok(())
    }

    pub(crate) fn take_eip(&mut self, claim: &Claim, candidates: &[(AllocationId, Ipv4Addr)]) -> Result<bool, No> {
        let free = candidates.iter().find(|(id, _)| self.holder(id).is_none()).cloned();
        let row = self.held(claim)?;
        if row.lease.eip.is_some() {
            return Err(No::ClaimLost);
        }
        let taken = free.is_some();
        row.lease.eip = free.map(|(allocation_id, ip_address)| LeasedEip { allocation_id, ip_address, ours: false });
        Ok(taken)
    }

    pub(crate) fn holder_of_given(&self, lease: &Lease) -> Option<Holder> {
        let Request::Eip(EipRequest { source: EipSource::Given(id), .. }) = &lease.request else { return None };
        let holder = self.holder(id).filter(|holder| holder.id != lease.id)?;
        let standing = if holder.phase == Phase::Ending { Standing::Leaving } else { Standing::Younger };
        Some(Holder { pod: holder.pod_name.clone(), standing })
    }

    fn holder(&self, id: &AllocationId) -> Option<&Lease> {
        self.rows.values().map(|row| &row.lease).find(|lease| lease.eip.as_ref().is_some_and(|eip| eip.allocation_id == *id))
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
        let others = || self.rows.values().map(|row| &row.lease).filter(|it| it.id != lease.id && aims_at(it, target.private_ip));
        if lease.kind == Kind::Eip && others().any(|it| it.kind == Kind::Eip) {
            return Err(No::Taken("lease_target"));
        }
        let same =
            |mine: &LeasedPort| others().flat_map(|it| &it.ports).any(|it| it.gateway_id == mine.gateway_id && it.exposed == mine.exposed);
        if lease.ports.iter().any(same) {
            return Err(No::Taken("port_internal"));
        }
        let row = self.held(claim)?;
        row.lease.target = Some(target.clone());
        row.lease.generation += 1;
        Ok(())
    }

    pub(crate) fn clear_target(&mut self, claim: &Claim) -> Done {
        let lease = &mut self.held(claim)?.lease;
        lease.target = None;
        for port in &mut lease.ports {
            port.entry_id = None;
            port.deleted = false;
        }
        Ok(())
    }

    pub(crate) fn set_resource(&mut self, claim: &Claim) -> Done {
        let lease = self.held(claim)?.lease.clone();
        let writes = |row: &Row| row.lease.resource && row.lease.kind == lease.kind && row.lease.pod_name == lease.pod_name;
        if self.rows.values().any(|row| row.lease.id != lease.id && writes(row)) {
            return Err(No::Taken("lease_name"));
        }
        self.held(claim)?.lease.resource = true;
        Ok(())
    }

    /// Whether there was room.
    pub(crate) fn reserve_ports(&mut self, claim: &Claim, request: &DnatRequest, first: usize) -> Result<bool, No> {
        let lease = self.held(claim)?.lease.clone();
        if lease.phase == Phase::Ending {
            return Err(No::ClaimLost);
        }
        self.held(claim)?.lease.spilling = false;
        let missing: Vec<ExposedPort> =
            request.ports.iter().filter(|asked| lease.ports.iter().all(|port| port.exposed != **asked)).copied().collect();
        let same_eip = lease.ports.first().map(|port| port.allocation_id.clone());
        let turns = (0..self.gateways.len()).map(|turn| &self.gateways[(first + turn) % self.gateways.len()]);
        let candidates: Vec<Gateway> = turns.filter(|it| same_eip.as_ref().is_none_or(|eip| *eip == it.eip)).cloned().collect();
        for gateway in candidates {
            let mut taken: Vec<(SlotKey, ExposedPort)> = Vec::new();
            for exposed in &missing {
                let free = |(key, slot): &(&SlotKey, &Slot)| {
                    **slot == Slot::Free
                        && key.0 == gateway.eip
                        && key.1 == exposed.protocol
                        && taken.iter().all(|(other, _)| other != *key)
                };
                let found = self.slots.iter().find(free).map(|(key, _)| key.clone());
                taken.extend(found.map(|key| (key, *exposed)));
            }
            if taken.len() == missing.len() {
                self.take(claim, &gateway, taken, request)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn take(&mut self, claim: &Claim, gateway: &Gateway, taken: Vec<(SlotKey, ExposedPort)>, request: &DnatRequest) -> Done {
        if let Some(target) = self.held(claim)?.lease.target.clone() {
            let others = self.rows.values().map(|row| &row.lease).filter(|it| it.id != claim.lease_id && aims_at(it, target.private_ip));
            let mut ports = others.flat_map(|it| &it.ports).filter(|port| port.gateway_id == gateway.id);
            if ports.any(|port| taken.iter().any(|(_, exposed)| *exposed == port.exposed)) {
                return Err(No::Taken("port_internal"));
            }
        }
        for (key, exposed) in taken {
            let port = LeasedPort {
                allocation_id: key.0.clone(),
                external_ip: gateway.address,
                external_port: key.2,
                head: key.2,
                exposed,
                gateway_id: gateway.id.clone(),
                table_id: gateway.table_id.clone(),
                entry_id: None,
                deleted: false,
            };
            self.slots.insert(key, Slot::Held(claim.lease_id));
            self.held(claim)?.lease.ports.push(port);
        }
        let order = |port: &LeasedPort| request.ports.iter().position(|asked| *asked == port.exposed);
        self.held(claim)?.lease.ports.sort_by_key(order);
        Ok(())
    }

    pub(crate) fn note_entry(&mut self, claim: &Claim, key: &PortKey, entry: &ForwardEntryId) -> Done {
        let mut noted = 0;
        for port in self.held(claim)?.lease.ports.iter_mut().filter(|port| is(port, key)) {
            (port.entry_id, port.deleted) = (Some(entry.clone()), false);
            noted += 1;
        }
        if noted == 0 { Err(No::ClaimLost) } else { Ok(()) }
    }

    pub(crate) fn mark_foreign(&mut self, claim: &Claim, span: &PortSpan) -> Done {
        self.held(claim)?;
        let under = |key: &SlotKey| {
            key.0 == span.allocation_id && span.protocol.is_none_or(|protocol| protocol == key.1) && span.ports.contains(&key.2)
        };
        let mut marked = Vec::new();
        for (key, slot) in self.slots.iter_mut().filter(|(key, _)| under(key)) {
            if matches!(slot, Slot::Free | Slot::Quiet(_)) || *slot == Slot::Held(claim.lease_id) {
                *slot = Slot::Foreign;
                marked.push(key.clone());
            }
        }
        let lease = &mut self.held(claim)?.lease;
        let split: Vec<_> = lease.ports.iter().filter(|port| marked.contains(&slot_of(port))).map(entry_of).collect();
        lease.ports.retain(|port| !marked.contains(&slot_of(port)));
        for port in lease.ports.iter_mut().filter(|port| split.contains(&entry_of(port))) {
            if port.external_port > *span.ports.end() {
                port.head = span.ports.end() + 1;
            }
            (port.entry_id, port.deleted) = (None, false);
        }
        if marked.is_empty() { Err(No::ClaimLost) } else { Ok(()) }
    }

    pub(crate) fn quiet_port(&mut self, now: Timestamp, claim: &Claim, key: &PortKey) -> Done {
        let ports = &mut self.held(claim)?.lease.ports;
        let (gone, stay): (Vec<_>, Vec<_>) = std::mem::take(ports).into_iter().partition(|port| is(port, key));
        *ports = stay;
        for port in &gone {
            self.slots.insert(slot_of(port), Slot::Quiet(now + QUIET));
        }
        if gone.is_empty() { Err(No::ClaimLost) } else { Ok(()) }
    }

    pub(crate) fn spill(&mut self, claim: &Claim) -> Done {
        self.held(claim)?.lease.spilling = true;
        Ok(())
    }

    pub(crate) fn intend(&mut self, now: Timestamp, claim: &Claim, resource: &str, change: &Change) -> Result<Operation, No> {
        if self.held(claim)?.due <= now + CALL {
            return Err(No::ClaimLost);
        }
        if self.operations.iter().any(|(_, operation)| operation.resource == resource) {
            return Err(No::Taken("operation_unresolved"));
        }
        let (id, fence_until) = (self.id(), now + FENCE);
        let operation =
            Operation { id, resource: resource.to_owned(), change: change.clone(), sending: Sending::Unanswered, fence_until, misses: 0 };
        self.operations.push((claim.lease_id, operation.clone()));
        Ok(operation)
    }

    fn unresolved(&mut self, claim: &Claim, id: Uuid) -> Result<&mut Operation, No> {
        self.held(claim)?;
        let found = self.operations.iter_mut().find(|(lease, operation)| *lease == claim.lease_id && operation.id == id);
        found.map(|(_, operation)| operation).ok_or(No::ClaimLost)
    }

    pub(crate) fn intend_again(&mut self, now: Timestamp, claim: &Claim, id: Uuid) -> Done {
        if self.held(claim)?.due <= now + CALL {
            return Err(No::ClaimLost);
        }
        let operation = self.unresolved(claim, id)?;
        operation.misses = 0;
        operation.fence_until = operation.fence_until.max(now + FENCE);
        Ok(())
    }

    pub(crate) fn miss(&mut self, claim: &Claim, id: Uuid) -> Done {
        self.unresolved(claim, id)?.misses += 1;
        Ok(())
    }

    /// A fact, so not fenced, and written once.
    pub(crate) fn settle(&mut self, now: Timestamp, claim: &Claim, id: Uuid, outcome: Outcome, answer: Option<&Answer>, eip_gone: bool) {
        let Some(at) = self.operations.iter().position(|(_, operation)| operation.id == id) else { return };
        let (lease_id, operation) = self.operations.remove(at);
        let Some(row) = self.rows.get_mut(&lease_id) else { return };
        let done = outcome == Outcome::Done;
        match &operation.change {
            Change::CreateForwardEntry(forward) if done => {
                let entry = answer.and_then(|answer| answer.entry_id.clone());
                let mine = |port: &&mut LeasedPort| port.head == forward.external_port && port.protocol() == forward.protocol;
                for port in row.lease.ports.iter_mut().filter(mine).filter(|_| entry.is_some()) {
                    (port.entry_id, port.deleted) = (entry.clone(), false);
                }
            }
            Change::DeleteForwardEntry { entry_id, .. } if done => {
                row.lease.ports.iter_mut().filter(|port| port.entry_id.as_ref() == Some(entry_id)).for_each(|port| port.deleted = true);
            }
            _ => {}
        }
        let brought = answer.and_then(|answer| answer.allocation_id.clone().zip(answer.ip_address));
        if eip_gone {
            row.lease.eip = None;
        } else if let (None, Some((allocation_id, ip_address))) = (&row.lease.eip, brought) {
            row.lease.eip = Some(LeasedEip { allocation_id, ip_address, ours: true });
        }
        if row.owner != Some(claim.owner) || row.epoch != claim.epoch {
            row.wake += 1;
        }
        if row.owner.is_none() {
            row.due = now;
        }
    }
}

impl Row {
    fn news(&mut self, now: Timestamp) {
        self.wake += 1;
        if self.owner.is_none() {
            self.due = now;
        }
    }
}

fn aims_at(lease: &Lease, ip: Ipv4Addr) -> bool {
    lease.target.as_ref().is_some_and(|target| target.private_ip == ip)
}

fn is(port: &LeasedPort, key: &PortKey) -> bool {
    entry_of(port) == (key.allocation_id.clone(), key.protocol, key.port)
}

/// The row of a port.
fn slot_of(port: &LeasedPort) -> SlotKey {
    (port.allocation_id.clone(), port.protocol(), port.external_port)
}

/// The first row of a port's entry.
fn entry_of(port: &LeasedPort) -> SlotKey {
    (port.allocation_id.clone(), port.protocol(), port.head)
}
