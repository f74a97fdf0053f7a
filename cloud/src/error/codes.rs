//! Every error code the API is known to give, classified once. The misspellings are the API's own.

use waygate_core::failure::FailureClass::{self as Class, Conflict, Denied, Done, NotFound, Permanent, Processing, Quota, Throttled, Transient};

/// What a code means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) class: Class,
    /// CamelCase, for conditions.
    pub(crate) reason: &'static str,
}

type Row = (&'static str, Class, &'static str);

/// The only message that decides: this code usually says "not now", but with this text it says "not there".
const ENTRY_GONE_CODE: &str = "IncorretForwardEntryStatus";
const ENTRY_GONE_TEXT: &str = "is not exist";

/// Codes that mean something else for one action than for the others.
const BY_ACTION: &[(&str, Row)] = &[
    // Unassociate names its target: not being bound to it is what was asked for.
    ("UnassociateEipAddress", ("InvalidInstanceId.NotFound", Done, "NotBound")),
    ("UnassociateEipAddress", ("InvalidBindInstance.NotFound", Done, "NotBound")),
    ("UnassociateEipAddress", ("InvalidInstanId.NotFound", Done, "NotBound")),
    ("UnassociateEipAddress", ("InvalidParams.NotFound", Done, "NotBound")),
    // The EIP may be bound a moment from now; whether it ever will be is for a read to say.
    ("CreateForwardEntry", ("InvalidExternalIp.NotFound", Conflict, "AddressNotOnGateway")),
];

