//! A node's metadata service, as far as RAM roles go: version 2 by a token, version 1 without.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, put},
};
use jiff::SignedDuration;

use super::state::Simulator;
use crate::profile::Protocols;

/// The role of every node.
pub(super) const ROLE: &str = "waygate-worker";

/// Lifetime of the role's keys.
const LIFETIME: SignedDuration = SignedDuration::from_hours(6);

/// The longest a session token may be asked to live, in seconds.
const LONGEST_TTL: u32 = 21_600;

/// The only session token. As in the original, a token proves only that the caller can set a
/// header.
const TOKEN: &str = "simulated-metadata-token";

/// Routes of the metadata service.
pub(super) fn metadata_routes(simulator: Arc<Simulator>, protocols: Protocols) -> Router {
    let sessions = Router::new().route("/latest/api/token", put(get_token));
    let roles = Router::new()
        .route("/latest/meta-data/ram/security-credentials/", get(get_role))
        .route("/latest/meta-data/ram/security-credentials/{role}", get(get_credentials))
        .route_layer(from_fn_with_state(protocols, check_token))
        .with_state(simulator);
    if protocols == Protocols::V1 { roles } else { roles.merge(sessions) }
}

async fn get_token(headers: HeaderMap) -> Response {
    let ttl = headers
        .get("x-aliyun-ecs-metadata-token-ttl-seconds")
        .and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
    match ttl {
        Some(1..=LONGEST_TTL) => TOKEN.into_response(),
        _ => StatusCode::BAD_REQUEST.into_response(),
    }
}

/// A wrong token is refused; none at all is version 1, to which a header more or less is nothing.
async fn check_token(State(protocols): State<Protocols>, request: Request, next: Next) -> Response {
    let token = request.headers().get("x-aliyun-ecs-metadata-token");
    let is_admitted = match protocols {
        Protocols::Both => token.is_none_or(|token| token == TOKEN),
        Protocols::V1 => true,
        Protocols::V2 => token.is_some_and(|token| token == TOKEN),
    };
    if is_admitted { next.run(request).await } else { StatusCode::FORBIDDEN.into_response() }
}

async fn get_role() -> &'static str {
    ROLE
}

async fn get_credentials(
    State(simulator): State<Arc<Simulator>>,
    Path(role): Path<String>,
) -> Response {
    if role != ROLE {
        return StatusCode::NOT_FOUND.into_response();
    }
    Json(simulator.lock_cloud().metadata_credentials(&role, LIFETIME)).into_response()
}
