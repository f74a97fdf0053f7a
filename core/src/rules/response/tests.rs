//! Records of every class of failure of every change, by the senders of gateways and the account.

use super::*;
use crate::change::ForwardEntrySpec;
use crate::ids::{AllocationId, BandwidthPackageId, EniId, ForwardEntryId, ForwardTableId};
use crate::request::{EipSpec, Protocol};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

const IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const CLASSES: [FailureClass; 9] = [
    FailureClass::Transient,
    FailureClass::Throttled,
    FailureClass::Conflict,
    FailureClass::Processing,
    FailureClass::AlreadyDone,
    FailureClass::NotFound,
    FailureClass::Quota,
    FailureClass::Denied,
    FailureClass::Permanent,
];

fn changes() -> Vec<Change> {
    let (id, eni, package) =
        (AllocationId::new("eip-1"), EniId::new("eni-1"), BandwidthPackageId::new("cbwp-1"));
    let (spec, tags) = (EipSpec::default(), BTreeMap::new());
    let table_id = ForwardTableId::new("ftb-1");
    let entry_id = ForwardEntryId::new("fwd-1");
    let forward = ForwardEntrySpec {
        table_id: table_id.clone(),
        name: "n".to_owned(),
        external_ip: IP,
        external_port: 1,
        internal_ip: IP,
        internal_port: 1,
        ports: 1,
        protocol: Protocol::Tcp,
        port_break: false,
    };
    vec![
        Change::AllocateEipAddress { spec: spec.clone(), tags: tags.clone() },
        Change::AllocateEipAddressPro { ip_address: IP, spec, tags },
        Change::AssociateEipAddress {
            allocation_id: id.clone(),
            eni_id: eni.clone(),
            private_ip: IP,
        },
        Change::UnassociateEipAddress { allocation_id: id.clone(), eni_id: eni, private_ip: IP },
        Change::ReleaseEipAddress { allocation_id: id.clone() },
        Change::AddCommonBandwidthPackageIp {
            allocation_id: id.clone(),
            package_id: package.clone(),
        },
        Change::RemoveCommonBandwidthPackageIp { allocation_id: id.clone(), package_id: package },
        Change::ModifyEipAddressAttribute {
            allocation_id: id,
            bandwidth: Some(5),
            name: None,
            description: None,
        },
        Change::CreateForwardEntry(forward.clone()),
        Change::ModifyForwardEntry { entry_id: entry_id.clone(), forward },
        Change::DeleteForwardEntry { table_id, entry_id },
    ]
}

fn failures() -> Vec<CallFailure> {
    let flags = [(true, true), (true, false), (false, true)];
    let failure = |class, (definite, sent)| CallFailure {
        class,
        definite,
        sent,
        scope: Some(FailureScope::Gateway),
        reason: "PermissionDenied",
        message: "m".to_owned(),
        retry_after: None,
    };
    CLASSES.iter().flat_map(|class| flags.map(|flag| failure(*class, flag))).collect()
}

/// Calls `check` with every change, failure and history.
fn for_all(check: impl Fn(&Change, &CallFailure, bool)) {
    for change in &changes() {
        for failure in &failures() {
            for may_still_arrive in [false, true] {
                check(change, failure, may_still_arrive);
            }
        }
    }
}

fn settled(records: &[Record]) -> Option<(Outcome, LeaseEffect)> {
    records.iter().find_map(|record| {
        if let Record::Settle(outcome, effect) = record { Some((*outcome, *effect)) } else { None }
    })
}

#[test]
fn an_operation_is_settled_or_left_unresolved_for_its_lease_to_find_out() {
    for_all(|change, failure, arrives| {
        let records = gateway_sender_records(change, failure, arrives, MAX_BUSY_RETRIES);
        let unresolved = records.contains(&Record::MarkUnanswered);
        assert_ne!(
            settled(&records).is_some(),
            unresolved,
            "{} {failure:?}: {records:?}",
            change.action()
        );
        let of_account = account_sender_records(change, failure, arrives);
        assert!(
            of_account == records || of_account == [Record::Requeue],
            "{failure:?}: {of_account:?}"
        );
    });
}

