//! Ports on a NAT gateway: reserve, point, create one entry a run of adjacent ports, prove; and back.

use super::eip::waiting_for_interface;
use super::keep::HAND_OVER;
use super::situation::{Object, PodHere, ResourceFact, Seen, Situation};
use super::step::{Ask, Content, Patience, PortKey, PortSpan, Publication, Reason, Step};
use super::{doubt, moved, publish, resource_step};
use crate::change::{Change, Forward};
use crate::facts::{ForwardEntry, ForwardEntryStatus};
use crate::ids::{ForwardEntryId, ForwardTableId};
use crate::lease::{Lease, LeasedPort, Phase, Run, Target};
use crate::request::{Keep, Request};
use crate::resources::{PodDnatEntry, PodDnatSpec, PodDnatStatus, PortMapping};

pub(super) fn live(s: &Situation<'_>, pod: &PodHere) -> Step {
    let Request::Dnat(request) = &s.lease.request else { return Step::End(super::EndReason::RequestChanged) };
    if let Some(step) = moved(s, pod) {
        return step;
    }
    if let Some(step) = s.lease.spilling.then(|| give_back(s)).flatten() {
        return step;
    }
    let Some(ip) = pod.ip else {
        let wait = |patience| Step::wait(Reason::WaitingForPodIp, patience, "forward entries wait for the pod's IP".to_owned());
        // Taken over from a former pod: they do not point at its IP for ever.
        return match s.lease.parted_at.map(|since| since + HAND_OVER) {
            Some(until) if until <= s.now => detach(s).unwrap_or_else(|| wait(Patience::Event)),
            Some(until) => wait(Patience::Until(until)),
            None => wait(Patience::Event),
        };
    };
    let target = match &s.lease.target {
        Some(target) if target.private_ip == ip => target,
        // Entries are pointed at the new address as they stand; where that is not allowed, they go first.
        Some(_) if s.cloud.gateway.modify_denied => return retire(s).unwrap_or(Step::ClearTarget),
        former => {
            let Seen::There(eni) = &s.cloud.eni else { return waiting_for_interface(pod, ip, "DNAT") };
            if former.is_none() && s.lease.ports.is_empty() {
                return Step::ReservePorts { zone: eni.zone_id.clone() };
            }
            return Step::SetTarget(Target::of(eni, ip));
        }
    };
    if s.lease.ports.len() < request.ports.len() {
        return Step::ReservePorts { zone: target.zone_id.clone() };
    }
    if let Some(step) = resource_step(s, content(s.lease, Some(target), None)) {
        return step;
    }
    forward(s, pod, target)
}

/// What a run's entry needs.
enum Entry<'a> {
    /// It works.
    Ready(&'a ForwardEntry),
    /// The cloud is at it.
    Pending,
    /// This change.
    Asks(Box<Ask>),
    /// This, first.
    Needs(Box<Step>),
}

/// One entry a run of ports. All changes are asked for at once; where there are none, the first run that needs something names the step.
fn forward(s: &Situation<'_>, pod: &PodHere, target: &Target) -> Step {
    let runs = s.lease.runs();
    let mut ready = Vec::with_capacity(runs.len());
    let (mut asks, mut needs) = (Vec::new(), None);
    for run in &runs {
        match entry(s, *run, target) {
            Entry::Ready(entry) => ready.push((*run, entry)),
            Entry::Pending => {}
            Entry::Asks(ask) => asks.push(*ask),
            Entry::Needs(step) => {
                needs.get_or_insert(*step);
            }
        }
    }
    if ready.len() < runs.len() {
        let shown = format!("{} of {} forward entries work", ready.len(), runs.len());
        let pending = || Step::wait(Reason::EntriesPending, Patience::Poll, format!("{shown}; the others are being made"));
        if s.lease.phase == Phase::Held && s.lease.doubts > 0 && s.cloud.gateway.losses_held {
            return mend(s, asks, needs.is_none(), &shown);
        }
        let asked = || no_room(s, &asks).or_else(|| queue(s, asks));
        return lost(s, pod, format!("{shown}; what is missing is made again where the gateway takes it"))
            .or_else(|| out_of_service(s))
            .or_else(asked)
            .or(needs)
            .unwrap_or_else(pending);
    }
    if let Some((run, entry)) = ready.iter().find(|(run, entry)| run.head.entry_id.as_ref() != Some(&entry.entry_id)) {
        return Step::NoteEntry(key(run.head), entry.entry_id.clone());
    }
    match (publish(s, pod, publication(s, target, &ready)), stray(s, &runs)) {
        (Step::Wait(wait), Some(stray)) => queue(s, vec![delete(&stray.table_id, &stray.entry_id)]).unwrap_or(Step::Wait(wait)),
        (step, _) => step,
    }
}

