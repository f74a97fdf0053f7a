//! Ports, as the store records them: the offer of each gateway's EIP, the holder of each row, and
//! the room for entries.

use crate::cloud::Gateway;
use crate::store::{Claim, Done, No, Store, forget_entry};
use jiff::{SignedDuration, Timestamp};
use simulator::dice::Dice;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use waygate_core::ids::{AllocationId, ForwardEntryId, LeaseId, NatGatewayId};
use waygate_core::lease::{
    Constraint, GatewayFact, LeasedPort, Phase, PortKey, PortSpan, Reserved,
};
use waygate_core::request::{DnatRequest, ExposedPort, Protocol};
use waygate_core::rules::timing::{GATEWAY_FULL, LOSSES_COUNTED};

/// External ports of each gateway's EIP. Some of them SNAT shares, some need to be broken out of
/// it.
pub(crate) const PORTS: RangeInclusive<u16> = 1014..=1037;
/// Cooldown of a freed port.
pub(crate) const QUIET: SignedDuration = SignedDuration::from_secs(60);
/// At most this many pods of a gateway have their entries reported as lost within this time. Few,
/// because there are few pods.
const LOSSES: usize = 1;
/// A foreign entry must be missing this long before its ports are given out again: half the time
/// between two reads.
const GRACE: SignedDuration = SignedDuration::from_secs(30);

/// State of an external port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    Free,
    Held(LeaseId),
    Quiet(Timestamp),
    /// Used by a foreign entry, and since when no read has shown the entry.
    Foreign(Option<Timestamp>),
}

pub(crate) type SlotKey = (AllocationId, Protocol, u16);

/// An EIP of a gateway in the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offered {
    pub gateway: Gateway,
    pub snat: bool,
    pub trouble: Option<String>,
}

/// Limits of a gateway that earlier answers showed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Room {
    full: Option<(usize, Timestamp)>,
    others: usize,
    modify_denied: Option<Timestamp>,
    lost: BTreeMap<LeaseId, Timestamp>,
    losses_held: Option<Timestamp>,
}

