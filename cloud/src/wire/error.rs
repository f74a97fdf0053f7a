//! The error body of the API.

use super::scalar_text;
use crate::error::Refusal;
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::Value;

/// Characters kept of a message: enough for every message of the API but those that echo the
/// request.
const LONGEST_MESSAGE: usize = 300;
const LONGEST_WORD: usize = 100;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ErrorBody {
    #[serde(default, deserialize_with = "scalar_text")]
    request_id: String,
    #[serde(default, deserialize_with = "scalar_text")]
    pub(crate) code: String,
    #[serde(default, deserialize_with = "scalar_text")]
    message: String,
    #[serde(default)]
    access_denied_detail: Value,
}

impl ErrorBody {
    pub(crate) fn into_refusal(self, action: &'static str, status: StatusCode) -> Refusal {
        let denied_action = ["AuthAction", "Action"]
            .iter()
            .find_map(|field| self.access_denied_detail.get(field)?.as_str());
        Refusal {
            action,
            status: status.as_u16(),
            code: truncate_text(&self.code, LONGEST_WORD),
            message: truncate_text(&self.message, LONGEST_MESSAGE),
            request_id: truncate_text(&self.request_id, LONGEST_WORD),
            denied_action: denied_action.map(|action| truncate_text(action, LONGEST_WORD)),
            retry_after: None,
        }
    }
}

fn truncate_text(text: &str, longest: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(longest).collect()
}
