//! Forward entries of a pod through the whole plan, and the obstacles in their way.

use super::{
    FORMER_IP, LEASE, NOW, OWNER, POD_IP, PUBLIC_IP, Scene, action, eni, resource, target, waits,
};
use crate::change::{Change, ForwardEntrySpec};
use crate::cloud_facts::{ForwardEntry, ForwardEntryStatus};
use crate::condition::Reason;
use crate::ids::{AllocationId, ForwardEntryId, ForwardTableId, LeaseId, NatGatewayId, ZoneId};
use crate::lease::LeasedPort;
use crate::plan::{CustomResourceContent, Lookup, Publication, Step};
use crate::request::{DnatRequest, ExposedPort, Protocol, Request};
use jiff::SignedDuration;
use std::net::Ipv4Addr;
use uuid::Uuid;

const OTHER: LeaseId = LeaseId(Uuid::from_u128(77));

pub(super) fn dnat_request(ports: &[u16]) -> Request {
    let ports =
        ports.iter().map(|port| ExposedPort { port: *port, protocol: Protocol::Tcp }).collect();
    Request::Dnat(DnatRequest { ports, fixed: false, same_port: false })
}

/// External port of a pod's port; far enough apart that no two ports share an entry.
fn external(port: u16) -> u16 {
    30_000 + 10 * port
}

fn leased(port: u16) -> LeasedPort {
    LeasedPort {
        allocation_id: AllocationId::new("eip-gw"),
        external_ip: PUBLIC_IP,
        external_port: external(port),
        range_start: external(port),
        exposed: ExposedPort { port, protocol: Protocol::Tcp },
        gateway_id: NatGatewayId::new("ngw-1"),
        table_id: ForwardTableId::new("ftb-1"),
        entry_id: Some(ForwardEntryId::new(format!("fwd-{port}"))),
        deleted: false,
    }
}

/// Entry of a lease's port, with a target generation and internal IP.
pub(super) fn entry(lease: LeaseId, generation: i32, port: u16, to: Ipv4Addr) -> ForwardEntry {
    ForwardEntry {
        entry_id: ForwardEntryId::new(format!("fwd-{port}")),
        table_id: ForwardTableId::new("ftb-1"),
        name: OWNER.entry_name(lease, generation),
        external_ip: PUBLIC_IP,
        external_port: external(port).to_string(),
        internal_ip: to,
        internal_port: port.to_string(),
        ip_protocol: "tcp".to_owned(),
        status: ForwardEntryStatus::Available,
    }
}

/// A pod whose ports all forward, with its custom resource written.
pub(super) fn forwarding(ports: &[u16]) -> Scene {
    let mut scene = Scene::new(dnat_request(ports));
    scene.lease.ports = ports.iter().map(|port| leased(*port)).collect();
    scene.lease.target = Some(target(POD_IP));
    (scene.lease.generation, scene.lease.owns_custom_resource) = (1, true);
    scene.cloud.entries = ports.iter().map(|port| entry(LEASE, 1, *port, POD_IP)).collect();
    let Step::WriteCustomResource(content) = scene.next() else { panic!("{:?}", scene.next()) };
    scene.resource = resource(&content);
    scene
}

/// Desired entry of the first port.
pub(super) fn forward(scene: &Scene) -> ForwardEntrySpec {
    let missing = scene.with(|s| s.cloud.entries.clear());
    let Step::QueueChanges { mut requests, .. } = missing.next() else {
        panic!("{:?}", missing.next())
    };
    let Change::CreateForwardEntry(forward) = requests.remove(0).change else {
        panic!("{requests:?}")
    };
    forward
}

#[test]
fn the_steps_of_ports_are_reserve_target_resource_entries_publish_idle() {
    let scene = Scene::new(dnat_request(&[80])).with(|s| s.cloud.eni = Lookup::Present(eni()));
    assert_eq!(waits(&scene.with(|s| s.pod().ip = None).next()), Some(Reason::WaitingForPodIp));
    assert_eq!(
        waits(&scene.with(|s| s.cloud.eni = Lookup::Absent).next()),
        Some(Reason::WaitingForInterface)
    );
    assert_eq!(scene.next(), Step::ReservePorts { zone: ZoneId::new("z-1") });
    let reserved =
        scene.with(|s| s.lease.ports = vec![LeasedPort { entry_id: None, ..leased(80) }]);
    assert_eq!(reserved.next(), Step::SetTarget(target(POD_IP)));
    let targeted = reserved.with(|s| s.lease.target = Some(target(POD_IP)));
    assert_eq!(targeted.next(), Step::OwnCustomResource);
    assert!(matches!(
        targeted.with(|s| s.lease.owns_custom_resource = true).next(),
        Step::WriteCustomResource(_)
    ));

    let forward = forward(&forwarding(&[80]));
    assert_eq!(
        (forward.external_ip, forward.external_port, forward.internal_ip),
        (PUBLIC_IP, external(80), POD_IP)
    );
    assert_eq!(forward.name, OWNER.entry_name(LEASE, 1));
    assert_eq!(waits(&forwarding(&[80]).published().next()), Some(Reason::EntriesAvailable));
}