#[rustfmt::skip]
const CODES: &[Row] = &[
    // Any action: flow control and servers.
    ("Throttling", Throttled, "Throttled"),
    ("Throttling.User", Throttled, "Throttled"),
    ("Throttling.Api", Throttled, "Throttled"),
    ("Rejected.Throttling", Throttled, "Throttled"),
    ("ServiceUnavailable", Transient, "CloudUnavailable"),
    ("InternalError", Transient, "CloudInternalError"),
    ("UnknownError", Transient, "CloudInternalError"),
    ("OperationFailed.SystemBusy", Transient, "CloudBusy"),
    ("SystemBusy", Transient, "CloudBusy"),
    // Any action: concurrency and tokens.
    ("OperationConflict", Conflict, "OperationConflict"),
    ("Operation.Conflict", Conflict, "OperationConflict"),
    ("TaskConflict", Conflict, "OperationConflict"),
    ("VPC_TASK_CONFLICT", Conflict, "OperationConflict"),
    ("LastTokenProcessing", Processing, "OperationProcessing"),
    ("OperationFailed.LastTokenProcessing", Processing, "OperationProcessing"),
    ("IdempotenceProcessing", Processing, "OperationProcessing"),
    ("IdempotentParameterMismatch", Permanent, "TokenReused"),
    ("IdempotentFailed", Conflict, "TokenUnusable"),
    ("IncorrectStatus", Conflict, "NotReady"),
    // Any action: what was asked.
    ("DryRunOperation", Done, "DryRun"),
    ("MissingParameter", Permanent, "InvalidParameter"),
    ("InvalidParameter", Permanent, "InvalidParameter"),
    ("InvalidParameter.Mismatch", Permanent, "InvalidParameter"),
    ("InvalidParamter", Permanent, "InvalidParameter"),
    ("UnsupportedParameter", Permanent, "InvalidParameter"),
    ("InvalidRegionId.NotFound", Permanent, "InvalidRegion"),
    ("InvalidRegionId.MalFormed", Permanent, "InvalidRegion"),
    ("InvalidRegion.NotSupport", Permanent, "InvalidRegion"),
    ("Forbidden.RegionNotFound", Permanent, "InvalidRegion"),
    ("Forbidden.RegionId", Permanent, "InvalidRegion"),
    ("InvalidAction.NotFound", Permanent, "UnknownAction"),
    ("InvalidApi.NotFound", Permanent, "UnknownAction"),
    ("NoSuchVersion", Permanent, "UnknownAction"),
    // Any action: who asked.
    ("Forbidden.RAM", Denied, "PermissionDenied"),
    ("Forbidden", Denied, "PermissionDenied"),
    ("Forbbiden", Denied, "PermissionDenied"),
    ("NoPermission", Denied, "PermissionDenied"),
    ("Forbidden.SubUser", Denied, "PermissionDenied"),
    ("Forbidden.NotSupportRAM", Denied, "PermissionDenied"),
    ("InvalidUserType.NotSupported", Denied, "PermissionDenied"),
    ("Forbidden.RiskControl", Denied, "AccountRiskControl"),
    ("OperationFailed.RiskControl", Denied, "AccountRiskControl"),
    ("InvalidTimeStamp.Expired", Denied, "ClockSkew"),
    ("InvalidTimeStamp.Format", Denied, "ClockSkew"),
    // A nonce seen before means that some copy of this very request may have arrived: nothing is known.
    ("SignatureNonceUsed", Transient, "NonceReused"),
    ("SignatureDoesNotMatch", Denied, "InvalidCredentials"),
    ("IncompleteSignature", Denied, "InvalidCredentials"),
    ("InvalidAccessKeyId.NotFound", Denied, "InvalidCredentials"),
    ("InvalidAccessKeyId.Inactive", Denied, "InvalidCredentials"),
    ("MissingSecurityToken", Denied, "InvalidCredentials"),
    // Refused at the door, before the token was looked at; the next call signs with fresh ones.
    ("InvalidSecurityToken.Expired", Conflict, "CredentialsExpired"),
    ("InvalidSecurityToken.Malformed", Denied, "InvalidCredentials"),
    ("InvalidSecurityToken.MismatchWithAccessKey", Denied, "InvalidCredentials"),
    ("InsufficientBalance", Denied, "InsufficientBalance"),
    ("InsufficientBalance.Eip", Denied, "InsufficientBalance"),
    ("PAY.INSUFFICIENT_BALANCE", Denied, "InsufficientBalance"),
    ("Forbidden.FinancialLocked", Denied, "FinancialLocked"),
    ("NATGATEWAY_FINANCIALLOCKED", Denied, "FinancialLocked"),
    ("InvalidEIPStatus.BizDisabled", Denied, "FinancialLocked"),
    ("BandwidthPackageId.InvalidBizStatus", Denied, "FinancialLocked"),
    // AllocateEipAddress, AllocateEipAddressPro.
    ("QuotaExceeded.Eip", Quota, "EipQuotaExceeded"),
    ("FrequentPurchase.EIP", Conflict, "FrequentPurchase"),
    ("OrderFailed.ConcurrentOperate", Conflict, "FrequentPurchase"),
    ("OperationFailed.InsufficientEIP", Quota, "EipOutOfStock"),
    ("OperationFailed.ResourceNotEnough", Quota, "EipOutOfStock"),
    ("ReserveIpFail", Quota, "EipOutOfStock"),
    ("ORDER.QUANTITY_INVALID", Quota, "EipQuotaExceeded"),
    ("InvalidBandwidth.Malformed", Permanent, "InvalidBandwidth"),
    ("InvalidResourceGroupId", Permanent, "InvalidResourceGroup"),
    ("ResourceNotFound.PublicIpAddressPool", Permanent, "AddressPoolNotFound"),
    ("ResourceNotEnough.PublicIpAddressPool", Quota, "AddressPoolEmpty"),
    ("IncorrectStatus.PublicIpAddressPool", Conflict, "AddressPoolNotReady"),
    ("Mismatch.PublicIpAddressPool", Permanent, "AddressPoolMismatch"),
    ("OperationFailed.AllocateUnfamiliarIp", Permanent, "AddressNotYours"),
    ("Ip.Allocated", Permanent, "AddressTaken"),
    ("IncorrectStatus.Ip", Conflict, "NotReady"),
    ("OperationDenied.NotOpenDdosOriginProtectService", Permanent, "DdosProtectionNotOpen"),
    ("TokenVerfiy.Failed", Permanent, "TokenRefused"),
    // DescribeEipAddresses.
    ("InvalidIAssociatedInstanceType.ValueNotSupported", Permanent, "InvalidParameter"),
    ("InvalidChargeType.ValueNotSupported", Permanent, "InvalidParameter"),
    ("InstanceIdLength.Exceed", Permanent, "InvalidParameter"),
    ("InvalidTagKey", Permanent, "InvalidTag"),
    ("InvalidTagValue", Permanent, "InvalidTag"),
    ("InvalidFilterKey.NotFound", Permanent, "InvalidParameter"),
    ("InvalidFilterValue", Permanent, "InvalidParameter"),
    ("InvalidLockReason.NotFound", Permanent, "InvalidParameter"),
    // AssociateEipAddress, UnassociateEipAddress.
    ("InvalidAllocationId.NotFound", NotFound, "EipNotFound"),
    ("InvalidInstanId.NotFound", NotFound, "TargetNotFound"),
    ("InvalidInstanceId.NotFound", NotFound, "TargetNotFound"),
    ("InvalidBindInstance.NotFound", NotFound, "TargetNotFound"),
    ("InvalidParams.NotFound", NotFound, "TargetNotFound"),
    ("IncorrectEipStatus", Conflict, "EipNotReady"),
    ("IncorrectStatus.Eip", Conflict, "EipNotReady"),
    ("IncorrectStatus.ResourceStatus", Conflict, "EipNotReady"),
    ("InvalidAssociation.Duplicated", Conflict, "TargetHasEip"),
    ("IncorrectInstanceStatus", Conflict, "TargetNotReady"),
    ("InvalidBindingStatus", Conflict, "TargetNotReady"),
    ("IncorrectStatus.NatGateway", Conflict, "GatewayNotReady"),
    ("InvalidStatus.EcsStatusNotSupport", Conflict, "TargetNotReady"),
    ("InvalidStatus.EniStatusNotSupport", Conflict, "TargetNotReady"),
    ("InvalidStatus.NotAllow", Conflict, "TargetNotReady"),
    ("InvalidStatus.InstanceHasBandWidth", Permanent, "TargetHasPublicBandwidth"),
    ("OperationFailed.EcsMigrating", Conflict, "TargetNotReady"),
    ("BIND_INSTANCE_HAVE_PORTMAP_OR_BIND_EIP", Conflict, "TargetHasForwardEntryOrEip"),
    ("EIP_CAN_NOT_ASSOCIATE_WITH_PUBLIC_IP", Permanent, "TargetHasPublicIp"),
    ("QuotaExceeded.NumberOfEip", Quota, "TargetEipQuotaExceeded"),
    ("QuotaExceeded.NumberOfTrafficEip", Quota, "TargetEipQuotaExceeded"),
    ("InvalidEip.EipQuotaExceeded", Quota, "TargetEipQuotaExceeded"),
    ("OperationDenied.NoAvailablePrivateIp", Quota, "VSwitchAddressesUsedUp"),
    ("OperationDenied.UnsupportedEipBindMode", Permanent, "BindModeRefused"),
    ("Mode.Conflict", Permanent, "BindModeRefused"),
    ("OperationFailed.EipBindModeConflict", Permanent, "BindModeRefused"),
    ("Forbidden.EipCanNotBindGatgw", Permanent, "BindModeRefused"),
    ("OperationDenied.Ipv4GatewayExist", Permanent, "VpcHasIpv4Gateway"),
    ("OperationDenied.VpcIpv4GatewayEnabled", Permanent, "VpcHasIpv4Gateway"),
    ("InvalidInstanceType.ValueNotSupported", Permanent, "InvalidParameter"),
    ("Invalid.DirectEip.BindType", Permanent, "InvalidParameter"),
    ("ResourceAlreadyAssociated.IpAddress", Permanent, "TargetHasEip"),
    ("OperationDenied", Permanent, "OperationDenied"),
    ("InvalidIpStatus.HasBeenUsedByForwardEntry", Conflict, "EipUsedByForwardEntry"),
    ("InvalidIpStatus.HasBeenUsedBySnatTable", Conflict, "EipUsedBySnat"),
    ("DependencyViolation.SnatEntry", Conflict, "EipUsedBySnat"),
    ("InvalidStatus.SnatOrDnat", Conflict, "EntryNotReady"),
    // ReleaseEipAddress.
    ("Forbidden.ChargeTypeIsPrepaid", Permanent, "EipIsPrePaid"),
    ("InvalidOperation.DeletionProtection", Permanent, "DeletionProtection"),
    ("Forbidden.ReleaseSegmentEip", Permanent, "EipOfSegment"),
    ("OperationUnsupported.ServiceManaged", Permanent, "EipServiceManaged"),
    ("TaskConflict.AssociateGlobalAccelerationInstance", Conflict, "OperationConflict"),
    // Bandwidth packages.
    ("IpInstanceId.AlreadyInBandwidthPackage", Done, "AlreadyInBandwidthPackage"),
    ("EIP_ALREADY_IN_BANDWIDTHPACKAGE", Done, "AlreadyInBandwidthPackage"),
    ("OperationUnsupported.IpNotInCbwp", Done, "NotInBandwidthPackage"),
    ("IpInstanceId.ChargeType.NotSupport", Permanent, "EipIsPrePaid"),
    ("IpInstanceId.QuotaExceeded", Quota, "BandwidthPackageFull"),
    ("EipOperation.TooFrequently", Conflict, "OperationConflict"),
    ("BandwidthPackageOperation.conflict", Conflict, "OperationConflict"),
    ("OperationFailed.DistibuteLock", Conflict, "OperationConflict"),
    // NAT gateways and forward entries.
    ("DESCRIBE_FORWARD_PARAM_INVALID", Permanent, "InvalidParameter"),
    ("InvalidForwardTableId.NotFound", NotFound, "ForwardTableNotFound"),
    ("InvalidForwardEntryId.NotFound", NotFound, "ForwardEntryNotFound"),
    ("ResourceNotFound.ForwardEntry", NotFound, "ForwardEntryNotFound"),
    ("InvalidExternalIp.NotFound", NotFound, "AddressNotOnGateway"),
    ("Invalid.natgwNotExist", NotFound, "GatewayNotFound"),
    ("InvalidNatGatewayId.NotFound", NotFound, "GatewayNotFound"),
    ("IncorretForwardEntryStatus", Conflict, "EntryNotReady"),
    ("IncorrectStatus.ForwardEntry", Conflict, "EntryNotReady"),
    ("IncorrectStatus.NATGW", Conflict, "GatewayNotReady"),
    ("OperationUnsupported.EipInBinding", Conflict, "AddressNotOnGateway"),
    ("OperationUnsupported.EipNatGWCheck", Conflict, "AddressNotOnGateway"),
    ("InvalidIp.NotInNatgw", Conflict, "AddressNotOnGateway"),
    ("InvalidExternalIp.Malformed", Permanent, "InvalidParameter"),
    ("InvalidInternalIp.Malformed", Permanent, "InvalidParameter"),
    ("InvalidExternalPort.Malformed", Permanent, "InvalidParameter"),
    ("InvalidInternalPort.Malformed", Permanent, "InvalidParameter"),
    ("InvalidProtocal.ValueNotSupported", Permanent, "InvalidParameter"),
    ("InvalidParameter.Name.Malformed", Permanent, "InvalidParameter"),
    ("Forbidden.DestnationIpOutOfVpcCIDR", Permanent, "AddressOutsideVpc"),
    ("Forbidden.InternalIpOutOfVpcCIDR", Permanent, "AddressOutsideVpc"),
    ("Forbidden.ExternalIp.UsedInSnatTable", Permanent, "EipUsedBySnat"),
    ("Forbindden", Permanent, "TargetHasEip"),
    ("QuotaExceeded", Quota, "EntryQuotaExceeded"),
    ("OperationUnsupported.ForwardEntry", Permanent, "PortTaken"),
    ("Forbidden.Already.Bounded", Permanent, "PortTaken"),
    // ECS reads.
    ("InvalidEniId.NotFound", NotFound, "InterfaceNotFound"),
    ("InvalidVSwitchId.NotFound", NotFound, "VSwitchNotFound"),
    ("InvalidSecurityGroupId.NotFound", NotFound, "SecurityGroupNotFound"),
    ("InvalidEcsId.NotFound", NotFound, "InstanceNotFound"),
    ("InvalidRouteTableId.NotFound", NotFound, "RouteTableNotFound"),
    ("InvalidNicType.ValueNotSupported", Permanent, "InvalidParameter"),
    ("InvalidSecurityGroupId.Malformed", Permanent, "InvalidParameter"),
    // STS.
    ("EntityNotExist.Role", Denied, "RoleNotFound"),
    ("AuthenticationFail.NoPermission", Denied, "PermissionDenied"),
    ("AuthenticationFail.OIDCToken.AudienceNotMatch", Denied, "InvalidCredentials"),
    ("AuthenticationFail.OIDCToken.Expired", Denied, "CredentialsExpired"),
    ("AuthenticationFail.OIDCToken.HttpsUrlInvalid", Denied, "InvalidCredentials"),
    ("AuthenticationFail.OIDCToken.Invalid", Denied, "InvalidCredentials"),
    ("AuthenticationFail.OIDCToken.InvalidSignature", Denied, "InvalidCredentials"),
];

