//! Ports, as the store records them: the offer of each gateway's EIP, the holder of each row, and
//! the room for entries.

use crate::cloud::Gateway;
use crate::store::{Claim, Done, Store, StoreError, forget_entry};
use jiff::{SignedDuration, Timestamp};
use simulator::dice::Dice;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use waygate_core::ids::{AllocationId, ForwardEntryId, LeaseId, NatGatewayId};
use waygate_core::lease::{
    Constraint, GatewayState, LeasedPort, Phase, PortKey, PortReservation, PortSpan,
};
use waygate_core::request::{DnatRequest, ExposedPort, Protocol};
use waygate_core::rules::timing::{GATEWAY_FULL, LOSS_WINDOW};

/// External ports of each gateway's EIP. Some of them SNAT shares, some need to be broken out of
/// it.
pub(crate) const PORTS: RangeInclusive<u16> = 1014..=1037;
/// Cooldown of a freed port.
pub(crate) const COOLDOWN: SignedDuration = SignedDuration::from_secs(60);
/// At most this many pods of a gateway have their entries reported as lost within this time. Few,
/// because there are few pods.
const MAX_WITHDRAWALS: usize = 1;
/// A foreign entry must be missing this long before its ports are given out again: half the time
/// between two reads.
const FOREIGN_GRACE: SignedDuration = SignedDuration::from_secs(30);

/// State of an external port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    Free,
    Held(LeaseId),
    Cooldown(Timestamp),
    /// Used by a foreign entry, and since when no read has shown the entry.
    Foreign(Option<Timestamp>),
}

pub(crate) type SlotKey = (AllocationId, Protocol, u16);

/// An EIP of a gateway in the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OfferedEip {
    pub gateway: Gateway,
    pub snat: bool,
    pub unavailable_reason: Option<String>,
}

/// Limits of a gateway that earlier answers showed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Room {
    max_entries: Option<(usize, Timestamp)>,
    foreign_count: usize,
    modify_denied: Option<Timestamp>,
    withdrawn: BTreeMap<LeaseId, Timestamp>,
    withdrawals_limited_until: Option<Timestamp>,
}