impl Store {
    pub(crate) fn offer_first(&mut self, gateway: &Gateway) {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            self.slots
                .extend(PORTS.map(|port| ((gateway.eip.clone(), protocol, port), Slot::Free)));
        }
        self.offers.insert(
            gateway.eip.clone(),
            Offered { gateway: gateway.clone(), snat: false, trouble: None },
        );
    }

    /// Offers an EIP where it was seen. An EIP from another gateway brings its ports along, held
    /// ones too.
    pub(crate) fn offer(&mut self, gateway: &Gateway, snat: bool) -> Done {
        let Some(offered) = self.offers.get(&gateway.eip) else { return Ok(()) };
        if offered.gateway.id != gateway.id && self.meets_others(gateway) {
            return Err(No::Conflict(Constraint::ForwardedPort));
        }
        let trouble = offered.trouble.clone();
        self.offers
            .insert(gateway.eip.clone(), Offered { gateway: gateway.clone(), snat, trouble });
        for row in self.rows.values_mut() {
            for port in row.lease.ports.iter_mut().filter(|port| port.allocation_id == gateway.eip)
            {
                (port.gateway_id, port.table_id) = (gateway.id.clone(), gateway.table_id.clone());
            }
        }
        Ok(())
    }

    /// Unique: (gateway, private address, protocol, port of the pod).
    fn meets_others(&self, gateway: &Gateway) -> bool {
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

    /// Which EIPs the gateway has now. Leases on those that came or went look for themselves.
    pub(crate) fn bound(
        &mut self,
        now: Timestamp,
        gateway: &NatGatewayId,
        eips: &[AllocationId],
        trouble: Option<&str>,
    ) {
        let mut changed = Vec::new();
        for (eip, offered) in
            self.offers.iter_mut().filter(|(_, offered)| offered.gateway.id == *gateway)
        {
            let away = || {
                trouble.map_or_else(
                    || format!("{eip} is not bound to {gateway} any more"),
                    str::to_owned,
                )
            };
            let trouble = (!eips.contains(eip)).then(away);
            if offered.trouble != trouble {
                offered.trouble = trouble;
                changed.push(eip.clone());
            }
        }
        let on_it = |port: &LeasedPort| changed.contains(&port.allocation_id);
        for row in self.rows.values_mut().filter(|row| row.lease.ports.iter().any(on_it)) {
            row.stirred = now;
            row.news(now);
        }
    }

    /// Notes a list of all entries of a gateway: ports of foreign entries are given to no pod.
    pub(crate) fn saw_entries(
        &mut self,
        now: Timestamp,
        gateway: &NatGatewayId,
        standing: usize,
        others: usize,
        foreign: &[PortSpan],
    ) {
        let room = self.rooms.entry(gateway.clone()).or_default();
        room.others = others;
        room.full = room.full.filter(|(most, _)| *most >= standing);
        for (key, slot) in &mut self.slots {
            if self.offers.get(&key.0).is_none_or(|offered| offered.gateway.id != *gateway) {
                continue;
            }
            let stands = foreign.iter().any(|span| spans(span, key));
            match slot {
                Slot::Free | Slot::Quiet(_) | Slot::Foreign(_) if stands => {
                    *slot = Slot::Foreign(None);
                }
                Slot::Foreign(Some(since)) if *since + GRACE <= now => *slot = Slot::Free,
                Slot::Foreign(None) => *slot = Slot::Foreign(Some(now)),
                Slot::Free | Slot::Held(_) | Slot::Quiet(_) | Slot::Foreign(_) => {}
            }
        }
    }

    pub(crate) fn gateway_full(&mut self, now: Timestamp, gateway: &NatGatewayId, standing: usize) {
        self.rooms.entry(gateway.clone()).or_default().full = Some((standing, now + GATEWAY_FULL));
    }

    pub(crate) fn modify_denied(&mut self, gateway: &NatGatewayId, until: Timestamp) {
        self.rooms.entry(gateway.clone()).or_default().modify_denied = Some(until);
    }

    pub(crate) fn end_quiet(&mut self, now: Timestamp) {
        for slot in self.slots.values_mut() {
            if matches!(slot, Slot::Quiet(until) if *until <= now) {
                *slot = Slot::Free;
            }
        }
    }

    pub(crate) fn gateway_fact(
        &self,
        now: Timestamp,
        lease: LeaseId,
        port: &LeasedPort,
    ) -> GatewayFact {
        let room = self.rooms.get(&port.gateway_id);
        let told = room
            .and_then(|room| room.lost.get(&lease))
            .is_some_and(|at| *at + LOSSES_COUNTED > now);
        let offered = self.offers.get(&port.allocation_id);
        GatewayFact {
            full_at: self.full_at(now, &port.gateway_id),
            snat: offered.is_some_and(|offered| offered.snat),
            trouble: offered.and_then(|offered| offered.trouble.clone()),
            modify_denied: room
                .and_then(|room| room.modify_denied)
                .is_some_and(|until| until > now),
            losses_held: !told
                && room.and_then(|room| room.losses_held).is_some_and(|until| until > now),
        }
    }

    /// Counts a loss. True if the pod's condition may go False, because fewer pods of the gateway
    /// than the limit have been reported.
    pub(crate) fn lose(
        &mut self,
        now: Timestamp,
        claim: &Claim,
        gateway: &NatGatewayId,
    ) -> Result<bool, No> {
        self.held(claim)?;
        let room = self.rooms.entry(gateway.clone()).or_default();
        room.lost.retain(|_, at| *at + LOSSES_COUNTED > now);
        let told = room.lost.keys().filter(|lease| **lease != claim.lease_id).count() < LOSSES;
        if told {
            room.lost.insert(claim.lease_id, now);
        } else {
            room.losses_held = room.lost.values().min().map(|at| *at + LOSSES_COUNTED);
        }
        Ok(told)
    }

    fn full_at(&self, now: Timestamp, gateway: &NatGatewayId) -> Option<usize> {
        self.rooms.get(gateway)?.full.filter(|(_, until)| *until > now).map(|(most, _)| most)
    }

    /// Reserves all missing ports on one EIP, or none of them.
    pub(crate) fn reserve_ports(
        &mut self,
        now: Timestamp,
        claim: &Claim,
        request: &DnatRequest,
        candidates: &[AllocationId],
        dice: &mut Dice,
    ) -> Result<Reserved, No> {
        let lease = self.held(claim)?.lease.clone();
        if lease.phase == Phase::Ending {
            return Err(No::ClaimLost);
        }
        let has = |asked: &&ExposedPort| lease.ports.iter().all(|port| port.exposed != **asked);
        let missing: Vec<ExposedPort> = request.ports.iter().filter(has).copied().collect();
        let same_eip: Vec<_> =
            lease.ports.first().map(|port| port.allocation_id.clone()).into_iter().collect();
        let candidates = if same_eip.is_empty() { candidates } else { &same_eip };
        let mut answer = Reserved::NoRoom;
        for eip in candidates {
            let Some(offered) = self.offers.get(eip).cloned() else { continue };
            let Some(taken) = self.find(eip, &missing, request.same_port, dice) else { continue };
            if self.is_full(
                now,
                &offered.gateway.id,
                taken.iter().filter(|it| it.port == it.head).count(),
            ) {
                answer = Reserved::QuotaFull(vec![offered.gateway.id.clone()]);
                continue;
            }
            self.take(claim, &offered.gateway, taken, request)?;
            self.held(claim)?.lease.spilling = false;
            return Ok(Reserved::Yes);
        }
        // Nothing is changed without a success, and only a success commits the end of `spilling`.
        Ok(answer)
    }

    /// True if `more` entries would exceed the number that the gateway once took.
    fn is_full(&self, now: Timestamp, gateway: &NatGatewayId, more: usize) -> bool {
        let Some(most) = self.full_at(now, gateway) else { return false };
        let others = self.rooms.get(gateway).map_or(0, |room| room.others);
        let ports = self.rows.values().flat_map(|row| &row.lease.ports);
        let held = ports
            .filter(|port| port.gateway_id == *gateway && port.head == port.external_port)
            .count();
        held + more + others > most
    }

    fn take(
        &mut self,
        claim: &Claim,
        gateway: &Gateway,
        taken: Vec<Taken>,
        request: &DnatRequest,
    ) -> Done {
        if let Some(target) = self.held(claim)?.lease.target.clone() {
            let mut theirs =
                self.others_at(claim.lease_id, target.private_ip).flat_map(|it| &it.ports);
            if theirs.any(|port| {
                port.gateway_id == gateway.id && taken.iter().any(|it| it.exposed == port.exposed)
            }) {
                return Err(No::Conflict(Constraint::ForwardedPort));
            }
        }
        for it in taken {
            self.slots.insert(
                (gateway.eip.clone(), it.exposed.protocol, it.port),
                Slot::Held(claim.lease_id),
            );
            let port = LeasedPort {
                allocation_id: gateway.eip.clone(),
                external_ip: gateway.address,
                external_port: it.port,
                head: it.head,
                exposed: it.exposed,
                gateway_id: gateway.id.clone(),
                table_id: gateway.table_id.clone(),
                entry_id: None,
                deleted: false,
            };
            self.held(claim)?.lease.ports.push(port);
        }
        let order =
            |port: &LeasedPort| request.ports.iter().position(|asked| *asked == port.exposed);
        self.held(claim)?.lease.ports.sort_by_key(order);
        Ok(())
    }

    pub(crate) fn note_entry(
        &mut self,
        claim: &Claim,
        key: &PortKey,
        entry: &ForwardEntryId,
    ) -> Done {
        let mut noted = 0;
        for port in self.held(claim)?.lease.ports.iter_mut().filter(|port| is(port, key)) {
            (port.entry_id, port.deleted) = (Some(entry.clone()), false);
            noted += 1;
        }
        if noted == 0 { Err(No::ClaimLost) } else { Ok(()) }
    }

    pub(crate) fn mark_foreign(&mut self, claim: &Claim, span: &PortSpan) -> Done {
        self.held(claim)?;
        let mut marked = Vec::new();
        for (key, slot) in self.slots.iter_mut().filter(|(key, _)| spans(span, key)) {
            if matches!(slot, Slot::Free | Slot::Quiet(_)) || *slot == Slot::Held(claim.lease_id) {
                *slot = Slot::Foreign(None);
                marked.push(key.clone());
            }
        }
        let lease = &mut self.held(claim)?.lease;
        let split: Vec<_> = lease
            .ports
            .iter()
            .filter(|port| marked.contains(&slot_of(port)))
            .map(entry_of)
            .collect();
        lease.ports.retain(|port| !marked.contains(&slot_of(port)));
        for port in lease.ports.iter_mut().filter(|port| split.contains(&entry_of(port))) {
            if port.external_port > *span.ports.end() {
                port.head = span.ports.end() + 1;
            }
            forget_entry(port);
        }
        if marked.is_empty() { Err(No::ClaimLost) } else { Ok(()) }
    }

    pub(crate) fn quiet_port(&mut self, now: Timestamp, claim: &Claim, key: &PortKey) -> Done {
        let ports = &mut self.held(claim)?.lease.ports;
        let (gone, stay): (Vec<_>, Vec<_>) =
            std::mem::take(ports).into_iter().partition(|port| is(port, key));
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
}

/// A port found for one of the pod's.
struct Taken {
    port: u16,
    head: u16,
    exposed: ExposedPort,
}

impl Store {
    /// A free port for each that is asked for: adjacent ones for adjacent ones, where there are;
    /// all or none.
    fn find(
        &self,
        eip: &AllocationId,
        asked: &[ExposedPort],
        same_port: bool,
        dice: &mut Dice,
    ) -> Option<Vec<Taken>> {
        let mut taken: Vec<Taken> = Vec::new();
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let mut targets: Vec<u16> = asked
                .iter()
                .filter(|asked| asked.protocol == protocol)
                .map(|asked| asked.port)
                .collect();
            targets.sort_unstable();
            let mut runs: Vec<Vec<u16>> =
                targets.chunk_by(|one, next| one + 1 == *next).map(<[u16]>::to_vec).collect();
            let mut start =
                PORTS.start() + u16::try_from(dice.roll() % PORTS.len() as u64).unwrap_or(0);
            while let Some(run) = runs.pop() {
                let long = u16::try_from(run.len()).unwrap_or(u16::MAX);
                let free = |port: u16| {
                    let untaken =
                        taken.iter().all(|it| (it.port, it.exposed.protocol) != (port, protocol));
                    untaken && self.slots.get(&(eip.clone(), protocol, port)) == Some(&Slot::Free)
                };
                let fits = |head: &u16| (*head..head + long).all(free);
                let mut heads = (start..=*PORTS.end()).chain(PORTS);
                let found =
                    if same_port { run.first().copied().filter(fits) } else { heads.find(fits) };
                match found {
                    Some(head) => {
                        let row = |(port, target)| Taken {
                            port,
                            head,
                            exposed: ExposedPort { port: target, protocol },
                        };
                        taken.extend((head..).zip(run).map(row));
                    }
                    None if same_port || run.len() == 1 => return None,
                    None => runs.extend(run.chunks(run.len().div_ceil(2)).map(<[u16]>::to_vec)),
                }
                start = *PORTS.start();
            }
        }
        Some(taken)
    }
}

fn spans(span: &PortSpan, key: &SlotKey) -> bool {
    key.0 == span.allocation_id
        && span.protocol.is_none_or(|protocol| protocol == key.1)
        && span.ports.contains(&key.2)
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
