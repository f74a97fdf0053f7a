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
    signature::{Received, Secrets, SignatureClaim, v2, v3},
};

/// The largest body read. Everything real goes into the query; an OIDC form has a token of at most
/// 20 kB.
const LARGEST_BODY: usize = 256 * 1024;

/// The API's one route.
pub fn api_routes(simulator: Arc<Simulator>) -> Router {
    Router::new().fallback(answer_call).with_state(simulator)
}

/// A call that may be applied.
struct Admitted {
    action: String,
    version: String,
    params: Params,
    caller: Option<String>,
}

async fn answer_call(State(simulator): State<Arc<Simulator>>, request: Request) -> Response {
    let request_id = simulator.request_id();
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, LARGEST_BODY).await else {
        return respond_refusal(
            &Refusal::new(413, "RequestTooLarge", "The request body is too large."),
            &request_id,
            "",
        );
    };
    let (action, admitted) = simulator.admit_call(&parts, &body);
    simulator.calls.lock().count_call(counted_action(&action));
    let response = match admitted {
        Ok(admitted) => simulator.clone().perform_call(admitted, &request_id).await,
        Err(refusal) => Ok(Err(refusal)),
    };
    match response {
        Err(hangup) => hang_up(hangup),
        Ok(Ok(body)) => Json(with_request_id(body, &request_id)).into_response(),
        Ok(Err(refusal)) => {
            simulator.calls.lock().count_refusal(counted_action(&action), &refusal.code);
            respond_refusal(&refusal, &request_id, &action)
        }
    }
}

/// Unknown actions count as one, so that no caller can grow the counts without end.
fn counted_action(action: &str) -> &str {
    product_of(action).map_or("(unknown)", |_| action)
}

fn respond_refusal(refusal: &Refusal, request_id: &str, action: &str) -> Response {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
    let mut response =
        (status, Json(refusal.envelope_json(request_id, product_of(action).unwrap_or("Vpc"))))
            .into_response();
    if let Some(ms) = refusal.retry_after_ms {
        response.headers_mut().insert("x-acs-retry-after", HeaderValue::from(ms));
    }
    response
}

impl Simulator {
    /// The action, for counting, and the call, if its signature holds.
    fn admit_call(&self, parts: &Parts, body: &Bytes) -> (String, Result<Admitted, Refusal>) {
        let received = Received {
            method: parts.method.as_str(),
            path: parts.uri.path(),
            query: parts.uri.query().unwrap_or_default(),
            headers: &parts.headers,
            body,
        };
        let params = received.request_params();
        let named = |header: &str, param: &str| {
            received.header_text(header).or(params.get(param)).unwrap_or_default().to_owned()
        };
        let action = named("x-acs-action", "Action");
        let version = named("x-acs-version", "Version");
        let caller = self.verify_caller(&received, &params);
        (action.clone(), caller.map(|caller| Admitted { action, version, params, caller }))
    }

    fn verify_caller(
        &self,
        received: &Received<'_>,
        params: &Params,
    ) -> Result<Option<String>, Refusal> {
        let (claim, sign): (SignatureClaim, fn(&str, &str) -> String) =
            match received.header_text("authorization") {
                Some(authorization) => (v3::extract_claim(received, authorization)?, v3::sign_text),
                None if params.contains_name("Signature") => {
                    (v2::extract_claim(received, params)?, v2::sign_text)
                }
                None => return Ok(None),
            };
        let now = jiff::Timestamp::now();
        {
            let cloud = self.lock_cloud();
            let key = cloud.access_key(&claim.access_key_id)?;
            let is_expired = key.expires.is_some_and(|expires| expires <= self.cloud_now());
            let secrets = Secrets {
                secret: &key.secret,
                security_token: key.security_token.as_deref(),
                is_expired,
            };
            claim.verify_signature(&secrets, now, sign)?;
        }
        self.nonces.lock().note_nonce(&claim, now)?;
        Ok(Some(claim.access_key_id))
    }

    /// Runs a call through the faults and the cloud.
    async fn perform_call(
        self: Arc<Self>,
        call: Admitted,
        request_id: &str,
    ) -> Result<Result<Value, Refusal>, Hangup> {
        let hits = self.faults.lock().match_call(&call.action);
        if let Some(early) = outcome_before_call(&hits) {
            return early;
        }
        tracing::debug!(action = call.action, request_id, "call applied");
        let delay: Duration =
            hits.iter().filter(|hit| hit.spec.kind == Kind::Delay).map(fault_delay).sum();
        let past = hits.iter().find_map(|hit| hit.past.clone());
        // In a task of its own, so that an arrived call is applied even if the caller has left.
        let applied = tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            self.apply_call(&call, past.as_deref())
        });
        let Ok(reply) = applied.await else {
            return Ok(Err(Refusal::new(
                500,
                "InternalError",
                "The request could not be processed.",
            )));
        };
        tokio::time::sleep(reply.latency).await;
        apply_faults_after_call(&hits).await?;
        Ok(reply.outcome)
    }

    fn apply_call(&self, call: &Admitted, past: Option<&Cloud>) -> Reply {
        let request = Call {
            action: &call.action,
            version: &call.version,
            params: &call.params,
            caller: call.caller.as_deref(),
        };
        match past {
            Some(past) => self.lock_cloud().handle_in_the_past(past, &request),
            None => self.handle_call(&request),
        }
    }
}

fn fault_delay(hit: &Hit) -> Duration {
    Duration::from_millis(hit.spec.delay_ms.unwrap_or(1000))
}

/// The answer of the first fault that keeps the call from being applied.
fn outcome_before_call(hits: &[Hit]) -> Option<Result<Result<Value, Refusal>, Hangup>> {
    hits.iter().find_map(|hit| match hit.spec.kind {
        Kind::Error => Some(Ok(Err(refusal_of(hit)))),
        Kind::Throttle => Some(Ok(Err(Refusal::throttled(hit.spec.delay_ms.unwrap_or(1000))))),
        Kind::Reset => Some(Err(Hangup::Reset)),
        Kind::Delay | Kind::LostResponse | Kind::Hold | Kind::StaleDescribe => None,
    })
}

fn refusal_of(hit: &Hit) -> Refusal {
    let mut refusal = Refusal::from_code(hit.spec.code.as_deref().unwrap_or("InternalError"));
    refusal.status = hit.spec.status.unwrap_or(refusal.status);
    if let Some(message) = &hit.spec.message {
        message.clone_into(&mut refusal.message);
    }
    refusal
}

/// Withholds the answer, or loses it.
async fn apply_faults_after_call(hits: &[Hit]) -> Result<(), Hangup> {
    for hit in hits.iter().filter(|hit| hit.spec.kind == Kind::Hold) {
        hit.hold_answer().await;
    }
    let is_lost = hits.iter().any(|hit| hit.spec.kind == Kind::LostResponse);
    if is_lost { Err(Hangup::Close) } else { Ok(()) }
}