/// Entries that were published do not work: that may be so for all pods of the gateway at once.
fn lost(s: &Situation<'_>, pod: &PodHere, shown: String) -> Option<Step> {
    match doubt(s, pod, shown)? {
        Step::Withdraw(withdrawal) if s.lease.phase == Phase::Held => Some(Step::WithdrawLost(withdrawal)),
        step => Some(step),
    }
}

/// Puts back what is missing while the pod stays ready, and takes nothing away: whoever reads its address finds it there again.
fn mend(s: &Situation<'_>, asks: Vec<Ask>, only_asks: bool, shown: &str) -> Step {
    let held = |patience| {
        let message = format!(
            "{shown}; many pods of the NAT gateway lost their entries within ten minutes, so this one's condition stays for now: look whether \
             somebody has deleted them, and whether the worker's credentials are those of the gateway's account"
        );
        Step::wait(Reason::LossesHeld, patience, message)
    };
    if only_asks && asks.is_empty() {
        return held(Patience::Poll);
    }
    let puts_back = |ask: &Ask| matches!(ask.change, Change::CreateForwardEntry(_) | Change::ModifyForwardEntry { .. });
    let mends = only_asks && asks.iter().all(puts_back) && no_room(s, &asks).is_none() && s.cloud.gateway.trouble.is_none();
    mends.then(|| queue(s, asks)).flatten().unwrap_or_else(|| held(Patience::Event))
}

/// An entry of the lease on none of its ports: somebody has moved it, and it may forward to an address that is another pod's by now.
fn stray<'a>(s: &'a Situation<'_>, runs: &[Run<'_>]) -> Option<&'a ForwardEntry> {
    let on = |entry: &ForwardEntry, run: &Run<'_>| entry.meets_external(run.head.external_ip, run.head.protocol(), &run.external());
    let ours = |entry: &ForwardEntry| s.owner.read_entry_name(&entry.name).is_some_and(|name| name.lease == s.lease.id);
    let strays = |entry: &&ForwardEntry| ours(entry) && !runs.iter().any(|run| on(entry, run));
    s.cloud.entries.iter().filter(strays).find(|entry| entry.status == ForwardEntryStatus::Available)
}

/// Nothing is asked of a gateway or an address that cannot take it: when it can again, the pool sees that.
fn out_of_service(s: &Situation<'_>) -> Option<Step> {
    let trouble = s.cloud.gateway.trouble.as_ref()?;
    Some(Step::wait(Reason::GatewayUnavailable, Patience::Event, format!("{trouble}; the pod's ports stay reserved")))
}

fn entry<'a>(s: &'a Situation<'_>, run: Run<'_>, target: &Target) -> Entry<'a> {
    let (head, protocol) = (run.head, run.head.protocol());
    let wanted = wanted(s, run, target);
    let mut outside = s.cloud.entries.iter().filter(|entry| entry.meets_external(head.external_ip, protocol, &run.external()));
    let found = outside.next();
    let inside = s.cloud.entries.iter().find(|entry| {
        entry.meets_internal(target.private_ip, protocol, &run.internal()) && found.is_none_or(|found| found.entry_id != entry.entry_id)
    });
    let Some(found) = found else {
        return inside.map_or_else(|| create(run, wanted), |inside| in_the_way(s, inside, run));
    };
    let Some(name) = s.owner.read_entry_name(&found.name) else { return Entry::Needs(Box::new(Step::MarkForeign(span(found, head)))) };
    let same_ports = found.external_port == wanted.external_ports()
        && found.internal_port == wanted.internal_ports()
        && found.protocol() == Some(protocol)
        && name.lease == s.lease.id;
    let current = same_ports && name.generation == s.lease.generation && found.internal_ip == target.private_ip;
    match (current, found.status, inside) {
        (true, ForwardEntryStatus::Available, _) => Entry::Ready(found),
        (true, _, _) => Entry::Pending,
        (false, ForwardEntryStatus::Available, None) if same_ports && !s.cloud.gateway.modify_denied => {
            let entry_id = found.entry_id.clone();
            let resource = entry_id.to_string();
            Entry::Asks(Box::new(Ask { resource, change: Change::ModifyForwardEntry { entry_id, forward: wanted } }))
        }
        (false, ForwardEntryStatus::Available, Some(inside)) if same_ports => in_the_way(s, inside, run),
        // Nobody else's lease can hold these ports: whatever of ours stands on them is a leftover.
        (false, ..) => leftover(found),
    }
}