/// What `code` means as the answer to `action`.
pub(crate) fn verdict(action: &str, status: u16, code: &str, message: &str) -> Verdict {
    if code == ENTRY_GONE_CODE && message.contains(ENTRY_GONE_TEXT) {
        return Verdict { class: NotFound, reason: "ForwardEntryNotFound" };
    }
    let special = BY_ACTION.iter().find(|(known, row)| *known == action && row.0 == code).map(|(_, row)| row);
    match special.or_else(|| CODES.iter().find(|row| row.0 == code)) {
        Some((_, class, reason)) => Verdict { class: *class, reason },
        None => by_shape(status, code),
    }
}

/// A code nobody wrote down, judged by the families the API's codes come in. Never as [`NotFound`]: that is taken as proof that the
/// thing is gone, and of whatever else an unknown code may miss, nothing is proven.
fn by_shape(status: u16, code: &str) -> Verdict {
    let (class, reason) = match code {
        _ if code.contains("Throttling") || status == 429 => (Throttled, "Throttled"),
        _ if status >= 500 => (Transient, "CloudInternalError"),
        _ if code.contains("LastTokenProcessing") => (Processing, "OperationProcessing"),
        _ if code.starts_with("QuotaExceeded") || code.ends_with("QuotaExceeded") => (Quota, "QuotaExceeded"),
        _ if code.starts_with("IncorrectStatus") => (Conflict, "NotReady"),
        _ if code.starts_with("TaskConflict") || code.contains("OperationConflict") || status == 409 => (Conflict, "OperationConflict"),
        _ if code.starts_with("PAY.") => (Denied, "InsufficientBalance"),
        _ if code.starts_with("InvalidParameter") => (Permanent, "InvalidParameter"),
        _ if code.contains("NotFound") || status == 404 => (Conflict, "SomethingNotFound"),
        _ if status == 401 || status == 403 => (Denied, "PermissionDenied"),
        _ => (Permanent, "CloudRefused"),
    };
    Verdict { class, reason }
}

