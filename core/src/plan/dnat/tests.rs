//! Unit tests of the decisions about forward entries.

use super::entries::desired_entry;
use super::*;
use crate::change::ForwardEntrySpec;
use crate::cloud_facts::{Eni, ForwardEntry, ForwardEntryStatus};
use crate::ids::{
    AllocationId, EniId, ForwardEntryId, ForwardTableId, LeaseId, NatGatewayId, PodUid, VSwitchId,
    VpcId, ZoneId,
};
use crate::lease::{EipSources, Lease, LeasedPort, PortSpan};
use crate::ownership::Owner;
use crate::plan::next_step;
use crate::plan::situation::{
    CloudFacts, CustomResourceObject, CustomResourceState, Deletion, Desired, PodState,
};
use crate::plan::step::{CustomResourceContent, Publication};
use crate::request::{DnatRequest, ExposedPort, Kind, Protocol};
use crate::resources::{POD_UID_ANNOTATION, PodDNAT};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use uuid::Uuid;

const OWNER: Owner = Owner { store: Uuid::from_u128(1), cluster: Uuid::from_u128(2) };
const LEASE: LeaseId = LeaseId(Uuid::from_u128(3));
const SOURCES: EipSources = EipSources {
    preemption_allowed: false,
    current_holder: None,
    reusable_prepaid: None,
    former_address: None,
};
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const POD: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const FORMER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);

/// A pod, its lease and the facts that were read for it.
struct Scene {
    lease: Lease,
    pod: PodState,
    resource: CustomResourceState,
    cloud: CloudFacts,
}

impl Scene {
    /// A pod with port 80 behind 300, and as many adjacent ports as asked for; only the entry is
    /// missing.
    fn new(count: u16) -> Self {
        let ports: Vec<_> =
            (0..count).map(|i| ExposedPort { port: 80 + i, protocol: Protocol::Tcp }).collect();
        let request =
            Request::Dnat(DnatRequest { ports: ports.clone(), fixed: false, same_port: false });
        let lease = Lease {
            id: LEASE,
            kind: Kind::Dnat,
            namespace: "ns".to_owned(),
            pod_name: "pod".to_owned(),
            pod_uid: PodUid::new("uid"),
            controller: None,
            request: request.clone(),
            phase: Phase::Provisioning,
            eip: None,
            ports: ports.iter().map(|exposed| leased(*exposed, 300)).collect(),
            target: Some(target(POD)),
            generation: 1,
            owns_custom_resource: true,
            missed_reads: 0,
            vacating: false,
            was_published: false,
            preempted_by: None,
            handover_since: None,
            pod_missing_since: None,
            created_at: Timestamp::UNIX_EPOCH,
            retained_until: None,
        };
        let pod = PodView {
            ip: Some(POD),
            node: None,
            exited: false,
            terminating: false,
            has_gate: true,
            desired: Desired::Request(Box::new(request)),
            condition: None,
            annotation: None,
        };
        let mut scene = Self {
            lease,
            pod: PodState::Present(Box::new(pod)),
            resource: CustomResourceState::Absent,
            cloud: CloudFacts::default(),
        };
        scene.write_resource();
        scene
    }

    /// The scene with the custom resource written as desired.
    fn write_resource(&mut self) {
        let target = self.lease.target.clone().unwrap();
        let CustomResourceContent::Dnat { spec, .. } =
            dnat_content(&self.lease, Some(&target), None)
        else {
            panic!("another kind")
        };
        let mut object = PodDNAT::new("pod", *spec);
        object.metadata.annotations =
            Some([(POD_UID_ANNOTATION.to_owned(), "uid".to_owned())].into());
        self.resource = CustomResourceState::Owned(
            CustomResourceObject::Dnat(Box::new(object)),
            Deletion::None,
        );
        assert_eq!(
            ensure_custom_resource(
                &self.situation(),
                dnat_content(&self.lease, Some(&target), None)
            ),
            None
        );
    }

