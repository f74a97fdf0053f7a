//! The error envelope: the API's answer to a call that it refuses.
//!
//! A [`Refusal`] is data, not control flow of this program: the state machine returns it, the token
//! store replays it, and only the HTTP shell turns it into bytes.

use serde_json::{Value, json};

/// An answer with HTTP status ≥ 400.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// HTTP status of the answer.
    pub status: u16,
    /// The API's error code, misspellings included.
    pub code: String,
    /// The sentence a person reads.
    pub message: String,
    /// Sent as `x-acs-retry-after`, in milliseconds.
    pub retry_after_ms: Option<u64>,
    /// `AccessDeniedDetail` of a RAM refusal.
    pub denied: Option<Value>,
}

impl Refusal {
    /// A refusal with a status of its own.
    pub fn new(status: u16, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            status,
            code: code.into(),
            message: message.into(),
            retry_after_ms: None,
            denied: None,
        }
    }

    /// 400, the status of nearly every business refusal.
    pub fn bad_request(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(400, code, message)
    }

    /// Refuses with status 404.
    pub fn not_found(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(404, code, message)
    }

    /// `MissingParameter`, which names the parameter.
    pub fn missing_parameter(parameter: &str) -> Self {
        Self::bad_request(
            "MissingParameter",
            format!(
                "The input parameter \"{parameter}\" that is mandatory for processing this request is not supplied."
            ),
        )
    }

    /// `InvalidParameter`, which names the parameter.
    pub fn invalid_parameter(parameter: &str) -> Self {
        Self::bad_request(
            "InvalidParameter",
            format!("The specified parameter \"{parameter}\" is not valid."),
        )
    }

    /// Flow control; the caller may come back after `retry_after_ms`.
    pub fn throttled(retry_after_ms: u64) -> Self {
        let mut refusal =
            Self::bad_request("Throttling.User", "Request was denied due to user flow control.");
        refusal.retry_after_ms = Some(retry_after_ms.max(1));
        refusal
    }

    /// A refusal known only by its code, as the admin's faults name it: the status is the one this
    /// API uses for it.
    pub fn from_code(code: &str) -> Self {
        let status = match code {
            "OperationConflict" => 409,
            "InternalError" | "OperationFailed.SystemBusy" => 500,
            "ServiceUnavailable" => 503,
            _ if code.starts_with("Forbidden.RAM") || code == "NoPermission" => 403,
            _ if code.starts_with("AuthenticationFail.") => 401,
            _ if code.contains("NotFound") || code.contains("NotExist.") => 404,
            _ => 400,
        };
        Self::new(status, code, format!("The request was refused with {code}."))
    }

    /// True if a token store keeps this answer: definite business refusals are replayed, transient
    /// errors are not.
    pub fn is_definite(&self) -> bool {
        self.status < 500
            && !self.code.starts_with("Throttling")
            && self.code != "LastTokenProcessing"
    }

    /// The JSON body of the envelope.
    pub fn envelope_json(&self, request_id: &str, product: &str) -> Value {
        let mut body = json!({
            "RequestId": request_id,
            "Code": self.code,
            "Message": self.message,
            "HostId": format!("{}.simulator.local", product.to_ascii_lowercase()),
            "Recommend": format!("https://next.api.aliyun.com/troubleshoot?q={}&product={product}", self.code),
        });
        if let Some(denied) = &self.denied {
            body["AccessDeniedDetail"] = denied.clone();
        }
        body
    }
}
