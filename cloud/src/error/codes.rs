//! Classification of every known error code of the API. The misspellings are the API's own.

use waygate_core::failure::FailureClass::{
    self as Class, AlreadyDone, Conflict, Denied, NotFound, Permanent, Processing, Quota,
    Throttled, Transient,
};
use waygate_core::failure::FailureScope::{self as Scope, Account, Change, Entry, Gateway};

/// The classification of an error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ErrorRule {
    pub(crate) class: Class,
    pub(crate) scope: Scope,
    /// CamelCase, used as a condition's reason.
    pub(crate) reason: &'static str,
}

type Row = (&'static str, Class, Scope, &'static str);

/// The only code whose message decides: usually the entry is not settled yet, but with this text
/// the entry does not exist.
const ENTRY_GONE_CODE: &str = "IncorretForwardEntryStatus";
const ENTRY_GONE_TEXT: &str = "is not exist";

/// Changes of a NAT gateway's forward entries. Codes that concern the named resource in other
/// actions concern the whole gateway in these.
const ENTRY_ACTIONS: &[&str] = &["CreateForwardEntry", "ModifyForwardEntry", "DeleteForwardEntry"];
/// Changes of an EIP that exists already.
const EIP_ACTIONS: &[&str] = &[
    "AssociateEipAddress",
    "UnassociateEipAddress",
    "ReleaseEipAddress",
    "ModifyEipAddressAttribute",
];
const UNBIND: &[&str] = &["UnassociateEipAddress"];
/// Changes for which the absence of the EIP means that the lease has none any more.
const GIVE_EIP_BACK: &[&str] = &["UnassociateEipAddress", "ReleaseEipAddress"];
/// Reason of the only code that says so; another resource's absence says nothing about the EIP.
const EIP_NOT_FOUND: &str = "EipNotFound";
/// Reason of refusals that end when one EIP of the account is released.
pub const EIP_QUOTA_EXCEEDED: &str = "EipQuotaExceeded";

/// Codes that mean something different in the listed actions.
const BY_ACTION: &[(&[&str], Row)] = &[
    // Unassociate names its target: not bound to the target is the requested state.
    (UNBIND, ("InvalidInstanceId.NotFound", AlreadyDone, Change, "NotBound")),
    (UNBIND, ("InvalidBindInstance.NotFound", AlreadyDone, Change, "NotBound")),
    (UNBIND, ("InvalidInstanId.NotFound", AlreadyDone, Change, "NotBound")),
    (UNBIND, ("InvalidParams.NotFound", AlreadyDone, Change, "NotBound")),
    // The EIP may be bound to the gateway a moment later; a read decides.
    (
        &["CreateForwardEntry"],
        ("InvalidExternalIp.NotFound", Conflict, Change, "AddressNotOnGateway"),
    ),
    // Another change of the same gateway is under way.
    (ENTRY_ACTIONS, ("OperationConflict", Conflict, Gateway, "OperationConflict")),
    (ENTRY_ACTIONS, ("TaskConflict", Conflict, Gateway, "OperationConflict")),
    (ENTRY_ACTIONS, ("Forbidden.FinancialLocked", Denied, Gateway, "FinancialLocked")),
    // For an existing EIP the code means that another owner has this one; for an allocation, that
    // the account lacks a permission.
    (EIP_ACTIONS, ("Forbbiden", Denied, Change, "PermissionDenied")),
];

