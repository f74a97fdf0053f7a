//! Every error code of the actions this client uses, and what the client makes of it.
//!
//! The simulator answers each code once for each action that can get it; whether it also comes to the code by itself is shown in
//! `refusals.rs` and in the simulator's own tests.

use crate::harness::{PATIENCE, Simulator, Unlimited, token};
use anyhow::Result;
use serde_json::json;
use std::collections::BTreeMap;
use waygate_cloud::Class::{self, Conflict, Denied, Done, NotFound, Permanent, Processing, Quota, Throttled, Transient};
use waygate_cloud::{Cloud, Error};
use waygate_core::change::Change;
use waygate_core::ids::{AllocationId, BandwidthPackageId, EniId, ForwardEntryId};
use waygate_core::request::EipSpec;

/// What the codes of one action mean: class, reason for a condition, codes.
struct Answers {
    action: &'static str,
    mean: &'static [(Class, &'static str, &'static [&'static str])],
}

#[rustfmt::skip]
const TABLE: &[Answers] = &[
    // What any action can answer.
    Answers {
        action: "TagResources",
        mean: &[
            (Throttled, "Throttled", &["Throttling", "Throttling.User", "Throttling.Api", "Rejected.Throttling"]),
            (Transient, "CloudUnavailable", &["ServiceUnavailable"]),
            (Transient, "CloudInternalError", &["InternalError"]),
            (Transient, "CloudBusy", &["OperationFailed.SystemBusy", "SystemBusy"]),
            (Conflict, "OperationConflict", &["OperationConflict", "TaskConflict"]),
            (Processing, "OperationProcessing", &["LastTokenProcessing", "OperationFailed.LastTokenProcessing", "IdempotenceProcessing"]),
            (Permanent, "TokenReused", &["IdempotentParameterMismatch"]),
            (Conflict, "TokenUnusable", &["IdempotentFailed"]),
            (Conflict, "NotReady", &["IncorrectStatus", "IncorrectStatus.Anything"]),
            (Permanent, "InvalidParameter", &["MissingParameter", "InvalidParameter", "InvalidParameter.Anything", "UnsupportedParameter"]),
            (Permanent, "InvalidRegion", &["InvalidRegionId.NotFound", "Forbidden.RegionNotFound"]),
            (Permanent, "UnknownAction", &["InvalidAction.NotFound", "InvalidApi.NotFound", "NoSuchVersion"]),
            (Denied, "PermissionDenied", &["Forbidden.RAM", "Forbidden", "Forbbiden", "NoPermission"]),
            (Denied, "AccountRiskControl", &["Forbidden.RiskControl"]),
            (Denied, "ClockSkew", &["InvalidTimeStamp.Expired", "InvalidTimeStamp.Format"]),
            (Transient, "NonceReused", &["SignatureNonceUsed"]),
            (Denied, "InvalidCredentials", &["SignatureDoesNotMatch", "IncompleteSignature", "InvalidAccessKeyId.NotFound", "InvalidAccessKeyId.Inactive", "MissingSecurityToken", "InvalidSecurityToken.Malformed", "InvalidSecurityToken.MismatchWithAccessKey"]),
            (Conflict, "CredentialsExpired", &["InvalidSecurityToken.Expired"]),
            (Done, "DryRun", &["DryRunOperation"]),
            (Denied, "InsufficientBalance", &["InsufficientBalance", "PAY.ANYTHING"]),
            (Denied, "FinancialLocked", &["Forbidden.FinancialLocked"]),
        ],
    },
    Answers {
        action: "AllocateEipAddress",
        mean: &[
            (Quota, "EipQuotaExceeded", &["QuotaExceeded.Eip", "ORDER.QUANTITY_INVALID"]),
            (Conflict, "FrequentPurchase", &["FrequentPurchase.EIP", "OrderFailed.ConcurrentOperate"]),
            (Quota, "EipOutOfStock", &["OperationFailed.InsufficientEIP", "OperationFailed.ResourceNotEnough", "ReserveIpFail"]),
            (Denied, "InsufficientBalance", &["PAY.INSUFFICIENT_BALANCE"]),
            (Denied, "AccountRiskControl", &["OperationFailed.RiskControl"]),
            (Permanent, "InvalidBandwidth", &["InvalidBandwidth.Malformed"]),
            (Permanent, "InvalidRegion", &["InvalidRegion.NotSupport"]),
            (Permanent, "InvalidResourceGroup", &["InvalidResourceGroupId"]),
            (Permanent, "AddressPoolNotFound", &["ResourceNotFound.PublicIpAddressPool"]),
            (Quota, "AddressPoolEmpty", &["ResourceNotEnough.PublicIpAddressPool"]),
            (Conflict, "AddressPoolNotReady", &["IncorrectStatus.PublicIpAddressPool"]),
            (Permanent, "AddressPoolMismatch", &["Mismatch.PublicIpAddressPool"]),
            (Permanent, "DdosProtectionNotOpen", &["OperationDenied.NotOpenDdosOriginProtectService"]),
            (Permanent, "TokenRefused", &["TokenVerfiy.Failed"]),
            (Permanent, "InvalidTag", &["InvalidTagKey", "InvalidTagValue"]),
        ],
    },
    Answers {
        action: "AllocateEipAddressPro",
        mean: &[
            (Permanent, "AddressNotYours", &["OperationFailed.AllocateUnfamiliarIp"]),
            (Permanent, "AddressTaken", &["Ip.Allocated"]),
            (Conflict, "NotReady", &["IncorrectStatus.Ip"]),
        ],
    },
    Answers {
        action: "DescribeEipAddresses",
        mean: &[
            (Permanent, "InvalidParameter", &["InvalidIAssociatedInstanceType.ValueNotSupported", "InvalidChargeType.ValueNotSupported", "InstanceIdLength.Exceed", "InvalidFilterKey.NotFound", "InvalidFilterValue", "InvalidLockReason.NotFound"]),
            (Permanent, "InvalidResourceGroup", &["InvalidResourceGroupId"]),
            (Permanent, "InvalidTag", &["InvalidTagKey", "InvalidTagValue"]),
            (Permanent, "InvalidRegion", &["Forbidden.RegionNotFound"]),
        ],
    },
    Answers {
        action: "AssociateEipAddress",
        mean: &[
            (NotFound, "EipNotFound", &["InvalidAllocationId.NotFound"]),
            (NotFound, "TargetNotFound", &["InvalidInstanId.NotFound", "InvalidParams.NotFound"]),
            (Conflict, "EipNotReady", &["IncorrectEipStatus"]),
            (Conflict, "TargetHasEip", &["InvalidAssociation.Duplicated"]),
            (Conflict, "OperationConflict", &["TaskConflict"]),
            (Conflict, "TargetNotReady", &["IncorrectInstanceStatus", "InvalidBindingStatus", "InvalidStatus.EcsStatusNotSupport", "InvalidStatus.EniStatusNotSupport", "InvalidStatus.NotAllow", "OperationFailed.EcsMigrating"]),
            (Conflict, "GatewayNotReady", &["IncorrectStatus.NatGateway"]),
            (Permanent, "TargetHasPublicBandwidth", &["InvalidStatus.InstanceHasBandWidth"]),
            (Conflict, "TargetHasForwardEntryOrEip", &["BIND_INSTANCE_HAVE_PORTMAP_OR_BIND_EIP"]),
            (Permanent, "TargetHasPublicIp", &["EIP_CAN_NOT_ASSOCIATE_WITH_PUBLIC_IP"]),
            (Quota, "TargetEipQuotaExceeded", &["InvalidEip.EipQuotaExceeded"]),
            (Quota, "VSwitchAddressesUsedUp", &["OperationDenied.NoAvailablePrivateIp"]),
            (Permanent, "BindModeRefused", &["OperationDenied.UnsupportedEipBindMode", "Mode.Conflict", "OperationFailed.EipBindModeConflict"]),
            (Permanent, "VpcHasIpv4Gateway", &["OperationDenied.Ipv4GatewayExist", "OperationDenied.VpcIpv4GatewayEnabled"]),
            (Permanent, "InvalidParameter", &["InvalidParameter.Mismatch", "InvalidInstanceType.ValueNotSupported", "Invalid.DirectEip.BindType"]),
            (Permanent, "TargetHasEip", &["ResourceAlreadyAssociated.IpAddress"]),
            (Permanent, "OperationDenied", &["OperationDenied"]),
            (Denied, "PermissionDenied", &["Forbbiden"]),
            (Denied, "FinancialLocked", &["Forbidden.FinancialLocked", "InvalidEIPStatus.BizDisabled"]),
        ],
    },
    Answers {
        // On a gateway, as an operator binds one there.
        action: "AssociateEipAddress",
        mean: &[
            (Quota, "TargetEipQuotaExceeded", &["QuotaExceeded.NumberOfEip", "QuotaExceeded.NumberOfTrafficEip"]),
            (Permanent, "BindModeRefused", &["Forbidden.EipCanNotBindGatgw"]),
            (Denied, "FinancialLocked", &["NATGATEWAY_FINANCIALLOCKED"]),
        ],
    },
    Answers {
        action: "UnassociateEipAddress",
        mean: &[
            (NotFound, "EipNotFound", &["InvalidAllocationId.NotFound"]),
            (Conflict, "EipNotReady", &["IncorrectEipStatus"]),
            (Conflict, "EipUsedByForwardEntry", &["InvalidIpStatus.HasBeenUsedByForwardEntry"]),
            (Conflict, "EipUsedBySnat", &["InvalidIpStatus.HasBeenUsedBySnatTable", "DependencyViolation.SnatEntry"]),
            (Conflict, "EntryNotReady", &["InvalidStatus.SnatOrDnat"]),
            (Conflict, "OperationConflict", &["TaskConflict"]),
            (Conflict, "TargetNotReady", &["InvalidBindingStatus", "IncorrectInstanceStatus"]),
            (Transient, "CloudBusy", &["OperationFailed.SystemBusy"]),
            (Done, "NotBound", &["InvalidInstanceId.NotFound", "InvalidBindInstance.NotFound"]),
            (Permanent, "OperationDenied", &["OperationDenied"]),
            (Denied, "PermissionDenied", &["Forbbiden"]),
        ],
    },
    Answers {
        action: "ReleaseEipAddress",
        mean: &[
            (NotFound, "EipNotFound", &["InvalidAllocationId.NotFound"]),
            (Conflict, "EipNotReady", &["IncorrectEipStatus"]),
            (Permanent, "EipIsPrePaid", &["Forbidden.ChargeTypeIsPrepaid"]),
            (Permanent, "DeletionProtection", &["InvalidOperation.DeletionProtection"]),
            (Permanent, "EipOfSegment", &["Forbidden.ReleaseSegmentEip"]),
            (Permanent, "EipServiceManaged", &["OperationUnsupported.ServiceManaged"]),
            (Conflict, "OperationConflict", &["TaskConflict.AssociateGlobalAccelerationInstance"]),
            (Denied, "PermissionDenied", &["Forbbiden"]),
            (Transient, "CloudInternalError", &["InternalError"]),
        ],
    },
    Answers {
        action: "ModifyEipAddressAttribute",
        mean: &[
            (NotFound, "EipNotFound", &["InvalidAllocationId.NotFound"]),
            (Conflict, "EipNotReady", &["IncorrectEipStatus", "IncorrectStatus.ResourceStatus"]),
            (Permanent, "InvalidParameter", &["InvalidParameter"]),
            (Denied, "InsufficientBalance", &["InsufficientBalance.Eip"]),
            (Conflict, "OperationConflict", &["VPC_TASK_CONFLICT"]),
        ],
    },
    Answers {
        action: "AddCommonBandwidthPackageIp",
        mean: &[
            (Done, "AlreadyInBandwidthPackage", &["IpInstanceId.AlreadyInBandwidthPackage", "EIP_ALREADY_IN_BANDWIDTHPACKAGE"]),
            (Permanent, "EipIsPrePaid", &["IpInstanceId.ChargeType.NotSupport"]),
            (Quota, "BandwidthPackageFull", &["IpInstanceId.QuotaExceeded"]),
            (Conflict, "OperationConflict", &["EipOperation.TooFrequently", "TaskConflict", "OperationFailed.DistibuteLock", "BandwidthPackageOperation.conflict"]),
            (Conflict, "EipNotReady", &["IncorrectStatus.Eip"]),
            (Denied, "FinancialLocked", &["InvalidEIPStatus.BizDisabled", "BandwidthPackageId.InvalidBizStatus"]),
            (Conflict, "SomethingNotFound", &["InvalidBandwidthPackageId.NotFound", "InvalidIpInstanceId.NotFound"]),
        ],
    },
    Answers {
        action: "RemoveCommonBandwidthPackageIp",
        mean: &[
            (Done, "NotInBandwidthPackage", &["OperationUnsupported.IpNotInCbwp"]),
            (Conflict, "OperationConflict", &["EipOperation.TooFrequently"]),
        ],
    },
    Answers {
        action: "TagResources",
        mean: &[
            (Conflict, "SomethingNotFound", &["InvalidResourceId.NotFound", "InvalidResourceType.NotFound"]),
            (Permanent, "CloudRefused", &["NumberExceed.ResourceIds", "NumberExceed.Tags"]),
            (Quota, "QuotaExceeded", &["QuotaExceeded.TagNum"]),
        ],
    },
    Answers {
        action: "DescribeNatGateways",
        mean: &[
            (NotFound, "GatewayNotFound", &["InvalidNatGatewayId.NotFound"]),
            (Permanent, "InvalidRegion", &["InvalidRegionId.NotFound"]),
        ],
    },
    Answers {
        // That its gateway is gone is an answer to this, and no error.
        action: "DescribeForwardTableEntries",
        mean: &[
            (Conflict, "EntryNotReady", &["IncorretForwardEntryStatus"]),
            (Permanent, "InvalidParameter", &["DESCRIBE_FORWARD_PARAM_INVALID"]),
            (Permanent, "InvalidRegion", &["InvalidRegionId.NotFound"]),
        ],
    },
    Answers {
        action: "CreateForwardEntry",
        mean: &[
            (Conflict, "EntryNotReady", &["IncorretForwardEntryStatus"]),
            (Conflict, "OperationConflict", &["OperationConflict", "TaskConflict"]),
            (Conflict, "GatewayNotReady", &["IncorrectStatus.NATGW"]),
            (Conflict, "AddressNotOnGateway", &["OperationUnsupported.EipInBinding", "OperationUnsupported.EipNatGWCheck", "InvalidIp.NotInNatgw", "InvalidExternalIp.NotFound"]),
            (Permanent, "InvalidParameter", &["InvalidExternalIp.Malformed", "InvalidInternalIp.Malformed", "InvalidExternalPort.Malformed", "InvalidInternalPort.Malformed", "InvalidProtocal.ValueNotSupported", "InvalidParameter.Name.Malformed", "MissingParameter"]),
            (Permanent, "AddressOutsideVpc", &["Forbidden.DestnationIpOutOfVpcCIDR", "Forbidden.InternalIpOutOfVpcCIDR"]),
            (Permanent, "EipUsedBySnat", &["Forbidden.ExternalIp.UsedInSnatTable"]),
            (Permanent, "TargetHasEip", &["Forbindden"]),
            (NotFound, "GatewayNotFound", &["Invalid.natgwNotExist"]),
            (Quota, "EntryQuotaExceeded", &["QuotaExceeded"]),
            (Permanent, "PortTaken", &["OperationUnsupported.ForwardEntry", "Forbidden.Already.Bounded"]),
            (NotFound, "ForwardTableNotFound", &["InvalidForwardTableId.NotFound"]),
            (Permanent, "InvalidRegion", &["InvalidRegionId.NotFound"]),
            (Transient, "CloudInternalError", &["InternalError"]),
        ],
    },
    Answers {
        action: "DeleteForwardEntry",
        mean: &[
            (NotFound, "ForwardEntryNotFound", &["InvalidForwardEntryId.NotFound", "ResourceNotFound.ForwardEntry"]),
            (NotFound, "ForwardTableNotFound", &["InvalidForwardTableId.NotFound"]),
            (Conflict, "EntryNotReady", &["IncorretForwardEntryStatus", "IncorrectStatus.ForwardEntry"]),
            (Conflict, "GatewayNotReady", &["IncorrectStatus.NATGW"]),
            (Conflict, "OperationConflict", &["OperationConflict"]),
            (Transient, "CloudInternalError", &["UnknownError"]),
        ],
    },
    Answers {
        action: "ModifyForwardEntry",
        mean: &[
            (NotFound, "ForwardEntryNotFound", &["InvalidForwardEntryId.NotFound"]),
            (Conflict, "AddressNotOnGateway", &["OperationUnsupported.EipInBinding"]),
            (Conflict, "EntryNotReady", &["IncorretForwardEntryStatus"]),
            (Quota, "EntryQuotaExceeded", &["QuotaExceeded"]),
            (Permanent, "PortTaken", &["Forbidden.Already.Bounded"]),
        ],
    },
];