impl Store {
    pub(crate) fn offer_new_eip(&mut self, gateway: &Gateway) {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            self.slots
                .extend(PORTS.map(|port| ((gateway.eip.clone(), protocol, port), Slot::Free)));
        }
        self.offers.insert(
            gateway.eip.clone(),
            OfferedEip { gateway: gateway.clone(), snat: false, unavailable_reason: None },
        );
    }

    /// Offers an EIP where it was seen. An EIP from another gateway brings its ports along, held
    /// ones too.
    pub(crate) fn offer_ports(&mut self, gateway: &Gateway, snat: bool) -> Done {
        let Some(offered) = self.offers.get(&gateway.eip) else { return Ok(()) };
        if offered.gateway.id != gateway.id && self.has_port_conflict(gateway) {
            return Err(StoreError::Conflict(Constraint::ForwardedPort));
        }
        let unavailable_reason = offered.unavailable_reason.clone();
        self.offers.insert(
            gateway.eip.clone(),
            OfferedEip { gateway: gateway.clone(), snat, unavailable_reason },
        );
        for row in self.rows.values_mut() {
            for port in row.lease.ports.iter_mut().filter(|port| port.allocation_id == gateway.eip)
            {
                (port.gateway_id, port.table_id) = (gateway.id.clone(), gateway.table_id.clone());
            }
        }
        Ok(())
    }

    /// Unique: (gateway, private address, protocol, port of the pod).
    fn has_port_conflict(&self, gateway: &Gateway) -> bool {
        let aimed = || {
            let leases = self.rows.values().map(|row| &row.lease);
            leases.flat_map(|lease| {
                lease
                    .ports
                    .iter()
                    .filter_map(|port| Some((lease.target.as_ref()?.private_ip, port)))
            })
        };
        let mut moved = aimed().filter(|(_, port)| port.allocation_id == gateway.eip);
        moved.any(|(ip, port)| {
            aimed().any(|(at, it)| {
                it.gateway_id == gateway.id && at == ip && it.exposed == port.exposed
            })
        })
    }

    /// Sets the EIPs that the gateway has now, and wakes the leases on those that came or went.
    pub(crate) fn set_gateway_eips(
        &mut self,
        now: Timestamp,
        gateway: &NatGatewayId,
        eips: &[AllocationId],
        unavailable_reason: Option<&str>,
    ) {
        let mut changed = Vec::new();
        for (eip, offered) in
            self.offers.iter_mut().filter(|(_, offered)| offered.gateway.id == *gateway)
        {
            let away = || {
                unavailable_reason.map_or_else(
                    || format!("{eip} is not bound to {gateway} any more"),
                    str::to_owned,
                )
            };
            let new_reason = (!eips.contains(eip)).then(away);
            if offered.unavailable_reason != new_reason {
                offered.unavailable_reason = new_reason;
                changed.push(eip.clone());
            }
        }
        let on_it = |port: &LeasedPort| changed.contains(&port.allocation_id);
        for row in self.rows.values_mut().filter(|row| row.lease.ports.iter().any(on_it)) {
            row.last_change_at = now;
            row.wake_lease_row(now);
        }
    }

    /// Notes a list of all entries of a gateway: ports of foreign entries are given to no pod.
    pub(crate) fn record_entries(
        &mut self,
        now: Timestamp,
        gateway: &NatGatewayId,
        entry_count: usize,
        foreign_count: usize,
        foreign_ports: &[PortSpan],
    ) {
        let room = self.rooms.entry(gateway.clone()).or_default();
        room.foreign_count = foreign_count;
        room.max_entries = room.max_entries.filter(|(most, _)| *most >= entry_count);
        for (key, slot) in &mut self.slots {
            if self.offers.get(&key.0).is_none_or(|offered| offered.gateway.id != *gateway) {
                continue;
            }
            let listed = foreign_ports.iter().any(|span| span_contains(span, key));
            match slot {
                Slot::Free | Slot::Cooldown(_) | Slot::Foreign(_) if listed => {
                    *slot = Slot::Foreign(None);
                }
                Slot::Foreign(Some(since)) if *since + FOREIGN_GRACE <= now => *slot = Slot::Free,
                Slot::Foreign(None) => *slot = Slot::Foreign(Some(now)),
                Slot::Free | Slot::Held(_) | Slot::Cooldown(_) | Slot::Foreign(_) => {}
            }
        }
    }

    pub(crate) fn record_gateway_full(
        &mut self,
        now: Timestamp,
        gateway: &NatGatewayId,
        entry_count: usize,
    ) {
        self.rooms.entry(gateway.clone()).or_default().max_entries =
            Some((entry_count, now + GATEWAY_FULL));
    }

    pub(crate) fn record_modify_denied(&mut self, gateway: &NatGatewayId, until: Timestamp) {
        self.rooms.entry(gateway.clone()).or_default().modify_denied = Some(until);
    }

    pub(crate) fn end_cooldowns(&mut self, now: Timestamp) {
        for slot in self.slots.values_mut() {
            if matches!(slot, Slot::Cooldown(until) if *until <= now) {
                *slot = Slot::Free;
            }
        }
    }

    pub(crate) fn gateway_fact(
        &self,
        now: Timestamp,
        lease: LeaseId,
        port: &LeasedPort,
    ) -> GatewayState {
        let room = self.rooms.get(&port.gateway_id);
        let counted = room
            .and_then(|room| room.withdrawn.get(&lease))
            .is_some_and(|at| *at + LOSS_WINDOW > now);
        let offered = self.offers.get(&port.allocation_id);
        GatewayState {
            entries_when_full: self.known_max_entries(now, &port.gateway_id),
            snat: offered.is_some_and(|offered| offered.snat),
            unavailable_reason: offered.and_then(|offered| offered.unavailable_reason.clone()),
            modify_denied: room
                .and_then(|room| room.modify_denied)
                .is_some_and(|until| until > now),
            withdrawals_limited: !counted
                && room
                    .and_then(|room| room.withdrawals_limited_until)
                    .is_some_and(|until| until > now),
        }
    }

    /// Counts a loss. True if the pod's condition may go False, because fewer pods of the gateway
    /// than the limit have been reported.
    pub(crate) fn try_count_loss(
        &mut self,
        now: Timestamp,
        claim: &Claim,
        gateway: &NatGatewayId,
    ) -> Result<bool, StoreError> {
        self.held_row(claim)?;
        let room = self.rooms.entry(gateway.clone()).or_default();
        room.withdrawn.retain(|_, at| *at + LOSS_WINDOW > now);
        let below_limit = room.withdrawn.keys().filter(|lease| **lease != claim.lease_id).count()
            < MAX_WITHDRAWALS;
        if below_limit {
            room.withdrawn.insert(claim.lease_id, now);
        } else {
            room.withdrawals_limited_until =
                room.withdrawn.values().min().map(|at| *at + LOSS_WINDOW);
        }
        Ok(below_limit)
    }

    fn known_max_entries(&self, now: Timestamp, gateway: &NatGatewayId) -> Option<usize> {
        self.rooms.get(gateway)?.max_entries.filter(|(_, until)| *until > now).map(|(most, _)| most)
    }

    /// Reserves all missing ports on one EIP, or none of them.
    pub(crate) fn reserve_ports(
        &mut self,
        now: Timestamp,
        claim: &Claim,
        request: &DnatRequest,
        candidates: &[AllocationId],
        dice: &mut Dice,
    ) -> Result<PortReservation, StoreError> {
        let lease = self.held_row(claim)?.lease.clone();
        if lease.phase == Phase::Releasing {
            return Err(StoreError::ClaimLost);
        }
        let has = |asked: &&ExposedPort| lease.ports.iter().all(|port| port.exposed != **asked);
        let missing: Vec<ExposedPort> = request.ports.iter().filter(has).copied().collect();
        let same_eip: Vec<_> =
            lease.ports.first().map(|port| port.allocation_id.clone()).into_iter().collect();
        let candidates = if same_eip.is_empty() { candidates } else { &same_eip };
        let mut answer = PortReservation::NoRoom;
        for eip in candidates {
            let Some(offered) = self.offers.get(eip).cloned() else { continue };
            let Some(found) = self.find_free_ports(eip, &missing, request.same_port, dice) else {
                continue;
            };
            if self.exceeds_max_entries(
                now,
                &offered.gateway.id,
                found.iter().filter(|it| it.port == it.range_start).count(),
            ) {
                answer = PortReservation::QuotaFull(vec![offered.gateway.id.clone()]);
                continue;
            }
            self.allocate_ports(claim, &offered.gateway, found, request)?;
            self.held_row(claim)?.lease.vacating = false;
            return Ok(PortReservation::Reserved);
        }
        // Nothing is changed without a success, and only a success commits the end of `vacating`.
        Ok(answer)
    }

    /// True if `more` entries would exceed the number that the gateway once took.
    fn exceeds_max_entries(&self, now: Timestamp, gateway: &NatGatewayId, more: usize) -> bool {
        let Some(most) = self.known_max_entries(now, gateway) else { return false };
        let others = self.rooms.get(gateway).map_or(0, |room| room.foreign_count);
        let ports = self.rows.values().flat_map(|row| &row.lease.ports);
        let held = ports
            .filter(|port| port.gateway_id == *gateway && port.range_start == port.external_port)
            .count();
        held + more + others > most
    }

    fn allocate_ports(
        &mut self,
        claim: &Claim,
        gateway: &Gateway,
        found: Vec<FoundPort>,
        request: &DnatRequest,
    ) -> Done {
        if let Some(target) = self.held_row(claim)?.lease.target.clone() {
            let mut other_ports = self
                .list_other_leases_at(claim.lease_id, target.private_ip)
                .flat_map(|it| &it.ports);
            if other_ports.any(|port| {
                port.gateway_id == gateway.id && found.iter().any(|it| it.exposed == port.exposed)
            }) {
                return Err(StoreError::Conflict(Constraint::ForwardedPort));
            }
        }
        for it in found {
            self.slots.insert(
                (gateway.eip.clone(), it.exposed.protocol, it.port),
                Slot::Held(claim.lease_id),
            );
            let port = LeasedPort {
                allocation_id: gateway.eip.clone(),
                external_ip: gateway.address,
                external_port: it.port,
                range_start: it.range_start,
                exposed: it.exposed,
                gateway_id: gateway.id.clone(),
                table_id: gateway.table_id.clone(),
                entry_id: None,
                deleted: false,
            };
            self.held_row(claim)?.lease.ports.push(port);
        }
        let order =
            |port: &LeasedPort| request.ports.iter().position(|asked| *asked == port.exposed);
        self.held_row(claim)?.lease.ports.sort_by_key(order);
        Ok(())
    }

    pub(crate) fn record_entry(
        &mut self,
        claim: &Claim,
        key: &PortKey,
        entry: &ForwardEntryId,
    ) -> Done {
        let mut noted = 0;
        for port in
            self.held_row(claim)?.lease.ports.iter_mut().filter(|port| port_has_key(port, key))
        {
            (port.entry_id, port.deleted) = (Some(entry.clone()), false);
            noted += 1;
        }
        if noted == 0 { Err(StoreError::ClaimLost) } else { Ok(()) }
    }

    pub(crate) fn mark_foreign(&mut self, claim: &Claim, span: &PortSpan) -> Done {
        self.held_row(claim)?;
        let mut marked = Vec::new();
        for (key, slot) in self.slots.iter_mut().filter(|(key, _)| span_contains(span, key)) {
            if matches!(slot, Slot::Free | Slot::Cooldown(_)) || *slot == Slot::Held(claim.lease_id)
            {
                *slot = Slot::Foreign(None);
                marked.push(key.clone());
            }
        }
        let lease = &mut self.held_row(claim)?.lease;
        let split: Vec<_> = lease
            .ports
            .iter()
            .filter(|port| marked.contains(&port_slot(port)))
            .map(entry_slot)
            .collect();
        lease.ports.retain(|port| !marked.contains(&port_slot(port)));
        for port in lease.ports.iter_mut().filter(|port| split.contains(&entry_slot(port))) {
            if port.external_port > *span.ports.end() {
                port.range_start = span.ports.end() + 1;
            }
            forget_entry(port);
        }
        if marked.is_empty() { Err(StoreError::ClaimLost) } else { Ok(()) }
    }

    pub(crate) fn start_cooldown(&mut self, now: Timestamp, claim: &Claim, key: &PortKey) -> Done {
        let ports = &mut self.held_row(claim)?.lease.ports;
        let (gone, stay): (Vec<_>, Vec<_>) =
            std::mem::take(ports).into_iter().partition(|port| port_has_key(port, key));
        *ports = stay;
        for port in &gone {
            self.slots.insert(port_slot(port), Slot::Cooldown(now + COOLDOWN));
        }
        if gone.is_empty() { Err(StoreError::ClaimLost) } else { Ok(()) }
    }

    pub(crate) fn start_vacating(&mut self, claim: &Claim) -> Done {
        self.held_row(claim)?.lease.vacating = true;
        Ok(())
    }
}