    fn situation(&self) -> Situation<'_> {
        let Self { lease, pod, resource, cloud } = self;
        Situation {
            served: true,
            owner: OWNER,
            lease,
            operations: &[],
            rejection: None,
            refusal: None,
            pod,
            custom_resource: resource,
            successor: None,
            sources: &SOURCES,
            cloud,
            now: Timestamp::UNIX_EPOCH,
        }
    }

    fn next(&self) -> Step {
        next_step(&self.situation())
    }

    /// Adds an entry of the lease, as wide as its ports, with a target generation and internal IP.
    fn add_entry(&mut self, generation: i32, to: Ipv4Addr, status: ForwardEntryStatus) {
        let forward = desired_entry(&self.situation(), self.lease.port_ranges()[0], &target(to));
        let name = OWNER.entry_name(LEASE, generation);
        self.cloud.entries.push(shown(
            &name,
            &forward.external_ports(),
            &forward.internal_ports(),
            to,
            status,
        ));
    }

    fn pod(&mut self) -> &mut PodView {
        let PodState::Present(pod) = &mut self.pod else { panic!("it is gone") };
        pod
    }
}

fn leased(exposed: ExposedPort, range_start: u16) -> LeasedPort {
    LeasedPort {
        allocation_id: AllocationId::new("eip-1"),
        external_ip: OUTSIDE,
        external_port: range_start + exposed.port - 80,
        range_start,
        exposed,
        gateway_id: NatGatewayId::new("ngw-1"),
        table_id: ForwardTableId::new("ftb-1"),
        entry_id: None,
        deleted: false,
    }
}

fn target(private_ip: Ipv4Addr) -> Target {
    Target {
        eni_id: EniId::new("eni-1"),
        vswitch_id: VSwitchId::new("vsw-1"),
        zone_id: ZoneId::new("z-1"),
        vpc_id: VpcId::new("vpc-1"),
        private_ip,
        primary: false,
    }
}

fn eni() -> Lookup<Eni> {
    Lookup::Present(Eni {
        eni_id: EniId::new("eni-1"),
        vswitch_id: VSwitchId::new("vsw-1"),
        zone_id: ZoneId::new("z-1"),
        vpc_id: VpcId::new("vpc-1"),
        primary_ip: Ipv4Addr::new(10, 0, 0, 250),
        associated: BTreeMap::new(),
    })
}

fn shown(
    name: &str,
    external: &str,
    internal: &str,
    to: Ipv4Addr,
    status: ForwardEntryStatus,
) -> ForwardEntry {
    ForwardEntry {
        entry_id: ForwardEntryId::new(format!("fwd-{external}")),
        table_id: ForwardTableId::new("ftb-1"),
        name: name.to_owned(),
        external_ip: OUTSIDE,
        external_port: external.to_owned(),
        internal_ip: to,
        internal_port: internal.to_owned(),
        ip_protocol: "tcp".to_owned(),
        status,
    }
}

/// The only change that the step asks for.
fn only_request(step: Step) -> ChangeRequest {
    match step {
        Step::QueueChanges { mut requests, .. } if requests.len() == 1 => requests.remove(0),
        other => panic!("{other:?}"),
    }
}

fn created(step: Step) -> ForwardEntrySpec {
    match only_request(step).change {
        Change::CreateForwardEntry(forward) => forward,
        other => panic!("{other:?}"),
    }
}

/// Step that deletes just this entry.
fn deletes(entry: &ForwardEntry) -> Step {
    queue_of(vec![request_deletion(&entry.table_id, &entry.entry_id)])
}

fn queue_of(requests: Vec<ChangeRequest>) -> Step {
    Step::QueueChanges { gateway: NatGatewayId::new("ngw-1"), requests }
}

