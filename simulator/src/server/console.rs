//! `POST /console/…`: changes that another user makes at the cloud's console while Waygate is at
//! work.
//!
//! Bodies are JSON with the API's parameter names in lower camel case; the answer has the API's own
//! fields, or the code and message it refused with. Changes take effect at once, passing states
//! skipped:
//!
//! - `allocate-eip`, `associate-eip`, `unassociate-eip`, `unbind-gateway-eip` (entries go with it),
//!   `release-eip`, `tag-resources`, `untag-resources`, `create-`, `modify-`,
//!   `delete-forward-entry`, `add-to-`, `remove-from-bandwidth-package`: the API's parameters;
//! - `quota {eips?, entriesPerGateway?, eipsPerGateway?, natGatewayId?}`, `delete-nat-gateway
//!   {natGatewayId}`, `lock-nat-gateway {natGatewayId, locked?}`, `detach-eni
//!   {networkInterfaceId}`, `announce {ips}`, `pace {call?, association?, release?, entryPending?,
//!   entryDeleting?, package?, interfaceVisible?, inBinding?, oneWriter?, stableEntriesOnly?}`
//!   (spans are `[from, to]` in ms), `snat-entry {natGatewayId, snatIp, sourceCIDR?}`,
//!   `delete-snat-entry {snatEntryId}`, `security-group {permissions}`;
//! - `time {advanceMs}` moves the cloud's clock (states, rates, temporary keys), not the one
//!   signatures are checked by;
//! - `policy {accessKeyId?, denied}`, `access-key {accessKeyId, accessKeySecret?, inactive?,
//!   accountId?}`: of another account, it sees nothing of what is here.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{respond::error_response, state::Simulator};
use crate::{
    cloud::{Outcome, Quotas},
    params::Params,
    refusal::Refusal,
};

type Shared = State<Arc<Simulator>>;

/// Routes under `/console`.
pub(super) fn console_routes() -> Router<Arc<Simulator>> {
    Router::new()
        .route("/console/quota", post(set_quota))
        .route("/console/pace", post(set_pace))
        .route("/console/delete-nat-gateway", post(delete_gateway))
        .route("/console/lock-nat-gateway", post(lock_gateway))
        .route("/console/detach-eni", post(detach_interface))
        .route("/console/announce", post(announce_pods))
        .route("/console/snat-entry", post(create_snat_entry))
        .route("/console/delete-snat-entry", post(delete_snat_entry))
        .route("/console/security-group", post(set_security_group))
        .route("/console/time", post(advance_time))
        .route("/console/policy", post(set_policy))
        .route("/console/access-key", post(set_access_key))
        .route("/console/{deed}", post(run_operation))
}

/// Maps the console operations that are actions of the API.
fn action_of(deed: &str) -> Option<&'static str> {
    Some(match deed {
        "allocate-eip" => "AllocateEipAddress",
        "associate-eip" => "AssociateEipAddress",
        "unassociate-eip" | "unbind-gateway-eip" => "UnassociateEipAddress",
        "release-eip" => "ReleaseEipAddress",
        "tag-resources" => "TagResources",
        "untag-resources" => "UnTagResources",
        "create-forward-entry" => "CreateForwardEntry",
        "modify-forward-entry" => "ModifyForwardEntry",
        "delete-forward-entry" => "DeleteForwardEntry",
        "add-to-bandwidth-package" => "AddCommonBandwidthPackageIp",
        "remove-from-bandwidth-package" => "RemoveCommonBandwidthPackageIp",
        _ => return None,
    })
}

async fn run_operation(
    State(simulator): Shared,
    Path(deed): Path<String>,
    Json(body): Json<BTreeMap<String, Value>>,
) -> Response {
    let Some(action) = action_of(&deed) else {
        return error_response(StatusCode::NOT_FOUND, "the console does no such thing");
    };
    let mut pairs = flatten_body(body);
    if action == "UnassociateEipAddress" {
        pairs.push(("Force".to_owned(), "true".to_owned()));
    }
    respond_outcome(simulator.lock_cloud().apply_as_console(action, &Params::new(pairs)))
}