/// A port found for one of the pod's.
struct FoundPort {
    port: u16,
    range_start: u16,
    exposed: ExposedPort,
}

impl Store {
    /// A free port for each that is asked for: adjacent ones for adjacent ones, where there are;
    /// all or none.
    fn find_free_ports(
        &self,
        eip: &AllocationId,
        asked: &[ExposedPort],
        same_port: bool,
        dice: &mut Dice,
    ) -> Option<Vec<FoundPort>> {
        let mut found_ports: Vec<FoundPort> = Vec::new();
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let mut targets: Vec<u16> = asked
                .iter()
                .filter(|asked| asked.protocol == protocol)
                .map(|asked| asked.port)
                .collect();
            targets.sort_unstable();
            let mut ranges: Vec<Vec<u16>> =
                targets.chunk_by(|one, next| one + 1 == *next).map(<[u16]>::to_vec).collect();
            let mut start =
                PORTS.start() + u16::try_from(dice.roll() % PORTS.len() as u64).unwrap_or(0);
            while let Some(range) = ranges.pop() {
                let long = u16::try_from(range.len()).unwrap_or(u16::MAX);
                let free = |port: u16| {
                    let unused = found_ports
                        .iter()
                        .all(|it| (it.port, it.exposed.protocol) != (port, protocol));
                    unused && self.slots.get(&(eip.clone(), protocol, port)) == Some(&Slot::Free)
                };
                let fits = |range_start: &u16| (*range_start..range_start + long).all(free);
                let mut range_starts = (start..=*PORTS.end()).chain(PORTS);
                let found = if same_port {
                    range.first().copied().filter(fits)
                } else {
                    range_starts.find(fits)
                };
                match found {
                    Some(range_start) => {
                        let row = |(port, target)| FoundPort {
                            port,
                            range_start,
                            exposed: ExposedPort { port: target, protocol },
                        };
                        found_ports.extend((range_start..).zip(range).map(row));
                    }
                    None if same_port || range.len() == 1 => return None,
                    None => {
                        ranges.extend(range.chunks(range.len().div_ceil(2)).map(<[u16]>::to_vec));
                    }
                }
                start = *PORTS.start();
            }
        }
        Some(found_ports)
    }
}

fn span_contains(span: &PortSpan, key: &SlotKey) -> bool {
    key.0 == span.allocation_id
        && span.protocol.is_none_or(|protocol| protocol == key.1)
        && span.ports.contains(&key.2)
}

fn port_has_key(port: &LeasedPort, key: &PortKey) -> bool {
    entry_slot(port) == (key.allocation_id.clone(), key.protocol, key.port)
}

/// The row of a port.
fn port_slot(port: &LeasedPort) -> SlotKey {
    (port.allocation_id.clone(), port.protocol(), port.external_port)
}

/// The first row of a port's entry.
fn entry_slot(port: &LeasedPort) -> SlotKey {
    (port.allocation_id.clone(), port.protocol(), port.range_start)
}
