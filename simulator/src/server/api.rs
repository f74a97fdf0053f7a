//! The signed API: a single path for every action.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::{Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderValue, StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use serde_json::Value;

use super::{
    connection::{Hangup, hang_up},
    state::Simulator,
};
use crate::{
    cloud::{Call, Cloud, Reply, product_of, with_request_id},
    faults::{Hit, Kind},
    params::Params,
    refusal::Refusal,
    signature::{Claim, Received, Secrets, v2, v3},
};

/// The largest body read. Everything real goes into the query; an OIDC form has a token of at most
/// 20 kB.
const LARGEST_BODY: usize = 256 * 1024;

/// The API's one route.
pub fn router(simulator: Arc<Simulator>) -> Router {
    Router::new().fallback(answer).with_state(simulator)
}

/// A call that may be applied.
struct Admitted {
    action: String,
    version: String,
    params: Params,
    caller: Option<String>,
}

async fn answer(State(simulator): State<Arc<Simulator>>, request: Request) -> Response {
    let request_id = simulator.request_id();
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, LARGEST_BODY).await else {
        return refuse(
            &Refusal::new(413, "RequestTooLarge", "The request body is too large."),
            &request_id,
            "",
        );
    };
    let (action, admitted) = simulator.admit(&parts, &body);
    simulator.calls.lock().came(counted(&action));
    let response = match admitted {
        Ok(admitted) => simulator.clone().perform(admitted, &request_id).await,
        Err(refusal) => Ok(Err(refusal)),
    };
    match response {
        Err(hangup) => hang_up(hangup),
        Ok(Ok(body)) => Json(with_request_id(body, &request_id)).into_response(),
        Ok(Err(refusal)) => {
            simulator.calls.lock().refused(counted(&action), &refusal.code);
            refuse(&refusal, &request_id, &action)
        }
    }
}

/// Unknown actions count as one, so that no caller can grow the counts without end.
fn counted(action: &str) -> &str {
    product_of(action).map_or("(unknown)", |_| action)
}

fn refuse(refusal: &Refusal, request_id: &str, action: &str) -> Response {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
    let mut response =
        (status, Json(refusal.body(request_id, product_of(action).unwrap_or("Vpc"))))
            .into_response();
    if let Some(ms) = refusal.retry_after_ms {
        response.headers_mut().insert("x-acs-retry-after", HeaderValue::from(ms));
    }
    response
}

impl Simulator {
    /// The action, for counting, and the call, if its signature holds.
    fn admit(&self, parts: &Parts, body: &Bytes) -> (String, Result<Admitted, Refusal>) {
        let received = Received {
            method: parts.method.as_str(),
            path: parts.uri.path(),
            query: parts.uri.query().unwrap_or_default(),
            headers: &parts.headers,
            body,
        };
        let params = received.params();
        let named = |header: &str, param: &str| {
            received.header(header).or(params.get(param)).unwrap_or_default().to_owned()
        };
        let action = named("x-acs-action", "Action");
        let version = named("x-acs-version", "Version");
        let caller = self.identify(&received, &params);
        (action.clone(), caller.map(|caller| Admitted { action, version, params, caller }))
    }

    fn identify(
        &self,
        received: &Received<'_>,
        params: &Params,
    ) -> Result<Option<String>, Refusal> {
        let (claim, sign): (Claim, fn(&str, &str) -> String) =
            match received.header("authorization") {
                Some(authorization) => (v3::claim(received, authorization)?, v3::sign),
                None if params.has("Signature") => (v2::claim(received, params)?, v2::sign),
                None => return Ok(None),
            };
        let now = jiff::Timestamp::now();
        {
            let cloud = self.cloud();
            let key = cloud.access_key(&claim.access_key_id)?;
            let is_expired = key.expires.is_some_and(|expires| expires <= self.cloud_now());
            let secrets = Secrets {
                secret: &key.secret,
                security_token: key.security_token.as_deref(),
                is_expired,
            };
            claim.verify(&secrets, now, sign)?;
        }
        self.nonces.lock().note(&claim, now)?;
        Ok(Some(claim.access_key_id))
    }

    /// Runs a call through the faults and the cloud.
    async fn perform(
        self: Arc<Self>,
        call: Admitted,
        request_id: &str,
    ) -> Result<Result<Value, Refusal>, Hangup> {
        let hits = self.faults.lock().hit(&call.action);
        if let Some(early) = before(&hits) {
            return early;
        }
        tracing::debug!(action = call.action, request_id, "call applied");
        let delay: Duration =
            hits.iter().filter(|hit| hit.wanted.kind == Kind::Delay).map(pause).sum();
        let past = hits.iter().find_map(|hit| hit.past.clone());
        // In a task of its own, so that an arrived call is applied even if the caller has left.
        let applied = tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            self.apply(&call, past.as_deref())
        });
        let Ok(reply) = applied.await else {
            return Ok(Err(Refusal::new(
                500,
                "InternalError",
                "The request could not be processed.",
            )));
        };
        tokio::time::sleep(reply.latency).await;
        after(&hits).await?;
        Ok(reply.outcome)
    }

    fn apply(&self, call: &Admitted, past: Option<&Cloud>) -> Reply {
        let request = Call {
            action: &call.action,
            version: &call.version,
            params: &call.params,
            caller: call.caller.as_deref(),
        };
        let mut cloud = self.cloud();
        if let Some(past) = past {
            return cloud.handle_in_the_past(past, &request);
        }
        let now = self.cloud_now();
        cloud.handle(&request, now)
    }
}

fn pause(hit: &Hit) -> Duration {
    Duration::from_millis(hit.wanted.delay_ms.unwrap_or(1000))
}

/// The answer of the first fault that keeps the call from being applied.
fn before(hits: &[Hit]) -> Option<Result<Result<Value, Refusal>, Hangup>> {
    hits.iter().find_map(|hit| match hit.wanted.kind {
        Kind::Error => Some(Ok(Err(refusal_of(hit)))),
        Kind::Throttle => Some(Ok(Err(Refusal::throttled(hit.wanted.delay_ms.unwrap_or(1000))))),
        Kind::Reset => Some(Err(Hangup::Reset)),
        Kind::Delay | Kind::LostResponse | Kind::Hold | Kind::StaleDescribe => None,
    })
}

fn refusal_of(hit: &Hit) -> Refusal {
    let mut refusal = Refusal::from_code(hit.wanted.code.as_deref().unwrap_or("InternalError"));
    refusal.status = hit.wanted.status.unwrap_or(refusal.status);
    if let Some(message) = &hit.wanted.message {
        message.clone_into(&mut refusal.message);
    }
    refusal
}

/// Withholds the answer, or loses it.
async fn after(hits: &[Hit]) -> Result<(), Hangup> {
    for hit in hits.iter().filter(|hit| hit.wanted.kind == Kind::Hold) {
        hit.hold().await;
    }
    let is_lost = hits.iter().any(|hit| hit.wanted.kind == Kind::LostResponse);
    if is_lost { Err(Hangup::Close) } else { Ok(()) }
}