fn respond_outcome(outcome: Outcome) -> Response {
    match outcome {
        Ok(body) => Json(body).into_response(),
        Err(refusal) => {
            let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
            (status, Json(json!({"error": refusal.code, "message": refusal.message})))
                .into_response()
        }
    }
}

/// JSON in camel case to RPC parameters: `{"tag":[{"key":"k"}]}` is `Tag.1.Key=k`.
fn flatten_body(body: BTreeMap<String, Value>) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for (name, value) in body {
        flatten_into(capitalise(&name), value, &mut pairs);
    }
    pairs
}

fn flatten_into(name: String, value: Value, pairs: &mut Vec<(String, String)>) {
    match value {
        Value::Null => {}
        Value::String(text) => pairs.push((name, text)),
        Value::Array(items) => {
            for (index, item) in items.into_iter().enumerate() {
                flatten_into(format!("{name}.{}", index + 1), item, pairs);
            }
        }
        Value::Object(fields) => {
            for (field, value) in fields {
                flatten_into(format!("{name}.{}", capitalise(&field)), value, pairs);
            }
        }
        Value::Bool(_) | Value::Number(_) => pairs.push((name, value.to_string())),
    }
}

fn capitalise(name: &str) -> String {
    let mut letters = name.chars();
    letters
        .next()
        .map(|first| first.to_ascii_uppercase().to_string() + letters.as_str())
        .unwrap_or_default()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct QuotaRequest {
    eips: Option<usize>,
    entries_per_gateway: Option<usize>,
    eips_per_gateway: Option<usize>,
    /// With it, `entriesPerGateway` is this gateway's alone.
    nat_gateway_id: Option<String>,
}

async fn set_quota(State(simulator): Shared, Json(wish): Json<QuotaRequest>) -> Response {
    let mut cloud = simulator.lock_cloud();
    let old = cloud.quotas();
    let for_all = wish.entries_per_gateway.filter(|_| wish.nat_gateway_id.is_none());
    cloud.set_quotas(Quotas {
        eips: wish.eips.unwrap_or(old.eips),
        entries_per_gateway: for_all.unwrap_or(old.entries_per_gateway),
        eips_per_gateway: wish.eips_per_gateway.unwrap_or(old.eips_per_gateway),
    });
    respond_outcome(match (wish.nat_gateway_id, wish.entries_per_gateway) {
        (Some(gateway), Some(entries)) => cloud.set_entry_quota(&gateway, entries),
        _ => Ok(json!({})),
    })
}

/// Spans in milliseconds; omitted fields stay as they are.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PaceRequest {
    call: Option<[u32; 2]>,
    association: Option<[u32; 2]>,
    release: Option<[u32; 2]>,
    entry_pending: Option<[u32; 2]>,
    entry_deleting: Option<[u32; 2]>,
    package: Option<[u32; 2]>,
    interface_visible: Option<u32>,
    in_binding: Option<u32>,
    one_writer: Option<bool>,
    stable_entries_only: Option<bool>,
}