#[test]
fn adjacent_ports_are_one_entry_and_one_status_entry_each() {
    let mut scene = Scene::new(3);
    let forward = created(scene.next());
    assert_eq!(
        (forward.ports, forward.external_ports(), forward.internal_ports()),
        (3, "300/302".to_owned(), "80/82".to_owned())
    );
    scene.add_entry(1, POD, ForwardEntryStatus::Available);
    assert_eq!(
        scene.next(),
        Step::RecordEntry(port_key(&scene.lease.ports[0]), ForwardEntryId::new("fwd-300/302"))
    );
    for port in &mut scene.lease.ports {
        port.entry_id = Some(ForwardEntryId::new("fwd-300/302"));
    }
    let Step::Publish(Publication { content: CustomResourceContent::Dnat { status, .. }, .. }) =
        scene.next()
    else {
        panic!("{:?}", scene.next())
    };
    let entries = status.and_then(|status| status.entries).unwrap();
    let published: Vec<_> = entries
        .iter()
        .map(|e| (e.external_port.as_deref().unwrap(), e.internal_port.as_deref().unwrap()))
        .collect();
    assert_eq!(published, [("300", "80"), ("301", "81"), ("302", "82")]);
    assert!(entries.iter().all(|entry| entry.forward_entry_id.as_deref() == Some("fwd-300/302")));
}

#[test]
fn an_entry_of_another_width_or_protocol_is_not_the_one() {
    for (external, internal, protocol) in
        [("300", "80", "tcp"), ("300/302", "80/82", "tcp"), ("300/301", "81/82", "tcp")]
    {
        let mut scene = Scene::new(2);
        let entry = shown(
            &OWNER.entry_name(LEASE, 1),
            external,
            internal,
            POD,
            ForwardEntryStatus::Available,
        );
        scene.cloud.entries.push(ForwardEntry { ip_protocol: protocol.to_owned(), ..entry });
        assert!(
            matches!(only_request(scene.next()).change, Change::DeleteForwardEntry { .. }),
            "{external} → {internal}"
        );
    }
    let mut scene = Scene::new(2);
    let udp =
        shown(&OWNER.entry_name(LEASE, 1), "300/301", "80/81", POD, ForwardEntryStatus::Available);
    scene.cloud.entries.push(ForwardEntry { ip_protocol: "udp".to_owned(), ..udp });
    created(scene.next());
}

#[test]
fn a_foreign_entry_marks_all_ports_it_occupies() {
    let mut scene = Scene::new(3);
    scene.cloud.entries.push(shown("foreign", "301", "9", FORMER, ForwardEntryStatus::Available));
    let span = |protocol, ports| {
        Step::MarkForeignPorts(PortSpan {
            allocation_id: AllocationId::new("eip-1"),
            protocol,
            ports,
        })
    };
    assert_eq!(scene.next(), span(Some(Protocol::Tcp), 301..=301));
    let any = shown("foreign", "Any", "Any", FORMER, ForwardEntryStatus::Available);
    scene.cloud.entries = vec![ForwardEntry { ip_protocol: "any".to_owned(), ..any }];
    assert_eq!(scene.next(), span(None, 0..=u16::MAX));
}

#[test]
fn a_full_gateway_is_left_with_everything_that_was_had_there_given_back_first() {
    let mut scene = two_entries();
    let first = shown(&OWNER.entry_name(LEASE, 1), "300", "80", POD, ForwardEntryStatus::Available);
    scene.cloud.entries =
        vec![first.clone(), shown("foreign", "5", "5", FORMER, ForwardEntryStatus::Available)];
    scene.cloud.gateway.entries_when_full = Some(3);
    created(scene.next());
    scene.cloud.gateway.entries_when_full = Some(2);
    assert_eq!(scene.next(), Step::VacateGateway);

    scene.lease.vacating = true;
    assert_eq!(scene.next(), deletes(&first));
    scene.cloud.entries.remove(0);
    scene.lease.ports[0].entry_id = Some(first.entry_id);
    assert!(
        matches!(only_request(scene.next()).change, Change::DeleteForwardEntry { .. }),
        "a list is no proof"
    );
    scene.lease.ports[0].deleted = true;
    for _ in 0..2 {
        assert_eq!(scene.next(), Step::CoolDownPorts(port_key(&scene.lease.ports[0])));
        scene.lease.ports.remove(0);
    }
    assert_eq!(scene.next(), Step::ReservePorts { zone: ZoneId::new("z-1") });
}