#[tokio::test]
async fn every_code_means_what_the_table_says() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "instant"]).await?;
    let mut wrong = Vec::new();
    let mut expected: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    for Answers { action, mean } in TABLE {
        for (class, reason, code) in mean.iter().flat_map(|(class, reason, codes)| codes.iter().map(move |code| (class, reason, code))) {
            simulator.fault(action, "error", json!({"code": code})).await;
            *expected.entry(action).or_default().entry(code).or_default() += 1;
            // A client of its own for each: what one answer teaches must not hold the next call back.
            let error = ask(&simulator.cloud_with(Unlimited), &simulator, action).await;
            let seen = (error.code(), error.class(), error.reason(), error.is_definite());
            let is_definite = !matches!(class, Transient | Throttled | Processing);
            if seen != (Some(*code), *class, *reason, is_definite) || error.request_id().is_none() {
                wrong.push(format!("{action} {code}: {seen:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(simulator.admin("/calls").await["errors"], serde_json::to_value(expected)?, "GET /calls counts by action and code");
    Ok(())
}

/// Calls an action once; whom it concerns does not matter, because it is refused at the door.
async fn ask(cloud: &Cloud, simulator: &Simulator, action: &str) -> Error {
    let outcome = match action {
        "TagResources" => cloud.tag_resources("EIP", &["eip-1"], &[("k".to_owned(), "v".to_owned())].into()).await,
        "DescribeEipAddresses" => cloud.eip(&eip()).await.map(drop),
        "DescribeNatGateways" => cloud.nat_gateway(&simulator.gateway()).await.map(drop),
        "DescribeForwardTableEntries" => cloud.forward_entries(&simulator.gateway()).await.map(drop),
        _ => cloud.change(&change(simulator, action), Some(&token()), PATIENCE).await.map(drop),
    };
    outcome.expect_err(action)
}

fn eip() -> AllocationId {
    AllocationId::new("eip-1")
}

fn change(simulator: &Simulator, action: &str) -> Change {
    let (allocation_id, eni_id, private_ip) = (eip(), EniId::new("eni-1"), [10, 1, 0, 21].into());
    let (package_id, entry_id, forward) = (BandwidthPackageId::new("cbwp-1"), ForwardEntryId::new("fwd-1"), simulator.forward(0));
    match action {
        "AllocateEipAddress" => Change::AllocateEipAddress { spec: EipSpec::default(), tags: BTreeMap::new() },
        "AllocateEipAddressPro" => {
            Change::AllocateEipAddressPro { ip_address: [203, 0, 113, 1].into(), spec: EipSpec::default(), tags: BTreeMap::new() }
        }
        "AssociateEipAddress" => Change::AssociateEipAddress { allocation_id, eni_id, private_ip },
        "UnassociateEipAddress" => Change::UnassociateEipAddress { allocation_id, eni_id, private_ip },
        "ReleaseEipAddress" => Change::ReleaseEipAddress { allocation_id },
        "ModifyEipAddressAttribute" => {
            Change::ModifyEipAddressAttribute { allocation_id, bandwidth: Some(5), name: None, description: None }
        }
        "AddCommonBandwidthPackageIp" => Change::AddCommonBandwidthPackageIp { allocation_id, package_id },
        "RemoveCommonBandwidthPackageIp" => Change::RemoveCommonBandwidthPackageIp { allocation_id, package_id },
        "CreateForwardEntry" => Change::CreateForwardEntry(forward),
        "ModifyForwardEntry" => Change::ModifyForwardEntry { entry_id, forward },
        "DeleteForwardEntry" => Change::DeleteForwardEntry { table_id: forward.table_id, entry_id },
        _ => panic!("no test calls {action}"),
    }
}