async fn set_pace(State(simulator): Shared, Json(wish): Json<PaceRequest>) -> Json<Value> {
    let mut cloud = simulator.lock_cloud();
    let pace = cloud.pace_mut();
    let millis = |ms: u32| Duration::from_millis(u64::from(ms));
    for (span, wished) in [
        (&mut pace.call, wish.call),
        (&mut pace.association, wish.association),
        (&mut pace.release, wish.release),
        (&mut pace.entry_pending, wish.entry_pending),
        (&mut pace.entry_deleting, wish.entry_deleting),
        (&mut pace.package, wish.package),
    ] {
        *span = wished.map_or(*span, |[from, to]| (millis(from), millis(to)));
    }
    pace.interface_visible = wish.interface_visible.map_or(pace.interface_visible, millis);
    pace.in_binding = wish.in_binding.map_or(pace.in_binding, millis);
    pace.one_writer = wish.one_writer.unwrap_or(pace.one_writer);
    pace.stable_entries_only = wish.stable_entries_only.unwrap_or(pace.stable_entries_only);
    Json(json!({}))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GatewayRequest {
    nat_gateway_id: String,
    locked: Option<bool>,
}

async fn delete_gateway(State(simulator): Shared, Json(wish): Json<GatewayRequest>) -> Response {
    respond_outcome(simulator.lock_cloud().delete_nat_gateway(&wish.nat_gateway_id))
}

async fn lock_gateway(State(simulator): Shared, Json(wish): Json<GatewayRequest>) -> Response {
    respond_outcome(
        simulator.lock_cloud().lock_nat_gateway(&wish.nat_gateway_id, wish.locked.unwrap_or(true)),
    )
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct InterfaceRequest {
    network_interface_id: String,
}

async fn detach_interface(
    State(simulator): Shared,
    Json(wish): Json<InterfaceRequest>,
) -> Response {
    respond_outcome(
        simulator.lock_cloud().detach_interface(&wish.network_interface_id).map(|()| json!({})),
    )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Announcement {
    ips: Vec<Ipv4Addr>,
}

async fn announce_pods(
    State(simulator): Shared,
    Json(announcement): Json<Announcement>,
) -> Json<Value> {
    let mut cloud = simulator.lock_cloud();
    for address in announcement.ips {
        cloud.announce_pod(address);
    }
    Json(json!({}))
}

async fn create_snat_entry(
    State(simulator): Shared,
    Json(body): Json<BTreeMap<String, Value>>,
) -> Response {
    respond_outcome(simulator.lock_cloud().create_snat_entry(&Params::new(flatten_body(body))))
}

async fn delete_snat_entry(
    State(simulator): Shared,
    Json(body): Json<BTreeMap<String, Value>>,
) -> Response {
    respond_outcome(simulator.lock_cloud().delete_snat_entry(&Params::new(flatten_body(body))))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    permissions: Vec<Value>,
}

async fn set_security_group(State(simulator): Shared, Json(rules): Json<Rules>) -> Json<Value> {
    simulator.lock_cloud().set_permissions(&rules.permissions);
    Json(json!({}))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TimeRequest {
    advance_ms: u32,
}

async fn advance_time(State(simulator): Shared, Json(wish): Json<TimeRequest>) -> Json<Value> {
    simulator.advance_clock(i64::from(wish.advance_ms));
    Json(json!({}))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PolicyRequest {
    /// Without it, the key printed at the start.
    access_key_id: Option<String>,
    /// Denied actions: `vpc:ReleaseEipAddress`, `ecs:*`. Replaces what was denied before.
    denied: Vec<String>,
}

async fn set_policy(State(simulator): Shared, Json(wish): Json<PolicyRequest>) -> Response {
    let mut cloud = simulator.lock_cloud();
    let id = wish
        .access_key_id
        .or_else(|| cloud.first_access_key().map(|key| key.id.clone()))
        .unwrap_or_default();
    respond_outcome(cloud.access_key_mut(&id).map(|key| {
        key.denied = wish.denied;
        json!({"accessKeyId": id})
    }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct KeyRequest {
    access_key_id: String,
    /// Needed for a new key.
    access_key_secret: Option<String>,
    inactive: Option<bool>,
    /// Account that the key belongs to from now on; that of the topology for a new key.
    account_id: Option<String>,
}

async fn set_access_key(State(simulator): Shared, Json(wish): Json<KeyRequest>) -> Response {
    let mut cloud = simulator.lock_cloud();
    if let Some(secret) = wish.access_key_secret {
        let account = wish.account_id.as_deref().unwrap_or(cloud.account_number());
        cloud.add_access_key(wish.access_key_id.clone(), secret, account);
    } else if let Some(account) = &wish.account_id
        && let Err(refusal) = cloud.pass_access_key(&wish.access_key_id, account)
    {
        return respond_outcome(Err(refusal));
    }
    let changed: Result<(), Refusal> = cloud.access_key_mut(&wish.access_key_id).map(|key| {
        key.is_inactive = wish.inactive.unwrap_or(false);
    });
    respond_outcome(changed.map(|()| json!({"accessKeyId": wish.access_key_id})))
}