#[test]
fn fixed_ports_that_were_published_stay_where_they_are() {
    let mut scene = Scene::new(1);
    if let Request::Dnat(request) = &mut scene.lease.request {
        request.fixed = true;
    }
    scene.pod().desired = Desired::Request(Box::new(scene.lease.request.clone()));
    scene.cloud.gateway.entries_when_full = Some(0);
    assert_eq!(scene.next(), Step::VacateGateway);
    scene.lease.was_published = true;
    assert!(
        matches!(scene.next(), Step::Wait(wait) if wait.reason == Reason::QuotaExceeded),
        "{:?}",
        scene.next()
    );
}

#[test]
fn only_ports_above_1024_beside_snat_break_out_of_it() {
    let mut scene = Scene::new(2);
    assert!(!created(scene.next()).port_break);
    scene.cloud.gateway.snat = true;
    assert!(!created(scene.next()).port_break, "300 is shared as it is");
    for port in &mut scene.lease.ports {
        (port.range_start, port.external_port) = (1024, port.external_port + 724);
    }
    scene.write_resource();
    assert!(created(scene.next()).port_break, "one of 1024/1025 is above");
    scene.cloud.gateway.snat = false;
    assert!(!created(scene.next()).port_break);
}

#[test]
fn an_unavailable_gateway_gets_no_changes_and_its_pods_report_it() {
    let mut scene = Scene::new(1);
    scene.cloud.gateway.unavailable_reason =
        Some("NAT gateway ngw-1 does not exist any more".to_owned());
    let Step::Wait(wait) = scene.next() else { panic!("{:?}", scene.next()) };
    assert_eq!((wait.reason, wait.retry_policy), (Reason::GatewayUnavailable, RetryPolicy::Event));
    assert!(wait.message.contains("ngw-1"), "{}", wait.message);
    scene.lease.phase = Phase::Bound;
    assert_eq!(
        scene.next(),
        Step::CountMissedRead,
        "what was published is withdrawn first, after a second read"
    );
    scene.add_entry(1, POD, ForwardEntryStatus::Available);
    assert!(matches!(scene.next(), Step::RecordEntry(..)), "an entry that works is left alone");
}

#[test]
fn a_pod_that_moves_takes_its_entry_along() {
    let mut scene = Scene::new(2);
    scene.lease.target = Some(target(FORMER));
    scene.add_entry(1, FORMER, ForwardEntryStatus::Available);
    scene.cloud.eni = eni();
    assert_eq!(scene.next(), Step::SetTarget(target(POD)));
    scene.lease.target = Some(target(POD));
    scene.lease.generation = 2;
    scene.write_resource();
    let ChangeRequest { resource, change: Change::ModifyForwardEntry { entry_id, forward } } =
        only_request(scene.next())
    else {
        panic!("{:?}", scene.next())
    };
    assert_eq!((resource.as_str(), entry_id.as_str()), ("fwd-300/301", "fwd-300/301"));
    assert_eq!(
        (forward.name, forward.internal_ip, forward.ports),
        (OWNER.entry_name(LEASE, 2), POD, 2)
    );
    scene.cloud.entries[0].status = ForwardEntryStatus::Pending;
    assert!(matches!(scene.next(), Step::Wait(_)), "one change at a time");
}

#[test]
fn where_modifying_is_denied_the_old_entry_goes_before_the_target_does() {
    let mut scene = Scene::new(1);
    scene.cloud.gateway.modify_denied = true;
    scene.lease.target = Some(target(FORMER));
    scene.add_entry(1, FORMER, ForwardEntryStatus::Available);
    scene.cloud.eni = eni();
    assert_eq!(scene.next(), deletes(&scene.cloud.entries[0]));
    scene.cloud.entries.clear();
    assert_eq!(scene.next(), Step::ClearTarget);

    let mut denied_later = Scene::new(1);
    denied_later.lease.generation = 2;
    denied_later.add_entry(1, FORMER, ForwardEntryStatus::Available);
    denied_later.cloud.gateway.modify_denied = true;
    assert_eq!(denied_later.next(), deletes(&denied_later.cloud.entries[0]));
}