#[cfg(test)]
mod tests {
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
        for (code, class, reason) in CODES {
            assert_eq!(verdict("AnyAction", 400, code, ""), Verdict { class: *class, reason }, "{code}");
            assert!(reason.starts_with(|c: char| c.is_ascii_uppercase()), "{reason}");
            assert!(reason.chars().all(|c| c.is_ascii_alphanumeric()), "{reason}");
        }
    }

    #[test]
    fn a_status_refusal_that_says_not_exist_means_gone() {
        let gone = verdict("DeleteForwardEntry", 400, "IncorretForwardEntryStatus", "The Specified forwardEntry is not exist");
        assert_eq!(gone.class, NotFound);
        let busy = verdict("DeleteForwardEntry", 400, "IncorretForwardEntryStatus", "Some entry is not stable");
        assert_eq!(busy.class, Conflict);
    }

    #[test]
    fn not_being_bound_is_what_an_unbind_asks_for() {
        for code in ["InvalidBindInstance.NotFound", "InvalidInstanceId.NotFound", "InvalidInstanId.NotFound", "InvalidParams.NotFound"] {
            assert_eq!(verdict("UnassociateEipAddress", 404, code, "").class, Done, "{code}");
        }
        assert_eq!(verdict("AssociateEipAddress", 404, "InvalidInstanId.NotFound", "").class, NotFound);
    }

    #[test]
    fn unknown_codes_are_judged_by_their_family() {
        for (status, code, class) in [
            (400, "Throttling.Something", Throttled),
            (429, "Whatever", Throttled),
            (502, "Whatever", Transient),
            (400, "QuotaExceeded.DnatEntry", Quota),
            (400, "IncorrectStatus.Whatever", Conflict),
            (409, "Whatever", Conflict),
            (404, "Whatever", Conflict),
            (400, "InvalidThing.NotFound", Conflict),
            (403, "Whatever", Denied),
            (400, "PAY.LATER", Denied),
            (400, "Whatever", Permanent),
        ] {
            assert_eq!(verdict("AnyAction", status, code, "").class, class, "{status} {code}");
        }
    }
}
