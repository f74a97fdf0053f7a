//! Answers about security groups.

use super::{Chain, non_empty, scalar_number, scalar_text, wrapped_list};
use crate::network::SecurityRule;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct SecurityGroup {
    #[serde(default, deserialize_with = "scalar_text")]
    next_token: String,
    #[serde(deserialize_with = "wrapped_list")]
    permissions: Vec<WireRule>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireRule {
    #[serde(deserialize_with = "scalar_text")]
    policy: String,
    #[serde(deserialize_with = "scalar_text")]
    ip_protocol: String,
    #[serde(default, deserialize_with = "scalar_text")]
    port_range: String,
    #[serde(default, deserialize_with = "scalar_number")]
    priority: u32,
    #[serde(default, deserialize_with = "scalar_text")]
    source_cidr_ip: String,
}

impl Chain for SecurityGroup {
    type Item = SecurityRule;

    fn take_next_token(&mut self) -> Option<String> {
        non_empty(std::mem::take(&mut self.next_token))
    }

    fn into_chain_items(self) -> Result<Vec<SecurityRule>, String> {
        let fact = |rule: WireRule| SecurityRule {
            accept: rule.policy.eq_ignore_ascii_case("accept"),
            ip_protocol: rule.ip_protocol.to_ascii_uppercase(),
            port_range: rule.port_range,
            priority: rule.priority,
            source_cidr: rule.source_cidr_ip,
        };
        Ok(self.permissions.into_iter().map(fact).collect())
    }
}
