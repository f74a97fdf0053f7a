//! A node's metadata service, as far as RAM roles go: version 2 by a token, version 1 without.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, put},
};
use jiff::SignedDuration;

use super::Simulator;

/// The role of every node.
pub const ROLE: &str = "waygate-worker";

/// How long its keys live.
const LIFETIME: SignedDuration = SignedDuration::from_hours(6);

/// The longest a session token may be asked to live, in seconds.
const LONGEST_TTL: u32 = 21_600;

/// The one token there is. It proves that the caller can set a header, which is all it proves in the original.
const TOKEN: &str = "simulated-metadata-token";

/// The service's routes.
pub fn router(simulator: Arc<Simulator>) -> Router {
    Router::new()
        .route("/latest/api/token", put(token))
        .route("/latest/meta-data/ram/security-credentials/", get(role))
        .route("/latest/meta-data/ram/security-credentials/{role}", get(credentials))
        .with_state(simulator)
}

async fn token(headers: HeaderMap) -> Response {
    let ttl = headers.get("x-aliyun-ecs-metadata-token-ttl-seconds").and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
    match ttl {
        Some(1..=LONGEST_TTL) => TOKEN.into_response(),
        _ => StatusCode::BAD_REQUEST.into_response(),
    }
}

/// A wrong token is refused; none at all is version 1.
fn check(headers: &HeaderMap) -> Result<(), StatusCode> {
    match headers.get("x-aliyun-ecs-metadata-token") {
        Some(token) if token != TOKEN => Err(StatusCode::FORBIDDEN),
        _ => Ok(()),
    }
}

async fn role(headers: HeaderMap) -> Response {
    check(&headers).map(|()| ROLE).into_response()
}

async fn credentials(State(simulator): State<Arc<Simulator>>, Path(role): Path<String>, headers: HeaderMap) -> Response {
    if let Err(status) = check(&headers) {
        return status.into_response();
    }
    if role != ROLE {
        return StatusCode::NOT_FOUND.into_response();
    }
    Json(simulator.cloud().metadata_credentials(&role, LIFETIME)).into_response()
}
