//! From a call to its action: the table of what this API knows, and what every action has in
//! common.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::{Cloud, Outcome};
use crate::{params::Params, refusal::Refusal};

/// A call with a verified signature.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Name of the action, such as `CreateForwardEntry`.
    pub action: &'a str,
    /// API version, such as `2016-04-28`.
    pub version: &'a str,
    /// All other parameters, query and form together.
    pub params: &'a Params,
    /// The access key that signed; none for anonymous actions.
    pub caller: Option<&'a str>,
}

/// An answer, and how long after the call it comes.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The body without its `RequestId`, or the refusal.
    pub outcome: Outcome,
    /// Time from the call's arrival to its answer.
    pub latency: Duration,
}

/// The call as its action sees it.
pub(super) struct Context<'a> {
    pub(super) params: &'a Params,
    /// The key that signed.
    pub(super) caller: Option<&'a str>,
    /// When the caller will have the answer; until then the resource is busy.
    pub(super) answered_at: Timestamp,
}

const VPC: (&str, &str) = ("Vpc", "2016-04-28");
const ECS: (&str, &str) = ("Ecs", "2014-05-26");
const STS: (&str, &str) = ("Sts", "2015-04-01");

/// Parameters that are not part of what is asked for; two calls that differ only here are the same
/// operation.
pub const META_PARAMS: &[&str] = &[
    "Action",
    "Version",
    "Format",
    "Timestamp",
    "SignatureNonce",
    "SignatureMethod",
    "SignatureVersion",
    "SignatureType",
    "AccessKeyId",
    "SecurityToken",
    "Signature",
    "ClientToken",
    "OwnerId",
    "OwnerAccount",
    "ResourceOwnerId",
    "ResourceOwnerAccount",
];

/// A row of the documentation's tables of actions.
struct Spec {
    name: &'static str,
    product: (&'static str, &'static str),
    required: &'static [&'static str],
    extras: ExtraParams,
    run: fn(&mut Cloud, &Context<'_>) -> Outcome,
}

/// Which of `ClientToken` and `DryRun` an action accepts, or that it needs no signature.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ExtraParams {
    Neither,
    Anonymous,
    Token,
    DryRun,
    Both,
}

macro_rules! spec {
    ($product:expr, $name:literal, $run:ident, $extras:ident, [$($required:literal),*]) => {
        Spec { name: $name, product: $product, required: &[$($required),*], extras: ExtraParams::$extras, run: Cloud::$run }
    };
}

const SPECS: &[Spec] = &[
    spec!(VPC, "AllocateEipAddress", allocate_eip_address, Token, ["RegionId"]),
    spec!(VPC, "DescribeEipAddresses", describe_eip_addresses, DryRun, ["RegionId"]),
    spec!(VPC, "AssociateEipAddress", associate_eip_address, Token, ["AllocationId", "InstanceId"]),
    spec!(VPC, "UnassociateEipAddress", unassociate_eip_address, Token, ["AllocationId"]),
    spec!(VPC, "ReleaseEipAddress", release_eip_address, Neither, ["AllocationId"]),
    spec!(
        VPC,
        "ModifyEipAddressAttribute",
        modify_eip_address_attribute,
        Neither,
        ["AllocationId"]
    ),
    spec!(VPC, "TagResources", tag_resources, Neither, ["RegionId", "ResourceType"]),
    spec!(VPC, "UnTagResources", untag_resources, Neither, ["RegionId", "ResourceType"]),
    spec!(VPC, "ListTagResources", list_tag_resources, Neither, ["RegionId", "ResourceType"]),
    spec!(VPC, "DescribeNatGateways", describe_nat_gateways, DryRun, ["RegionId"]),
    spec!(
        VPC,
        "DescribeForwardTableEntries",
        describe_forward_table_entries,
        Neither,
        ["RegionId"]
    ),
    spec!(
        VPC,
        "CreateForwardEntry",
        create_forward_entry,
        Both,
        [
            "RegionId",
            "ForwardTableId",
            "ExternalIp",
            "ExternalPort",
            "InternalIp",
            "InternalPort",
            "IpProtocol"
        ]
    ),
    spec!(
        VPC,
        "ModifyForwardEntry",
        modify_forward_entry,
        Both,
        ["RegionId", "ForwardTableId", "ForwardEntryId"]
    ),
    spec!(
        VPC,
        "DeleteForwardEntry",
        delete_forward_entry,
        Token,
        ["RegionId", "ForwardTableId", "ForwardEntryId"]
    ),
    spec!(VPC, "DescribeVSwitches", describe_v_switches, DryRun, []),
    spec!(VPC, "DescribeVpcs", describe_vpcs, DryRun, ["RegionId"]),
    spec!(VPC, "AllocateEipAddressPro", allocate_eip_address_pro, Token, ["RegionId"]),
    spec!(
        VPC,
        "AssociateEipAddressBatch",
        associate_eip_address_batch,
        Token,
        ["RegionId", "BindedInstanceId", "BindedInstanceType"]
    ),
    spec!(
        VPC,
        "AddCommonBandwidthPackageIp",
        add_to_package,
        Both,
        ["RegionId", "BandwidthPackageId", "IpInstanceId"]
    ),
    spec!(
        VPC,
        "AddCommonBandwidthPackageIps",
        add_many_to_package,
        Token,
        ["RegionId", "BandwidthPackageId"]
    ),
    spec!(
        VPC,
        "RemoveCommonBandwidthPackageIp",
        remove_from_package,
        Both,
        ["RegionId", "BandwidthPackageId", "IpInstanceId"]
    ),
    spec!(VPC, "DescribeCommonBandwidthPackages", describe_packages, DryRun, ["RegionId"]),
    spec!(
        VPC,
        "GetNatGatewayAttribute",
        get_nat_gateway_attribute,
        Neither,
        ["RegionId", "NatGatewayId"]
    ),
    spec!(VPC, "DescribeSnatTableEntries", describe_snat_table_entries, Neither, ["RegionId"]),
    spec!(VPC, "DescribeRouteTableList", describe_route_table_list, Neither, ["RegionId"]),
    spec!(
        VPC,
        "DescribeRouteEntryList",
        describe_route_entry_list,
        Neither,
        ["RegionId", "RouteTableId"]
    ),
    spec!(ECS, "DescribeNetworkInterfaces", describe_network_interfaces, Neither, ["RegionId"]),
    spec!(
        ECS,
        "DescribeSecurityGroupAttribute",
        describe_security_group_attribute,
        Neither,
        ["RegionId", "SecurityGroupId"]
    ),
    spec!(STS, "AssumeRole", assume_role, Neither, ["RoleArn", "RoleSessionName"]),
    spec!(STS, "AssumeRoleWithOIDC", assume_role_with_oidc, Anonymous, ["RoleSessionName"]),
    spec!(STS, "GetCallerIdentity", get_caller_identity, Neither, []),
];

