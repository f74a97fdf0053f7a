//! HTTP server: routes, limits, and the handling of a review.

use crate::announce::Announcer;
use crate::metrics::{Endpoint, Metrics, ReviewOutcome};
use crate::policy::AdmissionPolicy;
use crate::review::{Answer, Request, decode_review};
use crate::{mutate, validate, warn};
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use waygate_core::text::Text;

/// In bytes: the API server accepts objects of 3 MiB, and a review of an update holds two.
const MAX_BODY_BYTES: usize = 7 << 20;
/// Bodies read at the same time, at most: with the longest, 448 MiB. A usual review is read in 0.1
/// ms.
const MAX_CONCURRENT_BODIES: usize = 64;
/// Time to read a body. The API server has 3 s for a review and sends its body at once, so a slower
/// client is not the API server.
const BODY_DEADLINE: Duration = Duration::from_secs(2);

struct Server {
    policy: AdmissionPolicy,
    announcer: Announcer,
    metrics: Metrics,
    bodies: Semaphore,
}

/// The admission endpoints: `/mutate`, `/validate` and `/warn`.
pub fn admission_router(policy: AdmissionPolicy, announcer: Announcer, metrics: Metrics) -> Router {
    let server =
        Server { policy, announcer, metrics, bodies: Semaphore::new(MAX_CONCURRENT_BODIES) };
    Router::new()
        .route("/mutate", post(on_mutate))
        .route("/validate", post(on_validate))
        .route("/warn", post(on_warn))
        .with_state(Arc::new(server))
}

async fn on_mutate(State(server): State<Arc<Server>>, body: Body) -> Response {
    server
        .handle_review(Endpoint::Mutate, body, async |request| {
            mutate::mutate_pod(&server.policy, &request)
        })
        .await
}

async fn on_warn(State(server): State<Arc<Server>>, body: Body) -> Response {
    server
        .handle_review(Endpoint::Warn, body, async |request| {
            warn::warn_workload(&server.policy, &request)
        })
        .await
}

async fn on_validate(State(server): State<Arc<Server>>, body: Body) -> Response {
    server
        .handle_review(Endpoint::Validate, body, async |request| {
            let decision = validate::validate_pod(&server.policy, &request);
            if decision.gate_is_missing {
                server.metrics.count_missing_gate();
            }
            for admitted in decision.announcements {
                server.announcer.announce_admitted_pod(admitted).await;
            }
            decision.answer
        })
        .await
}

impl Server {
    async fn handle_review<O: DeserializeOwned>(
        &self,
        endpoint: Endpoint,
        body: Body,
        decide: impl AsyncFnOnce(Request<O>) -> Answer,
    ) -> Response {
        let start = Instant::now();
        let (outcome, response) = match self.read_review(body).await {
            Ok(request) => encode_answer(&request.uid.clone(), &decide(request).await),
            Err((outcome, status, why)) => {
                tracing::warn!(
                    review.endpoint = endpoint.as_str(),
                    error = why.trim_end(),
                    "admission review unreadable"
                );
                (outcome, (status, why).into_response())
            }
        };
        self.metrics.count_review(endpoint, outcome, start.elapsed());
        response
    }

    async fn read_review<O: DeserializeOwned>(
        &self,
        body: Body,
    ) -> Result<Request<O>, (ReviewOutcome, StatusCode, String)> {
        // The wait for a permit counts toward the deadline.
        let read = async {
            let permit = self.bodies.acquire().await;
            let bytes = to_bytes(body, MAX_BODY_BYTES).await;
            drop(permit);
            bytes
        };
        let bytes: Bytes = match tokio::time::timeout(BODY_DEADLINE, read).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) => {
                return Err((
                    ReviewOutcome::Unread,
                    StatusCode::PAYLOAD_TOO_LARGE,
                    format!("the body cannot be read: {error}\n"),
                ));
            }
            Err(_) => {
                return Err((
                    ReviewOutcome::Unread,
                    StatusCode::REQUEST_TIMEOUT,
                    "the body was not received in time\n".to_owned(),
                ));
            }
        };
        decode_review(&bytes).map_err(|malformed| {
            let why = Text::ErrorText.clean(&malformed.to_string());
            (ReviewOutcome::Malformed, StatusCode::BAD_REQUEST, format!("{why}\n"))
        })
    }
}

fn encode_answer(uid: &str, answer: &Answer) -> (ReviewOutcome, Response) {
    let outcome = match answer {
        Answer { refusal: Some(_), .. } => ReviewOutcome::Refused,
        Answer { warnings, .. } if warnings.is_empty() => ReviewOutcome::Allowed,
        Answer { .. } => ReviewOutcome::Warned,
    };
    match answer.encode_response(uid) {
        Ok(body) => (outcome, ([(header::CONTENT_TYPE, "application/json")], body).into_response()),
        Err(error) => (
            ReviewOutcome::Malformed,
            (StatusCode::INTERNAL_SERVER_ERROR, format!("cannot encode the response: {error}\n"))
                .into_response(),
        ),
    }
}