/// A recycled pod IP: another entry already forwards to these ports of it.
fn in_the_way<'a>(s: &Situation<'_>, found: &ForwardEntry, run: Run<'_>) -> Entry<'a> {
    let whose = match s.owner.read_entry_name(&found.name) {
        Some(name) if name.lease != s.lease.id && s.cloud.known_leases.contains(&name.lease) => "of a former pod, which is being deleted",
        Some(_) => return leftover(found),
        None => "that is not Waygate's; delete it",
    };
    let message = format!(
        "port {} of pod IP {} is already forwarded from {}:{} by entry {} (\"{}\") {whose}",
        run.head.exposed, found.internal_ip, found.external_ip, found.external_port, found.entry_id, found.name
    );
    Entry::Needs(Box::new(Step::wait(Reason::PortForwardedElsewhere, Patience::Poll, message)))
}

/// What the run's entry should be.
fn wanted(s: &Situation<'_>, run: Run<'_>, target: &Target) -> Forward {
    Forward {
        table_id: run.head.table_id.clone(),
        name: s.owner.entry_name(s.lease.id, s.lease.generation),
        external_ip: run.head.external_ip,
        external_port: run.head.external_port,
        internal_ip: target.private_ip,
        internal_port: run.head.exposed.port,
        ports: run.ports,
        protocol: run.head.protocol(),
        port_break: s.cloud.gateway.snat && *run.external().end() > HIGHEST_SHARED,
    }
}

/// Ports up to here may be forwarded from an address that SNAT uses, too; above, an entry must break them out of it.
const HIGHEST_SHARED: u16 = 1024;

/// A new entry.
fn create<'a>(run: Run<'_>, wanted: Forward) -> Entry<'a> {
    let resource = format!("{}/{}/{}", run.head.allocation_id, wanted.protocol, wanted.external_port);
    Entry::Asks(Box::new(Ask { resource, change: Change::CreateForwardEntry(wanted) }))
}

/// What follows where the gateway has no room for all new entries; none where it has.
fn no_room(s: &Situation<'_>, asks: &[Ask]) -> Option<Step> {
    let new = asks.iter().filter(|ask| matches!(ask.change, Change::CreateForwardEntry(_))).count();
    let standing = s.cloud.entries.len();
    let most = s.cloud.gateway.full_at.filter(|most| new > 0 && standing + new > *most)?;
    // Fixed ports that somebody knows of must not move: they wait until there is room.
    let stays = s.lease.told && s.lease.request.keep() != Keep::Not;
    if !stays {
        return Some(Step::Spill);
    }
    let message = format!("the NAT gateway takes no more than {most} forward entries and has {standing}; raise its quota or remove some");
    Some(Step::wait(Reason::QuotaExceeded, Patience::Person, message))
}

/// Asks for these changes at the lease's gateway, each thing once; none where there are none.
fn queue(s: &Situation<'_>, asks: Vec<Ask>) -> Option<Step> {
    let gateway = s.lease.ports.first()?.gateway_id.clone();
    let mut distinct: Vec<Ask> = Vec::with_capacity(asks.len());
    for ask in asks {
        // One leftover may stand in the way of several runs.
        if distinct.iter().all(|other| other.resource != ask.resource) {
            distinct.push(ask);
        }
    }
    (!distinct.is_empty()).then_some(Step::Queue { gateway, asks: distinct })
}

/// Gives back everything on a gateway without room for all of it; none once nothing is left there.
fn give_back(s: &Situation<'_>) -> Option<Step> {
    retire(s).or_else(|| s.lease.ports.first().map(|port| Step::QuietPort(key(port))))
}

/// Where somebody else's entry stands, on the address of this port.
fn span(entry: &ForwardEntry, port: &LeasedPort) -> PortSpan {
    PortSpan { allocation_id: port.allocation_id.clone(), protocol: entry.protocol(), ports: entry.external_ports() }
}

/// What a leftover of ours needs: to go, once it can.
fn leftover<'a>(entry: &ForwardEntry) -> Entry<'a> {
    match entry.status {
        ForwardEntryStatus::Available | ForwardEntryStatus::Other => Entry::Asks(Box::new(delete(&entry.table_id, &entry.entry_id))),
        ForwardEntryStatus::Pending | ForwardEntryStatus::Deleting => Entry::Needs(Box::new(settling(entry))),
    }
}

fn settling(entry: &ForwardEntry) -> Step {
    Step::wait(Reason::EntriesPending, Patience::Poll, format!("forward entry {} is {:?}", entry.entry_id, entry.status))
}

fn delete(table_id: &ForwardTableId, entry_id: &ForwardEntryId) -> Ask {
    let change = Change::DeleteForwardEntry { table_id: table_id.clone(), entry_id: entry_id.clone() };
    Ask { resource: entry_id.to_string(), change }
}

