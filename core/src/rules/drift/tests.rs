use super::*;
use crate::cloud_facts::EipBinding;
use crate::ids::{ForwardEntryId, ForwardTableId};
use crate::ownership::Owner;
use crate::request::{EipSource, EipSpec, ReleaseStrategy};
use std::collections::BTreeSet;
use uuid::Uuid;

const OWNER: Owner = Owner { store: Uuid::from_u128(1), cluster: Uuid::from_u128(2) };

fn lease(number: u128) -> LeaseId {
    LeaseId(Uuid::from_u128(number))
}

fn eip_record(number: u8) -> EipRecord {
    EipRecord {
        lease: lease(number.into()),
        allocation_id: AllocationId::new(format!("eip-{number}")),
        eni_id: EniId::new("eni-1"),
        private_ip: [10, 0, 0, number].into(),
        primary: false,
        request: EipRequest {
            source: EipSource::Allocate(EipSpec::default()),
            release: ReleaseStrategy::Follow,
        },
        settled_at: None,
    }
}

/// The EIP as the record has it.
fn eip_of(record: &EipRecord) -> Eip {
    Eip {
        allocation_id: record.allocation_id.clone(),
        ip_address: [198, 18, 0, 1].into(),
        status: EipStatus::InUse,
        binding: Some(EipBinding {
            instance_type: "NetworkInterface".to_owned(),
            instance_id: record.eni_id.to_string(),
            private_ip: Some(record.private_ip),
        }),
        bandwidth_package: None,
        bandwidth: EipSpec::default().bandwidth,
        internet_charge_type: String::new(),
        charge_type: "PostPaid".to_owned(),
        expires_at: None,
        isp: String::new(),
        resource_group_id: String::new(),
        name: String::new(),
        description: String::new(),
        public_ip_address_pool_id: String::new(),
        tags: BTreeMap::new(),
    }
}

fn eip_drift_of(change: impl FnOnce(&mut Eip)) -> Vec<Shown> {
    let record = eip_record(1);
    let mut eip = eip_of(&record);
    change(&mut eip);
    let list = BTreeMap::from([(eip.allocation_id.clone(), eip)]);
    find_eip_drift(&[record], &list).into_iter().map(|drift| drift.shown).collect()
}

#[test]
fn an_eip_drifts_that_is_absent_unbound_bound_elsewhere_or_set_otherwise() {
    assert_eq!(eip_drift_of(|_| {}), []);
    assert_eq!(eip_drift_of(|eip| eip.allocation_id = AllocationId::new("eip-2")), [Shown::Absent]);
    let changes: [fn(&mut Eip); 4] = [
        |eip| (eip.status, eip.binding) = (EipStatus::Available, None),
        |eip| eip.binding.as_mut().unwrap().instance_id = "eni-2".to_owned(),
        |eip| eip.status = EipStatus::Unassociating,
        |eip| eip.bandwidth = 7,
    ];
    let shown: BTreeSet<_> =
        changes.into_iter().map(|change| format!("{:?}", eip_drift_of(change))).collect();
    assert!(shown.len() == 4 && shown.iter().all(|it| it.starts_with("[Otherwise(")), "{shown:?}");
    // What people chose where the pod asks for nothing.
    assert_eq!(eip_drift_of(|eip| eip.name = "a person's".to_owned()), []);
}

fn entry_record(lease_number: u128, external_port: u16, ports: u16) -> EntryRecord {
    EntryRecord {
        lease: lease(lease_number),
        name: OWNER.entry_name(lease(lease_number), 3),
        external_ip: [198, 18, 0, 1].into(),
        external_port,
        internal_ip: [10, 0, 0, 1].into(),
        internal_port: 80,
        ports,
        protocol: Protocol::Tcp,
        settled_at: None,
    }
}

/// The entry as the record has it.
fn entry_of(record: &EntryRecord) -> ForwardEntry {
    ForwardEntry {
        entry_id: ForwardEntryId::new(format!("fwd-{}", record.external_port)),
        table_id: ForwardTableId::new("ftb-1"),
        name: record.name.clone(),
        external_ip: record.external_ip,
        external_port: format_ports(record.external_port, record.ports),
        internal_ip: record.internal_ip,
        internal_port: format_ports(record.internal_port, record.ports),
        ip_protocol: "tcp".to_owned(),
        status: ForwardEntryStatus::Available,
    }
}

