//! The classification of every error code of the actions that this client uses.
//!
//! The simulator answers each code once for each action that can return it. `refusals.rs` and the
//! simulator's own tests show which codes the simulator also returns by itself.

use crate::harness::{PATIENCE, Simulator, Unlimited, soon, token};
use anyhow::Result;
use serde_json::json;
use std::collections::BTreeMap;
use waygate_cloud::Class::{
    self, AlreadyDone, Conflict, Denied, NotFound, Permanent, Processing, Quota, Throttled,
    Transient,
};
use waygate_cloud::Scope::{self, Account, Change as ThisChange, Entry, Gateway};
use waygate_cloud::{Cloud, Error};
use waygate_core::change::Change;
use waygate_core::ids::{AllocationId, BandwidthPackageId, EniId, ForwardEntryId};
use waygate_core::request::EipSpec;

/// The codes of one action with their class, scope and the condition's reason.
struct Answers {
    action: &'static str,
    mean: &'static [(Class, Scope, &'static str, &'static [&'static str])],
}

#[rustfmt::skip]
const TABLE: &[Answers] = &[
    // Codes of any action.
    Answers {
        action: "TagResources",
        mean: &[
            (Throttled, Account, "Throttled", &["Throttling", "Throttling.User", "Throttling.Api", "Rejected.Throttling"]),
            (Transient, Account, "CloudUnavailable", &["ServiceUnavailable"]),
            (Transient, ThisChange, "CloudInternalError", &["InternalError"]),
            (Transient, Account, "CloudBusy", &["OperationFailed.SystemBusy", "SystemBusy"]),
            (Conflict, ThisChange, "OperationConflict", &["OperationConflict", "TaskConflict"]),
            (Processing, ThisChange, "OperationProcessing", &["LastTokenProcessing", "OperationFailed.LastTokenProcessing", "IdempotenceProcessing"]),
            (Permanent, ThisChange, "TokenReused", &["IdempotentParameterMismatch"]),
            (Conflict, ThisChange, "TokenUnusable", &["IdempotentFailed"]),
            (Conflict, ThisChange, "NotReady", &["IncorrectStatus", "IncorrectStatus.Anything"]),
            (Permanent, ThisChange, "InvalidParameter", &["MissingParameter", "InvalidParameter", "InvalidParameter.Anything", "UnsupportedParameter"]),
            (Permanent, Account, "InvalidRegion", &["InvalidRegionId.NotFound", "Forbidden.RegionNotFound"]),
            (Permanent, Account, "UnknownAction", &["InvalidAction.NotFound", "InvalidApi.NotFound", "NoSuchVersion"]),
            (Denied, Account, "PermissionDenied", &["Forbidden.RAM", "Forbidden", "Forbbiden", "NoPermission"]),
            (Denied, Account, "AccountRiskControl", &["Forbidden.RiskControl"]),
            (Denied, Account, "ClockSkew", &["InvalidTimeStamp.Expired", "InvalidTimeStamp.Format"]),
            (Transient, ThisChange, "NonceReused", &["SignatureNonceUsed"]),
            (Denied, Account, "InvalidCredentials", &["SignatureDoesNotMatch", "IncompleteSignature", "InvalidAccessKeyId.NotFound", "InvalidAccessKeyId.Inactive", "MissingSecurityToken", "InvalidSecurityToken.Malformed", "InvalidSecurityToken.MismatchWithAccessKey"]),
            (Conflict, Account, "CredentialsExpired", &["InvalidSecurityToken.Expired"]),
            (AlreadyDone, ThisChange, "DryRun", &["DryRunOperation"]),
            (Denied, Account, "InsufficientBalance", &["InsufficientBalance", "PAY.ANYTHING"]),
            (Denied, Account, "FinancialLocked", &["Forbidden.FinancialLocked"]),
        ],
    },
    Answers {
        action: "AllocateEipAddress",
        mean: &[
            (Quota, Account, "EipQuotaExceeded", &["QuotaExceeded.Eip", "ORDER.QUANTITY_INVALID"]),
            (Conflict, Account, "FrequentPurchase", &["FrequentPurchase.EIP", "OrderFailed.ConcurrentOperate"]),
            (Quota, ThisChange, "EipOutOfStock", &["OperationFailed.InsufficientEIP", "OperationFailed.ResourceNotEnough", "ReserveIpFail"]),
            (Denied, Account, "InsufficientBalance", &["PAY.INSUFFICIENT_BALANCE"]),
            (Denied, Account, "AccountRiskControl", &["OperationFailed.RiskControl"]),
            (Permanent, ThisChange, "InvalidBandwidth", &["InvalidBandwidth.Malformed"]),
            (Permanent, Account, "InvalidRegion", &["InvalidRegion.NotSupport"]),
            (Permanent, ThisChange, "InvalidResourceGroup", &["InvalidResourceGroupId"]),
            (Permanent, ThisChange, "AddressPoolNotFound", &["ResourceNotFound.PublicIpAddressPool"]),
            (Quota, ThisChange, "AddressPoolEmpty", &["ResourceNotEnough.PublicIpAddressPool"]),
            (Conflict, ThisChange, "AddressPoolNotReady", &["IncorrectStatus.PublicIpAddressPool"]),
            (Permanent, ThisChange, "AddressPoolMismatch", &["Mismatch.PublicIpAddressPool"]),
            (Permanent, ThisChange, "DdosProtectionNotOpen", &["OperationDenied.NotOpenDdosOriginProtectService"]),
            (Permanent, ThisChange, "TokenRefused", &["TokenVerfiy.Failed"]),
            (Permanent, ThisChange, "InvalidTag", &["InvalidTagKey", "InvalidTagValue"]),
        ],
    },
    Answers {
        action: "AllocateEipAddressPro",
        mean: &[
            (Permanent, ThisChange, "AddressNotYours", &["OperationFailed.AllocateUnfamiliarIp"]),
            (Permanent, ThisChange, "AddressTaken", &["Ip.Allocated"]),
            (Conflict, ThisChange, "NotReady", &["IncorrectStatus.Ip"]),
        ],
    },
    Answers {
        action: "DescribeEipAddresses",
        mean: &[
            (Permanent, ThisChange, "InvalidParameter", &["InvalidIAssociatedInstanceType.ValueNotSupported", "InvalidChargeType.ValueNotSupported", "InstanceIdLength.Exceed", "InvalidFilterKey.NotFound", "InvalidFilterValue", "InvalidLockReason.NotFound"]),
            (Permanent, ThisChange, "InvalidResourceGroup", &["InvalidResourceGroupId"]),
            (Permanent, ThisChange, "InvalidTag", &["InvalidTagKey", "InvalidTagValue"]),
            (Permanent, Account, "InvalidRegion", &["Forbidden.RegionNotFound"]),
        ],
    },
    Answers {
        action: "AssociateEipAddress",
        mean: &[
            (NotFound, ThisChange, "EipNotFound", &["InvalidAllocationId.NotFound"]),
            (NotFound, ThisChange, "TargetNotFound", &["InvalidInstanId.NotFound", "InvalidParams.NotFound"]),
            (Conflict, ThisChange, "EipNotReady", &["IncorrectEipStatus"]),
            (Conflict, ThisChange, "TargetHasEip", &["InvalidAssociation.Duplicated"]),
            (Conflict, ThisChange, "OperationConflict", &["TaskConflict"]),
            (Conflict, ThisChange, "TargetNotReady", &["IncorrectInstanceStatus", "InvalidBindingStatus", "InvalidStatus.EcsStatusNotSupport", "InvalidStatus.EniStatusNotSupport", "InvalidStatus.NotAllow", "OperationFailed.EcsMigrating"]),
            (Conflict, Gateway, "GatewayNotReady", &["IncorrectStatus.NatGateway"]),
            (Permanent, ThisChange, "TargetHasPublicBandwidth", &["InvalidStatus.InstanceHasBandWidth"]),
            (Conflict, ThisChange, "TargetHasForwardEntryOrEip", &["BIND_INSTANCE_HAVE_PORTMAP_OR_BIND_EIP"]),
            (Permanent, ThisChange, "TargetHasPublicIp", &["EIP_CAN_NOT_ASSOCIATE_WITH_PUBLIC_IP"]),
            (Quota, ThisChange, "TargetEipQuotaExceeded", &["InvalidEip.EipQuotaExceeded"]),
            (Quota, Gateway, "VSwitchAddressesUsedUp", &["OperationDenied.NoAvailablePrivateIp"]),
            (Permanent, ThisChange, "BindModeRefused", &["OperationDenied.UnsupportedEipBindMode", "Mode.Conflict", "OperationFailed.EipBindModeConflict"]),
            (Permanent, ThisChange, "VpcHasIpv4Gateway", &["OperationDenied.Ipv4GatewayExist", "OperationDenied.VpcIpv4GatewayEnabled"]),
            (Permanent, ThisChange, "InvalidParameter", &["InvalidParameter.Mismatch", "InvalidInstanceType.ValueNotSupported", "Invalid.DirectEip.BindType"]),
            (Permanent, ThisChange, "TargetHasEip", &["ResourceAlreadyAssociated.IpAddress"]),
            (Permanent, ThisChange, "OperationDenied", &["OperationDenied"]),
            (Denied, ThisChange, "PermissionDenied", &["Forbbiden"]),
            (Denied, Account, "FinancialLocked", &["Forbidden.FinancialLocked"]),
            (Denied, ThisChange, "FinancialLocked", &["InvalidEIPStatus.BizDisabled"]),
        ],
    },
    Answers {
        // For a gateway as target, where an operator binds the EIP.
        action: "AssociateEipAddress",
        mean: &[
            (Quota, Gateway, "TargetEipQuotaExceeded", &["QuotaExceeded.NumberOfEip", "QuotaExceeded.NumberOfTrafficEip"]),
            (Permanent, ThisChange, "BindModeRefused", &["Forbidden.EipCanNotBindGatgw"]),
            (Denied, Gateway, "FinancialLocked", &["NATGATEWAY_FINANCIALLOCKED"]),
        ],
    },
    Answers {
        action: "UnassociateEipAddress",
        mean: &[
            (NotFound, ThisChange, "EipNotFound", &["InvalidAllocationId.NotFound"]),
            (Conflict, ThisChange, "EipNotReady", &["IncorrectEipStatus"]),
            (Conflict, ThisChange, "EipUsedByForwardEntry", &["InvalidIpStatus.HasBeenUsedByForwardEntry"]),
            (Conflict, ThisChange, "EipUsedBySnat", &["InvalidIpStatus.HasBeenUsedBySnatTable", "DependencyViolation.SnatEntry"]),
            (Conflict, Entry, "EntryNotReady", &["InvalidStatus.SnatOrDnat"]),
            (Conflict, ThisChange, "OperationConflict", &["TaskConflict"]),
            (Conflict, ThisChange, "TargetNotReady", &["InvalidBindingStatus", "IncorrectInstanceStatus"]),
            (Transient, Account, "CloudBusy", &["OperationFailed.SystemBusy"]),
            (AlreadyDone, ThisChange, "NotBound", &["InvalidInstanceId.NotFound", "InvalidBindInstance.NotFound"]),
            (Permanent, ThisChange, "OperationDenied", &["OperationDenied"]),
            (Denied, ThisChange, "PermissionDenied", &["Forbbiden"]),
        ],
    },
    Answers {
        action: "ReleaseEipAddress",
        mean: &[
            (NotFound, ThisChange, "EipNotFound", &["InvalidAllocationId.NotFound"]),
            (Conflict, ThisChange, "EipNotReady", &["IncorrectEipStatus"]),
            (Permanent, ThisChange, "EipIsPrePaid", &["Forbidden.ChargeTypeIsPrepaid"]),
            (Permanent, ThisChange, "DeletionProtection", &["InvalidOperation.DeletionProtection"]),
            (Permanent, ThisChange, "EipOfSegment", &["Forbidden.ReleaseSegmentEip"]),
            (Permanent, ThisChange, "EipServiceManaged", &["OperationUnsupported.ServiceManaged"]),
            (Conflict, ThisChange, "OperationConflict", &["TaskConflict.AssociateGlobalAccelerationInstance"]),
            (Denied, ThisChange, "PermissionDenied", &["Forbbiden"]),
            (Transient, ThisChange, "CloudInternalError", &["InternalError"]),
        ],
    },
    Answers {
        action: "ModifyEipAddressAttribute",
        mean: &[
            (NotFound, ThisChange, "EipNotFound", &["InvalidAllocationId.NotFound"]),
            (Conflict, ThisChange, "EipNotReady", &["IncorrectEipStatus", "IncorrectStatus.ResourceStatus"]),
            (Permanent, ThisChange, "InvalidParameter", &["InvalidParameter"]),
            (Denied, Account, "InsufficientBalance", &["InsufficientBalance.Eip"]),
            (Conflict, ThisChange, "OperationConflict", &["VPC_TASK_CONFLICT"]),
        ],
    },
    Answers {
        action: "AddCommonBandwidthPackageIp",
        mean: &[
            (AlreadyDone, ThisChange, "AlreadyInBandwidthPackage", &["IpInstanceId.AlreadyInBandwidthPackage", "EIP_ALREADY_IN_BANDWIDTHPACKAGE"]),
            (Permanent, ThisChange, "EipIsPrePaid", &["IpInstanceId.ChargeType.NotSupport"]),
            (Quota, ThisChange, "BandwidthPackageFull", &["IpInstanceId.QuotaExceeded"]),
            (Conflict, ThisChange, "OperationConflict", &["EipOperation.TooFrequently", "TaskConflict", "OperationFailed.DistibuteLock", "BandwidthPackageOperation.conflict"]),
            (Conflict, ThisChange, "EipNotReady", &["IncorrectStatus.Eip"]),
            (Denied, ThisChange, "FinancialLocked", &["InvalidEIPStatus.BizDisabled", "BandwidthPackageId.InvalidBizStatus"]),
            (Conflict, ThisChange, "SomethingNotFound", &["InvalidBandwidthPackageId.NotFound", "InvalidIpInstanceId.NotFound"]),
        ],
    },
    Answers {
        action: "RemoveCommonBandwidthPackageIp",
        mean: &[
            (AlreadyDone, ThisChange, "NotInBandwidthPackage", &["OperationUnsupported.IpNotInCbwp"]),
            (Conflict, ThisChange, "OperationConflict", &["EipOperation.TooFrequently"]),
        ],
    },
    Answers {
        action: "TagResources",
        mean: &[
            (Conflict, ThisChange, "SomethingNotFound", &["InvalidResourceId.NotFound", "InvalidResourceType.NotFound"]),
            (Permanent, ThisChange, "CloudRefused", &["NumberExceed.ResourceIds", "NumberExceed.Tags"]),
            (Quota, ThisChange, "QuotaExceeded", &["QuotaExceeded.TagNum"]),
        ],
    },
    Answers {
        action: "DescribeNatGateways",
        mean: &[
            (NotFound, Gateway, "GatewayNotFound", &["InvalidNatGatewayId.NotFound"]),
            (Permanent, Account, "InvalidRegion", &["InvalidRegionId.NotFound"]),
        ],
    },
    Answers {
        // A deleted gateway is an empty list here, and no error.
        action: "DescribeForwardTableEntries",
        mean: &[
            (Conflict, Entry, "EntryNotReady", &["IncorretForwardEntryStatus"]),
            (Permanent, ThisChange, "InvalidParameter", &["DESCRIBE_FORWARD_PARAM_INVALID"]),
            (Permanent, Account, "InvalidRegion", &["InvalidRegionId.NotFound"]),
        ],
    },
    Answers {
        action: "CreateForwardEntry",
        mean: &[
            (Conflict, Entry, "EntryNotReady", &["IncorretForwardEntryStatus"]),
            (Conflict, Gateway, "OperationConflict", &["OperationConflict", "TaskConflict"]),
            (Conflict, Gateway, "GatewayNotReady", &["IncorrectStatus.NATGW"]),
            (Conflict, ThisChange, "AddressNotOnGateway", &["OperationUnsupported.EipInBinding", "OperationUnsupported.EipNatGWCheck", "InvalidIp.NotInNatgw", "InvalidExternalIp.NotFound"]),
            (Permanent, ThisChange, "InvalidParameter", &["InvalidExternalIp.Malformed", "InvalidInternalIp.Malformed", "InvalidExternalPort.Malformed", "InvalidInternalPort.Malformed", "InvalidProtocal.ValueNotSupported", "InvalidParameter.Name.Malformed", "MissingParameter"]),
            (Permanent, ThisChange, "AddressOutsideVpc", &["Forbidden.DestnationIpOutOfVpcCIDR", "Forbidden.InternalIpOutOfVpcCIDR"]),
            (Permanent, ThisChange, "EipUsedBySnat", &["Forbidden.ExternalIp.UsedInSnatTable"]),
            (Permanent, ThisChange, "TargetHasEip", &["Forbindden"]),
            (NotFound, Gateway, "GatewayNotFound", &["Invalid.natgwNotExist"]),
            (Quota, Gateway, "EntryQuotaExceeded", &["QuotaExceeded"]),
            (Permanent, ThisChange, "PortTaken", &["OperationUnsupported.ForwardEntry", "Forbidden.Already.Bounded"]),
            (NotFound, Gateway, "ForwardTableNotFound", &["InvalidForwardTableId.NotFound"]),
            (Permanent, Account, "InvalidRegion", &["InvalidRegionId.NotFound"]),
            (Transient, ThisChange, "CloudInternalError", &["InternalError"]),
        ],
    },
    Answers {
        action: "DeleteForwardEntry",
        mean: &[
            (NotFound, Entry, "ForwardEntryNotFound", &["InvalidForwardEntryId.NotFound", "ResourceNotFound.ForwardEntry"]),
            (NotFound, Gateway, "ForwardTableNotFound", &["InvalidForwardTableId.NotFound"]),
            (Conflict, Entry, "EntryNotReady", &["IncorretForwardEntryStatus", "IncorrectStatus.ForwardEntry"]),
            (Conflict, Gateway, "GatewayNotReady", &["IncorrectStatus.NATGW"]),
            (Conflict, Gateway, "OperationConflict", &["OperationConflict"]),
            (Transient, ThisChange, "CloudInternalError", &["UnknownError"]),
        ],
    },
    Answers {
        action: "ModifyForwardEntry",
        mean: &[
            (NotFound, Entry, "ForwardEntryNotFound", &["InvalidForwardEntryId.NotFound"]),
            (Conflict, ThisChange, "AddressNotOnGateway", &["OperationUnsupported.EipInBinding"]),
            (Conflict, Entry, "EntryNotReady", &["IncorretForwardEntryStatus"]),
            (Quota, Gateway, "EntryQuotaExceeded", &["QuotaExceeded"]),
            (Permanent, ThisChange, "PortTaken", &["Forbidden.Already.Bounded"]),
        ],
    },
];

