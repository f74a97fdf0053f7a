//! AdmissionReview v1: decoding of requests and encoding of responses.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use json_patch::Patch;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use waygate_core::text::{Text, describe_fault};

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// Reason that a body is no valid review.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("the body is not an AdmissionReview: {error}, in {path}")]
    Json { path: String, error: serde_json::Error },
    #[error("the body is not an AdmissionReview of admission.k8s.io/v1")]
    Version,
    #[error("the AdmissionReview contains no request")]
    Empty,
    #[error("{0}")]
    Text(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound = "O: DeserializeOwned")]
struct Review<O> {
    api_version: String,
    kind: String,
    request: Option<Request<O>>,
}

/// The request of a review, with the objects decoded as `O`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", bound = "O: DeserializeOwned")]
pub(crate) struct Request<O> {
    pub(crate) uid: String,
    pub(crate) operation: Operation,
    #[serde(default)]
    pub(crate) kind: Kind,
    #[serde(default)]
    pub(crate) sub_resource: Option<String>,
    #[serde(default)]
    pub(crate) namespace: String,
    #[serde(default)]
    pub(crate) dry_run: Option<bool>,
    #[serde(default)]
    pub(crate) user_info: User,
    #[serde(default)]
    pub(crate) object: Option<O>,
    #[serde(default)]
    pub(crate) old_object: Option<O>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Operation {
    Create,
    Update,
    /// Not among the registrations; allowed without a check.
    Delete,
    Connect,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Kind {
    pub(crate) kind: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct User {
    pub(crate) username: String,
}

pub(crate) fn decode_review<O: DeserializeOwned>(body: &[u8]) -> Result<Request<O>, Malformed> {
    let review: Review<O> =
        serde_json::from_slice(body).map_err(|error| locate_fault::<O>(body, error))?;
    if review.api_version != API_VERSION || review.kind != KIND {
        return Err(Malformed::Version);
    }
    let request = review.request.ok_or(Malformed::Empty)?;
    match Text::ReviewUid.check(&request.uid) {
        Ok(()) => Ok(request),
        Err(fault) => {
            Err(Malformed::Text(describe_fault(Text::ReviewUid.key(), &request.uid, &fault)))
        }
    }
}

/// Names the field that cannot be decoded, by decoding once more: the path costs time that a right
/// review need not spend.
fn locate_fault<O: DeserializeOwned>(body: &[u8], error: serde_json::Error) -> Malformed {
    let decoder = &mut serde_json::Deserializer::from_slice(body);
    let path = match serde_path_to_error::deserialize::<_, Review<O>>(decoder) {
        Ok(_) => "the end".to_owned(),
        Err(located) => located.path().to_string(),
    };
    Malformed::Json { path, error }
}

/// The response to a review.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Message of the refusal; none if the object is allowed.
    pub(crate) refusal: Option<String>,
    pub(crate) patch: Patch,
    pub(crate) warnings: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct Status<'a> {
    code: u16,
    reason: &'static str,
    message: &'a str,
}

impl Answer {
    pub(crate) fn encode_response(&self, uid: &str) -> Result<Vec<u8>, serde_json::Error> {
        let status = self.refusal.as_deref().map(|message| Status {
            code: 403,
            reason: "Forbidden",
            message,
        });
        let patch = if self.patch.is_empty() {
            None
        } else {
            Some(STANDARD.encode(serde_json::to_vec(&self.patch)?))
        };
        let patch_type = patch.is_some().then_some("JSONPatch");
        let response = Response {
            uid,
            allowed: status.is_none(),
            status,
            patch_type,
            patch,
            warnings: limit_warnings(&self.warnings),
        };
        serde_json::to_vec(&Envelope { api_version: API_VERSION, kind: KIND, response })
    }
}

/// Limits warnings as Kubernetes advises: at most 256 characters each and 4096 together, beyond
/// which the API server truncates them itself.
fn limit_warnings(warnings: &[String]) -> Vec<String> {
    const EACH: usize = 256;
    // Leaves room for the note about omitted warnings.
    const TOGETHER: usize = 4096 - EACH;
    let mut limited = Vec::new();
    let mut length = 0;
    for (i, warning) in warnings.iter().enumerate() {
        let warning = truncate_text(warning, EACH);
        length += warning.len();
        if length > TOGETHER {
            limited.push(format!("{} more warnings omitted", warnings.len() - i));
            break;
        }
        limited.push(warning);
    }
    limited
}

/// Cuts a text to at most `longest` bytes, between two characters.
fn truncate_text(text: &str, longest: usize) -> String {
    const MARK: &str = "…";
    if text.len() <= longest {
        return text.to_owned();
    }
    let cut = text.floor_char_boundary(longest - MARK.len());
    format!("{}{MARK}", &text[..cut])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_cut_to_what_kubernetes_advises() {
        let long = vec!["ä".repeat(1000); 100];
        let limited = limit_warnings(&long);
        assert!(limited.iter().all(|warning| warning.len() <= 256));
        assert!(limited.iter().map(String::len).sum::<usize>() <= 4096);
        assert_eq!(limited.last().map(String::as_str), Some("85 more warnings omitted"));
        assert_eq!(limit_warnings(&["short".to_owned()]), ["short"]);
    }
}