fn entry_drift_of(change: impl FnOnce(&mut ForwardEntry)) -> Vec<Drift> {
    let record = entry_record(1, 1000, 10);
    let mut entry = entry_of(&record);
    change(&mut entry);
    find_entry_drift(&[record], &[entry])
}

#[test]
fn a_lease_drifts_once_whose_entries_are_absent_pending_or_changed() {
    assert_eq!(entry_drift_of(|_| {}), []);
    let changes: [fn(&mut ForwardEntry); 6] = [
        |entry| entry.status = ForwardEntryStatus::Pending,
        |entry| entry.internal_ip = [10, 0, 0, 2].into(),
        |entry| entry.internal_port = "81/90".to_owned(),
        |entry| entry.external_port = "1000".to_owned(),
        |entry| entry.ip_protocol = "any".to_owned(),
        |entry| entry.name = OWNER.entry_name(lease(1), 2),
    ];
    for change in changes {
        let drift = entry_drift_of(change);
        assert!(matches!(&drift[..], [Drift { shown: Shown::Otherwise(_), .. }]), "{drift:?}");
    }
    let moved = entry_drift_of(|entry| entry.external_port = "2000/2009".to_owned());
    assert!(matches!(&moved[..], [Drift { shown: Shown::Otherwise(_), .. }]), "{moved:?}");
    let records = [entry_record(1, 1000, 1), entry_record(1, 1001, 1), entry_record(2, 5, 1)];
    let drift = find_entry_drift(&records, &[entry_of(&records[2])]);
    assert_eq!(drift, [Drift { lease: lease(1), shown: Shown::Absent, settled_at: None }]);
}

#[test]
fn an_entry_of_the_same_lease_but_another_store_is_no_drift() {
    let record = entry_record(1, 1000, 1);
    let other = Owner { store: Uuid::from_u128(9), ..OWNER };
    let foreign = ForwardEntry {
        name: other.entry_name(lease(1), 3),
        external_port: "7".to_owned(),
        ..entry_of(&record)
    };
    assert_eq!(find_entry_drift(std::slice::from_ref(&record), &[entry_of(&record), foreign]), []);
}

fn drift(number: u128, shown: Shown) -> Drift {
    Drift { lease: lease(number), shown, settled_at: None }
}

fn otherwise(text: &str) -> Shown {
    Shown::Otherwise(text.to_owned())
}

#[test]
fn for_the_same_drift_a_lease_is_woken_ever_more_rarely() {
    let mut wakeups = DriftWakeups::default();
    let mut woken =
        |shown: &str| !wakeups.choose_leases(vec![drift(1, otherwise(shown))], 1).is_empty();
    let rounds: Vec<_> = (0..100).filter(|_| woken("elsewhere")).collect();
    assert_eq!(rounds, [0, 2, 5, 10, 19, 36, 69]);
    assert!(woken("unbound"), "other drift");
    assert!(!woken("unbound"));
    let repaired =
        Drift { settled_at: Some(Timestamp::UNIX_EPOCH), ..drift(1, otherwise("unbound")) };
    assert_eq!(wakeups.choose_leases(vec![repaired], 1).len(), 1, "the same after a repair");
    assert_eq!(wakeups.choose_leases(Vec::new(), 1), []);
    assert!(wakeups.known.is_empty());
}

#[test]
fn an_empty_list_wakes_few_and_what_is_shown_otherwise_all() {
    let mut wakeups = DriftWakeups::default();
    let absent = |count| (0..count).map(|number| drift(number, Shown::Absent)).collect::<Vec<_>>();
    assert_eq!(wakeups.choose_leases(absent(5000), 5000).len(), 250);
    assert_eq!(DriftWakeups::default().choose_leases(absent(12), 12).len(), 3);
    let mut all = BTreeSet::new();
    for _ in 0..4 {
        all.extend(wakeups.choose_leases(absent(5000), 5000));
    }
    assert!(all.len() > 500, "others come in the next rounds: {}", all.len());
    let shown = (0..40).map(|number| drift(number, otherwise("unbound"))).collect();
    assert_eq!(DriftWakeups::default().choose_leases(shown, 40).len(), 40);
}
