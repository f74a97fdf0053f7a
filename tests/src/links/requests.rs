//! Requests that an HTTP link answers itself, or whose answers it replaces.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use axum::http::request::Parts;
use serde_json::{Value, json};

/// Header by which the cloud's client names the action that it calls.
const ACTION_HEADER: &str = "x-acs-action";

/// The requests that a fault is for.
#[derive(Clone, Debug)]
pub enum Requests {
    /// Requests by method and path; `*` in the path stands for any text, slashes included. Queries
    /// are not compared.
    To {
        /// Such as `PATCH`.
        method: &'static str,
        /// Such as `*/pods/*/status`.
        path: String,
    },
    /// Calls of one action of the cloud.
    OfAction(&'static str),
}

impl Requests {
    /// Requests by method and path, such as `PATCH` and `*/pods/*/status`.
    pub fn to(method: &'static str, path: impl Into<String>) -> Self {
        Self::To { method, path: path.into() }
    }

    fn include(&self, request: &Parts) -> bool {
        match self {
            Self::To { method, path } => {
                request.method.as_str() == *method && matches_glob(path, request.uri.path())
            }
            Self::OfAction(action) => {
                request.headers.get(ACTION_HEADER).is_some_and(|value| value == action)
            }
        }
    }
}

/// True if the text is the pattern's, in which `*` stands for any text.
fn matches_glob(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(head) else { return false };
    text.char_indices()
        .map(|(at, _)| at)
        .chain([text.len()])
        .any(|at| matches_glob(rest, &text[at..]))
}

/// An answer in place of the server's.
#[derive(Clone, Debug)]
pub struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
    /// True if the server gets the request, and carries it out.
    pub(crate) served: bool,
    limit: usize,
}

impl Answer {
    /// An error of the API server, for all requests until the fault is lifted.
    #[must_use]
    pub fn api_error(status: u16, reason: &str, message: &str) -> Self {
        let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": status});
        Self { status, body, served: false, limit: usize::MAX }
    }

    /// An answer of something on the way, such as a proxy that does not know the path, for all
    /// requests until the fault is lifted.
    #[must_use]
    pub fn of_a_proxy(status: u16, text: &str) -> Self {
        Self { status, body: Value::from(text), served: false, limit: usize::MAX }
    }

    /// An error of the cloud, for all requests until the fault is lifted.
    #[must_use]
    pub fn cloud_error(status: u16, code: &str, message: &str) -> Self {
        let request = uuid::Uuid::new_v4().to_string();
        let body = json!({"RequestId": request, "Code": code, "Message": message});
        Self { status, body, served: false, limit: usize::MAX }
    }

    /// Only for the first requests.
    #[must_use]
    pub fn times(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// The server carries the request out, and its own answer is lost.
    #[must_use]
    pub fn after_the_server(self) -> Self {
        Self { served: true, ..self }
    }
}

/// A fault in force. It stays after its handle is dropped.
#[derive(Clone, Debug)]
pub struct AnswerFault(Arc<Fault>);

#[derive(Debug)]
struct Fault {
    requests: Requests,
    answer: Answer,
    answered: AtomicUsize,
    lifted: AtomicBool,
}

impl AnswerFault {
    pub(crate) fn new(requests: Requests, answer: Answer) -> Self {
        let (answered, lifted) = (AtomicUsize::new(0), AtomicBool::new(false));
        Self(Arc::new(Fault { requests, answer, answered, lifted }))
    }

    /// Returns the number of requests that were answered so.
    #[must_use]
    pub fn count_answered(&self) -> usize {
        self.0.answered.load(Ordering::SeqCst)
    }

    /// Ends the fault.
    pub fn lift(&self) {
        self.0.lifted.store(true, Ordering::SeqCst);
    }

    /// Returns the answer for a request, and counts it.
    pub(crate) fn take_answer(&self, request: &Parts) -> Option<&Answer> {
        let Fault { requests, answer, answered, lifted } = &*self.0;
        if lifted.load(Ordering::SeqCst) || !requests.include(request) {
            return None;
        }
        let below_limit = |count| (count < answer.limit).then_some(count + 1);
        answered.fetch_update(Ordering::SeqCst, Ordering::SeqCst, below_limit).ok()?;
        Some(answer)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn parts(method: &str, uri: &str) -> Parts {
        Request::builder().method(method).uri(uri).body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text) in [
            ("*/pods/*/status", "/api/v1/namespaces/a/pods/b/status"),
            ("/a", "/a"),
            ("*", ""),
            ("/a*", "/a"),
        ] {
            assert!(matches_glob(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("*/pods/*/status", "/api/v1/namespaces/a/pods/b"), ("/a", "/a/b"), ("*/b", "/b/c")]
        {
            assert!(!matches_glob(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn a_fault_is_for_its_requests_only_and_ends_after_its_limit() {
        let requests = Requests::to("PATCH", "*/pods/*/status");
        let fault =
            AnswerFault::new(requests, Answer::api_error(500, "InternalError", "m").times(1));
        let patch = parts("PATCH", "/api/v1/namespaces/a/pods/b/status?fieldManager=m");
        assert!(fault.take_answer(&parts("GET", "/api/v1/namespaces/a/pods/b/status")).is_none());
        assert_eq!(fault.take_answer(&patch).unwrap().status, 500);
        assert!(fault.take_answer(&patch).is_none());
        assert_eq!(fault.count_answered(), 1);
    }

    #[test]
    fn a_lifted_fault_answers_nothing() {
        let fault = AnswerFault::new(Requests::OfAction("X"), Answer::cloud_error(503, "C", "m"));
        let mut call = parts("POST", "/");
        call.headers.insert(ACTION_HEADER, "X".parse().unwrap());
        assert!(fault.take_answer(&call).is_some());
        fault.lift();
        assert!(fault.take_answer(&call).is_none());
    }
}