#[tokio::test]
async fn every_code_means_what_the_table_says() -> Result<()> {
    let simulator = Simulator::start(&["--profile", "instant"]).await?;
    let mut wrong = Vec::new();
    let mut expected: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    for Answers { action, mean } in TABLE {
        for (class, scope, reason, code) in mean.iter().flat_map(|(class, scope, reason, codes)| {
            codes.iter().map(move |code| (class, scope, reason, code))
        }) {
            simulator.fault(action, "error", json!({"code": code})).await;
            *expected.entry(action).or_default().entry(code).or_default() += 1;
            // A new client for each, so that the pacing learned from one answer does not delay the
            // next call.
            let error = ask(&simulator.cloud_with(Unlimited), &simulator, action).await;
            let seen =
                (error.code(), error.class(), error.scope(), error.reason(), error.is_definite());
            let is_definite = !matches!(class, Transient | Throttled | Processing);
            if seen != (Some(*code), *class, Some(*scope), *reason, is_definite)
                || error.request_id().is_none()
            {
                wrong.push(format!("{action} {code}: {seen:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(
        simulator.admin("/calls").await["errors"],
        serde_json::to_value(expected)?,
        "GET /calls counts by action and code"
    );
    Ok(())
}

/// Calls an action once. The resource does not matter, because the injected fault refuses first.
async fn ask(cloud: &Cloud, simulator: &Simulator, action: &str) -> Error {
    let outcome = match action {
        "TagResources" => {
            cloud.tag_resources("EIP", &["eip-1"], &[("k".to_owned(), "v".to_owned())].into()).await
        }
        "DescribeEipAddresses" => cloud.eip_by_id(&eip()).await.map(drop),
        "DescribeNatGateways" => cloud.nat_gateway(&simulator.gateway()).await.map(drop),
        "DescribeForwardTableEntries" => {
            cloud.forward_entries(&simulator.gateway()).await.map(drop)
        }
        _ => cloud
            .send_change(&change(simulator, action), Some(&token()), soon(), PATIENCE)
            .await
            .map(drop),
    };
    outcome.expect_err(action)
}

fn eip() -> AllocationId {
    AllocationId::new("eip-1")
}

fn change(simulator: &Simulator, action: &str) -> Change {
    let (allocation_id, eni_id, private_ip) = (eip(), EniId::new("eni-1"), [10, 1, 0, 21].into());
    let (package_id, entry_id, forward) =
        (BandwidthPackageId::new("cbwp-1"), ForwardEntryId::new("fwd-1"), simulator.forward(0));
    match action {
        "AllocateEipAddress" => {
            Change::AllocateEipAddress { spec: EipSpec::default(), tags: BTreeMap::new() }
        }
        "AllocateEipAddressPro" => Change::AllocateEipAddressPro {
            ip_address: [203, 0, 113, 1].into(),
            spec: EipSpec::default(),
            tags: BTreeMap::new(),
        },
        "AssociateEipAddress" => Change::AssociateEipAddress { allocation_id, eni_id, private_ip },
        "UnassociateEipAddress" => {
            Change::UnassociateEipAddress { allocation_id, eni_id, private_ip }
        }
        "ReleaseEipAddress" => Change::ReleaseEipAddress { allocation_id },
        "ModifyEipAddressAttribute" => Change::ModifyEipAddressAttribute {
            allocation_id,
            bandwidth: Some(5),
            name: None,
            description: None,
        },
        "AddCommonBandwidthPackageIp" => {
            Change::AddCommonBandwidthPackageIp { allocation_id, package_id }
        }
        "RemoveCommonBandwidthPackageIp" => {
            Change::RemoveCommonBandwidthPackageIp { allocation_id, package_id }
        }
        "CreateForwardEntry" => Change::CreateForwardEntry(forward),
        "ModifyForwardEntry" => Change::ModifyForwardEntry { entry_id, forward },
        "DeleteForwardEntry" => Change::DeleteForwardEntry { table_id: forward.table_id, entry_id },
        _ => panic!("no test calls {action}"),
    }
}
