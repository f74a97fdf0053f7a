//! HTTP server: routes, limits, and the handling of a review.

use crate::hand_off::HandOffs;
use crate::judge::Judge;
use crate::metrics::{Metrics, Path, Verdict};
use crate::review::{Answer, Request, decode};
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

/// In bytes: the API server accepts objects of 3 MiB, and a review of an update holds two.
const LONGEST_BODY: usize = 7 << 20;
/// Bodies read at the same time, at most: with the longest, 448 MiB. A usual review is read in 0.1
/// ms.
const BODIES_AT_ONCE: usize = 64;
/// Time to read a body. The API server has 3 s for a review and sends its body at once, so a slower
/// client is not the API server.
const BODY_DEADLINE: Duration = Duration::from_secs(2);

struct Server {
    judge: Judge,
    hand_offs: HandOffs,
    metrics: Metrics,
    bodies: Semaphore,
}

/// The admission endpoints: `/mutate`, `/validate` and `/warn`.
pub fn router(judge: Judge, hand_offs: HandOffs, metrics: Metrics) -> Router {
    let server = Server { judge, hand_offs, metrics, bodies: Semaphore::new(BODIES_AT_ONCE) };
    Router::new()
        .route("/mutate", post(on_mutate))
        .route("/validate", post(on_validate))
        .route("/warn", post(on_warn))
        .with_state(Arc::new(server))
}

async fn on_mutate(State(server): State<Arc<Server>>, body: Body) -> Response {
    server.review(Path::Mutate, body, async |request| mutate::answer(&server.judge, &request)).await
}

async fn on_warn(State(server): State<Arc<Server>>, body: Body) -> Response {
    server.review(Path::Warn, body, async |request| warn::answer(&server.judge, &request)).await
}

async fn on_validate(State(server): State<Arc<Server>>, body: Body) -> Response {
    server
        .review(Path::Validate, body, async |request| {
            let judgement = validate::judge(&server.judge, &request);
            if judgement.gate_is_missing {
                server.metrics.gate_is_missing();
            }
            for job in judgement.jobs {
                server.hand_offs.hand_off(job).await;
            }
            judgement.answer
        })
        .await
}

impl Server {
    async fn review<O: DeserializeOwned>(
        &self,
        path: Path,
        body: Body,
        decide: impl AsyncFnOnce(Request<O>) -> Answer,
    ) -> Response {
        let start = Instant::now();
        let (verdict, response) = match self.read(body).await {
            Ok(request) => answered(&request.uid.clone(), &decide(request).await),
            Err((verdict, status, why)) => {
                tracing::warn!(review.path = ?path, error = why.trim_end(), "review not answered");
                (verdict, (status, why).into_response())
            }
        };
        self.metrics.reviewed(path, verdict, start.elapsed());
        response
    }

    async fn read<O: DeserializeOwned>(
        &self,
        body: Body,
    ) -> Result<Request<O>, (Verdict, StatusCode, String)> {
        // The wait for a slot counts toward the deadline.
        let read = async {
            let slot = self.bodies.acquire().await;
            let bytes = to_bytes(body, LONGEST_BODY).await;
            drop(slot);
            bytes
        };
        let bytes: Bytes = match tokio::time::timeout(BODY_DEADLINE, read).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) => {
                return Err((
                    Verdict::Unread,
                    StatusCode::PAYLOAD_TOO_LARGE,
                    format!("the body cannot be read: {error}\n"),
                ));
            }
            Err(_) => {
                return Err((
                    Verdict::Unread,
                    StatusCode::REQUEST_TIMEOUT,
                    "the body was not received in time\n".to_owned(),
                ));
            }
        };
        decode(&bytes).map_err(|malformed| {
            (Verdict::Malformed, StatusCode::BAD_REQUEST, format!("{malformed}\n"))
        })
    }
}

fn answered(uid: &str, answer: &Answer) -> (Verdict, Response) {
    let verdict = match answer {
        Answer { refusal: Some(_), .. } => Verdict::Refused,
        Answer { warnings, .. } if warnings.is_empty() => Verdict::Allowed,
        Answer { .. } => Verdict::Warned,
    };
    match answer.encode(uid) {
        Ok(body) => (verdict, ([(header::CONTENT_TYPE, "application/json")], body).into_response()),
        Err(error) => (
            Verdict::Malformed,
            (StatusCode::INTERNAL_SERVER_ERROR, format!("cannot encode the response: {error}\n"))
                .into_response(),
        ),
    }
}
