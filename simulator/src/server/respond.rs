//! Error responses of admin interface and console.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

/// A refusal in words, for the test that asked.
pub(super) fn error_response(status: StatusCode, why: &str) -> Response {
    (status, Json(json!({"error": why}))).into_response()
}