#[test]
fn nothing_is_pointed_at_a_recycled_address_while_another_entry_still_is() {
    let mut scene = Scene::new(1);
    scene.lease.generation = 2;
    scene.add_entry(1, FORMER, ForwardEntryStatus::Available);
    scene.cloud.entries.push(shown("foreign", "900", "80", POD, ForwardEntryStatus::Available));
    assert!(
        matches!(scene.next(), Step::Wait(wait) if wait.reason == Reason::PortForwardedElsewhere),
        "{:?}",
        scene.next()
    );
    let other = LeaseId(Uuid::from_u128(7));
    scene.cloud.entries[1].name = OWNER.entry_name(other, 1);
    assert_eq!(
        scene.next(),
        deletes(&scene.cloud.entries[1]),
        "a leftover of a lease that the store does not know"
    );
    scene.cloud.known_leases.insert(other);
    assert!(
        matches!(scene.next(), Step::Wait(wait) if wait.reason == Reason::PortForwardedElsewhere)
    );
}

/// The scene of `Scene::new(1)` with a second port, 90 behind 310, that has an entry of its own.
fn two_entries() -> Scene {
    let mut scene = Scene::new(1);
    let second = ExposedPort { port: 90, protocol: Protocol::Tcp };
    scene.lease.ports.push(LeasedPort { external_port: 310, ..leased(second, 310) });
    let Request::Dnat(request) = &mut scene.lease.request else { panic!("another kind") };
    request.ports.push(second);
    scene.pod().desired = Desired::Request(Box::new(scene.lease.request.clone()));
    scene.write_resource();
    scene
}

#[test]
fn all_entries_are_requested_at_once_and_taken_back_at_once() {
    let mut scene = two_entries();
    let Step::QueueChanges { gateway, requests } = scene.next() else {
        panic!("{:?}", scene.next())
    };
    assert_eq!(gateway.as_str(), "ngw-1");
    assert_eq!(
        requests.iter().map(|request| request.resource.as_str()).collect::<Vec<_>>(),
        ["eip-1/tcp/300", "eip-1/tcp/310"]
    );
    // Room for one of two entries counts as no room.
    scene.cloud.gateway.entries_when_full = Some(1);
    assert_eq!(scene.next(), Step::VacateGateway);

    let entry = |ports: (&str, &str), status| {
        shown(&OWNER.entry_name(LEASE, 1), ports.0, ports.1, POD, status)
    };
    scene.lease.phase = Phase::Releasing;
    scene.resource = CustomResourceState::Absent;
    scene.cloud.entries = vec![
        entry(("300", "80"), ForwardEntryStatus::Available),
        entry(("310", "90"), ForwardEntryStatus::Pending),
        shown("foreign", "5", "5", FORMER, ForwardEntryStatus::Available),
    ];
    assert_eq!(
        scene.next(),
        deletes(&scene.cloud.entries[0]),
        "what still changes does not hold up the rest"
    );
    scene.cloud.entries[1].status = ForwardEntryStatus::Available;
    let both = scene.cloud.entries[..2]
        .iter()
        .map(|entry| request_deletion(&entry.table_id, &entry.entry_id))
        .collect();
    assert_eq!(scene.next(), queue_of(both));
}

#[test]
fn one_leftover_in_the_way_of_two_entries_is_deleted_once() {
    let mut scene = two_entries();
    scene.cloud.entries.push(shown(
        &OWNER.entry_name(LEASE, 1),
        "290/320",
        "70/100",
        POD,
        ForwardEntryStatus::Available,
    ));
    assert_eq!(scene.next(), deletes(&scene.cloud.entries[0]));
}