#[test]
fn ready_is_not_written_though_an_entry_failed() {
    for status in
        [ForwardEntryStatus::Pending, ForwardEntryStatus::Deleting, ForwardEntryStatus::Other]
    {
        let scene = forwarding(&[80, 443]).with(|s| s.cloud.entries[1].status = status);
        assert_eq!(waits(&scene.next()), Some(Reason::EntriesPending), "{status:?}");
    }
    let missing = forwarding(&[80, 443]).with(|s| s.cloud.entries.truncate(1));
    assert_eq!(action(&missing.next()), Some("CreateForwardEntry"));
    let all = forwarding(&[80, 443]);
    let Step::Publish(publication) = all.next() else { panic!("{:?}", all.next()) };
    assert_eq!(publication.annotation.matches("externalPort").count(), 2);
}

#[test]
fn an_entry_that_a_read_shows_is_recorded_before_it_is_published() {
    let scene = forwarding(&[80]).with(|s| s.lease.ports[0].entry_id = None);
    assert!(matches!(scene.next(), Step::RecordEntry(_, id) if id.as_str() == "fwd-80"));
}

#[test]
fn the_gate_goes_false_again_when_a_published_entry_is_lost() {
    let gone = forwarding(&[80, 443]).published().with(|s| s.cloud.entries.truncate(1));
    assert_eq!(gone.next(), Step::CountMissedRead);
    assert!(matches!(gone.with(|s| s.lease.missed_reads = 1).next(), Step::WithdrawLimited(_)));
}

#[test]
fn under_the_loss_limit_missing_entries_are_put_back_and_conditions_stay_true() {
    let lost = forwarding(&[80, 443]).published().with(|s| s.cloud.entries.truncate(1));
    assert_eq!(
        lost.with(|s| s.cloud.gateway.withdrawals_limited = true).next(),
        Step::CountMissedRead,
        "one read alone changes nothing"
    );
    let limited =
        lost.with(|s| (s.lease.missed_reads, s.cloud.gateway.withdrawals_limited) = (1, true));
    assert_eq!(action(&limited.next()), Some("CreateForwardEntry"));
    let bent = forwarding(&[80]).published().with(|s| {
        (s.lease.missed_reads, s.cloud.gateway.withdrawals_limited) = (1, true);
        s.cloud.entries[0].internal_ip = FORMER_IP;
    });
    assert_eq!(action(&bent.next()), Some("ModifyForwardEntry"));
    let unavailable =
        limited.with(|s| s.cloud.gateway.unavailable_reason = Some("it is locked".to_owned()));
    let full = limited.with(|s| s.cloud.gateway.entries_when_full = Some(1));
    let foreign = limited.with(|s| {
        s.cloud
            .entries
            .push(ForwardEntry { name: "theirs".to_owned(), ..entry(LEASE, 1, 443, FORMER_IP) });
    });
    let leftover = bent.with(|s| s.cloud.entries[0].internal_port = "81".to_owned());
    let pending = forwarding(&[80]).published().with(|s| {
        (s.lease.missed_reads, s.cloud.gateway.withdrawals_limited) = (1, true);
        s.cloud.entries[0].status = ForwardEntryStatus::Pending;
    });
    for scene in [unavailable, full, foreign, leftover, pending] {
        assert_eq!(waits(&scene.next()), Some(Reason::WithdrawalsLimited), "{:?}", scene.next());
    }
}

#[test]
fn entries_that_are_made_again_under_a_published_address_do_not_make_it_younger() {
    let created = |step: Step| match step {
        Step::Publish(Publication {
            content: CustomResourceContent::Dnat { status: Some(status), .. },
            ..
        }) => status.created.unwrap(),
        step => panic!("{step:?}"),
    };
    let first = forwarding(&[80]);
    let later = NOW + SignedDuration::from_hours(1);
    let again = first.published().with(|s| s.lease.missed_reads = 1);
    assert_eq!(created(again.next_at(later)), created(first.next()));
    assert_ne!(created(first.next_at(later)), created(first.next()));
}

