use super::*;
use std::collections::HashSet;

#[test]
fn every_code_stands_in_the_table_once() {
    let mut seen = HashSet::new();
    for (code, ..) in CODES {
        assert!(seen.insert(code), "{code} twice");
    }
}

#[test]
fn every_code_of_the_table_is_found_and_has_a_reason_fit_for_a_condition() {
    for (code, class, scope, reason) in CODES {
        assert_eq!(
            classify_code("AnyAction", 400, code, ""),
            ErrorRule { class: *class, scope: *scope, reason },
            "{code}"
        );
        assert!(reason.starts_with(|c: char| c.is_ascii_uppercase()), "{reason}");
        assert!(reason.chars().all(|c| c.is_ascii_alphanumeric()), "{reason}");
    }
}

/// The codes whose answer to `action` concerns `scope`.
fn codes_of(action: &str, scope: Scope) -> Vec<&'static str> {
    CODES
        .iter()
        .map(|row| row.0)
        .filter(|code| classify_code(action, 400, code, "").scope == scope)
        .collect()
}

#[test]
fn what_concerns_a_gateway_or_an_entry_is_said_of_these_codes_and_no_others() {
    let gateway = [
        "NATGATEWAY_FINANCIALLOCKED",
        "IncorrectStatus.NatGateway",
        "QuotaExceeded.NumberOfEip",
        "QuotaExceeded.NumberOfTrafficEip",
        "OperationDenied.NoAvailablePrivateIp",
        "InvalidForwardTableId.NotFound",
        "Invalid.natgwNotExist",
        "InvalidNatGatewayId.NotFound",
        "IncorrectStatus.NATGW",
        "QuotaExceeded",
    ];
    let entry = [
        "InvalidStatus.SnatOrDnat",
        "InvalidForwardEntryId.NotFound",
        "ResourceNotFound.ForwardEntry",
        "IncorretForwardEntryStatus",
        "IncorrectStatus.ForwardEntry",
    ];
    assert_eq!(codes_of("AssociateEipAddress", Gateway), gateway);
    assert_eq!(codes_of("AssociateEipAddress", Entry), entry);
    for action in ENTRY_ACTIONS {
        let more = codes_of(action, Gateway).into_iter().filter(|code| !gateway.contains(code));
        assert_eq!(
            more.collect::<Vec<_>>(),
            ["OperationConflict", "TaskConflict", "Forbidden.FinancialLocked"],
            "{action}"
        );
        assert_eq!(codes_of(action, Entry), entry, "{action}");
    }
}

/// Class and scope are two columns, but each class allows only some scopes.
#[test]
fn no_row_contradicts_itself() {
    for (code, class, scope, reason) in CODES.iter().chain(BY_ACTION.iter().map(|(_, row)| row)) {
        let fits = match class {
            Throttled => *scope == Account,
            Processing | AlreadyDone => *scope == Change,
            // Permissions, keys, clocks and the balance concern the account; a locked resource
            // or an EIP of another owner concerns the change.
            Denied => {
                *scope != Entry
                    && (*scope == Account
                        || ["FinancialLocked", "PermissionDenied"].contains(reason))
            }
            Quota | NotFound | Conflict | Transient | Permanent => true,
        };
        assert!(fits, "{code}: {class:?} of {scope:?}");
        let is_of_client =
            ["InvalidRegion", "UnknownAction", "PermissionDenied", "InvalidCredentials"]
                .contains(reason);
        assert!(
            !is_of_client || *scope == Account || *code == "Forbbiden",
            "{code} comes to every call alike"
        );
    }
}

#[test]
fn every_special_row_is_of_a_code_that_stands_in_the_table() {
    for (actions, row) in BY_ACTION {
        let known = CODES.iter().find(|known| known.0 == row.0);
        assert!(!actions.is_empty() && known.is_some_and(|known| known != row), "{row:?}");
    }
}

#[test]
fn a_status_refusal_that_says_not_exist_means_gone() {
    let gone = classify_code(
        "DeleteForwardEntry",
        400,
        "IncorretForwardEntryStatus",
        "The Specified forwardEntry is not exist",
    );
    assert_eq!(gone.class, NotFound);
    let busy = classify_code(
        "DeleteForwardEntry",
        400,
        "IncorretForwardEntryStatus",
        "Some entry is not stable",
    );
    assert_eq!(busy.class, Conflict);
}

#[test]
fn not_being_bound_is_what_an_unbind_asks_for() {
    for code in [
        "InvalidBindInstance.NotFound",
        "InvalidInstanceId.NotFound",
        "InvalidInstanId.NotFound",
        "InvalidParams.NotFound",
    ] {
        assert_eq!(
            classify_code("UnassociateEipAddress", 404, code, "").class,
            AlreadyDone,
            "{code}"
        );
    }
    assert_eq!(
        classify_code("AssociateEipAddress", 404, "InvalidInstanId.NotFound", "").class,
        NotFound
    );
}

#[test]
fn only_the_absence_of_the_eip_itself_proves_it_gone() {
    for action in GIVE_EIP_BACK {
        let proofs = CODES
            .iter()
            .map(|row| row.0)
            .filter(|code| classify_code(action, 404, code, "").class == NotFound);
        assert_eq!(proofs.collect::<Vec<_>>(), ["InvalidAllocationId.NotFound"], "{action}");
    }
}

#[test]
fn unknown_codes_are_judged_by_their_family() {
    for (status, code, class) in [
        (400, "Throttling.Something", Throttled),
        (429, "Unlisted", Throttled),
        (502, "Unlisted", Transient),
        (400, "QuotaExceeded.DnatEntry", Quota),
        (400, "IncorrectStatus.Unlisted", Conflict),
        (409, "Unlisted", Conflict),
        (404, "Unlisted", Conflict),
        (400, "InvalidThing.NotFound", Conflict),
        (403, "Unlisted", Denied),
        (400, "PAY.LATER", Denied),
        (400, "Unlisted", Permanent),
    ] {
        assert_eq!(classify_code("AnyAction", status, code, "").class, class, "{status} {code}");
    }
}

#[test]
fn an_unknown_code_concerns_no_more_than_its_family_says() {
    for (action, status, code, scope) in [
        ("AssociateEipAddress", 400, "Throttling.Something", Account),
        ("AssociateEipAddress", 400, "PAY.LATER", Account),
        ("AssociateEipAddress", 403, "Unlisted", Change),
        ("AssociateEipAddress", 400, "QuotaExceeded.Unlisted", Change),
        ("CreateForwardEntry", 400, "QuotaExceeded.DnatEntry", Gateway),
        ("CreateForwardEntry", 409, "Unlisted", Change),
        ("CreateForwardEntry", 502, "Unlisted", Change),
    ] {
        assert_eq!(
            classify_code(action, status, code, "").scope,
            scope,
            "{action} {status} {code}"
        );
    }
}