#[test]
fn an_unknown_outcome_never_settles_and_a_refusal_settles_only_where_no_earlier_send_can_arrive() {
    for_all(|change, failure, arrives| {
        let refused = matches!(
            settled(&failure_records(change, failure, arrives)),
            Some((Outcome::Refused, _))
        );
        assert!(!refused || (failure.definite && !arrives), "{} {failure:?}", change.action());
    });
}

#[test]
fn absence_proves_the_end_of_what_takes_away_and_of_nothing_else() {
    for_all(|change, failure, arrives| {
        if failure.class == FailureClass::NotFound {
            let done = matches!(
                settled(&failure_records(change, failure, arrives)),
                Some((Outcome::Done, _))
            );
            assert_eq!(done, effect_of_absence(change).is_some(), "{}", change.action());
        }
    });
}

#[test]
fn a_refusal_of_a_later_send_waits_for_the_fence() {
    for_all(|change, failure, arrives| {
        for records in [
            account_sender_records(change, failure, arrives),
            gateway_sender_records(change, failure, arrives, MAX_BUSY_RETRIES),
        ] {
            if !records.contains(&Record::AwaitFence) {
                continue;
            }
            assert!(arrives && failure.definite && failure.sent, "{} {failure:?}", change.action());
            let rejection = records.iter().find_map(|record| {
                if let Record::Reject(rejection) = record { Some(rejection) } else { None }
            });
            assert!(
                rejection.is_none_or(|rejection| rejection.min_wait_seconds == 60),
                "{rejection:?}"
            );
        }
    });
}

#[test]
fn a_busy_gateway_is_the_senders_own_affair_a_few_times() {
    let change = &changes()[8];
    let failure = CallFailure { class: FailureClass::Conflict, ..failures()[0].clone() };
    assert_eq!(gateway_sender_records(change, &failure, false, 0), [Record::Requeue]);
    let records = gateway_sender_records(change, &failure, false, MAX_BUSY_RETRIES);
    assert!(matches!(records.first(), Some(Record::Reject(_))), "{records:?}");
}

#[test]
fn a_fact_learnt_from_a_refusal_is_not_reported_to_the_pod() {
    let (full, changes) =
        (CallFailure { class: FailureClass::Quota, ..failures()[0].clone() }, changes());
    let records = gateway_sender_records(&changes[8], &full, false, 0);
    assert_eq!(
        records,
        [
            Record::Learn(LearnedFact::GatewayFull),
            Record::Settle(Outcome::Refused, LeaseEffect::None)
        ]
    );
    let denied = CallFailure { class: FailureClass::Denied, ..failures()[0].clone() };
    assert_eq!(
        gateway_sender_records(&changes[9], &denied, false, 0)[0],
        Record::Learn(LearnedFact::ModifyDenied)
    );
    assert_eq!(
        account_sender_records(&changes[1], &denied, false),
        [
            Record::Learn(LearnedFact::AddressNotReclaimable),
            Record::Settle(Outcome::Refused, LeaseEffect::None)
        ]
    );
}

#[test]
fn a_throttled_change_keeps_its_place_in_the_accounts_queue_without_a_word_to_the_pod() {
    let throttled = CallFailure {
        class: FailureClass::Throttled,
        definite: false,
        retry_after: Some(Duration::from_secs(7)),
        ..failures()[0].clone()
    };
    for arrives in [false, true] {
        let records = account_sender_records(&changes()[0], &throttled, arrives);
        assert_eq!(records, [Record::Requeue]);
    }
}

#[test]
fn a_change_without_a_permit_keeps_its_place_and_its_lease_hears_in_time_when_one_is_likely() {
    let failure = CallFailure {
        class: FailureClass::Throttled,
        sent: false,
        retry_after: Some(Duration::from_millis(7_200)),
        ..failures()[0].clone()
    };
    assert_eq!(gateway_sender_records(&changes()[8], &failure, false, 0), [Record::Requeue]);
    let records = gateway_sender_records(&changes()[8], &failure, false, MAX_BUSY_RETRIES);
    assert!(
        matches!(&records[0], Record::Reject(rejection) if rejection.retry_policy == RetryPolicy::Event && rejection.min_wait_seconds == 8),
        "{records:?}"
    );
}