#[test]
fn two_owners_do_not_fight_over_a_port() {
    let foreign = ForwardEntry { name: "theirs".to_owned(), ..entry(LEASE, 1, 80, FORMER_IP) };
    let of_another_cluster =
        ForwardEntry { name: foreign.name.clone() + ".x.y.1", ..foreign.clone() };
    let whole_address = ForwardEntry {
        external_port: "Any".to_owned(),
        ip_protocol: "any".to_owned(),
        ..foreign.clone()
    };
    let range = ForwardEntry {
        external_port: format!("{}/{}", external(80) - 5, external(80) + 5),
        ..foreign.clone()
    };
    for found in [foreign, of_another_cluster, whole_address, range] {
        let step = forwarding(&[80]).with(|s| s.cloud.entries = vec![found.clone()]).next();
        assert!(matches!(step, Step::MarkForeignPorts(_)), "{found:?}: {step:?}");
    }
}

#[test]
fn a_leftover_on_a_port_of_the_lease_is_deleted() {
    for leftover in [
        entry(OTHER, 1, 80, FORMER_IP),
        ForwardEntry { internal_port: "81".to_owned(), ..entry(LEASE, 1, 80, POD_IP) },
    ] {
        let step = forwarding(&[80]).with(|s| s.cloud.entries = vec![leftover]).next();
        assert_eq!(action(&step), Some("DeleteForwardEntry"));
    }
}

#[test]
fn a_reused_pod_ip_is_not_misrouted_by_a_stale_entry() {
    let stale = |lease, name: Option<&str>| {
        let mut stale =
            ForwardEntry { external_port: "9999".to_owned(), ..entry(lease, 1, 80, POD_IP) };
        stale.entry_id = ForwardEntryId::new("fwd-stale");
        if let Some(name) = name {
            name.clone_into(&mut stale.name);
        }
        forwarding(&[80]).with(|s| s.cloud.entries = vec![stale])
    };
    let known = stale(OTHER, None).with(|s| s.cloud.known_leases = [OTHER].into());
    assert_eq!(
        waits(&known.next()),
        Some(Reason::PortForwardedElsewhere),
        "the claim holder of its own lease deletes it"
    );
    assert_eq!(action(&stale(OTHER, None).next()), Some("DeleteForwardEntry"), "no other will");
    assert_eq!(action(&stale(LEASE, None).next()), Some("DeleteForwardEntry"), "leftover");
    assert_eq!(
        waits(&stale(OTHER, Some("theirs")).next()),
        Some(Reason::PortForwardedElsewhere),
        "a foreign entry is not deleted"
    );
}

#[test]
fn a_moved_pod_is_withdrawn_first_and_its_entries_follow() {
    let moved = forwarding(&[80]).published().with(|s| {
        s.pod().ip = Some(FORMER_IP);
        s.cloud.eni = Lookup::Present(eni());
    });
    assert!(matches!(moved.next(), Step::Withdraw(_)));
    let withdrawn = forwarding(&[80]).with(|s| {
        s.pod().ip = Some(FORMER_IP);
        s.cloud.eni = Lookup::Present(eni());
    });
    assert_eq!(withdrawn.next(), Step::SetTarget(target(FORMER_IP)));
    // Without the right to modify entries, the lease deletes them before it clears the target.
    let denied = withdrawn.with(|s| s.cloud.gateway.modify_denied = true);
    assert_eq!(action(&denied.next()), Some("DeleteForwardEntry"));
    let gone = denied.with(|s| {
        s.cloud.entries.clear();
        s.lease.ports[0].deleted = true;
    });
    assert_eq!(gone.next(), Step::ClearTarget);
}

#[test]
fn an_entry_moved_to_another_port_is_deleted_once_the_address_works() {
    let moved = || ForwardEntry {
        external_port: "9999".to_owned(),
        entry_id: ForwardEntryId::new("fwd-moved"),
        ..entry(LEASE, 1, 80, FORMER_IP)
    };
    let with_moved = forwarding(&[80]).published().with(|s| s.cloud.entries.push(moved()));
    let Step::QueueChanges { requests, .. } = with_moved.next() else {
        panic!("{:?}", with_moved.next())
    };
    assert_eq!(
        requests.iter().map(|request| request.resource.as_str()).collect::<Vec<_>>(),
        ["fwd-moved"]
    );
    assert!(
        matches!(
            forwarding(&[80]).with(|s| s.cloud.entries.push(moved())).next(),
            Step::Publish(_)
        ),
        "the address first"
    );
    let others = forwarding(&[80]).published().with(|s| {
        s.cloud.entries.push(ForwardEntry { name: OWNER.entry_name(OTHER, 1), ..moved() });
    });
    assert_eq!(
        waits(&others.next()),
        Some(Reason::EntriesAvailable),
        "another lease's is another lease's"
    );
}