/// The product a known action belongs to.
pub fn product_of(action: &str) -> Option<&'static str> {
    SPECS.iter().find(|spec| spec.name == action).map(|spec| spec.product.0)
}

impl Cloud {
    /// Answers a call that arrives at `now`. The answer is in effect at once; the caller has it
    /// after the latency.
    pub fn handle_call(&mut self, call: &Call<'_>, now: Timestamp) -> Reply {
        self.advance_to(now);
        let latency = self.draw_duration(self.pace.call);
        Reply { outcome: self.answer_call(call, latency), latency }
    }

    /// Answers from a copy made earlier, as if no time had passed since. The caller's rights are
    /// checked against the present.
    pub fn handle_in_the_past(&self, past: &Self, call: &Call<'_>) -> Reply {
        let mut past = past.clone();
        past.keys.clone_from(&self.keys);
        let then = past.now;
        past.handle_call(call, then)
    }

    fn answer_call(&mut self, call: &Call<'_>, latency: Duration) -> Outcome {
        let spec = find_spec(call)?;
        match call.caller {
            Some(key) => self.authorise(key, spec.product.0, spec.name)?,
            None if spec.extras == ExtraParams::Anonymous => {}
            None => {
                return Err(Refusal::bad_request(
                    "IncompleteSignature",
                    "The request is not signed.",
                ));
            }
        }
        self.rates.admit_call(spec.name, self.pace.rates, self.now)?;
        self.check_common(spec, call.params)?;
        let context =
            Context { params: call.params, caller: call.caller, answered_at: self.now + latency };
        match call.params.get("ClientToken") {
            Some(token) if matches!(spec.extras, ExtraParams::Token | ExtraParams::Both) => {
                self.answer_once(spec, token, &context)
            }
            _ => (spec.run)(self, &context),
        }
    }

    fn check_common(&self, spec: &Spec, params: &Params) -> Result<(), Refusal> {
        if let Some(missing) = spec.required.iter().find(|name| params.get(name).is_none()) {
            return Err(Refusal::missing_parameter(missing));
        }
        if params.get("RegionId").is_some_and(|region| region != self.topology.region) {
            return Err(Refusal::not_found(
                "InvalidRegionId.NotFound",
                "The specified RegionId does not exist.",
            ));
        }
        if params.get_bool("DryRun")
            && matches!(spec.extras, ExtraParams::DryRun | ExtraParams::Both)
        {
            return Err(Refusal::bad_request(
                "DryRunOperation",
                "Request validation has been passed with DryRun flag set.",
            ));
        }
        Ok(())
    }

    fn answer_once(&mut self, spec: &Spec, token: &str, context: &Context<'_>) -> Outcome {
        if token.len() > 64 || !token.is_ascii() {
            return Err(Refusal::invalid_parameter("ClientToken"));
        }
        let parameters = context.params.pairs_without(META_PARAMS);
        if let Some(outcome) = self.tokens.recall_answer(spec.name, token, &parameters, self.now) {
            return outcome;
        }
        let outcome = (spec.run)(self, context);
        if outcome.as_ref().err().is_none_or(Refusal::is_definite) {
            self.tokens.store_answer(
                spec.name,
                token,
                parameters,
                outcome.clone(),
                context.answered_at,
            );
        }
        outcome
    }
}

/// Runs an action as the console would, past rates, policies and tokens.
pub(super) fn run_unchecked(cloud: &mut Cloud, action: &str, params: &Params) -> Outcome {
    let spec = SPECS.iter().find(|spec| spec.name == action);
    let spec = spec
        .ok_or_else(|| Refusal::not_found("InvalidAction.NotFound", "There is no such action."))?;
    let answered_at = cloud.now;
    (spec.run)(cloud, &Context { params, caller: None, answered_at })
}

fn find_spec(call: &Call<'_>) -> Result<&'static Spec, Refusal> {
    let named = SPECS.iter().filter(|spec| spec.name == call.action);
    if let Some(spec) = named.clone().find(|spec| spec.product.1 == call.version) {
        return Ok(spec);
    }
    if named.count() > 0 {
        return Err(Refusal::bad_request(
            "NoSuchVersion",
            format!("Specified api version {:?} does not exist.", call.version),
        ));
    }
    Err(Refusal::not_found(
        "InvalidAction.NotFound",
        "Specified api is not found, please check your url and method.",
    ))
}

/// Puts the request's id into an answer.
pub fn with_request_id(mut body: Value, request_id: &str) -> Value {
    body["RequestId"] = Value::from(request_id);
    body
}