#[rustfmt::skip]
const CODES: &[Row] = &[
    // Any action: flow control and servers.
    ("Throttling", Throttled, Account, "Throttled"),
    ("Throttling.User", Throttled, Account, "Throttled"),
    ("Throttling.Api", Throttled, Account, "Throttled"),
    ("Rejected.Throttling", Throttled, Account, "Throttled"),
    ("ServiceUnavailable", Transient, Account, "CloudUnavailable"),
    ("InternalError", Transient, Change, "CloudInternalError"),
    ("UnknownError", Transient, Change, "CloudInternalError"),
    ("OperationFailed.SystemBusy", Transient, Account, "CloudBusy"),
    ("SystemBusy", Transient, Account, "CloudBusy"),
    // Any action: concurrency and tokens.
    ("OperationConflict", Conflict, Change, "OperationConflict"),
    ("Operation.Conflict", Conflict, Change, "OperationConflict"),
    ("TaskConflict", Conflict, Change, "OperationConflict"),
    ("VPC_TASK_CONFLICT", Conflict, Change, "OperationConflict"),
    ("LastTokenProcessing", Processing, Change, "OperationProcessing"),
    ("OperationFailed.LastTokenProcessing", Processing, Change, "OperationProcessing"),
    ("IdempotenceProcessing", Processing, Change, "OperationProcessing"),
    ("IdempotentParameterMismatch", Permanent, Change, "TokenReused"),
    ("IdempotentFailed", Conflict, Change, "TokenUnusable"),
    ("IncorrectStatus", Conflict, Change, "NotReady"),
    // Any action: parameters.
    ("DryRunOperation", AlreadyDone, Change, "DryRun"),
    ("MissingParameter", Permanent, Change, "InvalidParameter"),
    ("InvalidParameter", Permanent, Change, "InvalidParameter"),
    ("InvalidParameter.Mismatch", Permanent, Change, "InvalidParameter"),
    ("InvalidParamter", Permanent, Change, "InvalidParameter"),
    ("UnsupportedParameter", Permanent, Change, "InvalidParameter"),
    ("InvalidRegionId.NotFound", Permanent, Account, "InvalidRegion"),
    ("InvalidRegionId.MalFormed", Permanent, Account, "InvalidRegion"),
    ("InvalidRegion.NotSupport", Permanent, Account, "InvalidRegion"),
    ("Forbidden.RegionNotFound", Permanent, Account, "InvalidRegion"),
    ("Forbidden.RegionId", Permanent, Account, "InvalidRegion"),
    ("InvalidAction.NotFound", Permanent, Account, "UnknownAction"),
    ("InvalidApi.NotFound", Permanent, Account, "UnknownAction"),
    ("NoSuchVersion", Permanent, Account, "UnknownAction"),
    // Any action: identity and permissions.
    ("Forbidden.RAM", Denied, Account, "PermissionDenied"),
    ("Forbidden", Denied, Account, "PermissionDenied"),
    ("Forbbiden", Denied, Account, "PermissionDenied"),
    ("NoPermission", Denied, Account, "PermissionDenied"),
    ("Forbidden.SubUser", Denied, Account, "PermissionDenied"),
    ("Forbidden.NotSupportRAM", Denied, Account, "PermissionDenied"),
    ("InvalidUserType.NotSupported", Denied, Account, "PermissionDenied"),
    ("Forbidden.RiskControl", Denied, Account, "AccountRiskControl"),
    ("OperationFailed.RiskControl", Denied, Account, "AccountRiskControl"),
    ("InvalidTimeStamp.Expired", Denied, Account, "ClockSkew"),
    ("InvalidTimeStamp.Format", Denied, Account, "ClockSkew"),
    // A repeated nonce means that a copy of this request may have arrived: the outcome is unknown.
    ("SignatureNonceUsed", Transient, Change, "NonceReused"),
    ("SignatureDoesNotMatch", Denied, Account, "InvalidCredentials"),
    ("IncompleteSignature", Denied, Account, "InvalidCredentials"),
    ("InvalidAccessKeyId.NotFound", Denied, Account, "InvalidCredentials"),
    ("InvalidAccessKeyId.Inactive", Denied, Account, "InvalidCredentials"),
    ("MissingSecurityToken", Denied, Account, "InvalidCredentials"),
    // Refused before the `ClientToken` was checked; the next call signs with fresh keys.
    ("InvalidSecurityToken.Expired", Conflict, Account, "CredentialsExpired"),
    ("InvalidSecurityToken.Malformed", Denied, Account, "InvalidCredentials"),
    ("InvalidSecurityToken.MismatchWithAccessKey", Denied, Account, "InvalidCredentials"),
    ("InsufficientBalance", Denied, Account, "InsufficientBalance"),
    ("InsufficientBalance.Eip", Denied, Account, "InsufficientBalance"),
    ("PAY.INSUFFICIENT_BALANCE", Denied, Account, "InsufficientBalance"),
    ("Forbidden.FinancialLocked", Denied, Account, "FinancialLocked"),
    ("NATGATEWAY_FINANCIALLOCKED", Denied, Gateway, "FinancialLocked"),
    ("InvalidEIPStatus.BizDisabled", Denied, Change, "FinancialLocked"),
    ("BandwidthPackageId.InvalidBizStatus", Denied, Change, "FinancialLocked"),
    // AllocateEipAddress, AllocateEipAddressPro. Stock is kept per line or pool, so another line or
    // pool may have addresses: scope Change.
    ("QuotaExceeded.Eip", Quota, Account, EIP_QUOTA_EXCEEDED),
    ("FrequentPurchase.EIP", Conflict, Account, "FrequentPurchase"),
    ("OrderFailed.ConcurrentOperate", Conflict, Account, "FrequentPurchase"),
    ("OperationFailed.InsufficientEIP", Quota, Change, "EipOutOfStock"),
    ("OperationFailed.ResourceNotEnough", Quota, Change, "EipOutOfStock"),
    ("ReserveIpFail", Quota, Change, "EipOutOfStock"),
    ("ORDER.QUANTITY_INVALID", Quota, Account, EIP_QUOTA_EXCEEDED),
    ("InvalidBandwidth.Malformed", Permanent, Change, "InvalidBandwidth"),
    ("InvalidResourceGroupId", Permanent, Change, "InvalidResourceGroup"),
    ("ResourceNotFound.PublicIpAddressPool", Permanent, Change, "AddressPoolNotFound"),
    ("ResourceNotEnough.PublicIpAddressPool", Quota, Change, "AddressPoolEmpty"),
    ("IncorrectStatus.PublicIpAddressPool", Conflict, Change, "AddressPoolNotReady"),
    ("Mismatch.PublicIpAddressPool", Permanent, Change, "AddressPoolMismatch"),
    ("OperationFailed.AllocateUnfamiliarIp", Permanent, Change, "AddressNotYours"),
    ("Ip.Allocated", Permanent, Change, "AddressTaken"),
    ("IncorrectStatus.Ip", Conflict, Change, "NotReady"),
    ("OperationDenied.NotOpenDdosOriginProtectService", Permanent, Change, "DdosProtectionNotOpen"),
    ("TokenVerfiy.Failed", Permanent, Change, "TokenRefused"),
    // DescribeEipAddresses.
    ("InvalidIAssociatedInstanceType.ValueNotSupported", Permanent, Change, "InvalidParameter"),
    ("InvalidChargeType.ValueNotSupported", Permanent, Change, "InvalidParameter"),
    ("InstanceIdLength.Exceed", Permanent, Change, "InvalidParameter"),
    ("InvalidTagKey", Permanent, Change, "InvalidTag"),
    ("InvalidTagValue", Permanent, Change, "InvalidTag"),
    ("InvalidFilterKey.NotFound", Permanent, Change, "InvalidParameter"),
    ("InvalidFilterValue", Permanent, Change, "InvalidParameter"),
    ("InvalidLockReason.NotFound", Permanent, Change, "InvalidParameter"),
    // AssociateEipAddress, UnassociateEipAddress.
    ("InvalidAllocationId.NotFound", NotFound, Change, "EipNotFound"),
    ("InvalidInstanId.NotFound", NotFound, Change, "TargetNotFound"),
    ("InvalidInstanceId.NotFound", NotFound, Change, "TargetNotFound"),
    ("InvalidBindInstance.NotFound", NotFound, Change, "TargetNotFound"),
    ("InvalidParams.NotFound", NotFound, Change, "TargetNotFound"),
    ("IncorrectEipStatus", Conflict, Change, "EipNotReady"),
    ("IncorrectStatus.Eip", Conflict, Change, "EipNotReady"),
    ("IncorrectStatus.ResourceStatus", Conflict, Change, "EipNotReady"),
    ("InvalidAssociation.Duplicated", Conflict, Change, "TargetHasEip"),
    ("IncorrectInstanceStatus", Conflict, Change, "TargetNotReady"),
    ("InvalidBindingStatus", Conflict, Change, "TargetNotReady"),
    ("IncorrectStatus.NatGateway", Conflict, Gateway, "GatewayNotReady"),
    ("InvalidStatus.EcsStatusNotSupport", Conflict, Change, "TargetNotReady"),
    ("InvalidStatus.EniStatusNotSupport", Conflict, Change, "TargetNotReady"),
    ("InvalidStatus.NotAllow", Conflict, Change, "TargetNotReady"),
    ("InvalidStatus.InstanceHasBandWidth", Permanent, Change, "TargetHasPublicBandwidth"),
    ("OperationFailed.EcsMigrating", Conflict, Change, "TargetNotReady"),
    ("BIND_INSTANCE_HAVE_PORTMAP_OR_BIND_EIP", Conflict, Change, "TargetHasForwardEntryOrEip"),
    ("EIP_CAN_NOT_ASSOCIATE_WITH_PUBLIC_IP", Permanent, Change, "TargetHasPublicIp"),
    ("QuotaExceeded.NumberOfEip", Quota, Gateway, "TargetEipQuotaExceeded"),
    ("QuotaExceeded.NumberOfTrafficEip", Quota, Gateway, "TargetEipQuotaExceeded"),
    ("InvalidEip.EipQuotaExceeded", Quota, Change, "TargetEipQuotaExceeded"),
    ("OperationDenied.NoAvailablePrivateIp", Quota, Gateway, "VSwitchAddressesUsedUp"),
    ("OperationDenied.UnsupportedEipBindMode", Permanent, Change, "BindModeRefused"),
    ("Mode.Conflict", Permanent, Change, "BindModeRefused"),
    ("OperationFailed.EipBindModeConflict", Permanent, Change, "BindModeRefused"),
    ("Forbidden.EipCanNotBindGatgw", Permanent, Change, "BindModeRefused"),
    ("OperationDenied.Ipv4GatewayExist", Permanent, Change, "VpcHasIpv4Gateway"),
    ("OperationDenied.VpcIpv4GatewayEnabled", Permanent, Change, "VpcHasIpv4Gateway"),
    ("InvalidInstanceType.ValueNotSupported", Permanent, Change, "InvalidParameter"),
    ("Invalid.DirectEip.BindType", Permanent, Change, "InvalidParameter"),
    ("ResourceAlreadyAssociated.IpAddress", Permanent, Change, "TargetHasEip"),
    ("OperationDenied", Permanent, Change, "OperationDenied"),
    ("InvalidIpStatus.HasBeenUsedByForwardEntry", Conflict, Change, "EipUsedByForwardEntry"),
    ("InvalidIpStatus.HasBeenUsedBySnatTable", Conflict, Change, "EipUsedBySnat"),
    ("DependencyViolation.SnatEntry", Conflict, Change, "EipUsedBySnat"),
    ("InvalidStatus.SnatOrDnat", Conflict, Entry, "EntryNotReady"),
    // ReleaseEipAddress.
    ("Forbidden.ChargeTypeIsPrepaid", Permanent, Change, "EipIsPrePaid"),
    ("InvalidOperation.DeletionProtection", Permanent, Change, "DeletionProtection"),
    ("Forbidden.ReleaseSegmentEip", Permanent, Change, "EipOfSegment"),
    ("OperationUnsupported.ServiceManaged", Permanent, Change, "EipServiceManaged"),
    ("TaskConflict.AssociateGlobalAccelerationInstance", Conflict, Change, "OperationConflict"),
    // Bandwidth packages.
    ("IpInstanceId.AlreadyInBandwidthPackage", AlreadyDone, Change, "AlreadyInBandwidthPackage"),
    ("EIP_ALREADY_IN_BANDWIDTHPACKAGE", AlreadyDone, Change, "AlreadyInBandwidthPackage"),
    ("OperationUnsupported.IpNotInCbwp", AlreadyDone, Change, "NotInBandwidthPackage"),
    ("IpInstanceId.ChargeType.NotSupport", Permanent, Change, "EipIsPrePaid"),
    ("IpInstanceId.QuotaExceeded", Quota, Change, "BandwidthPackageFull"),
    ("EipOperation.TooFrequently", Conflict, Change, "OperationConflict"),
    ("BandwidthPackageOperation.conflict", Conflict, Change, "OperationConflict"),
    ("OperationFailed.DistibuteLock", Conflict, Change, "OperationConflict"),
    // NAT gateways and forward entries.
    ("DESCRIBE_FORWARD_PARAM_INVALID", Permanent, Change, "InvalidParameter"),
    ("InvalidForwardTableId.NotFound", NotFound, Gateway, "ForwardTableNotFound"),
    ("InvalidForwardEntryId.NotFound", NotFound, Entry, "ForwardEntryNotFound"),
    ("ResourceNotFound.ForwardEntry", NotFound, Entry, "ForwardEntryNotFound"),
    ("InvalidExternalIp.NotFound", NotFound, Change, "AddressNotOnGateway"),
    ("Invalid.natgwNotExist", NotFound, Gateway, "GatewayNotFound"),
    ("InvalidNatGatewayId.NotFound", NotFound, Gateway, "GatewayNotFound"),
    ("IncorretForwardEntryStatus", Conflict, Entry, "EntryNotReady"),
    ("IncorrectStatus.ForwardEntry", Conflict, Entry, "EntryNotReady"),
    ("IncorrectStatus.NATGW", Conflict, Gateway, "GatewayNotReady"),
    ("OperationUnsupported.EipInBinding", Conflict, Change, "AddressNotOnGateway"),
    ("OperationUnsupported.EipNatGWCheck", Conflict, Change, "AddressNotOnGateway"),
    ("InvalidIp.NotInNatgw", Conflict, Change, "AddressNotOnGateway"),
    ("InvalidExternalIp.Malformed", Permanent, Change, "InvalidParameter"),
    ("InvalidInternalIp.Malformed", Permanent, Change, "InvalidParameter"),
    ("InvalidExternalPort.Malformed", Permanent, Change, "InvalidParameter"),
    ("InvalidInternalPort.Malformed", Permanent, Change, "InvalidParameter"),
    ("InvalidProtocal.ValueNotSupported", Permanent, Change, "InvalidParameter"),
    ("InvalidParameter.Name.Malformed", Permanent, Change, "InvalidParameter"),
    ("Forbidden.DestnationIpOutOfVpcCIDR", Permanent, Change, "AddressOutsideVpc"),
    ("Forbidden.InternalIpOutOfVpcCIDR", Permanent, Change, "AddressOutsideVpc"),
    ("Forbidden.ExternalIp.UsedInSnatTable", Permanent, Change, "EipUsedBySnat"),
    ("Forbindden", Permanent, Change, "TargetHasEip"),
    ("QuotaExceeded", Quota, Gateway, "EntryQuotaExceeded"),
    ("OperationUnsupported.ForwardEntry", Permanent, Change, "PortTaken"),
    ("Forbidden.Already.Bounded", Permanent, Change, "PortTaken"),
    // ECS reads.
    ("InvalidEniId.NotFound", NotFound, Change, "InterfaceNotFound"),
    ("InvalidVSwitchId.NotFound", NotFound, Change, "VSwitchNotFound"),
    ("InvalidSecurityGroupId.NotFound", NotFound, Change, "SecurityGroupNotFound"),
    ("InvalidEcsId.NotFound", NotFound, Change, "InstanceNotFound"),
    ("InvalidRouteTableId.NotFound", NotFound, Change, "RouteTableNotFound"),
    ("InvalidNicType.ValueNotSupported", Permanent, Change, "InvalidParameter"),
    ("InvalidSecurityGroupId.Malformed", Permanent, Change, "InvalidParameter"),
    // STS.
    ("EntityNotExist.Role", Denied, Account, "RoleNotFound"),
    ("AuthenticationFail.NoPermission", Denied, Account, "PermissionDenied"),
    ("AuthenticationFail.OIDCToken.AudienceNotMatch", Denied, Account, "InvalidCredentials"),
    ("AuthenticationFail.OIDCToken.Expired", Denied, Account, "CredentialsExpired"),
    ("AuthenticationFail.OIDCToken.HttpsUrlInvalid", Denied, Account, "InvalidCredentials"),
    ("AuthenticationFail.OIDCToken.Invalid", Denied, Account, "InvalidCredentials"),
    ("AuthenticationFail.OIDCToken.InvalidSignature", Denied, Account, "InvalidCredentials"),
];

