//! The admin interface for tests: state, counts, faults, and changes as made at the cloud's
//! console. Unsigned, on a port of its own.
//!
//! | route | |
//! | --- | --- |
//! | `GET /state` | everything that exists, with the API's field names |
//! | `GET /calls`, `POST /calls/reset` | how often each action was called, and refused with which code |
//! | `POST /faults` | sets a fault, as `faults.rs` describes it, answers `{"id"}` |
//! | `GET /faults`, `DELETE /faults[/{id}]` | faults with their `hits`, `left` and `held` calls; ends them, and releases what they hold |
//! | `POST /faults/{id}/release` | lets the held answers of a fault go; it holds no further ones |
//! | `POST /console/…` | changes by another hand, see `console.rs`, whose routes share the port |

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use serde_json::{Value, json};

use super::{respond::error_response, state::Simulator};
use crate::{
    calls::Calls,
    faults::{FaultSpec, Kind},
};

type Shared = State<Arc<Simulator>>;

/// The admin's own routes.
pub(super) fn admin_routes() -> Router<Arc<Simulator>> {
    Router::new()
        .route("/state", get(get_state))
        .route("/calls", get(get_calls))
        .route("/calls/reset", post(reset_calls))
        .route("/faults", get(get_faults).post(set_fault).delete(clear_faults))
        .route("/faults/{id}", delete(remove_fault))
        .route("/faults/{id}/release", post(release_fault))
}

async fn get_state(State(simulator): Shared) -> Json<Value> {
    Json(simulator.lock_cloud().state())
}

async fn get_calls(State(simulator): Shared) -> Json<Calls> {
    Json(simulator.calls.lock().clone())
}

async fn reset_calls(State(simulator): Shared) -> Json<Value> {
    *simulator.calls.lock() = Calls::default();
    Json(json!({}))
}

async fn get_faults(State(simulator): Shared) -> Json<Value> {
    Json(simulator.faults.lock().list_faults())
}

async fn set_fault(State(simulator): Shared, Json(wanted): Json<FaultSpec>) -> Response {
    if wanted.kind == Kind::Error && wanted.code.is_none() {
        return error_response(StatusCode::BAD_REQUEST, "a fault of kind error needs a code");
    }
    if wanted.probability.is_some_and(|probability| !(0.0..=1.0).contains(&probability)) {
        return error_response(StatusCode::BAD_REQUEST, "a probability lies between 0 and 1");
    }
    let id = simulator.faults.lock().set_fault(wanted, &simulator.lock_cloud());
    Json(json!({"id": id})).into_response()
}

async fn clear_faults(State(simulator): Shared) -> Json<Value> {
    simulator.faults.lock().clear_faults();
    Json(json!({}))
}

async fn remove_fault(State(simulator): Shared, Path(id): Path<u64>) -> Response {
    respond_found(simulator.faults.lock().remove_fault(id))
}

async fn release_fault(State(simulator): Shared, Path(id): Path<u64>) -> Response {
    respond_found(simulator.faults.lock().release_fault(id))
}

fn respond_found(is_there: bool) -> Response {
    if is_there {
        Json(json!({})).into_response()
    } else {
        error_response(StatusCode::NOT_FOUND, "there is no such fault")
    }
}