/// The next step until every entry of the lease is proven gone; none once they are.
fn retire(s: &Situation<'_>) -> Option<Step> {
    let ours = |entry: &&ForwardEntry| s.owner.read_entry_name(&entry.name).is_some_and(|name| name.lease == s.lease.id);
    let standing: Vec<_> = s.cloud.entries.iter().filter(ours).collect();
    let changing = |entry: &&&ForwardEntry| matches!(entry.status, ForwardEntryStatus::Pending | ForwardEntryStatus::Deleting);
    // Those that can be deleted first: one that is still changing must not hold up the rest.
    let deletable = standing.iter().filter(|entry| !changing(entry)).map(|entry| delete(&entry.table_id, &entry.entry_id));
    // Not in the list, though nobody of us deleted it: only the deletion's own answer proves it.
    let listed = |id: &ForwardEntryId| standing.iter().any(|entry| entry.entry_id == *id);
    let vanished = s.lease.ports.iter().filter(|port| !port.deleted).filter_map(|port| port.entry_id.as_ref().map(|id| (port, id)));
    let vanished = vanished.filter(|(_, id)| !listed(id)).map(|(port, id)| delete(&port.table_id, id));
    let asks: Vec<_> = deletable.chain(vanished).collect();
    queue(s, asks).or_else(|| standing.first().map(|entry| settling(entry)))
}

/// Takes the entries away and keeps the ports; none once nothing points at the pod's address.
pub(super) fn detach(s: &Situation<'_>) -> Option<Step> {
    retire(s).or_else(|| s.lease.target.is_some().then_some(Step::ClearTarget))
}

/// What is left to take back; none when nothing is.
pub(super) fn ending(s: &Situation<'_>) -> Option<Step> {
    detach(s).or_else(|| give_back(s))
}

/// Which entry a port belongs to.
fn key(port: &LeasedPort) -> PortKey {
    PortKey { allocation_id: port.allocation_id.clone(), protocol: port.protocol(), port: port.head }
}

/// One status entry a port, in the order asked for; those of one forward entry share its ID.
fn publication(s: &Situation<'_>, target: &Target, ready: &[(Run<'_>, &ForwardEntry)]) -> Publication {
    let id = |port: &LeasedPort| {
        let own = ready.iter().find(|(run, _)| run.head.protocol() == port.protocol() && run.head.head == port.head);
        own.map(|(_, entry)| entry.entry_id.to_string())
    };
    let entries = s.lease.ports.iter().map(|port| PodDnatEntry {
        external_ip: Some(port.external_ip.to_string()),
        external_port: Some(port.external_port.to_string()),
        internal_ip: Some(target.private_ip.to_string()),
        internal_port: Some(port.exposed.port.to_string()),
        ip_protocol: Some(port.protocol().to_string()),
        forward_entry_id: id(port),
    });
    // One that was not cleared since tells of the same address.
    let shown = if let ResourceFact::Mine(Object::Dnat(object), _) = s.resource { object.status.as_ref() } else { None };
    let created = shown.and_then(|status| status.created.clone());
    let now = || s.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let status = PodDnatStatus { entries: Some(entries.collect()), created: Some(created.unwrap_or_else(now)) };
    let one = |port: &LeasedPort| {
        serde_json::json!({
            "externalIP": port.external_ip, "externalPort": port.external_port,
            "internalPort": port.exposed.port, "protocol": port.protocol(),
        })
    };
    let list: Vec<_> = s.lease.ports.iter().map(one).collect();
    let told: Vec<_> = s.lease.ports.iter().map(|port| format!("{}:{} → {}", port.external_ip, port.external_port, port.exposed)).collect();
    Publication {
        content: content(s.lease, Some(target), Some(status)),
        annotation: serde_json::Value::from(list).to_string(),
        reason: Reason::EntriesAvailable,
        message: told.join(", "),
    }
}

pub(super) fn content(lease: &Lease, target: Option<&Target>, status: Option<PodDnatStatus>) -> Content {
    let first = lease.ports.first();
    let mapping = |port: &LeasedPort| PortMapping {
        external_port: Some(port.external_port.to_string()),
        internal_port: Some(port.exposed.port.to_string()),
    };
    let spec = PodDnatSpec {
        eni: target.map(|target| target.eni_id.to_string()),
        vswitch: target.map(|target| target.vswitch_id.to_string()),
        zone_id: target.map(|target| target.zone_id.to_string()),
        external_ip: first.map(|port| port.external_ip.to_string()),
        internal_ip: target.map(|target| target.private_ip.to_string()),
        protocol: first.map(|port| port.protocol().to_string()),
        table_id: first.map(|port| port.gateway_id.to_string()),
        port_mapping: Some(lease.ports.iter().map(mapping).collect()),
        ..PodDnatSpec::default()
    };
    Content::Dnat { spec: Box::new(spec), status }
}

#[cfg(test)]
mod tests;