/// Classifies `code` as the answer to `action`: by message, by action, by table, else by family.
pub(crate) fn classify_code(action: &str, status: u16, code: &str, message: &str) -> ErrorRule {
    if code == ENTRY_GONE_CODE && message.contains(ENTRY_GONE_TEXT) {
        return ErrorRule { class: NotFound, scope: Entry, reason: "ForwardEntryNotFound" };
    }
    let special = BY_ACTION
        .iter()
        .find(|(actions, row)| row.0 == code && actions.contains(&action))
        .map(|(_, row)| row);
    let rule = match special.or_else(|| CODES.iter().find(|row| row.0 == code)) {
        Some((_, class, scope, reason)) => ErrorRule { class: *class, scope: *scope, reason },
        None => classify_by_family(action, status, code),
    };
    let is_of_another = rule.class == NotFound && rule.reason != EIP_NOT_FOUND;
    if is_of_another && GIVE_EIP_BACK.contains(&action) {
        return ErrorRule { class: Conflict, ..rule };
    }
    rule
}

/// Classifies an unlisted code by the families of the API's codes. Never as [`NotFound`], which
/// proves that the resource no longer exists: an unlisted code may miss something else.
fn classify_by_family(action: &str, status: u16, code: &str) -> ErrorRule {
    // A quota exceeded by a change of entries is the gateway's.
    let quota_of = if ENTRY_ACTIONS.contains(&action) { Gateway } else { Change };
    let (class, scope, reason) = match code {
        _ if code.contains("Throttling") || status == 429 => (Throttled, Account, "Throttled"),
        _ if status >= 500 => (Transient, Change, "CloudInternalError"),
        _ if code.contains("LastTokenProcessing") => (Processing, Change, "OperationProcessing"),
        _ if code.starts_with("QuotaExceeded") || code.ends_with("QuotaExceeded") => {
            (Quota, quota_of, "QuotaExceeded")
        }
        _ if code.starts_with("IncorrectStatus") => (Conflict, Change, "NotReady"),
        _ if code.starts_with("TaskConflict")
            || code.contains("OperationConflict")
            || status == 409 =>
        {
            (Conflict, Change, "OperationConflict")
        }
        _ if code.starts_with("PAY.") => (Denied, Account, "InsufficientBalance"),
        _ if code.starts_with("InvalidParameter") => (Permanent, Change, "InvalidParameter"),
        _ if code.contains("NotFound") || status == 404 => (Conflict, Change, "SomethingNotFound"),
        _ if status == 401 || status == 403 => (Denied, Change, "PermissionDenied"),
        _ => (Permanent, Change, "CloudRefused"),
    };
    ErrorRule { class, scope, reason }
}

#[cfg(test)]
mod page;

#[cfg(test)]
mod tests;
