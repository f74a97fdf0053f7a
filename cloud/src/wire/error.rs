//! The error body of the API.

use super::scalar_text;
use crate::error::Refusal;
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use waygate_core::text::Text;

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
            code: Text::ErrorCode.clean(&self.code),
            message: Text::ErrorMessage.clean(&self.message),
            request_id: Text::RequestId.clean(&self.request_id),
            denied_action: denied_action.map(|action| Text::DeniedAction.clean(action)),
            retry_after: None,
        }
    }
}
